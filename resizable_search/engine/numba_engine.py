"""The compiled engine: scans by the kernels, on our own threads (`scheduling`).

For many queries, a dimension that is not stored, or too many candidates, numpy reads the floats by BLAS.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine import base
from resizable_search.engine.base import ErrorBound, ScanResult, Top
from resizable_search.engine.numpy_engine import NumpyEngine
from resizable_search.engine.parts import Parts
from resizable_search.engine.plan import Precision
from resizable_search.engine.scheduling import (
    Begin,
    BufferSize,
    CandidateBuffers,
    Finish,
    Results,
    Scan,
    is_few,
    parallel_scan,
    share_queries,
)
from resizable_search.engine.vectors import PADDED, Floats, IntegerQueries, Rows, prefix_masks, sign_words

ROOM = 1024
"""Candidates that a buffer holds beyond a few times k; it is compacted when it is full."""

MOST_PREFETCHED = 1000
"""Candidates that the disk is asked for at once, if a scan waited for it."""

NARROWED = 3
"""Times k: from so many rows on, int8 codes rule out rows before the rest is rescored."""

EMPTY = Top(np.empty((0, 0), np.float32), np.empty((0, 0), np.int64))


class NumbaEngine:
    """See `engine.base` for the contract. Made by `kernel_cache.load_engine`, when the kernels are loaded."""

    name = "numba"

    def __init__(self, threads: int) -> None:
        from resizable_search.engine import kernels

        self.threads = threads
        self._kernels = kernels
        self._numpy = NumpyEngine()

    def scan(self, parts: Parts, queries: Floats, precision: Precision, k: int) -> ScanResult:
        """The k best rows for each of the queries (m, dim) float32."""
        if precision == "bits":
            return self._scan_bits(parts, queries, k)
        if precision == "int8":
            return self._scan_int8(parts, queries, k)
        if precision == "exact" and parts.can_have_tier and k <= base.TOO_MANY * len(parts):
            return self._scan_exact(parts, queries, k)
        if is_few(len(queries), self.threads) and not parts.is_cut and k <= base.TOO_MANY * len(parts):
            return self._scan_floats(parts, queries, k)
        return self._numpy.scan(parts, queries, precision, k)

    def rescore(self, parts: Parts, queries: Floats, precision: Precision, rows: Rows, k: int) -> ScanResult:
        """The k best of each query's own rows (m, c) int64, ascending."""
        results = Results.of(len(rows), k)
        if precision == "exact" and rows.shape[1] >= NARROWED * k and parts.has_tier:
            return self._rescore_narrowed(parts, queries, rows, results)
        kernel, dim = self._kernels.rescore_exact, parts.dim
        fixed: tuple[Any, ...] = (parts.floats, dim)
        per_query: list[NDArray[Any]] = [queries]
        if precision == "bits":
            kernel, fixed = self._kernels.rescore_bits, (parts.signs, dim, prefix_masks(dim))
            per_query = [sign_words(queries)]
        elif precision == "int8":
            integers = self._integers(queries)
            kernel, fixed = self._kernels.rescore_int8, (parts.codes, dim)
            per_query = [integers.codes, integers.units]

        def work(part: slice) -> None:
            kernel(*fixed, *(each[part] for each in per_query), rows[part], *results.of_queries(part))

        share_queries(len(queries), self.threads, work)
        return base.rescore_result(parts, precision, rows, results.top())

    def _rescore_narrowed(self, parts: Parts, queries: Floats, rows: Rows, results: Results) -> ScanResult:
        """An exact `rescore`, for which int8 codes rule out rows first."""
        table, integers = parts.codes, self._integers(queries)
        codes, units, bound = integers.codes, integers.units, ErrorBound.of(integers)
        rescored: list[int] = []

        def work(part: slice) -> None:
            count = self._kernels.rescore_narrowed(
                table, parts.dim, queries[part], codes[part], units[part], bound.factor[part],
                bound.base[part], rows[part], *results.of_queries(part),
            )  # fmt: skip
            rescored.append(count)

        share_queries(len(queries), self.threads, work)
        read = base.count_in(parts, rows) * (parts.dim + 8) // len(rows)
        return ScanResult(results.top(), sum(rescored), read, "int8")

    def _scan_exact(self, parts: Parts, queries: Floats, k: int) -> ScanResult:
        most = int(base.TOO_MANY * len(parts))
        begin = self._int8_scan(parts, self._integers(queries), k, most, exact=True)
        return self._scan_and_rescore(parts, queries, k, begin, parts.dim + 8, "int8")

    def _scan_floats(self, parts: Parts, queries: Floats, k: int) -> ScanResult:
        """A scan of the floats for a few queries. For many BLAS is better: it takes blocks of them."""
        fixed = parts.floats, parts.dim, base.margin(parts.views[0])
        begin = _scan_by(self._kernels.scan_floats, fixed, [queries], (k, int(base.TOO_MANY * len(parts))))
        return self._scan_and_rescore(parts, queries, k, begin, 4 * parts.dim, "float32")

    def _scan_and_rescore(
        self, parts: Parts, queries: Floats, k: int, begin: Begin, row_bytes: int, by: str
    ) -> ScanResult:
        """A scan for candidates, and their rescore; if they are too many, numpy reads the floats."""
        most = int(base.TOO_MANY * len(parts))
        results = Results.of(len(queries), k)
        rescored: list[int] = []
        table = parts.floats

        def rescore(part: slice, buffers: CandidateBuffers, waited: bool) -> None:
            if waited:
                _prefetch_candidates(parts, buffers, k)
            count = self._kernels.rescore_candidates(
                table, parts.dim, queries[part], buffers.rows, buffers.keys, buffers.counts, buffers.lower,
                buffers.lower_sizes, *results.of_queries(part),
            )  # fmt: skip
            rescored.append(count)

        size = BufferSize(lower=k, candidates=2 * most + 4 * k + ROOM)
        if not parallel_scan(parts.range, row_bytes, len(queries), self.threads, size, begin, rescore):
            return self._numpy.scan(parts, queries, "float32", k)
        return ScanResult(results.top(), sum(rescored), len(parts) * row_bytes, by)

    def _scan_int8(self, parts: Parts, queries: Floats, k: int) -> ScanResult:
        n, row_bytes = len(parts), parts.dim + 4
        results = Results.of(len(queries), k)

        def finish(part: slice, buffers: CandidateBuffers, waited: bool) -> None:
            self._kernels.best_candidates(
                buffers.rows, buffers.keys, buffers.counts, buffers.lower, buffers.lower_sizes,
                *results.of_queries(part),
            )  # fmt: skip

        begin = self._int8_scan(parts, self._integers(queries), k, n, exact=False)
        size = BufferSize(lower=k, candidates=4 * k + ROOM)
        parallel_scan(parts.range, row_bytes, len(queries), self.threads, size, begin, finish)
        return ScanResult(results.top(), 0, n * row_bytes, "int8")

    def _scan_bits(self, parts: Parts, queries: Floats, k: int) -> ScanResult:
        results = Results.of(len(queries), k)

        def finish(part: slice, buffers: CandidateBuffers, waited: bool) -> None:
            self._kernels.best_by_count(
                buffers.rows, buffers.keys, buffers.counts, buffers.tallies, parts.dim,
                *results.of_queries(part),
            )  # fmt: skip

        read = self._bits_scan(parts, queries, k, finish)
        return ScanResult(results.top(), 0, read, "bits")

    def scan_and_rescore(
        self, bits: Parts, keep: int, exact: Parts, queries: Floats, k: int
    ) -> tuple[ScanResult, ScanResult, float] | None:
        """A fused scan of sign bits and exact rescore of its best; None: do them one by one."""
        if keep < NARROWED * k or not exact.has_tier:
            return None
        begin = time.perf_counter()
        m = len(queries)
        first_best, results = Results.of(m, keep), Results.of(m, k)
        table, cut = exact.codes, self.truncate(queries, exact.dim)
        integers = self._integers(cut)
        codes, units, bound = integers.codes, integers.units, ErrorBound.of(integers)
        rescored: list[int] = []
        scanned = 0.0

        def finish(part: slice, buffers: CandidateBuffers, waited: bool) -> None:
            nonlocal scanned
            scanned = time.perf_counter()
            count = self._kernels.rescore_best_by_count(
                buffers.rows, buffers.keys, buffers.counts, buffers.tallies, bits.dim,
                *first_best.of_queries(part), table, exact.dim, cut[part], codes[part], units[part],
                bound.factor[part], bound.base[part], *results.of_queries(part),
            )  # fmt: skip
            rescored.append(count)

        read = self._bits_scan(bits, queries[:, : bits.dim], keep, finish)
        first = ScanResult(EMPTY, 0, read, "bits")
        second_read = int(first_best.sizes.sum()) * (exact.dim + 8) // m
        return first, ScanResult(results.top(), sum(rescored), second_read, "int8"), scanned - begin

    def truncate(self, rows: Floats, dim: int) -> Floats:
        """`vectors.truncate` of queries (m, width) float32."""
        out = np.empty((len(rows), dim), np.float32)
        self._kernels.truncate(np.ascontiguousarray(rows), dim, out)
        return out

    def _bits_scan(self, parts: Parts, queries: Floats, k: int, finish: Finish) -> int:
        """Scan the sign bits for the k best of each query. Returns the bytes that one query read."""
        masks, dim = prefix_masks(parts.dim), parts.dim
        words: list[NDArray[Any]] = [sign_words(queries)]
        fixed, buffers_of = (parts.signs, dim, masks), CandidateBuffers.counted_by
        begin = _scan_by(self._kernels.scan_bits, fixed, words, (k,), buffers_of)
        size = BufferSize(lower=0, candidates=4 * k + ROOM, tallies=dim + 3)
        row_bytes = 8 * len(masks)
        parallel_scan(parts.range, row_bytes, len(queries), self.threads, size, begin, finish)
        return len(parts) * row_bytes

    def _integers(self, queries: Floats) -> IntegerQueries:
        m, d = queries.shape
        codes = np.empty((m, d + -d % PADDED), np.int16)
        units, lengths, errors = np.empty(m), np.empty(m), np.empty(m)
        self._kernels.quantise_queries(queries, codes, units, lengths, errors)
        return IntegerQueries(codes, units, lengths, errors)

    def _int8_scan(self, parts: Parts, queries: IntegerQueries, k: int, limit: int, *, exact: bool) -> Begin:
        bound = ErrorBound.of(queries)
        per_query: list[NDArray[Any]] = [queries.codes, queries.units, bound.factor, bound.base]
        return _scan_by(self._kernels.scan_int8, (parts.codes, parts.dim, exact), per_query, (k, limit))


