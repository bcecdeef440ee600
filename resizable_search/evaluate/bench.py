"""What dimensions and plans cost and lose: throughput as timeit measures it, overlap with the full scan."""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine.base import NO_ROW
from resizable_search.engine.kernel_cache import ENGINES
from resizable_search.engine.plan import Plan, Precision, Stage, candidates
from resizable_search.errors import UsageError
from resizable_search.evaluate import timing
from resizable_search.progress import SILENT, Progress
from resizable_search.search.index import Index, open_index
from resizable_search.system import blas_threads
from resizable_search.text import counted

DEFAULT_SAMPLE = 200  # how many rows of the index are queries if none are given
MOST_SAMPLE = 100_000  # the largest sample: its vectors and answers are in memory at once
MOST_BATCH = MOST_HITS = 10_000  # queries of a batch, hits of a query: all of them are in memory at once
ANSWER_BATCH = 256  # queries of a batch where only the answers matter
BATCH_ROWS = 1 << 18  # the most rows that such a batch keeps in total, so that memory is bounded
NEARLY_ALL = 0.99  # the overlap that a setting must keep to be advised
LEAST_SAVING = 0.25  # the share of its time that a smaller dimension must save to pay
READ_BY = 20  # queries whose bytes are counted
ROUGH_RERANK = 10  # the rerank of int8 and 1bit if none is given: an exact stage must follow them


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure: each of `dims` (None: the stored ones) in each of `precisions`, `reranks` and `modes`.

    Exact and float32 are measured without rerank too, and so are `plans`. `batches`: queries per call.
    `threads`, a set of measurements for each; empty: as the index was opened. `cold`: from the disk.
    """

    dims: tuple[int, ...] | None = None
    reranks: tuple[int, ...] = ()
    precisions: tuple[Precision, ...] = ("exact",)
    modes: tuple[str, ...] = ("dense",)
    plans: tuple[str, ...] = ()
    k: int = 10
    batches: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = ()
    cold: bool = False

    def check(self) -> "BenchOptions":
        """The options themselves. Raises UsageError for impossible ones."""
        if not 1 <= self.k <= MOST_HITS:
            raise UsageError(f"k must be 1 to {MOST_HITS:,} to be measured, not {self.k}")
        for batch in self.batches:
            if not 1 <= batch <= MOST_BATCH:
                raise UsageError(f"`batch` must be 1 to {MOST_BATCH:,} queries, not {batch}")
        for plan in self.plans:
            Plan.parse(plan)
        if self.cold and self.batches != (1,):
            raise UsageError("`cold` measures single queries: leave `batch` out")
        return self

    def chosen_plans(self, full_dim: int, stored: tuple[int, ...]) -> list[Plan]:
        """The plans to measure on an index of these dimensions, the full one first. Raises UsageError."""
        plans = [Plan.of(full_dim, 0, self.k, full_dim)]
        for dim in sorted(stored, reverse=True) if self.dims is None else self.dims:
            for precision in self.precisions:
                plans += self._plans_at(dim, precision, full_dim)
        plans = [plan.in_mode(mode) for plan in plans for mode in self.modes]
        plans += [Plan.parse(text) for text in self.plans]
        return list(dict.fromkeys(plan.check(self.k, full_dim) for plan in plans))

    def _plans_at(self, dim: int, precision: Precision, full: int) -> Iterator[Plan]:
        reranks = [rerank for rerank in self.reranks if rerank]
        if precision in ("int8", "1bit", "bits"):
            reranks = reranks or [ROUGH_RERANK]
        else:
            yield Plan((Stage(dim, precision=precision),))
            if dim == full:  # a rerank would change nothing
                return
        for rerank in reranks:
            yield Plan((Stage(dim, candidates(rerank, self.k), precision), Stage(full)))


@dataclass(frozen=True, slots=True)
class Queries:
    """Raw vectors (m, full_dim) float32 of queries, their source, and the `seconds` that embedding took.

    `own_rows` (m,) int64: the rows of the index that they are, each left out of its own hits. `texts` (m)
    are needed by plans with words.
    """

    vectors: NDArray[np.float32]
    source: str
    own_rows: NDArray[np.int64] | None = None
    seed: int | None = None
    seconds: float = 0.0
    texts: tuple[str, ...] = ()

    def take(self, which: NDArray[np.int64] | slice) -> "Queries":
        """Some of the queries, by their numbers."""
        own_rows = None if self.own_rows is None else self.own_rows[which]
        texts = tuple(np.array(self.texts, object)[which]) if self.texts else ()
        return Queries(self.vectors[which], self.source, own_rows, self.seed, texts=texts)

    def batches(self, size: int) -> list["Queries"]:
        """All queries in batches of one size; the first ones fill up the last batch."""
        count = len(self.vectors)
        order = np.arange(-(-count // size) * size) % count
        return [self.take(order[start : start + size]) for start in range(0, len(order), size)]


@dataclass(frozen=True, slots=True)
class Measurement:
    """A plan, measured in batches of one size on one number of threads.

    `rerank` as in `rerank_of`. `seconds_per_run` is the time of a call divided by `batch`: the median, least
    and most of `repeats` of `loops` calls. p50, p95 and p99 are milliseconds of `calls` single calls.
    `speedup`: against the full dimension at the same batch and threads. `bytes_per_run`: what a query reads.
    `overlap`: the mean share of the full dimension's top k that is found, with its 95 % interval.
    """

    dim: int
    rerank: int | None
    plan: str
    batch: int
    threads: int
    engine: str
    seconds_per_run: float
    best_seconds_per_run: float
    worst_seconds_per_run: float
    runs_per_second: float
    loops: int
    repeats: int
    calls: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    speedup: float
    bytes_per_run: int
    overlap: float
    overlap_ci: tuple[float, float] | None

    def is_faster(self, other: "Measurement") -> bool:
        """Whether even its slowest repeat took less time than the other's fastest."""
        return self.worst_seconds_per_run < other.best_seconds_per_run


