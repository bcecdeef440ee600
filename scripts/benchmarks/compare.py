"""Every way to search beside its rivals, on real vectors first, in one run; what must hold, with verdicts.

    RSEARCH_TEST_DATA=DIR .venv/bin/python scripts/benchmarks/compare.py --out docs/benchmarks.md
    … compare.py --vectors ROWS.npy --queries QUERIES.npy [--rows N] [--only GROUPS] [--plan PLAN …]

The rivals are those of _rivals.py, each at its settings and at one and two threads; --help names their
groups. They come with the extra `compare`: .venv/bin/pip install -e ".[compare]".

Single queries: a way answers some in a block of its own, after a pause (the threads of BLAS and OpenMP spin
for a while) and some untimed ones; then each of some more after 64 MB of other memory was touched, as other
programs do (cold). A round has a block of each way, in another order each time; figures are medians over all
rounds, at the better number of threads. Batch: all queries in one call, the best of the rounds, a query; the
first one comes before the single queries, so that these find files mapped and buffers allocated.
Overlap: the share of the float64 top k (ties by lower row) that is found, over all queries. `/ rival`: beside
the fastest rival that finds as much or more. Ours are found through `open_index` as users do, with plans that
`tune` found in the same run; the measured queries are not among those it is given.

The tables go to the terminal and, with --out, to a page; --plot draws them. Exit 1 when something that must
hold does not.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
from _measure import (
    OTHER_MEMORY,
    StageClock,
    bytes_by_file,
    kept_by_stage,
    machine,
    parser_of,
    show,
    spent_by_stage,
    verdict,
)
from _rivals import GRAPHS, GROUPS, THREADS, Given, Way, oracle, overlap, timed
from _vectors import SETS, Vectors, of_files
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from resizable_search import open_index
from resizable_search.build.build import build_vectors
from resizable_search.build.workspace import BuildOptions
from resizable_search.engine.kernel_cache import compile_kernels
from resizable_search.evaluate.tune import tune
from resizable_search.search.index import Index
from resizable_search.search.planning import SearchOptions
from resizable_search.store.layout import Home

K = 10
RECALLS = (0.95, 0.99)
BUILD_THREADS = 2
BATCH_ROUNDS = 2  # of batches, fewer than of single queries
SLOW_SECONDS = 3.0  # a way whose batch takes longer runs it once
PAUSE_SECONDS = 0.1
UNTIMED, HOT, COLD = 5, 30, 8  # queries of a block
BLOCK_SECONDS = 1.0  # a block of a slow way has fewer
PACKAGES = ("faiss-cpu", "usearch", "hnswlib", "turbovec", "rabitqlib", "numba")
HEADINGS = (
    "way",
    "hot ms",
    "threads",
    "cold ms",
    "batch ms",
    "s to build",
    "overlap",
    "hot / rival",
    "cold / rival",
)
JUDGED_HEADINGS = ("what (figures of this run)", "figure", "must", "aim", "")
OURS = "rsearch "
COMMAND = "RSEARCH_TEST_DATA=DIR .venv/bin/python scripts/benchmarks/compare.py"


def say(message: str) -> None:
    """Tell how far the run is."""
    print(message, file=sys.stderr, flush=True)


@dataclass(slots=True)
class Figures:
    """What was measured of a way, in seconds: single queries by threads, hot and cold; a query of a batch."""

    way: Way
    hot: dict[int, list[float]] = field(default_factory=dict)
    cold: dict[int, list[float]] = field(default_factory=dict)
    batch: float = np.inf
    overlap: float = 0.0

    def best(self, cache: str) -> tuple[float, int]:
        """The median of single queries, `hot` or `cold`, at the better number of threads; and that number."""
        spent: Mapping[int, list[float]] = getattr(self, cache)
        return min((statistics.median(each), threads) for threads, each in spent.items())

    def figure(self, cache: str) -> float:
        """Seconds a query: `hot`, `cold` or in a `batch`."""
        return self.batch if cache == "batch" else self.best(cache)[0]


class Ours:
    """An index of the vectors, opened for each number of threads, with tuned plans."""

    def __init__(self, given: Vectors, home: Path) -> None:
        clock = StageClock()
        with tempfile.TemporaryDirectory(dir=home, prefix=".") as folder:
            file, documents = Path(folder) / "rows.npy", Path(folder) / "documents.jsonl"
            np.save(file, given.rows)
            given.write_documents(documents)
            options = BuildOptions(given.name)
            build_vectors(file, Home(home), options, documents=documents, model=given.model, progress=clock)
        self.build_seconds = clock.seconds_of("deriving")
        compile_kernels()
        self.remarks = []
        with open_index(given.name, home=home) as index:
            for recall in RECALLS:
                begin = time.perf_counter()
                report = tune(index, recall, K)
                seconds, tuned = time.perf_counter() - begin, report.tuned
                self.remarks.append(
                    f"tuned for {recall:g} in {seconds:.1f} s on {tuned.queries + tuned.chosen_on:,} "
                    f"{tuned.source}: `{tuned.plan}`, {tuned.overlap:.4f} of them"
                )
        self._open = {threads: open_index(given.name, home=home, threads=threads) for threads in THREADS}
        self.engine = [index.warm() for index in self._open.values()][0]

    def ways(self, plans: list[str]) -> Iterator[Way]:
        """The exact scan, tuned plans, the cookbook's plan, and those that are given."""
        index = self._open[1]
        yield self._way("exact", SearchOptions(K))
        for recall in RECALLS:
            yield self._way(f"tuned {recall:g}", SearchOptions(K, recall=recall))
        if index.full_dim > 512:
            yield self._way("--dim 256 --rerank 10", SearchOptions(K, 256, 10))
            for dim in (512, 300):
                yield self._way(f"exact {dim}", SearchOptions(K, dim))
        for plan in plans:
            yield self._way(plan, SearchOptions(K, plan=plan))

    def _way(self, name: str, options: SearchOptions) -> Way:
        def search(queries: NDArray[np.float32], threads: int) -> NDArray[np.int64]:
            index: Index = self._open[threads]
            return index.scan(queries, K, options.dim, options.rerank, options.plan, options.recall).rows

        plan = str(self._open[1].plan(options))
        shown = name if plan in name or not options.recall else f"{name} ({plan})"
        return Way(OURS + shown, search, self.build_seconds)

    def profile(self, given: Given) -> str:
        """Tables of what the tuned plans keep and spend, stage by stage, and of the files of the index."""
        index = self._open[THREADS[-1]]
        headings = ("first stage", *(f"{recall:g}" for recall in RECALLS))
        kept = markdown(headings, kept_by_stage(index, given.queries, oracle(given), RECALLS))
        page = f"\nCandidates that find so much of the true {K} for these queries:\n\n{kept}"
        for recall in RECALLS:
            plan = index.plan(SearchOptions(K, recall=recall))
            spent = spent_by_stage(index, plan, given.queries, K)
            page += f"\nMilliseconds of the plan for {recall:g}, on {index.threads} threads:\n\n"
            page += markdown((f"`{plan}`", "hot", "cold"), spent)
        files = markdown(("file", "MB", "bytes a row"), bytes_by_file(index))
        return f"{page}\nThe files of the index:\n\n{files}"

    def close(self) -> None:
        """Close the indexes."""
        for index in self._open.values():
            index.close()


