"""What it costs to have an index follow a folder of texts: what is embedded, and what a deletion leaves.

    .venv/bin/python scripts/sync_table.py [--texts 10000] [--articles FOLDER]

Writes so many real articles (Parquet in the layout of wikimedia/wikipedia; without any, made-up ones) as
text files into a folder, and runs the installed command on it against a loopback Nomic API that counts
the texts that it embeds: build, the same again, changes of every kind, a change that is killed midway,
`add`, `delete` and `compact`. After each step the answers are compared with those of the texts as they
are then; after `compact` every file is searched for the texts and vectors that were deleted. Exit 1 if
something is embedded that need not be, or is found that must not be.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from _measure import parser_of, show

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from resizable_search.search.index import open_index
from resizable_search.store.manifest import read_manifest
from tests.cli.conftest import Machine
from tests.kills import plain_environment
from tests.servers.dataset import articles
from tests.servers.nomic_api import KEY, NomicServer

NAME = "notes"
UNDER_WAY = 80
"""Texts that a kill may cost: 8 requests of 10."""
DATA = Path(os.environ.get("RSEARCH_TEST_DATA", Path(__file__).parents[2] / "shared/data")) / "wikipedia"


def texts(folder: Path, count: int) -> Iterator[tuple[str, str]]:
    """Titles and texts of articles that are all different."""
    import pyarrow.parquet as pq

    seen: set[str] = set()
    found = (
        row
        for path in sorted(folder.rglob("*.parquet"))
        for batch in pq.ParquetFile(path).iter_batches(1000, columns=["title", "text"])
        for row in batch.to_pylist()
    )
    for row in found if any(folder.rglob("*.parquet")) else articles(count):
        text = " ".join(row["text"].split())[:1200].strip()
        if text and text not in seen:
            seen.add(text)
            yield row["title"], text


class Folder:
    """A folder of texts, and the index that follows it."""

    def __init__(self, place: Path, articles: list[tuple[str, str]], api: NomicServer) -> None:
        self.machine = Machine(
            place, {**plain_environment(), "NOMIC_API_KEY": KEY, "ATLAS_API_PATH": api.url}
        )
        self.api = api
        self.path = place / NAME
        self.rest = iter(articles)
        self.held: dict[str, str] = {}
        self.written = 0
        self.left = 0
        self.table: list[tuple[str, ...]] = []
        self.wrong: list[str] = []

    def write(self, count: int) -> None:
        """So many further texts, fifty to a folder."""
        for _, text in islice(self.rest, count):
            self.put(f"{self.written // 50:03d}/{self.written:05d}.txt", text)
            self.written += 1

    def put(self, name: str, text: str) -> None:
        """Write a text, or another one in its place."""
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text, encoding="utf-8")
        self.held[name] = text

    def step(self, what: str, expected: int, *words: object, spare: int = 0) -> None:
        """Run a command, which has to embed `expected` texts, and up to `spare` more."""
        before, begin = self.api.answered.total(), time.perf_counter()
        ran = self.machine.run(*(words or ("build", "files", self.path)))
        seconds = time.perf_counter() - begin
        if ran.code:
            self.wrong.append(f"{what}: {ran.last}")
        figures = " added", " changed", " renamed", " removed", " unchanged"
        told = next((line for line in ran.out.splitlines() if any(word in line for word in figures)), "")
        self.note(what, told.partition(";")[0], self.api.answered.total() - before, seconds)
        embedded = int(self.table[-1][2].replace(",", ""))
        if not expected <= embedded <= expected + spare:
            self.wrong.append(f"{what}: {embedded} texts were embedded, not {expected}")
        self.compare(what)

    def note(self, what: str, told: str, embedded: int, seconds: float) -> None:
        """A line of the table."""
        folder = self.machine.home / NAME
        weight = (
            sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
        )
        parts = len(read_manifest(folder).parts) if folder.exists() else 0
        self.table.append(
            (what, told or "—", f"{embedded:,}", f"{seconds:.1f}", str(parts), f"{weight / 1e6:,.0f}")
        )

    def compare(self, what: str) -> None:
        """The index must hold just the texts that there are, under their names."""
        with open_index(self.machine.home / NAME) as index:
            rows = index.found_rows()
            held = {document.id: document.text for document in index.documents(rows)}
        if held != self.held:
            self.wrong.append(f"{what}: the index holds other texts than the folder")

    def killed(self, after: int) -> None:
        """Begin the build, and kill it once so many texts of it were answered."""
        before, begin = self.api.answered.total(), time.perf_counter()
        process = self.machine.start("build", "files", self.path)
        while self.api.answered.total() < before + after and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        time.sleep(0.5)  # the service answers what was under way
        told = "killed" if process.returncode == -signal.SIGKILL else "ended before it could be killed"
        embedded = self.api.answered.total() - before
        self.note(f"500 more; killed after {after}", told, embedded, time.perf_counter() - begin)
        self.left = 500 - embedded


def traces(folder: Path, gone: list[str], vectors: np.ndarray) -> list[str]:
    """Where bytes of these texts, or of these rows at any stored size, are still found."""
    found = []
    needles = [text.encode()[:200] for text in gone] + [row[:16].tobytes() for row in vectors]
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            found += [path.name] * sum(needle in data for needle in needles)
    return found


def main() -> int:
    """Change the folder, follow it, compare; 1 if anything was wrong."""
    parser = parser_of(__doc__)
    parser.add_argument("--texts", type=int, default=10_000, help="in the folder (default: %(default)s)")
    parser.add_argument("--articles", type=Path, default=DATA, help="folder of Parquet files")
    args = parser.parse_args()
    chance = random.Random(0)
    count = args.texts
    with tempfile.TemporaryDirectory() as place, NomicServer() as api:
        found = list(islice(texts(args.articles, count + 2000), count + 1000))
        real = "real articles" if any(args.articles.rglob("*.parquet")) else "made-up articles"
        folder = Folder(Path(place), found, api)
        folder.write(count)
        folder.step(f"build files, {count:,} texts", count)
        folder.step("the same again", 0)
        names = sorted(folder.held)
        chance.shuffle(names)
        edited, removed, renamed, touched = names[:50], names[50:80], names[80:100], names[100:1100]
        folder.write(100)
        for name in edited:
            folder.put(name, folder.held[name][:-10] + " as edited")
        for name in removed:
            (folder.path / name).unlink()
            del folder.held[name]
        for number, name in enumerate(renamed):
            (folder.path / name).rename(folder.path / f"renamed{number}.txt")
            folder.held[f"renamed{number}.txt"] = folder.held.pop(name)
        folder.step("100 new, 50 edited, 30 removed, 20 renamed", 150)
        for name in touched:
            (folder.path / name).touch()
        folder.step("1,000 touched", 0)
        (folder.path / "001").rename(folder.path / "moved")
        for name in [name for name in folder.held if name.startswith("001/")]:
            folder.held[f"moved/{name[4:]}"] = folder.held.pop(name)
        folder.step("a folder renamed", 0)
        folder.write(500)
        api.latency = 0.05
        folder.killed(200)
        folder.step("the same again", folder.left, spare=UNDER_WAY)
        api.latency = 0.0
        more = Path(place) / "more.jsonl"
        new = [(f"more{i}", text) for i, (_, text) in enumerate(islice(folder.rest, 200))]
        more.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in new))
        folder.held |= dict(new)
        folder.step("add NAME more.jsonl, 200 texts", 200, "add", NAME, more)
        with open_index(folder.machine.home / NAME) as index:
            rows = {d.id: d.row for d in index.documents(index.found_rows())}
            gone = sorted(chance.sample(sorted(folder.held), 100))
            vectors = index.vectors(np.array([rows[id_] for id_ in gone])).copy()
        deleted = [folder.held.pop(id_) for id_ in gone]
        before = len(traces(folder.machine.home, deleted, vectors))
        folder.step("delete NAME, 100 ids", 0, "delete", NAME, *gone, "--yes")
        folder.step("compact NAME", 0, "compact", NAME)
        after = traces(folder.machine.home, deleted, vectors)
        if not before or after:
            folder.wrong.append(f"{before} traces of what was deleted before compacting, {len(after)} after")
    show(("step", "told", "embedded", "seconds", "parts", "MB"), folder.table)
    print(f"{count:,} {real}; {before:,} traces of what was deleted before `compact`, {len(after)} after it")
    print("\n".join(folder.wrong) or "every step left just the texts of the folder, and embedded no other")
    return int(bool(folder.wrong))


if __name__ == "__main__":
    raise SystemExit(main())