@dataclass(frozen=True, slots=True)
class QueryInfo:
    """The queries of a report."""

    count: int
    source: str
    seed: int | None
    embed_seconds: float


@dataclass(frozen=True, slots=True)
class BenchReport:
    """The JSON of `bench`.

    `threads`: the most that were used. `cache`: `warm`, or `cold` if files were dropped before each run;
    `cold_stayed` is then the largest share of their bytes that stayed in memory. `pays_from`: on an index too
    small for any difference, about how many rows make the least dimension of `measurements` a quarter faster.
    """

    index: str
    rows: int
    full_dim: int
    k: int
    queries: QueryInfo
    threads: int
    engine: str
    cache: str
    cold_stayed: float | None
    measurements: list[Measurement]
    pays_from: int | None = None

    def full(self, measurement: Measurement) -> Measurement:
        """The full dimension, measured at the same batch and threads."""
        way = measurement.batch, measurement.threads
        return next(m for m in self.measurements if (m.batch, m.threads) == way)

    @property
    def cheapest(self) -> Measurement:
        """The fastest setting that kept the share `NEARLY_ALL` of the hits, at the first batch and threads.

        Where none is measurably faster than the full dimension: the one that reads least and is not slower.
        """
        full = self.measurements[0]
        good = [m for m in self.measurements if self.full(m) is full and m.overlap >= NEARLY_ALL]
        if faster := [m for m in good if m.is_faster(full)]:
            return min(faster, key=lambda m: m.seconds_per_run)
        return min((full, *(m for m in good if not full.is_faster(m))), key=lambda m: m.bytes_per_run)

    @property
    def title(self) -> str:
        """What was measured, in one line."""
        count, counts = self.queries.count, list(dict.fromkeys(m.threads for m in self.measurements))
        queries = counted(count, "query")
        if self.queries.seed is not None:
            queries = f"{count:,} of its own rows as queries"
        threads = f"{', '.join(map(str, counts))} {'thread' if counts == [1] else 'threads'}"
        shape = f"{self.rows:,} × {self.full_dim}"
        return f"{self.index} · {shape} · k {self.k} · {queries} · {threads} · {self.cache}"

    def missing(self, target: float) -> list[Measurement]:
        """One measurement of each plan whose overlap is below the target, in order."""
        return [m for m in {m.plan: m for m in self.measurements}.values() if m.overlap < target]