def rivals(given: Given, groups: list[str]) -> Iterator[Way]:
    """The rivals of these groups, built; one whose package is missing is left out, and said."""
    for group in groups:
        begin = time.perf_counter()
        try:
            yield from GROUPS[group](given)
        except ImportError as error:
            say(f"{group} is left out: {error}; it comes with the extra compare")
        say(f"{group}: ready after {time.perf_counter() - begin:.1f} s")


def block(found: Figures, queries: NDArray[np.float32], threads: int, number: int) -> None:
    """Measure some queries of a way, one a call: hot ones, then cold ones."""
    search = found.way.search
    found.way.prepare()
    time.sleep(PAUSE_SECONDS)

    def ask(i: int) -> float:
        query = queries[i % len(queries), None]
        return timed(lambda: search(query, threads))

    first = number * (HOT + COLD)
    for i in range(UNTIMED):
        ask(first - 1 - i)
    for cache, count in (("hot", HOT), ("cold", COLD)):
        spent = getattr(found, cache).setdefault(threads, [])
        begin = time.perf_counter()
        for i in range(count):
            if cache == "cold":
                np.add(OTHER_MEMORY, 1, out=OTHER_MEMORY)
            spent.append(ask(first + i))
            if i >= 2 and time.perf_counter() - begin > BLOCK_SECONDS:
                break


