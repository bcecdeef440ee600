"""Every way to search, beside its rivals, in one run and one table; what must hold, with verdicts.

    .venv/bin/python scripts/benchmarks/compare.py [--vectors FILE.npy --queries FILE.npy] [--only GROUPS]

The rivals: the cookbook's functions, numpy, faiss, usearch and hnswlib, each with its best settings;
--help names their groups. Single queries: the median and the 95th percentile, all ways turn about at
one and at two threads, a few timed calls after a pause and some untimed ones of the same way,
so that caches and threads are as they would be for a way used alone. The rivals come with the extra
`compare`: .venv/bin/pip install -e ".[compare]". Batches: all queries in one call,
the best of the rounds. Overlap: the share of the float64 top k (ties by lower row) that is found, over
all queries. Bytes: the index in a file; for rsearch, the files that the plan reads. The table goes to
the terminal and to docs/benchmarks.md (unless --only leaves rivals out); exit 1 when what must hold does
not, or was not measured.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _measure import (
    add_given,
    alternate,
    disturbed,
    given_queries,
    given_vectors,
    machine,
    parser_of,
    read_bandwidth,
    scanned,
    show,
)
from _ours import Figures, Measured, Ours, judge
from _rivals import (
    THREADS,
    Given,
    Way,
    cookbook_ways,
    flat_ways,
    graph_ways,
    hnswlib_ways,
    numpy_ways,
    oracle,
    overlap,
    product_ways,
    rabitq_ways,
    scalar_ways,
    timed,
    usearch_exact_ways,
    usearch_graph_ways,
)
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from resizable_search.engine import vectors

ROOT = Path(__file__).resolve().parents[2]
BUILD_THREADS = 2
SLOW_BATCH_SECONDS = 3.0
PAUSE_SECONDS = 0.04
"""For as long as that, threads of OpenBLAS and OpenMP go on spinning: nobody is to pay for another's."""
UNTIMED, BURST = 3, 5
"""Calls of a way after such a pause: those that bring its data and code into the caches, those timed."""
PACKAGES = ("faiss-cpu", "usearch", "hnswlib", "numba")
GROUPS: dict[str, Callable[[Given], list[Way]]] = {
    "cookbook": cookbook_ways,
    "numpy": numpy_ways,
    "flat": flat_ways,
    "scalar": scalar_ways,
    "product": product_ways,
    "rabitq": rabitq_ways,
    "graph": graph_ways,
    "usearch-exact": usearch_exact_ways,
    "usearch-graph": usearch_graph_ways,
    "hnswlib": hnswlib_ways,
}
HEADINGS = (
    "way",
    "1 thread",
    "p95",
    "2 threads",
    "p95",
    "batch, 1",
    "batch, 2",
    "s to build",
    "MB",
    "overlap",
    "",
)


def say(message: str) -> None:
    """Tell how far the run is."""
    print(message, file=sys.stderr, flush=True)


class Pools:
    """The thread pools of BLAS and OpenMP in every library that is loaded."""

    def __init__(self) -> None:
        self._controller = ThreadpoolController()

    def use(self, threads: int) -> None:
        """Let each use so many threads."""
        self._controller.limit(limits=threads)


def prepare(given: Given, groups: list[str]) -> list[Way]:
    """Build the rivals of these groups; one whose package is missing is left out, and said."""
    ways = []
    for group in groups:
        try:
            seconds = timed(lambda group=group: ways.extend(GROUPS[group](given)))
            say(f"{group}: ready after {seconds:.1f} s")
        except ImportError as error:
            say(f"{group} is left out: {error}; it comes with the extra compare")
    return ways


def single_queries(figures: dict[str, Figures], queries: NDArray[np.float32], rounds: int) -> str:
    """Measure one query at a time, every way at each of its numbers of threads, turn about."""
    pools = Pools()
    asked = {
        f"{threads} {name}": (found.way, threads)
        for name, found in figures.items()
        for threads in found.way.threads
    }

    def calls(key: str) -> Callable[[int], object]:
        way, threads = asked[key]
        return lambda i: way.search(queries[i % len(queries), None], threads)

    def before(key: str) -> None:
        way, threads = asked[key]
        time.sleep(PAUSE_SECONDS)
        pools.use(threads)
        for i in range(UNTIMED):
            way.search(queries[-1 - i, None], threads)

    seconds = alternate({key: calls(key) for key in asked}, rounds, warm_up=0, before=before, burst=BURST)
    for key, spent in seconds.items():
        way, threads = asked[key]
        figures[way.name].single[threads] = spent
    return disturbed(seconds)


def batches(
    figures: dict[str, Figures], queries: NDArray[np.float32], wanted: NDArray[np.int64], rounds: int
) -> None:
    """Measure all queries in one call: the best of the rounds; slow ways once. And what was found."""
    pools = Pools()
    slow: set[str] = set()
    for number in range(rounds):
        for name, found in figures.items():
            way = found.way
            if not way.in_batches or name in slow:
                continue
            for threads in way.threads:
                time.sleep(PAUSE_SECONDS)
                pools.use(threads)
                answers: list[NDArray[np.int64]] = []
                spent = timed(lambda way=way, n=threads, out=answers: out.append(way.search(queries, n)))
                found.batch[threads] = min(spent / len(queries), found.batch.get(threads, np.inf))
                if spent > SLOW_BATCH_SECONDS:
                    slow.add(name)
                if number == 0:
                    found.overlap = overlap(answers[0], wanted)
        say(f"batches: round {number + 1} of {rounds}")
    pools.use(BUILD_THREADS)
    for found in figures.values():
        if not found.way.in_batches:
            rows = [found.way.search(queries[i, None], BUILD_THREADS)[0] for i in range(len(queries))]
            found.overlap = overlap(np.array(rows), wanted)


