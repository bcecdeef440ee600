"""The compiled engine: int8 and sign-bit scans over the kernels, on our own threads (`schedule`).

The floats are left to the numpy engine, which reads them by BLAS, where queries are many, the dimension is
not stored, or candidates cannot be narrowed down.
"""

import time

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine import base
from resizable_search.engine.base import ErrorBound, ScanResult
from resizable_search.engine.numpy_engine import NumpyEngine
from resizable_search.engine.parts import Parts
from resizable_search.engine.plan import Precision
from resizable_search.engine.quantise import PADDED, IntegerQueries, prefix_masks, sign_words
from resizable_search.engine.scheduling import (
    Begin,
    CandidateBuffers,
    Finish,
    PoolSize,
    Results,
    Scan,
    is_few,
    parallel_scan,
    share_queries,
)
from resizable_search.engine.topk import Top

ROOM = 1024
"""Candidates that a pool holds beyond the few times k that it needs: it is thinned out when it is full."""

MOST_ASKED = 1000
"""Candidates that the disk is asked for at once, where a scan waited for it."""

NARROWED = 3
"""Times k: from so many rows on, their int8 codes are asked which of them to score by the definition."""

EMPTY = Top(np.empty((0, 0), np.float32), np.empty((0, 0), np.int64))


class NumbaEngine:
    """See `engine.base` for the contract. Made by `warm.load_engine`, once the kernels are there."""

    name = "numba"

    def __init__(self, threads: int) -> None:
        from resizable_search.engine import kernels

        self.threads = threads
        self._kernels = kernels
        self._numpy = NumpyEngine()

    def scan(self, parts: Parts, precision: Precision, queries: NDArray[np.float32], k: int) -> ScanResult:
        """The k best rows for each of the queries (m, dim) float32."""
        if precision == "bits":
            return self._scan_bits(parts, queries, k)
        if precision == "int8":
            return self._scan_int8(parts, queries, k)
        if precision == "exact" and parts.can_have_tier and k <= base.TOO_MANY * len(parts):
            return self._scan_exact(parts, queries, k)
        if is_few(len(queries), self.threads) and not parts.is_cut and k <= base.TOO_MANY * len(parts):
            return self._scan_floats(parts, queries, k)
        return self._numpy.scan(parts, precision, queries, k)

    def rescore(
        self,
        parts: Parts,
        precision: Precision,
        queries: NDArray[np.float32],
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
            table, asked = parts.codes, self._integers(queries)
            codes, units = asked.codes, asked.units

            def work(part: slice) -> None:
                kernels.rescore_int8(
                    table, dim, codes[part], units[part], rows[part], *results.of_queries(part)
                )

        else:
            table = parts.floats

            def work(part: slice) -> None:
                kernels.rescore_exact(table, dim, queries[part], rows[part], *results.of_queries(part))

        share_queries(len(queries), self.threads, work)
        return base.rescored(parts, precision, rows, results.top())

    def _rescore_narrowed(
        self, parts: Parts, queries: NDArray[np.float32], rows: NDArray[np.int64], results: Results
    ) -> ScanResult:
        """As `rescore` by exact, where the int8 codes say which rows need not be looked at."""
        table, asked = parts.codes, self._integers(queries)
        codes, units, slack = asked.codes, asked.units, ErrorBound.of(asked)
        looked: list[int] = []

        def work(part: slice) -> None:
            found = self._kernels.rescore_narrowed(
                table, parts.dim, queries[part], codes[part], units[part], slack.factor[part],
                slack.base[part], rows[part], *results.of_queries(part),
            )  # fmt: skip
            looked.append(found)

        share_queries(len(queries), self.threads, work)
        read = base.rows_in(parts, rows) * (parts.dim + 8) // len(rows)
        return ScanResult(results.top(), sum(looked), read, "int8")

    def _scan_exact(self, parts: Parts, queries: NDArray[np.float32], k: int) -> ScanResult:
        most = int(base.TOO_MANY * len(parts))
        begin = self._int8_scan(parts, self._integers(queries), k, most, exact=True)
        return self._rescored(parts, queries, k, begin, parts.dim + 8, "int8")

    def _scan_floats(self, parts: Parts, queries: NDArray[np.float32], k: int) -> ScanResult:
        """A few queries by the floats: many are left to BLAS, which does a block of them at once."""
        table, kernels = parts.floats, self._kernels
        most, slack = int(base.TOO_MANY * len(parts)), base.margin(parts.views[0])

        def begin(part: slice) -> Scan:
            def scan(start: int, stop: int, pools: CandidateBuffers, thread: int) -> bool:
                narrow: bool = kernels.scan_floats(
                    table, parts.dim, queries[part], slack, start, stop, k, most, pools.lows[thread],
                    pools.sizes[thread], pools.rows[thread], pools.keys[thread], pools.counts[thread],
                )  # fmt: skip
                return narrow

            return scan

        return self._rescored(parts, queries, k, begin, 4 * parts.dim, "float32")

    def _rescored(
        self, parts: Parts, queries: NDArray[np.float32], k: int, begin: Begin, row_bytes: int, by: str
    ) -> ScanResult:
        """A scan for candidates, and those scored by the definition; where they are too many, by BLAS."""
        most = int(base.TOO_MANY * len(parts))
        results = Results.of(len(queries), k)
        looked: list[int] = []
        table = parts.floats

        def settle(part: slice, pools: CandidateBuffers, waited: bool) -> None:
            if waited:
                _ask_for_candidates(parts, pools, k)
            found = self._kernels.rescore(
                table, parts.dim, queries[part], pools.rows, pools.keys, pools.counts, pools.lows,
                pools.sizes, *results.of_queries(part),
            )  # fmt: skip
            looked.append(found)

        size = PoolSize(lows=k, candidates=2 * most + 4 * k + ROOM)
        if not parallel_scan(parts.range, row_bytes, len(queries), self.threads, size, begin, settle):
            return self._numpy.scan(parts, "float32", queries, k)
        return ScanResult(results.top(), sum(looked), len(parts) * row_bytes, by)

    def _scan_int8(self, parts: Parts, queries: NDArray[np.float32], k: int) -> ScanResult:
        n, row_bytes = len(parts), parts.dim + 4
        results = Results.of(len(queries), k)

        def pick(part: slice, pools: CandidateBuffers, waited: bool) -> None:
            self._kernels.best_of_pools(
                pools.rows, pools.keys, pools.counts, pools.lows, pools.sizes, *results.of_queries(part)
            )

        begin = self._int8_scan(parts, self._integers(queries), k, n, exact=False)
        size = PoolSize(lows=k, candidates=4 * k + ROOM)
        parallel_scan(parts.range, row_bytes, len(queries), self.threads, size, begin, pick)
        return ScanResult(results.top(), 0, n * row_bytes, "int8")

    def _scan_bits(self, parts: Parts, queries: NDArray[np.float32], k: int) -> ScanResult:
        results = Results.of(len(queries), k)

        def pick(part: slice, pools: CandidateBuffers, waited: bool) -> None:
            self._kernels.best_by_count(
                pools.rows, pools.keys, pools.counts, pools.tallies, parts.dim, *results.of_queries(part)
            )

        read = self._bits_pass(parts, queries, k, pick)
        return ScanResult(results.top(), 0, read, "bits")

    def scan_and_rescore(
        self, bits: Parts, keep: int, exact: Parts, queries: NDArray[np.float32], k: int
    ) -> tuple[ScanResult, ScanResult, float] | None:
        """A scan of sign bits and an exact rescore of what it keeps, as one; None: do them one by one."""
        if keep < NARROWED * k or not exact.has_tier:
            return None
        begin = time.perf_counter()
        m = len(queries)
        kept, results = Results.of(m, keep), Results.of(m, k)
        table, cut = exact.codes, self.truncate(queries, exact.dim)
        asked = self._integers(cut)
        codes, units, slack = asked.codes, asked.units, ErrorBound.of(asked)
        looked: list[int] = []
        scanned = 0.0

        def finish(part: slice, pools: CandidateBuffers, waited: bool) -> None:
            nonlocal scanned
            scanned = time.perf_counter()
            found = self._kernels.rescore_best_by_count(
                pools.rows, pools.keys, pools.counts, pools.tallies, bits.dim, *kept.of_queries(part),
                table, exact.dim, cut[part], codes[part], units[part], slack.factor[part], slack.base[part],
                *results.of_queries(part),
            )  # fmt: skip
            looked.append(found)

        read = self._bits_pass(bits, queries[:, : bits.dim], keep, finish)
        first = ScanResult(EMPTY, 0, read, "bits")
        second = ScanResult(results.top(), sum(looked), int(kept.sizes.sum()) * (exact.dim + 8) // m, "int8")
        return first, second, scanned - begin

    def _bits_pass(self, parts: Parts, queries: NDArray[np.float32], k: int, finish: Finish) -> int:
        """Look through the sign bits for the k best of each query; the bytes that one query read."""
        table, words, masks = parts.signs, sign_words(queries), prefix_masks(parts.dim)
        dim, kernels = parts.dim, self._kernels

        def begin(part: slice) -> Scan:
            def scan(start: int, stop: int, pools: CandidateBuffers, thread: int) -> bool:
                kernels.scan_bits(
                    table, dim, masks, words[part], start, stop, k, pools.tallies[thread],
                    pools.rows[thread], pools.keys[thread], pools.counts[thread],
                )  # fmt: skip
                return True

            return scan

        size = PoolSize(lows=0, candidates=4 * k + ROOM, tallies=dim + 3)
        row_bytes = 8 * len(masks)
        parallel_scan(parts.range, row_bytes, len(queries), self.threads, size, begin, finish)
        return len(parts) * row_bytes

    def truncate(self, rows: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
        """`vectors.truncate` of queries (m, width) float32."""
        out = np.empty((len(rows), dim), np.float32)
        self._kernels.truncate(np.ascontiguousarray(rows), dim, out)
        return out

    def _integers(self, queries: NDArray[np.float32]) -> IntegerQueries:
        m, d = queries.shape
        codes = np.empty((m, d + -d % PADDED), np.int16)
        units, lengths, errors = np.empty(m), np.empty(m), np.empty(m)
        self._kernels.quantise_queries(queries, codes, units, lengths, errors)
        return IntegerQueries(codes, units, lengths, errors)

    def _int8_scan(self, parts: Parts, asked: IntegerQueries, k: int, limit: int, *, exact: bool) -> Begin:
        table, dim, kernels = parts.codes, parts.dim, self._kernels
        codes, units, slack = asked.codes, asked.units, ErrorBound.of(asked)

        def begin(part: slice) -> Scan:
            def scan(start: int, stop: int, pools: CandidateBuffers, thread: int) -> bool:
                narrow: bool = kernels.scan_int8(
                    table, dim, codes[part], units[part], slack.factor[part], slack.base[part], exact, start,
                    stop, k, limit, pools.lows[thread], pools.sizes[thread], pools.rows[thread],
                    pools.keys[thread], pools.counts[thread],
                )  # fmt: skip
                return narrow

            return scan

        return begin


def _ask_for_candidates(parts: Parts, pools: CandidateBuffers, k: int) -> None:
    """Have the rows that will be looked at again be read all at once, and not one after the other."""
    for query in range(pools.counts.shape[1]):
        full = pools.sizes[:, query] == k
        bound = pools.lows[full, query, 0].max() if full.any() else -np.inf
        for thread, count in enumerate(pools.counts[:, query]):
            rows = pools.rows[thread, query, :count][pools.keys[thread, query, :count] >= bound]
            parts.ask_for(rows[:MOST_ASKED])