def measure(figures: list[Figures], given: Given, rounds: int) -> None:
    """Measure all ways: overlaps and batches, and single queries in blocks."""
    wanted, pools = oracle(given), ThreadpoolController()
    for number in range(rounds):
        shift = number * len(figures) // rounds
        for found in (*figures[shift:], *figures[:shift]):
            for threads in found.way.threads:
                pools.limit(limits=threads)
                is_slow = found.batch * len(given.queries) > SLOW_SECONDS
                if number == 0 or (number < BATCH_ROUNDS and not is_slow):
                    _batch(found, given, wanted, threads, number)
                block(found, given.queries, threads, number)
        say(f"round {number + 1} of {rounds} is measured")
    pools.limit(limits=BUILD_THREADS)


def _batch(found: Figures, given: Given, wanted: NDArray[np.int64], threads: int, number: int) -> None:
    way, answers = found.way, []
    if way.in_batches:
        seconds = timed(lambda: answers.append(way.search(given.queries, threads)))
        found.batch = min(found.batch, seconds / len(given.queries))
    elif number == 0:
        answers.append(np.concatenate([way.search(query[None], threads) for query in given.queries]))
    if number == 0 and answers:
        found.overlap = overlap(answers[0], wanted)


class Run:
    """The figures of a run, and the rivals to be compared with."""

    def __init__(self, figures: list[Figures]) -> None:
        self.figures = figures

    def get(self, beginning: str) -> Figures | None:
        """The figures of the first way whose name begins so."""
        return next((found for found in self.figures if found.way.name.startswith(beginning)), None)

    def rival(self, least: float, cache: str, without: Sequence[str] = ()) -> Figures | None:
        """The fastest rival with such an overlap, whose name has none of these words."""
        able = [
            found
            for found in self.figures
            if not found.way.name.startswith(OURS)
            and not any(word in found.way.name for word in without)
            and found.overlap >= least
        ]
        return min(able, key=lambda found: found.figure(cache), default=None)

    def table(self) -> list[tuple[str, ...]]:
        """A line for each way."""
        lines = []
        for found in self.figures:
            (hot, threads), (cold, _) = found.best("hot"), found.best("cold")
            batch = _ms(found.batch) if found.way.in_batches else "–"
            line = [
                found.way.name,
                _ms(hot),
                f"{threads}",
                _ms(cold),
                batch,
                f"{found.way.build_seconds:.1f}",
            ]
            ratios = ["", ""]
            if found.way.name.startswith(OURS):
                best = [self.rival(found.overlap, cache) for cache in ("hot", "cold")]
                ratios = [
                    f"{mine / other.figure(cache):.2f}" if other else "–"
                    for mine, other, cache in zip((hot, cold), best, ("hot", "cold"), strict=True)
                ]
            lines.append((*line, f"{found.overlap:.4f}", *ratios))
        return lines

    def judged(self) -> list[tuple[str, ...]]:
        """A line for each target that the measured ways are about."""
        lines: list[tuple[str, ...]] = []

        def add(
            what: str, ours: str, other: Figures | None, cache: str, must: float, aim: float, least: float = 0
        ) -> None:
            mine = self.get(OURS + ours)
            if mine is None or other is None:
                return
            ratio = mine.figure(cache) / other.figure(cache)
            missed = "" if mine.overlap >= least else f"; MISSED: below {least:g}"
            remark = (
                f"{_ms(mine.figure(cache))} at {mine.overlap:.4f} against {_ms(other.figure(cache))} at "
                f"{other.overlap:.4f} by {other.way.name}{missed}"
            )
            verdicts = verdict(ratio, at_most=must), verdict(ratio, at_most=aim)
            lines.append((what, f"{ratio:.3f}", *verdicts, remark))

        plain = self.get("numpy")
        for recall in reversed(RECALLS):
            name = f"tuned {recall:g} "
            for cache, must, aim in (("hot", 0.8, 0.5), ("cold", 1.0, 0.7)):
                what = f"tuned for {recall:g} / best rival, {cache}"
                best, scanning = self.rival(recall, cache), self.rival(recall, cache, GRAPHS)
                add(what, name, best, cache, must, aim, recall)
                if scanning is not best:
                    add(f"{what}, without graphs", name, scanning, cache, must, aim, recall)
        add("tuned for 0.99 / numpy float32", "tuned 0.99 ", plain, "hot", 1 / 20, 1 / 50, 0.99)
        add("exact / numpy float32", "exact", plain, "hot", 0.25, 0.15)
        batch = self.rival(0.99, "batch")
        add("a query of a batch at 0.99 / best rival's", "tuned 0.99 ", batch, "batch", 1.0, 0.5, 0.99)
        cookbook = self.get("cookbook 256")
        add("--dim 256 --rerank 10 / the cookbook's", "--dim 256", cookbook, "hot", 1 / 8, 1 / 12)
        stored = self.get(OURS + "exact 512")
        add("an unstored dimension (300) / the next stored one (512)", "exact 300", stored, "hot", 1.3, 1.0)
        return lines


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}" if seconds < 0.01 else f"{seconds * 1e3:.1f}"


