"""That a build or a change which is killed at any moment is made by the same command again.

    .venv/bin/python scripts/drills/kill_matrix.py [--kills 100] [--rows 400] [--seed 0] [--failpoints all]
    .venv/bin/python scripts/drills/kill_matrix.py --changes [--kills 40] [--rows 400] [--seed 0]

Kills `rsearch build wiki100k` with SIGKILL at random moments while texts are being embedded, and once at
each failpoint (`Failpoint` in resizable_search/store/layout.py), against a loopback hub and a
loopback Nomic API that answers a request in 50 ms; 8 requests of 10 texts are under way. Each time the
same command is given again. Tells how many indexes came out byte-identical (manifest dates apart), and
how many texts were billed twice. Exit 1 if one differs, or if a kill cost more than 80 texts.

With --changes it kills `sync`, `add`, `delete`, `compact` and `build vectors` at random moments, each in a
process of its own, and makes the change again. The embedder takes 10 ms for a request of 10 texts, two at
once. Tells how many kills came before the change was complete, how many indexes were sound at once and the
same at the end, and how many texts were billed twice. Exit 1 if one differs, or if a kill cost more than 20
texts.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from resizable_search.build.build import add, build_vectors, compact
from resizable_search.build.delete import delete
from resizable_search.build.workspace import BuildOptions
from resizable_search.store.layout import Home
from resizable_search.store.manifest import read_manifest
from resizable_search.store.verify import examine
from scripts.benchmarks._measure import parser_of, show
from tests.build.changes.conftest import Place, contents
from tests.kills import BATCH, CONCURRENCY, KINDS, Death, ground, plain_environment
from tests.support import ListCorpus, TableEmbedder, articles

CHANGES = ("sync", "add", "delete", "compact", "vectors")
REQUEST_SECONDS = 0.01
IN_FLIGHT = 20
"""Texts of two requests of 10."""


def row(name: str, deaths: Sequence[Death], rows: int) -> tuple[str, ...]:
    """A line of the table."""
    midway = sum(0 < death.embedded < rows for death in deaths)
    embedded = sorted(death.embedded for death in deaths)
    under_way = sorted(death.under_way for death in deaths)
    return (
        name,
        str(len(deaths)),
        f"{midway}: {embedded[0]} to {embedded[-1]} texts",
        f"{under_way[0]} to {under_way[-1]}",
        f"{sum(death.same for death in deaths)}",
        f"{sum(death.twice for death in deaths)}",
        f"{max(death.twice for death in deaths)}",
    )


def kill_builds(args: Namespace) -> bool:
    """Kill builds, go on, compare; whether nothing was lost, or paid twice beyond what was under way."""
    kills = 100 if args.kills is None else args.kills
    points = [(kind, point) for kind, points in KINDS.items() for point in points]
    rngs = [random.Random(f"{args.seed} {number}") for number in range(kills + len(points))]
    with (
        tempfile.TemporaryDirectory() as folder,
        ground(Path(folder), plain_environment(), args.rows) as place,
        ThreadPoolExecutor(args.at_once) as pool,
    ):
        expected = [place.fresh, *([place.extended, place.other] if args.failpoints == "all" else [])]
        assert expected  # they are built now, one after the other
        killed = [pool.submit(place.killed_at_random, f"r{i}", rngs[i]) for i in range(kills)]
        passed = [
            pool.submit(place.killed_at, kind, point, f"s{i}", rngs[kills + i])
            for i, (kind, point) in enumerate(points)
            if args.failpoints == "all"
        ]
        random_deaths = [future.result() for future in killed]
        other_deaths = [future.result() for future in passed]
    deaths = random_deaths + other_deaths
    table = [row("at a random moment", random_deaths, args.rows)] if random_deaths else []
    table += [row(d.moment, [d], args.rows) for d in other_deaths]
    table.append(row("in all", deaths, args.rows))
    show(
        ("killed", "kills", "while embedding", "under way", "same index", "billed twice", "most a kill"),
        table,
    )
    wrong = sum(not death.same for death in deaths)
    most = max(death.twice for death in deaths)
    print(f"{wrong} of {len(deaths)} indexes differ; {most} texts billed twice by one kill at most")
    return not wrong and most <= CONCURRENCY * BATCH


@dataclass(frozen=True)
class ChangeDeath:
    """A change that was killed: `midway` if it was not complete; texts billed twice."""

    midway: bool
    sound: bool
    same: bool
    twice: int


def begin(home: Path, rows: int) -> None:
    """What is there before: an index of two parts with deleted rows, files to add, and vectors."""
    place = Place(Home(home))
    place.parts(articles(rows), rows // 2, rows)
    delete(place.folder, ["a1", f"a{rows - 2}"])
    new = [*articles(rows // 2, "b"), replace(articles(8)[7], text="in the place of another")]
    lines = (json.dumps({"id": d.id, "text": d.text}) + "\n" for d in new)
    (home / "more.jsonl").write_text("".join(lines))
    np.save(home / "rows.npy", np.random.default_rng(0).standard_normal((20 * rows, 96)).astype(np.float32))


def change(what: str, home: Path, rows: int) -> None:
    """Make the change; a ledger in the home says what was paid for."""
    place, embedder = Place(Home(home)), TableEmbedder(width=96, remote=True, concurrency=2)

    def pay(texts: list[str]) -> None:
        time.sleep(REQUEST_SECONDS)
        with (home / "ledger").open("a") as file:
            file.write("".join(f"{text}\n" for text in texts))

    embedder.before = pay
    if what == "sync":
        documents = [*articles(rows)[10:], *articles(rows // 2, "new")]
        documents[3] = replace(documents[3], text="changed")
        place.build([], corpus=ListCorpus(documents, is_mutable=True), embedder=embedder)
    elif what == "add":
        options = BuildOptions("made", concurrency=2)
        add(place.folder, [home / "more.jsonl"], replace=True, embedder=embedder, options=options)
    elif what == "delete":
        delete(place.folder, [f"a{i}" for i in range(2, rows // 2)], missing_ok=True)
    elif what == "compact":
        compact(place.folder)
    else:
        build_vectors(home / "rows.npy", place.home, BuildOptions("vectors"))


def change_in_process(what: str, home: Path, rows: int, begun: Connection) -> None:
    """Say that it begins, and make the change."""
    begun.send(None)
    change(what, home, rows)


def result(what: str, home: Path) -> dict[str, bytes]:
    """The files of the index that the change makes; none if it is not there."""
    folder = home / ("vectors" if what == "vectors" else "made")
    return contents(folder) if (folder / "manifest.json").exists() else {}


def killed(
    what: str, before: Path, whole: dict[str, bytes], seconds: float, rows: int, home: Path
) -> ChangeDeath:
    """Kill the change after so many seconds, and make it again."""
    shutil.copytree(before, home)
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=change_in_process, args=(what, home, rows, theirs))
    process.start()
    ours.recv()
    time.sleep(seconds)
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    midway = process.exitcode == -signal.SIGKILL and result(what, home) != whole
    index = home / "made"
    sound = not list(examine(index, read_manifest(index)))
    change(what, home, rows)
    same = result(what, home) == whole and not (home / ".building" / "made").exists()
    ledger = home / "ledger"
    paid = Counter(ledger.read_text().splitlines()) if ledger.exists() else Counter()
    shutil.rmtree(home)
    return ChangeDeath(midway, sound, same, sum(times - 1 for times in paid.values()))


def kill_changes(args: Namespace) -> bool:
    """Kill changes, make them again, compare; whether nothing was lost, or paid twice for no reason."""
    kills = 40 if args.kills is None else args.kills
    rng, table, held = random.Random(args.seed), [], True
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before"
        begin(before, args.rows)
        for what in CHANGES:
            home = Path(folder) / "home"
            shutil.copytree(before, home)
            began = time.perf_counter()
            change(what, home, args.rows)
            seconds, whole = time.perf_counter() - began, result(what, home)
            shutil.rmtree(home)
            deaths = [
                killed(what, before, whole, rng.uniform(0, 1.1 * seconds), args.rows, home)
                for _ in range(kills)
            ]
            figures = (sum(getattr(d, name) for d in deaths) for name in ("midway", "sound", "same", "twice"))
            most = max(death.twice for death in deaths)
            held = held and most <= IN_FLIGHT and all(death.sound and death.same for death in deaths)
            table.append((what, str(len(deaths)), *map(str, figures), str(most)))
    show(("change", "kills", "midway", "sound", "same index", "billed twice", "most a kill"), table)
    return held


def main() -> int:
    """Kill builds or changes; 1 if anything was lost, or paid twice beyond what was under way."""
    parser = parser_of(__doc__)
    parser.add_argument("--changes", action="store_true", help="kill changes of an index instead of builds")
    parser.add_argument("--kills", type=int, help="at random moments (default: 100; 40 of each change)")
    parser.add_argument("--rows", type=int, default=400, help="articles (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--at-once", type=int, default=2, help="builds (default: %(default)s)")
    parser.add_argument("--failpoints", choices=("all", "none"), default="all", help="(default: %(default)s)")
    args = parser.parse_args()
    held = kill_changes(args) if args.changes else kill_builds(args)
    return int(not held)


if __name__ == "__main__":
    raise SystemExit(main())