def table(figures: dict[str, Figures]) -> list[tuple[str, ...]]:
    """A line for each way; times in milliseconds a query."""
    lines = []
    for name, found in figures.items():
        line = [name]
        for threads in THREADS:
            spent = found.single.get(threads)
            line += [_ms(np.median(spent)), _ms(np.percentile(spent, 95))] if spent else ["–", "–"]
        line += [_ms(found.batch[threads]) if threads in found.batch else "–" for threads in THREADS]
        way = found.way
        line.append("–" if way.build_seconds is None else f"{way.build_seconds:.1f}")
        line.append("–" if way.disk_bytes is None else f"{way.disk_bytes / 1e6:.1f}")
        lines.append((*line, f"{found.overlap:.4f}", ""))
    return lines


def traffic(ours: Ours, figures: dict[str, Figures]) -> list[tuple[str, ...]]:
    """What rsearch's scans read, and the share of the memory's bandwidth that they reach."""
    bandwidth: dict[tuple[Path, int], float] = {}
    lines = []
    for name, plan in ours.plan_of.items():
        path, read = scanned(ours.index, plan)
        line = [name, f"{read / 1e6:.1f}"]
        for threads in THREADS:
            if (path, threads) not in bandwidth:
                bandwidth[path, threads] = read_bandwidth(path, threads)
            most = bandwidth[path, threads]
            line += [f"{most / 1e9:.1f}", f"{read / figures[name].median(threads) / most:.0%}"]
        lines.append((*line, path.name))
    return lines


TRAFFIC_HEADINGS = (
    "way",
    "MB a query",
    "GB/s, 1 thread",
    "share",
    "GB/s, 2 threads",
    "share",
    "first stage reads",
)
JUDGED_HEADINGS = ("what (figures of this run)", "figure", "must", "aim", "")


def markdown(headings: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    """A table; all but the first column aligned right."""
    width = len(headings) - (not headings[-1] and not any(line[-1] for line in lines))
    rule = ["---"] + ["---:"] * (width - 1)
    rows = [headings[:width], rule, *(line[:width] for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def page(intro: str, parts: list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]) -> str:
    """docs/benchmarks.md."""
    text = f"# Benchmarks\n\nWritten by `scripts/benchmarks/compare.py`; not edited by hand.\n\n{intro}\n"
    for title, headings, lines in parts:
        text += f"\n## {title}\n\n{markdown(headings, lines)}"
    return text


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}" if seconds < 0.01 else f"{seconds * 1e3:.1f}"


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = parser_of(__doc__)
    add_given(parser, rounds=12, home=False)
    parser.add_argument("--described", help="what the vectors are, for the page")
    parser.add_argument("--batch-rounds", type=int, default=3, help="of batches (default: %(default)s)")
    parser.add_argument("--only", help=f"rivals, of: {','.join(GROUPS)}; or none")
    parser.add_argument("--out", type=Path, help="the page (default: docs/benchmarks.md, if all rivals ran)")
    args = parser.parse_args()
    args.groups = list(GROUPS) if args.only is None else args.only.split(",")
    args.groups = [] if args.groups == ["none"] else args.groups
    unknown = set(args.groups) - set(GROUPS)
    if unknown:
        parser.error(f"--only knows {', '.join(GROUPS)}, not {', '.join(sorted(unknown))}")
    if args.out is None and args.only is None:
        args.out = ROOT / "docs/benchmarks.md"
    return args


def main() -> int:
    """Measure, print and write; 1 if something that must hold does not."""
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the index would stay behind
    found, made_of = given_vectors(args.vectors, args.rows)
    asked = given_queries(args.queries, found, 1000)
    width = found.shape[1]
    given = Given(vectors.truncate(found, width), vectors.truncate(asked, width), k=10)
    del found, asked
    say(f"{len(given.rows):,} × {width}: the float64 answers …")
    wanted = oracle(given)
    with tempfile.TemporaryDirectory() as home:
        say("rsearch: building …")
        ours = Ours(given, Path(home), made_of, say)
        own = ours.ways()
        figures = {way.name: Figures(way) for way in prepare(given, args.groups) + own}
        say(f"single queries: {args.rounds} rounds of {len(figures)} ways …")
        busy = single_queries(figures, given.queries, args.rounds)
        batches(figures, given.queries, wanted, args.batch_rounds)
        reads = traffic(ours, figures)
        judged, held = judge(Measured(figures, width, len(given.rows), ours.derive_seconds))
        engine = ours.index.warm()
        ours.close()
    intro = (
        f"{len(given.rows):,} × {width} ({args.described or made_of}), {len(given.queries):,} queries, "
        f"k {given.k}, {args.rounds} rounds of {BURST} calls, milliseconds a query; {machine(*PACKAGES)}; "
        f"engine {engine}."
    )
    if busy:
        intro += f"\n\n{busy[0].upper()}{busy[1:]}."
    parts = [
        ("Every way", HEADINGS, table(figures)),
        ("What must hold", JUDGED_HEADINGS, judged),
        ("Memory traffic", TRAFFIC_HEADINGS, reads),
    ]
    print(intro)
    for title, headings, lines in parts:
        print(f"\n{title}")
        show(headings, lines)
    if args.out is not None:
        args.out.write_text(page(intro, parts))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