def markdown(headings: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    """A table; all but the first column aligned right."""
    rule = ["---"] + ["---:"] * (len(headings) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in (headings, rule, *lines)) + "\n"


def draw(runs: Mapping[str, Run], path: Path) -> None:
    """Milliseconds across, overlap upwards: a picture for each set of vectors, ours and rivals' families."""
    from matplotlib import colormaps, pyplot
    from matplotlib.ticker import LogLocator

    shown, panels = pyplot.subplots(1, len(runs), figsize=(7 * len(runs), 7), squeeze=False)
    for axes, (title, run) in zip(panels[0], runs.items(), strict=True):
        families: dict[str, list[Figures]] = {}
        for found in run.figures:
            families.setdefault(found.way.name.split(",")[0].split(" (")[0], []).append(found)
        for number, (name, members) in enumerate(families.items()):
            points = sorted((found.figure("hot") * 1e3, found.overlap) for found in members)
            size = 14 if name.startswith(OURS) else 4
            marker = "*" if name.startswith(OURS) else "o"
            colour = colormaps["tab20"](number % 20)
            axes.plot(*zip(*points, strict=True), marker=marker, markersize=size, color=colour, label=name)
        axes.set(xscale="log", xlabel="ms a query (log scale)", ylabel=f"overlap@{K}", title=title)
        axes.set_ylim(0.9, 1.003)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.legend(fontsize=7, loc="lower right")
    shown.tight_layout()
    shown.savefig(path)


def compared(vectors: Vectors, args: argparse.Namespace, home: Path) -> tuple[Run, str, str]:
    """Measure everything on these vectors; the figures, what they are of, and a profile of our plans."""
    say(f"{vectors.name}: {len(vectors.rows):,} × {vectors.rows.shape[1]}; rsearch: building and tuning …")
    given = Given(vectors.rows, vectors.queries, K)
    ours = Ours(vectors, home)
    figures = [Figures(way) for way in chain(ours.ways(args.plan), rivals(given, args.groups))]
    say(f"{len(figures)} ways, {args.rounds} rounds …")
    measure(figures, given, args.rounds)
    profile = ours.profile(given)
    ours.close()
    intro = (
        f"{len(given.rows):,} × {given.width}: {vectors.described}. {len(given.queries):,} queries, k {K}, "
        f"{args.rounds} rounds; engine {ours.engine}; {'; '.join(ours.remarks)}. All dimensions and tiers of "
        f"the index were derived in {ours.build_seconds:.1f} s."
    )
    return Run(figures), intro, profile


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = parser_of(__doc__)
    parser.add_argument("--vectors", type=Path, help="(n, d) float32 .npy, in place of --sets")
    parser.add_argument("--queries", type=Path, help="(m, d) float32 .npy, with --vectors")
    parser.add_argument("--sets", default=",".join(SETS), help="(default: %(default)s)")
    parser.add_argument("--rows", type=int, help="so many rows (default: all, 100,000 stand-ins)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--only", help=f"rivals, of: {','.join(GROUPS)}; or none")
    parser.add_argument("--plan", action="append", default=[], help="measure this plan too; may be repeated")
    parser.add_argument("--home", type=Path, help="build the indexes here, not in a folder that goes")
    parser.add_argument("--out", type=Path, help="write the tables into this page, as docs/benchmarks.md is")
    parser.add_argument("--plot", type=Path, help="draw them, as .svg or .png")
    args = parser.parse_args()
    args.groups = list(GROUPS) if args.only is None else args.only.replace("none", "").split(",")
    args.groups = [group for group in args.groups if group]
    unknown = set(args.groups) - set(GROUPS) or set(args.sets.split(",")) - set(SETS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join((*GROUPS, *SETS))}")
    if (args.vectors is None) != (args.queries is None):
        parser.error("--vectors and --queries belong together")
    return args


def main() -> int:
    """Measure, print and write; 1 if something that must hold does not."""
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the index would stay behind
    makers: list[Callable[[int | None], Vectors]] = [SETS[name] for name in args.sets.split(",")]
    if args.vectors is not None:
        makers = [lambda limit: of_files(args.vectors, args.queries, limit)]
    words = [word if word.startswith("docs/") else Path(word).name for word in sys.argv[1:]]
    page = f"# Benchmarks\n\nWritten by `{' '.join([COMMAND, *words])}`; not edited by hand.\n"
    if left_out := [group for group in GROUPS if group not in args.groups]:
        page += f"\nRivals that were not measured in this run: {', '.join(left_out)}.\n"
    page += f"\nMilliseconds a query, medians; {machine(*PACKAGES)}.\n"
    runs: dict[str, Run] = {}
    held = True
    for make in makers:
        vectors = make(args.rows)
        with tempfile.TemporaryDirectory() as temporary:
            run, intro, profile = compared(vectors, args, args.home or Path(temporary))
        runs[f"{vectors.name}: {vectors.rows.shape[0]:,} × {vectors.rows.shape[1]}"] = run
        judged, lines = run.judged(), run.table()
        held = held and not any("MISSED" in line[2] or "MISSED" in line[4] for line in judged)
        print(f"\n{vectors.name}\n{intro}\n")
        show((*HEADINGS, ""), [(*line, "") for line in lines])
        show(JUDGED_HEADINGS, judged)
        page += f"\n## {vectors.name.capitalize()}\n\n{intro}\n\n"
        page += f"{markdown(JUDGED_HEADINGS, judged)}\n{markdown(HEADINGS, lines)}{profile}"
    if args.plot is not None:
        draw(runs, args.plot)
        page += (
            f"\n![Overlap by milliseconds]({os.path.relpath(args.plot, (args.out or args.plot).parent)})\n"
        )
    if args.out is not None:
        args.out.write_text(page)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
