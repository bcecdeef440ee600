"""What each way to search costs and loses: throughput as timeit measures it, overlap with the full scan.

What a benchmark is asked: which plans, in batches of which sizes, on how many threads, warm or cold.
"""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine.plan import Plan, Stage
from resizable_search.engine.topk import NO_ROW
from resizable_search.errors import UsageError
from resizable_search.evaluate import timing
from resizable_search.evaluate.bench_options import BenchOptions
from resizable_search.progress import SILENT, Progress
from resizable_search.search.index import Index, open_index
from resizable_search.system import blas_threads

DEFAULT_SAMPLE = 200
"""How many of the index's own rows serve as queries where none are given."""

MOST_SAMPLE = 100_000
"""The most rows that are drawn: their vectors and answers are held at once."""

AT_ONCE = 256
"""How many queries a batch has where only the answers matter."""


@dataclass(frozen=True, slots=True)
class Queries:
    """The queries of a benchmark: raw vectors (m, full_dim) float32, and where they come from.

    `own_rows` (m,) int64 if they are rows of the index, each to be left out of its own answers.
    `seconds` is what embedding them took, which no measurement counts.
    """

    vectors: NDArray[np.float32]
    source: str
    own_rows: NDArray[np.int64] | None = None
    seed: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """One way to search, measured.

    `rerank`: how many times k its first stage keeps for the full dimension; None: the plan is none of
    a dimension and a rerank. A call brings `batch` queries. `seconds_per_run` is a call's time divided
    by them, the median of the repeats, and `best_seconds_per_run` the least; `runs_per_second` belongs
    to the median. A repeat is `loops` calls. p50, p95, p99: of `calls` single calls, in milliseconds,
    a whole batch each. `speedup` is against the full dimension in such batches on as many threads.
    `overlap`: the mean share of the full dimension's top k that is found, and its 95 % confidence
    interval (normal approximation over the queries; None for one query).
    """

    dim: int
    rerank: int | None
    plan: str
    batch: int
    threads: int
    engine: str
    seconds_per_run: float
    best_seconds_per_run: float
    runs_per_second: float
    loops: int
    repeats: int
    calls: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    speedup: float
    overlap: float
    overlap_ci: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class QueryInfo:
    """Which queries were asked: how many, from where, by which seed, and seconds to embed them."""

    count: int
    source: str
    seed: int | None
    embed_seconds: float


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What `rsearch bench --json` prints.

    `threads`: how many the engine ran on, the most where several numbers were asked. `cache`: whether
    the files were in memory (`warm`) or dropped before each run (`cold`); `cold_stayed` is the share of
    them that could not be dropped, the worst of all runs, None if warm.
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

    def missing(self, target: float) -> list[Measurement]:
        """One measurement of each plan whose mean overlap is below the target, in order."""
        return [m for m in {m.plan: m for m in self.measurements}.values() if m.overlap < target]


def sample_queries(index: Index, count: int = DEFAULT_SAMPLE, seed: int = 0) -> Queries:
    """Some of the index's own rows as queries, drawn without repetition. Raises UsageError."""
    if not 1 <= count <= MOST_SAMPLE:
        raise UsageError(f"--sample must be 1 to {MOST_SAMPLE:,}, not {count}")
    if seed < 0:
        raise UsageError(f"--seed must be 0 or more, not {seed}")
    chosen = np.random.default_rng(seed).choice(index.rows, min(count, index.rows), replace=False)
    rows = index.found_rows()[np.sort(chosen)]
    found = index.vectors(rows)
    said = found.any(axis=1)  # a zero row, of a text without a known word, asks for nothing
    if not said.any():
        raise UsageError(f"none of the rows drawn from {index.name} has a direction: use --queries FILE")
    return Queries(found[said], "own rows", rows[said], seed)


def text_queries(index: Index, texts: Sequence[str], source: str) -> Queries:
    """Texts as queries, embedded (or from the cache). Raises UsageError if there is none."""
    if not texts:
        raise UsageError(f"{source} has no query: put one a line")
    begin = time.perf_counter()
    found = index.embed_queries(texts)
    return Queries(found, source, seconds=time.perf_counter() - begin)