def _scan_by(
    kernel: Any,
    fixed: tuple[Any, ...],
    per_query: Sequence[NDArray[Any]],
    limits: tuple[int, ...],
    buffers_of: Callable[[CandidateBuffers, int], tuple[NDArray[Any], ...]] = CandidateBuffers.of_thread,
) -> Begin:
    """A scan by a kernel that takes `fixed`, what is `per_query`, the range, the limits and the buffers."""

    def begin(part: slice) -> Scan:
        own = [each[part] for each in per_query]

        def scan(start: int, stop: int, buffers: CandidateBuffers, thread: int) -> bool:
            return bool(kernel(*fixed, *own, start, stop, *limits, *buffers_of(buffers, thread)))

        return scan

    return begin


def _prefetch_candidates(parts: Parts, buffers: CandidateBuffers, k: int) -> None:
    """Have the disk read the rows that will be rescored all at once, and not one after the other."""
    for query in range(buffers.counts.shape[1]):
        full = buffers.lower_sizes[:, query] == k
        bound = buffers.lower[full, query, 0].max() if full.any() else -np.inf
        for thread, count in enumerate(buffers.counts[:, query]):
            reach = buffers.keys[thread, query, :count] >= bound
            parts.prefetch(buffers.rows[thread, query, :count][reach][:MOST_PREFETCHED])
