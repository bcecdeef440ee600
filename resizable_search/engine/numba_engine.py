"""The compiled engine: int8 and sign-bit scans by the kernels, on our own threads (`scheduling`).

The numpy engine reads the floats by BLAS where queries are many, the dimension is not stored, or the
candidates are too many.
"""

import time

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
from resizable_search.engine.vectors import PADDED, IntegerQueries, prefix_masks, sign_words

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

    def scan(self, parts: Parts, queries: NDArray[np.float32], precision: Precision, k: int) -> ScanResult:
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

    def rescore(
        self,
        parts: Parts,
        queries: NDArray[np.float32],
        precision: Precision,
        rows: NDArray[np.int64],
        k: int,
    ) -> ScanResult:
        """The k best of each query's own rows (m, c) int64, ascending."""
        results = Results.of(len(rows), k)
        kernels, dim = self._kernels, parts.dim
        if precision == "exact" and rows.shape[1] >= NARROWED * k and parts.has_tier:
            return self._rescore_narrowed(parts, queries, rows, results)
        if precision == "bits":
            table, words, masks = parts.signs, sign_words(queries), prefix_masks(dim)

            def work(part: slice) -> None:
                kernels.rescore_bits(table, dim, masks, words[part], rows[part], *results.of_queries(part))

        elif precision == "int8":
            table, integers = parts.codes, self._integers(queries)
            codes, units = integers.codes, integers.units

            def work(part: slice) -> None:
                kernels.rescore_int8(
                    table, dim, codes[part], units[part], rows[part], *results.of_queries(part)
                )

        else:
            table = parts.floats

            def work(part: slice) -> None:
                kernels.rescore_exact(table, dim, queries[part], rows[part], *results.of_queries(part))

        share_queries(len(queries), self.threads, work)
        return base.rescore_result(parts, precision, rows, results.top())

    def _rescore_narrowed(
        self, parts: Parts, queries: NDArray[np.float32], rows: NDArray[np.int64], results: Results
    ) -> ScanResult:
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

    def _scan_exact(self, parts: Parts, queries: NDArray[np.float32], k: int) -> ScanResult:
        most = int(base.TOO_MANY * len(parts))
        begin = self._int8_scan(parts, self._integers(queries), k, most, exact=True)
        return self._scan_and_rescore(parts, queries, k, begin, parts.dim + 8, "int8")

    def _scan_floats(self, parts: Parts, queries: NDArray[np.float32], k: int) -> ScanResult:
        """A scan of the floats for a few queries. For many BLAS is better: it takes blocks of them."""
        table, kernels = parts.floats, self._kernels
        most, margin = int(base.TOO_MANY * len(parts)), base.margin(parts.views[0])

        def begin(part: slice) -> Scan:
            def scan(start: int, stop: int, buffers: CandidateBuffers, thread: int) -> bool:
                is_narrow: bool = kernels.scan_floats(
                    table, parts.dim, queries[part], margin, start, stop, k, most, buffers.lower[thread],
                    buffers.lower_sizes[thread], buffers.rows[thread], buffers.keys[thread],
                    buffers.counts[thread],
                )  # fmt: skip
                return is_narrow

            return scan

        return self._scan_and_rescore(parts, queries, k, begin, 4 * parts.dim, "float32")

    def _scan_and_rescore(
        self, parts: Parts, queries: NDArray[np.float32], k: int, begin: Begin, row_bytes: int, by: str
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

    def _scan_int8(self, parts: Parts, queries: NDArray[np.float32], k: int) -> ScanResult:
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

    def _scan_bits(self, parts: Parts, queries: NDArray[np.float32], k: int) -> ScanResult:
        results = Results.of(len(queries), k)

        def finish(part: slice, buffers: CandidateBuffers, waited: bool) -> None:
            self._kernels.best_by_count(
                buffers.rows, buffers.keys, buffers.counts, buffers.tallies, parts.dim,
                *results.of_queries(part),
            )  # fmt: skip

        read = self._bits_scan(parts, queries, k, finish)
        return ScanResult(results.top(), 0, read, "bits")

    def scan_and_rescore(
        self, bits: Parts, keep: int, exact: Parts, queries: NDArray[np.float32], k: int
    ) -> tuple[ScanResult, ScanResult, float] | None:
        """A fused scan of sign bits and exact rescore of its best; None: do them one by one."""
        if keep < NARROWED * k or not exact.has_tier:
            return None
        begin = time.perf_counter()
        m = len(queries)
        kept, results = Results.of(m, keep), Results.of(m, k)
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
                *kept.of_queries(part), table, exact.dim, cut[part], codes[part], units[part],
                bound.factor[part], bound.base[part], *results.of_queries(part),
            )  # fmt: skip
            rescored.append(count)

        read = self._bits_scan(bits, queries[:, : bits.dim], keep, finish)
        first = ScanResult(EMPTY, 0, read, "bits")
        second_read = int(kept.sizes.sum()) * (exact.dim + 8) // m
        return first, ScanResult(results.top(), sum(rescored), second_read, "int8"), scanned - begin

    def truncate(self, rows: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
        """`vectors.truncate` of queries (m, width) float32."""
        out = np.empty((len(rows), dim), np.float32)
        self._kernels.truncate(np.ascontiguousarray(rows), dim, out)
        return out

    def _bits_scan(self, parts: Parts, queries: NDArray[np.float32], k: int, finish: Finish) -> int:
        """Scan the sign bits for the k best of each query. Returns the bytes that one query read."""
        table, words, masks = parts.signs, sign_words(queries), prefix_masks(parts.dim)
        dim, kernels = parts.dim, self._kernels

        def begin(part: slice) -> Scan:
            def scan(start: int, stop: int, buffers: CandidateBuffers, thread: int) -> bool:
                kernels.scan_bits(
                    table, dim, masks, words[part], start, stop, k, buffers.tallies[thread],
                    buffers.rows[thread], buffers.keys[thread], buffers.counts[thread],
                )  # fmt: skip
                return True

            return scan

        size = BufferSize(lower=0, candidates=4 * k + ROOM, tallies=dim + 3)
        row_bytes = 8 * len(masks)
        parallel_scan(parts.range, row_bytes, len(queries), self.threads, size, begin, finish)
        return len(parts) * row_bytes

    def _integers(self, queries: NDArray[np.float32]) -> IntegerQueries:
        m, d = queries.shape
        codes = np.empty((m, d + -d % PADDED), np.int16)
        units, lengths, errors = np.empty(m), np.empty(m), np.empty(m)
        self._kernels.quantise_queries(queries, codes, units, lengths, errors)
        return IntegerQueries(codes, units, lengths, errors)

    def _int8_scan(self, parts: Parts, queries: IntegerQueries, k: int, limit: int, *, exact: bool) -> Begin:
        table, dim, kernels = parts.codes, parts.dim, self._kernels
        codes, units, bound = queries.codes, queries.units, ErrorBound.of(queries)

        def begin(part: slice) -> Scan:
            def scan(start: int, stop: int, buffers: CandidateBuffers, thread: int) -> bool:
                is_narrow: bool = kernels.scan_int8(
                    table, dim, codes[part], units[part], bound.factor[part], bound.base[part], exact, start,
                    stop, k, limit, buffers.lower[thread], buffers.lower_sizes[thread], buffers.rows[thread],
                    buffers.keys[thread], buffers.counts[thread],
                )  # fmt: skip
                return is_narrow

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