def run_bench(
    index: Index, queries: Queries, options: BenchOptions | None = None, progress: Progress = SILENT
) -> BenchReport:
    """Measure each plan, in batches of each size, on each number of threads.

    The full dimension is always measured, and comes first: the others are compared with it. Answers
    do not depend on batches and threads, so overlaps are taken once a plan. Raises UsageError, and
    RsearchError where cold files are asked for and cannot be had.
    """
    options = (options or BenchOptions()).check()
    plans = options.chosen_plans(index.full_dim, index.dims)
    engine = index.warm()
    if index.remark:
        progress.note(index.remark)
    progress.stage("comparing answers", len(plans), "plans")
    overlaps: list[tuple[float, tuple[float, float] | None]] = []
    truth: list[NDArray[np.int64]] = []
    for plan in plans:
        found = answers(index, queries, plan, options.k)
        truth = truth or found
        mean, interval = overlap_at_k(truth, found)
        overlaps.append((mean, interval if len(found) > 1 else None))
        progress.advance(1)
    measurements: list[Measurement] = []
    stayed = 0.0
    progress.stage("measuring", len(plans) * len(options.batches) * max(1, len(options.threads)), "ways")
    for wanted in options.threads or (None,):
        with _on_threads(index, wanted, engine) as (opened, threads):
            for batch in options.batches:
                batches = timing.Batches(queries.vectors, queries.own_rows, batch)
                full_seconds = 0.0
                for plan, (overlap, overlap_ci) in zip(plans, overlaps, strict=True):
                    timed = _timed(opened, batches, plan, options, engine)
                    median = statistics.median(timed.seconds) / batch
                    full_seconds = full_seconds or median
                    stayed = max(stayed, timed.stayed)
                    p50, p95, p99 = timed.percentiles_ms
                    measurements.append(
                        Measurement(
                            dim=plan.stages[0].dim,
                            rerank=rerank_of(plan, options.k, index.full_dim),
                            plan=str(plan),
                            batch=batch,
                            threads=threads,
                            engine=timed.engine,
                            seconds_per_run=median,
                            best_seconds_per_run=min(timed.seconds) / batch,
                            runs_per_second=1 / median,
                            loops=timed.loops,
                            repeats=len(timed.seconds),
                            calls=len(timed.calls),
                            p50_ms=p50,
                            p95_ms=p95,
                            p99_ms=p99,
                            speedup=full_seconds / median,
                            overlap=overlap,
                            overlap_ci=overlap_ci,
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
    )


def answers(index: Index, queries: Queries, plan: Plan, k: int) -> list[NDArray[np.int64]]:
    """The rows that a plan finds for each query, in batches: what they cost one by one is not asked."""
    found: list[NDArray[np.int64]] = []
    for start in range(0, len(queries.vectors), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        own = None if queries.own_rows is None else queries.own_rows[part]
        top, _ = index.run(queries.vectors[part], plan, k, own)
        found += [rows[rows != NO_ROW] for rows in top.rows]
    return found


def overlap_at_k(
    truth: Sequence[NDArray[np.int64]], found: Sequence[NDArray[np.int64]]
) -> tuple[float, tuple[float, float]]:
    """The mean share of the true rows that were found, query by query, and its 95 % interval.

    Where there is nothing to find, the whole of it is found: 1. One query has no interval but itself.
    """
    shares = np.array(
        [len(np.intersect1d(t, f)) / len(t) if len(t) else 1.0 for t, f in zip(truth, found, strict=True)]
    )
    mean = float(shares.mean())
    half = 1.96 * float(shares.std(ddof=1)) / math.sqrt(len(shares)) if len(shares) > 1 else 0.0
    return mean, (max(0.0, mean - half), min(1.0, mean + half))


def rerank_of(plan: Plan, k: int, full: int) -> int | None:
    """The rerank that a plan is, whatever the precision of its scan; None if it is more than that."""
    first, *more = plan.stages
    if not more:
        return 0
    keep = plan.keeps(k)[0]
    return keep // k if more == [Stage(full)] and keep % k == 0 else None


def _timed(
    index: Index, batches: timing.Batches, plan: Plan, options: BenchOptions, engine: str
) -> timing.Timed:
    if options.cold:
        return timing.time_cold(
            index, lambda fresh, turn: batches.ask(fresh, plan, options.k, turn), engine, len(batches)
        )
    return timing.time_warm(lambda turn: batches.ask(index, plan, options.k, turn), len(batches))


@contextmanager
def _on_threads(index: Index, wanted: int | None, engine: str) -> Iterator[tuple[Index, int]]:
    """The index on so many threads (None: as it is), numpy's own included; and how many they are."""
    with ExitStack() as stack:
        if wanted is not None:
            index = stack.enter_context(open_index(index.folder, threads=wanted, engine=engine))
            stack.enter_context(timing.blas_limited(wanted))
            index.warm()
        yield index, blas_threads() if engine == "numpy" else index.threads