def sample_queries(index: Index, count: int = DEFAULT_SAMPLE, seed: int = 0) -> Queries:
    """Distinct rows of the index as queries. Raises UsageError."""
    if not 1 <= count <= MOST_SAMPLE:
        raise UsageError(f"`sample` must be 1 to {MOST_SAMPLE:,}, not {count}")
    if seed < 0:
        raise UsageError(f"`seed` must be 0 or more, not {seed}")
    drawn = np.random.default_rng(seed).choice(index.rows, min(count, index.rows), replace=False)
    rows = index.live_rows()[np.sort(drawn)]
    vectors = index.vectors(rows)
    usable = vectors.any(axis=1)  # a text without a known word has a zero vector
    if not usable.any():
        raise UsageError(f"the rows drawn from {index.name} are all zero vectors: give `queries`")
    return Queries(vectors[usable], "own rows", rows[usable], seed)


def text_queries(index: Index, texts: Sequence[str], source: str) -> Queries:
    """Texts as queries, embedded or from the cache. Raises UsageError if there are none."""
    if not texts:
        raise UsageError(f"{source} has no query: put one a line")
    begin = time.perf_counter()
    vectors = index.embed_queries(texts)
    return Queries(vectors, source, seconds=time.perf_counter() - begin, texts=tuple(texts))


def run_bench(
    index: Index, queries: Queries, options: BenchOptions | None = None, progress: Progress = SILENT
) -> BenchReport:
    """Measure each plan, the full dimension first. Raises UsageError, and RsearchError."""
    options = (options or BenchOptions()).check()
    plans = options.chosen_plans(index.full_dim, index.dims)
    engine = index.warm()
    if index.remark:
        progress.note(index.remark)
    progress.stage("comparing answers", len(plans), "plans")
    overlaps: list[tuple[float, tuple[float, float] | None, int]] = []  # and the bytes that a query reads
    some = queries.take(slice(READ_BY))
    truth: list[NDArray[np.int64]] = []
    for plan in plans:
        batches = answer_batches(index, queries, plan, options.k)
        found = [rows[rows != NO_ROW] for batch in batches for rows in batch]
        truth = truth or found
        stages = index.run(some.vectors, plan, options.k, some.own_rows, texts=some.texts)[1]
        overlaps.append((*overlap_at_k(truth, found), sum(stage.read for stage in stages)))
        progress.advance(1)
    measurements: list[Measurement] = []
    stayed = 0.0
    progress.stage("measuring", len(plans) * len(options.batches) * max(1, len(options.threads)), "plans")
    for wanted in options.threads or (None,):
        with _on_threads(index, wanted, engine) as (opened, threads):
            for batch in options.batches:
                turns = queries.batches(batch)
                full_seconds = 0.0
                for plan, (overlap, interval, count) in zip(plans, overlaps, strict=True):
                    ask = partial(_run_batch, turns, plan, options.k)
                    if options.cold:
                        timed = timing.time_cold(opened, ask, engine)
                    else:
                        timed = timing.time_warm(partial(ask, opened), len(turns))
                    median = statistics.median(timed.seconds) / batch
                    full_seconds = full_seconds or median
                    stayed = max(stayed, timed.stayed)
                    p50, p95, p99 = np.percentile(np.array(timed.calls) * 1e3, (50, 95, 99)).tolist()
                    measurements.append(
                        Measurement(
                            dim=plan.dim or index.full_dim,
                            rerank=rerank_of(plan, options.k, index.full_dim),
                            plan=str(plan),
                            batch=batch,
                            threads=threads,
                            engine=timed.engine,
                            seconds_per_run=median,
                            best_seconds_per_run=min(timed.seconds) / batch,
                            worst_seconds_per_run=max(timed.seconds) / batch,
                            runs_per_second=1 / median,
                            loops=timed.loops,
                            repeats=len(timed.seconds),
                            calls=len(timed.calls),
                            p50_ms=p50,
                            p95_ms=p95,
                            p99_ms=p99,
                            speedup=full_seconds / median,
                            bytes_per_run=count,
                            overlap=overlap,
                            overlap_ci=interval,
                        )
                    )
                    progress.advance(1)
    return BenchReport(
        index=index.name,
        rows=index.rows,
        full_dim=index.full_dim,
        k=options.k,
        queries=QueryInfo(len(queries.vectors), queries.source, queries.seed, queries.seconds),
        threads=max(m.threads for m in measurements),
        engine=engine,
        cache="cold" if options.cold else "warm",
        cold_stayed=stayed if options.cold else None,
        measurements=measurements,
        pays_from=_pays_from(index, engine, measurements) if engine in ENGINES and not options.cold else None,
    )


