"""That building holds memory flat, and where its time goes: 10,000 and 100,000 generated articles.

    .venv/bin/python scripts/benchmarks/memory.py [--rows 10000,100000] [--embedder nomic,lsa,wordllama,given]

Builds wiki100k through the real `datasets` and `nomic` clients against the loopback hub and API of
tests/servers, each in a process of its own; `given` adopts a file of random vectors of 768 dimensions
with a text of some 1,200 characters each instead. Prints for each embedder and number of rows the peak
of the build's anonymous memory (RssAnon of /proc, every 20 ms: mapped files apart), documents per
second, the share of one core that the build used itself, and the seconds of each stage. For `wordllama`
it also prints the share of the CPU seconds that the embedder takes, and its tokenizer. The peaks of the
most and the fewest rows may differ by less than 100 MB. Linux only.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from _measure import Watched, machine, parser_of, show, watch, write_documents

from resizable_search.embedders.wordllama import WordLlamaEmbedder, words_of
from resizable_search.search.index import open_index

ROOT = Path(__file__).resolve().parents[2]
MOST_GROWTH_MB = 100
STAGES = ("reading", "fitting", "checking", "adopting", "embedding", "deriving", "writing")
REPO = "wikimedia/wikipedia"
RSEARCH = str(Path(sysconfig.get_path("scripts")) / "rsearch")
FORMATS = "parquet,datasets,faiss-flat,faiss-pq"
BATCH = WordLlamaEmbedder.batch_size
SHARD_MB = 500
"""The size of a shard of the format `datasets`, whose reader keeps much of it while it reads."""


@dataclass
class Run:
    """One build: what the process took, and the seconds of each stage."""

    rows: int
    took: Watched = field(default_factory=Watched)
    stages: dict[str, float] = field(default_factory=dict)


@contextmanager
def server(module: str, *options: str) -> Iterator[str]:
    """Run one of tests/servers in a process of its own; its address."""
    words = [sys.executable, "-m", f"tests.servers.{module}", *options]
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def measured_build(rows: int, corpus: Sequence[object], environment: dict[str, str]) -> Run:
    """Build an index of that many rows, and watch the process; `corpus` is what `rsearch build` is told."""
    run = Run(rows)
    words = [RSEARCH, "build", *map(str, corpus)]
    begin = time.perf_counter()
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        watcher = threading.Thread(target=_watch_stages, args=(process, run, begin))
        watcher.start()
        run.took = watch(process, begin)
        watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed with exit code {process.returncode}")
    return run


def _watch_stages(process: "subprocess.Popen[str]", run: Run, begin: float) -> None:
    """Time the stages by the lines that the build writes to stderr when each begins."""
    assert process.stderr is not None
    last, since = "starting", begin
    for line in process.stderr:
        words = line.removeprefix("rsearch: ").split()
        if not words or words[0] not in STAGES:
            continue  # a note, or how far a stage is
        now = time.perf_counter()
        run.stages[last] = run.stages.get(last, 0.0) + now - since
        last, since = words[0], now
    run.stages[last] = run.stages.get(last, 0.0) + time.perf_counter() - since


def build_wikipedia(embedder: str, rows: int, folder: Path) -> Run:
    """Build wiki100k with that many articles."""
    from tests.servers.dataset import write_wikipedia

    articles = folder / f"articles-{rows}"
    if not articles.is_dir():
        write_wikipedia(articles, rows)
    with server("hub", "--repo", f"{REPO}={articles}") as hub, server("nomic_api") as api:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "RSEARCH_"))} | {
            "HF_ENDPOINT": hub,
            "HF_HOME": str(folder / "hf"),
            "ATLAS_API_PATH": api,
            "NOMIC_API_KEY": "nk-test",
            "RSEARCH_HOME": str(folder / f"home-{embedder}-{rows}"),
        }
        return measured_build(rows, ("wiki100k", "--limit", rows, "--embedder", embedder), environment)


def print_share(run: Run, home: Path) -> None:
    """Embed the texts of a wordllama build again, on one thread, and tell its share of the build."""
    embedder, spent, tokenizing = WordLlamaEmbedder(), 0.0, 0.0
    with open_index("wiki100k", home=home) as index:
        texts = [document.text for document in index.documents(index.live_rows())]
    embedder.embed(texts[:BATCH], "search_document")  # reads its files
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        begin = time.process_time()
        embedder.embed(batch, "search_document")
        middle = time.process_time()
        words = [words_of(text) for text in batch]
        begun = time.process_time()
        embedder._loaded[1].encode_batch_fast(words, add_special_tokens=False)
        spent, tokenizing = spent + middle - begin, tokenizing + time.process_time() - begun
    whole = run.took.cpu_seconds
    print(
        f"wordllama {run.rows:,}: {whole:.1f} CPU seconds, {spent / whole:.0%} in the embedder, "
        f"{tokenizing / whole:.0%} in its tokenizer; {len(texts) / spent:,.0f} texts a CPU second"
    )


def adopt_vectors(rows: int, folder: Path) -> Run:
    """Adopt a file of that many vectors, made for it."""
    vectors, documents = folder / f"given-{rows}.npy", folder / f"given-{rows}.jsonl"
    rng = np.random.default_rng(0)
    made = np.lib.format.open_memmap(vectors, "w+", np.float32, (rows, 768))
    for start in range(0, rows, 10_000):
        made[start : start + 10_000] = rng.standard_normal(
            (len(made[start : start + 10_000]), 768), np.float32
        )
    del made
    write_documents(documents, rows)
    environment = os.environ | {"RSEARCH_HOME": str(folder / f"home-given-{rows}")}
    return measured_build(rows, ("vectors", vectors, "--documents", documents), environment)


def build_all(embedder: str, sizes: list[int], folder: Path) -> bool:
    """Build each size, print what it took; whether the peaks are as near as they must be."""
    runs = [
        adopt_vectors(rows, folder) if embedder == "given" else build_wikipedia(embedder, rows, folder)
        for rows in sizes
    ]
    table = []
    for run in runs:
        stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in run.stages.items())
        table.append(
            (
                f"{embedder} {run.rows:,}",
                f"{run.took.peak_anonymous_mb:.1f}",
                f"{run.took.seconds:.1f}",
                f"{run.rows / run.took.seconds:,.0f}",
                f"{run.took.cpu_seconds / run.took.seconds:.2f}",
                stages,
            )
        )
    print()
    show(("build", "peak RssAnon MB", "s", "documents/s", "cores used", "seconds by stage"), table)
    fewest, most = min(runs, key=lambda run: run.rows), max(runs, key=lambda run: run.rows)
    growth = most.took.peak_anonymous_mb - fewest.took.peak_anonymous_mb
    held = growth < MOST_GROWTH_MB
    if embedder == "wordllama":
        print_share(most, folder / f"home-{embedder}-{most.rows}")
    print(f"growth: {growth:+.1f} MB, {'ok' if held else 'MISSED'} (< {MOST_GROWTH_MB})")
    return held


def make_index(rows: int, dim: int, folder: Path) -> None:
    """Adopt so many clustered rows, which neighbours may be found among, under the number as a name."""
    vectors, documents = folder / f"{rows}.npy", folder / f"{rows}.jsonl"
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1000, dim), np.float32)
    made = np.lib.format.open_memmap(vectors, "w+", np.float32, (rows, dim))
    for start in range(0, rows, 10_000):
        some = made[start : start + 10_000]
        some[:] = centres[rng.integers(0, 1000, len(some))]
        some += rng.standard_normal((len(some), 16), np.float32) @ rng.standard_normal((16, dim), np.float32)
    del made
    write_documents(documents, rows)
    build = [RSEARCH, "build", "vectors", vectors, "--documents", documents, "--name", f"made{rows}"]
    subprocess.run([*map(str, build), "--dims", str(dim)], check=True, capture_output=True)
    vectors.unlink()
    documents.unlink()
    where = ["--where", "id LIKE '%77'"]
    subprocess.run([RSEARCH, "delete", f"made{rows}", *where, "--yes"], check=True, capture_output=True)


def measured(rows: int, form: str, dest: Path) -> tuple[Watched, str]:
    """Export the index; what the process took, and what it says of its check."""
    begin = time.perf_counter()
    words = [RSEARCH, "export", f"made{rows}", str(dest), "--format", form]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        took = watch(process, begin)
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed with exit code {process.returncode}")
    return took, said.splitlines()[-1].partition(": ")[2]


def export_all(formats: str, sizes: list[int], dim: int, folder: Path) -> bool:
    """Export at each size in each format, print what it took; whether memory stayed flat."""
    table, held = [], True
    os.environ["RSEARCH_HOME"] = str(folder / "home")
    for rows in sizes:
        make_index(rows, dim, folder)
    for form in formats.split(","):
        peaks = []
        for rows in sizes:
            dest = folder / f"{form}-{rows}"
            took, said = measured(rows, form, dest)
            files = [path for path in (dest, *dest.rglob("*")) if path.is_file()]
            megabytes = sum(path.stat().st_size for path in files) / 1e6
            peaks.append(took.peak_anonymous_mb)
            numbers = (f"{took.peak_anonymous_mb:.0f}", f"{took.seconds:.1f}", f"{megabytes:.0f}")
            table.append((f"{form} {rows:,}", *numbers, said))
        most = (sizes[-1] - sizes[0]) * dim * 4 / 1e6 / 2
        most = max(most, SHARD_MB) if form == "datasets" else most
        held = held and peaks[-1] - peaks[0] < most
    print()
    show(("export", "peak RssAnon MB", "s", "MB", "its check"), table)
    print(f"memory: {'ok' if held else 'MISSED'}")
    return held


def main() -> int:
    """Measure and print; 1 if memory grows."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", default="10000,100000", help="numbers of articles (default: %(default)s)")
    parser.add_argument("--embedder", default="nomic,lsa", help="embedders (default: %(default)s)")
    parser.add_argument("--exports", help=f"measure exports in these formats instead, such as {FORMATS}")
    parser.add_argument("--dim", type=int, default=256, help="dimensions of exports (default: %(default)s)")
    args = parser.parse_args()
    sizes = [int(word) for word in args.rows.split(",")]
    sys.path.insert(0, str(ROOT))
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        if args.exports:
            return 0 if export_all(args.exports, sizes, args.dim, Path(temporary)) else 1
        held = [build_all(embedder, sizes, Path(temporary)) for embedder in args.embedder.split(",")]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
