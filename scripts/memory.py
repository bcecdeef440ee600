"""That building holds memory flat, and where its time goes: 10,000 and 100,000 generated articles.

    .venv/bin/python scripts/memory.py [--rows 10000,100000] [--embedder nomic,lsa,given]

Builds wiki100k through the real `datasets` and `nomic` clients against the loopback hub and API of
tests/servers, each in a process of its own; `given` adopts a file of random vectors of 768 dimensions
with a text of some 1,200 characters each instead. Prints for each embedder and number of rows the peak
of the build's anonymous memory (RssAnon of /proc, every 20 ms: mapped files apart), documents per
second, the share of one core that the build used itself, and the seconds of each stage. The peaks of
the most and the fewest rows may differ by less than 100 MB. Linux only.
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
from _measure import machine, parser_of, show, write_documents
from _processes import Watched, watch

ROOT = Path(__file__).resolve().parents[1]
MOST_GROWTH_MB = 100
STAGES = ("reading", "fitting", "checking", "adopting", "embedding", "deriving", "writing")
REPO = "wikimedia/wikipedia"


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
    rsearch = str(Path(sysconfig.get_path("scripts")) / "rsearch")
    words = [rsearch, "build", *map(str, corpus)]
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
    print(f"growth: {growth:+.1f} MB, {'ok' if held else 'MISSED'} (< {MOST_GROWTH_MB})")
    return held


def main() -> int:
    """Measure and print; 1 if memory grows."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", default="10000,100000", help="numbers of articles (default: %(default)s)")
    parser.add_argument("--embedder", default="nomic,lsa", help="embedders (default: %(default)s)")
    args = parser.parse_args()
    sizes = [int(word) for word in args.rows.split(",")]
    sys.path.insert(0, str(ROOT))
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        held = [build_all(embedder, sizes, Path(temporary)) for embedder in args.embedder.split(",")]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
