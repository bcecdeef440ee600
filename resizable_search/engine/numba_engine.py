"""The compiled engine: scans by the kernels, on our own threads (`scheduling`).

For many queries, a dimension that is not stored, or too many candidates, numpy reads the floats by BLAS.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine import base
from resizable_search.engine.base import ScanResult, Top, row_bytes
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
        most = int(base.TOO_MANY * len(parts))
        if k <= base.TOO_MANY * len(parts):
            if precision == "exact" and parts.can_have_tier:
                fixed, per_query = (parts.codes, parts.dim, True), self._integers(queries)
                begin = _scan_by(self._kernels.scan_int8, fixed, per_query, (k, most))
                return self._scan_and_rescore(parts, queries, k, begin, parts.dim + 8, "int8")
            # For many queries BLAS is better: it takes blocks of them.
            if is_few(len(queries), self.threads) and not parts.is_cut:
                floats = parts.floats, parts.dim, base.margin(parts.views[0])
                begin = _scan_by(self._kernels.scan_floats, floats, [queries], (k, most))
                return self._scan_and_rescore(parts, queries, k, begin, 4 * parts.dim, "float32")
        return self._numpy.scan(parts, queries, precision, k)

    def rescore(self, parts: Parts, queries: Floats, precision: Precision, rows: Rows, k: int) -> ScanResult:
        """The k best of each query's own rows (m, c) int64, ascending."""
        kernels, dim, results = self._kernels, parts.dim, Results.of(len(rows), k)
        narrows = precision == "exact" and rows.shape[1] >= NARROWED * k and parts.has_tier
        masks = (prefix_masks(dim),) if precision == "bits" else ()
        per_query: list[NDArray[Any]]
        if narrows:
            kernel, table = kernels.rescore_narrowed, parts.codes
            per_query = [queries, *self._integers(queries)]
        elif precision == "int8":
            kernel, table, per_query = kernels.rescore_int8, parts.codes, self._integers(queries)[:2]
        elif precision == "bits":
            kernel, table, per_query = kernels.rescore_bits, parts.signs, [sign_words(queries)]
        else:
            kernel, table, per_query = kernels.rescore_exact, parts.floats, [queries]
        counts = []

        def work(part: slice) -> None:
            own = [each[part] for each in per_query]
            counts.append(kernel(table, dim, *masks, *own, rows[part], *results.of_queries(part)))

        share_queries(len(queries), self.threads, work)
        if narrows:  # by int8 codes, which rule out rows first
            read = base.count_in(parts, rows) * (dim + 8) // len(rows)
            return ScanResult(results.top(), sum(counts), read, "int8")
        return base.rescore_result(parts, precision, rows, results.top())

    def _scan_and_rescore(
        self, parts: Parts, queries: Floats, k: int, begin: Begin, bytes_of_row: int, by: str
    ) -> ScanResult:
        """A scan for candidates, and their rescore; if they are too many, numpy reads the floats."""
        most = int(base.TOO_MANY * len(parts))
        results = Results.of(len(queries), k)
        rescored: list[int] = []
        fixed = parts.floats, parts.dim

        def finish(part: slice, buffers: CandidateBuffers, waited: bool) -> None:
            if waited:
                _prefetch_candidates(parts, buffers, k)
            own = (*buffers.candidates, *buffers.bounds, *results.of_queries(part))
            rescored.append(self._kernels.rescore_candidates(*fixed, queries[part], *own))

        size = BufferSize(2 * most + 4 * k + ROOM, lower=k)
        if not parallel_scan(len(parts), bytes_of_row, len(queries), self.threads, size, begin, finish):
            return self._numpy.scan(parts, queries, "float32", k)
        return ScanResult(results.top(), sum(rescored), len(parts) * bytes_of_row, by)

    def _scan_int8(self, parts: Parts, queries: Floats, k: int) -> ScanResult:
        n, bytes_of_row = len(parts), row_bytes(parts.dim, "int8")
        results = Results.of(len(queries), k)

        def finish(part: slice, buffers: CandidateBuffers, waited: bool) -> None:
            own = (*buffers.candidates, *buffers.bounds, *results.of_queries(part))
            self._kernels.best_candidates(*own)

        fixed, per_query = (parts.codes, parts.dim, False), self._integers(queries)
        begin = _scan_by(self._kernels.scan_int8, fixed, per_query, (k, n))
        size = BufferSize(4 * k + ROOM, lower=k)
        parallel_scan(n, bytes_of_row, len(queries), self.threads, size, begin, finish)
        return ScanResult(results.top(), 0, n * bytes_of_row, "int8")

    def _scan_bits(self, parts: Parts, queries: Floats, k: int) -> ScanResult:
        results = Results.of(len(queries), k)

        def finish(part: slice, buffers: CandidateBuffers, waited: bool) -> None:
            buffered = (*buffers.candidates, *buffers.bounds)
            self._kernels.best_by_count(*buffered, parts.dim, *results.of_queries(part))

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
        fixed, cut = (exact.codes, exact.dim), self.truncate(queries, exact.dim)
        per_query = [cut, *self._integers(cut)]
        rescored: list[int] = []
        scanned = 0.0

        def finish(part: slice, buffers: CandidateBuffers, waited: bool) -> None:
            nonlocal scanned
            scanned = time.perf_counter()
            first = (*buffers.candidates, *buffers.bounds, bits.dim, *first_best.of_queries(part))
            second = (*fixed, *(each[part] for each in per_query), *results.of_queries(part))
            rescored.append(self._kernels.rescore_best_by_count(*first, *second))

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
        fixed, bytes_of_row = (parts.signs, parts.dim, prefix_masks(parts.dim)), row_bytes(parts.dim, "bits")
        begin = _scan_by(self._kernels.scan_bits, fixed, [sign_words(queries)], (k,))
        size = BufferSize(4 * k + ROOM, tallies=parts.dim + 3)
        parallel_scan(len(parts), bytes_of_row, len(queries), self.threads, size, begin, finish)
        return len(parts) * bytes_of_row

    def _integers(self, queries: Floats) -> list[NDArray[Any]]:
        """The codes and units of the queries, and the factors and bases of their error bounds."""
        m, d = queries.shape
        codes = np.empty((m, d + -d % PADDED), np.int16)
        units, lengths, errors = np.empty(m), np.empty(m), np.empty(m)
        self._kernels.quantise_queries(queries, codes, units, lengths, errors)
        return [codes, units, *base.error_bounds(IntegerQueries(codes, units, lengths, errors))]


def _scan_by(
    kernel: Any, fixed: tuple[Any, ...], per_query: Sequence[NDArray[Any]], limits: tuple[int, ...]
) -> Begin:
    """A scan by a kernel that takes `fixed`, what is `per_query`, the range, the limits and the buffers."""

    def begin(part: slice) -> Scan:
        own = [each[part] for each in per_query]

        def scan(start: int, stop: int, buffers: CandidateBuffers, thread: int) -> bool:
            return bool(kernel(*fixed, *own, start, stop, *limits, *buffers.of_thread(thread)))

        return scan

    return begin


def _prefetch_candidates(parts: Parts, buffers: CandidateBuffers, k: int) -> None:
    """Have the disk read the rows that will be rescored all at once, and not one after the other."""
    (rows, keys, counts), (lower, lower_sizes) = buffers.candidates, buffers.bounds
    for query in range(counts.shape[1]):
        full = lower_sizes[:, query] == k
        bound = lower[full, query, 0].max() if full.any() else -np.inf
        for thread, count in enumerate(counts[:, query]):
            reach = keys[thread, query, :count] >= bound
            parts.prefetch(rows[thread, query, :count][reach][:MOST_PREFETCHED])
