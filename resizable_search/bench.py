"""What each dimension costs and loses: throughput as timeit measures it, and overlap with the full scan."""

import itertools
import math
import statistics
import time
import timeit
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import UsageError
from resizable_search.plan import Plan
from resizable_search.progress import SILENT, Progress
from resizable_search.search import Index
from resizable_search.topk import NO_ROW

REPEATS = 5
"""How often timeit repeats its loop; its own default."""

DEFAULT_SAMPLE = 200
"""How many of the index's own rows serve as queries where none are given."""


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

    `seconds_per_run` is the median of timeit's repeats and `best_seconds_per_run` the least;
    `runs_per_second` belongs to the median. p50, p95, p99: single queries, in milliseconds.
    `speedup` is against the full dimension. `overlap`: the mean share of the full dimension's top k
    that is found, and its 95 % confidence interval (normal approximation over the queries).
    """

    dim: int
    rerank: int
    plan: str
    seconds_per_run: float
    best_seconds_per_run: float
    runs_per_second: float
    loops: int
    repeats: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    speedup: float
    overlap: float
    overlap_ci: tuple[float, float]


@dataclass(frozen=True, slots=True)
class QueryInfo:
    """Which queries were asked: how many, from where, by which seed, and seconds to embed them."""

    count: int
    source: str
    seed: int | None
    embed_seconds: float


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What `rsearch bench --json` prints. The files are in memory (`warm`) when it is measured."""

    index: str
    rows: int
    full_dim: int
    k: int
    queries: QueryInfo
    threads: int
    cache: str
    measurements: list[Measurement]


def sample_queries(index: Index, count: int = DEFAULT_SAMPLE, seed: int = 0) -> Queries:
    """Some of the index's own rows as queries, drawn without repetition. Raises UsageError."""
    if count < 1:
        raise UsageError(f"--sample must be 1 or more, not {count}")
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
    index: Index,
    queries: Queries,
    dims: Sequence[int] | None = None,
    reranks: Sequence[int] = (),
    k: int = 10,
    progress: Progress = SILENT,
) -> BenchReport:
    """Measure each dimension, plain and with each rerank, one query at a time, files in memory.

    `dims` None: every stored one. The full dimension is always measured, and comes first: the
    others are compared with it. Raises UsageError.
    """
    full = index.full_dim
    others = [dim for dim in (sorted(index.dims, reverse=True) if dims is None else dims) if dim != full]
    plans = [(full, 0, Plan.of(full, 0, k, full))]
    plans += [
        (dim, rerank, Plan.of(dim, rerank, k, full))
        for dim in others
        for rerank in dict.fromkeys((0, *reranks))
    ]
    progress.stage("measuring", len(plans), "plans")
    measurements: list[Measurement] = []
    truth: list[NDArray[np.int64]] = []
    for dim, rerank, plan in plans:
        answers, latencies = _ask_all(index, queries, plan, k)
        truth = truth or answers
        loops, seconds = _timeit(index, queries, plan, k)
        median = statistics.median(seconds)
        first = measurements[0].seconds_per_run if measurements else median
        overlap, interval = overlap_at_k(truth, answers)
        p50, p95, p99 = np.percentile(np.array(latencies) * 1e3, (50, 95, 99)).tolist()
        measurements.append(
            Measurement(
                dim=dim,
                rerank=rerank,
                plan=str(plan),
                seconds_per_run=median,
                best_seconds_per_run=min(seconds),
                runs_per_second=1 / median,
                loops=loops,
                repeats=REPEATS,
                p50_ms=p50,
                p95_ms=p95,
                p99_ms=p99,
                speedup=first / median,
                overlap=overlap,
                overlap_ci=interval,
            )
        )
        progress.advance(1)
    info = QueryInfo(len(queries.vectors), queries.source, queries.seed, queries.seconds)
    return BenchReport(index.name, index.rows, full, k, info, blas_threads(), "warm", measurements)


def overlap_at_k(
    truth: Sequence[NDArray[np.int64]], found: Sequence[NDArray[np.int64]]
) -> tuple[float, tuple[float, float]]:
    """The mean share of the true rows that were found, query by query, and its 95 % interval."""
    shares = np.array([len(np.intersect1d(t, f)) / max(1, len(t)) for t, f in zip(truth, found, strict=True)])
    mean = float(shares.mean())
    half = 1.96 * float(shares.std(ddof=1)) / math.sqrt(len(shares)) if len(shares) > 1 else 0.0
    return mean, (max(0.0, mean - half), min(1.0, mean + half))


def blas_threads() -> int:
    """How many threads numpy's matrix products use."""
    from threadpoolctl import threadpool_info

    return max(
        (int(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas"), default=1
    )


def _ask(index: Index, queries: Queries, plan: Plan, k: int, i: int) -> NDArray[np.int64]:
    own = None if queries.own_rows is None else queries.own_rows[i : i + 1]
    top, _ = index.run(queries.vectors[i : i + 1], plan, k, own)
    found: NDArray[np.int64] = top.rows[0]
    return found


def _ask_all(
    index: Index, queries: Queries, plan: Plan, k: int
) -> tuple[list[NDArray[np.int64]], list[float]]:
    """Every query's rows and its seconds, after one that brings the files into memory."""
    _ask(index, queries, plan, k, 0)
    answers, seconds = [], []
    for i in range(len(queries.vectors)):
        begin = time.perf_counter()
        rows = _ask(index, queries, plan, k, i)
        seconds.append(time.perf_counter() - begin)
        answers.append(rows[rows != NO_ROW])
    return answers, seconds


def _timeit(index: Index, queries: Queries, plan: Plan, k: int) -> tuple[int, list[float]]:
    """Loops a repeat, as timeit's autorange chooses them, and seconds a run for each repeat."""
    turn = itertools.cycle(range(len(queries.vectors)))
    timer = timeit.Timer(lambda: _ask(index, queries, plan, k, next(turn)))
    loops, _ = timer.autorange()
    return loops, [seconds / loops for seconds in timer.repeat(REPEATS, loops)]