def _run_batch(batches: Sequence[Queries], plan: Plan, k: int, index: Index, turn: int) -> str:
    """Search one batch, as users do, who leave out no row. Returns the engine."""
    queries = batches[turn % len(batches)]
    return index.run(queries.vectors, plan, k, texts=queries.texts)[1][0].engine


def _pays_from(index: Index, engine: str, measurements: Sequence[Measurement]) -> int | None:
    """From how many rows on the least dimension saves `LEAST_SAVING` of the time; None: here, or never.

    A query takes `fixed + rows x dim x pace` seconds. On a small index, what the full dimension takes is
    nearly all fixed; the pace is measured on made-up rows.
    """
    full, *others = measurements
    smaller = [m for m in others if m.batch == 1 and m.threads == full.threads and m.plan.isdigit()]
    saved = (1 - LEAST_SAVING) * full.dim - min((m.dim for m in smaller), default=full.dim)
    if saved <= 0 or any(m.is_faster(full) for m in smaller):
        return None
    pace = timing.scan_pace(engine, full.threads, full.dim)
    fixed = max(0.0, full.best_seconds_per_run - index.rows * full.dim * pace)
    rows = round(LEAST_SAVING * fixed / pace / saved)
    return rows if rows > index.rows else None


def answer_batches(index: Index, queries: Queries, plan: Plan, k: int) -> Iterator[NDArray[np.int64]]:
    """The rows (b, k) that a plan finds for some queries at a time, in their order; -1 for none."""
    step = max(1, min(ANSWER_BATCH, BATCH_ROWS // max([k, *plan.keeps(k)])))
    for start in range(0, len(queries.vectors), step):
        part = queries.take(slice(start, start + step))
        yield index.run(part.vectors, plan, k, part.own_rows, texts=part.texts)[0].rows


def overlap_at_k(
    truth: Sequence[NDArray[np.int64]], rows: Sequence[NDArray[np.int64]]
) -> tuple[float, tuple[float, float] | None]:
    """The mean share of the true rows that are among `rows`, and its 95 % interval (None for one query)."""
    pairs = zip(truth, rows, strict=True)
    shares = np.array(
        [len(np.intersect1d(true, found)) / len(true) if len(true) else 1.0 for true, found in pairs]
    )
    mean = float(shares.mean())
    if len(shares) == 1:
        return mean, None
    half = 1.96 * float(shares.std(ddof=1)) / math.sqrt(len(shares))
    return mean, (max(0.0, mean - half), min(1.0, mean + half))


def rerank_of(plan: Plan, k: int, full: int) -> int | None:
    """How many times max(k, 10) rows the scan keeps for the full dimension; None for any other plan."""
    if plan.words is not None:
        return None
    first, *more = plan.stages
    if not more:
        return 0
    rerank, rest = divmod(plan.keeps(k)[0], candidates(1, k))
    return rerank if more == [Stage(full)] and not rest else None


@contextmanager
def _on_threads(index: Index, wanted: int | None, engine: str) -> Iterator[tuple[Index, int]]:
    """The index on so many threads (None: as it is), numpy's included, and the number of threads."""
    from threadpoolctl import threadpool_limits

    with ExitStack() as stack:
        if wanted is not None:
            index = stack.enter_context(open_index(index.folder, threads=wanted, engine=engine))
            stack.enter_context(threadpool_limits(wanted, user_api="blas"))
            index.warm()
        yield index, blas_threads() if engine == "numpy" else index.threads
