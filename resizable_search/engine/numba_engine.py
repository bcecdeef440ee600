"""The compiled engine: scans by the kernels, on our own threads (`scheduling`).

Where a plan wants floats, or int8 codes leave too many candidates, numpy reads the floats, and is as fast.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine import base, vectors
from resizable_search.engine.base import Engine, Narrowing, ScanResult, Timed, room_for, row_bytes
from resizable_search.engine.numpy_engine import NumpyEngine
from resizable_search.engine.parts import Parts
from resizable_search.engine.plan import Precision
from resizable_search.engine.scheduling import (
    FEW,
    LEAST_OF_ONE_BIT,
    Buffers,
    Scan,
    parallel_scan,
    share_queries,
    threads_for,
)
from resizable_search.engine.vectors import Floats, Rows

ROOM = 1024  # candidates that a buffer holds beyond a few times k; it is compacted when it is full
MOST_PREFETCHED = 1000  # candidates that the disk is asked for at once, if a scan waited for it
MOST_PACKED = 2**32 - 1  # rows whose numbers fit into half a word beside their score
MOST_LOOKED_UP = 16_000  # dimensions whose sums fit into 16 bits
WORTH_FOUR_BITS = 1 << 23  # numbers of an index from which a pass over codes of four bits saves time
LIKELY = 5  # times k: the rows whose scores begin an exact scan
NARROWED = 3  # times k: from so many rows on, int8 codes rule out rows before the rest is rescored


class NumbaEngine(Engine):
    """See `engine.base` for the contract. Made by `kernel_cache.load_engine`, when the kernels are loaded."""

    name = "numba"

    def __init__(self, threads: int) -> None:
        from resizable_search.engine import kernels

        self.threads = threads
        self._kernels = kernels
        self._numpy = NumpyEngine()

    def scan(self, parts: Parts, queries: Floats, precision: Precision, k: int) -> ScanResult:
        """The k best rows for each of the queries (m, dim) float32."""
        if precision == "1bit" and _fits(parts):
            return self._scan_one_bit(parts, queries, k, parts.dim)
        if precision == "int8":
            return self._scan_int8(parts, queries, k, is_exact=False)
        if precision == "exact" and parts.can_have_tier and k <= base.TOO_MANY * len(parts):
            is_worth = len(queries) < FEW and len(parts) * parts.dim >= WORTH_FOUR_BITS
            begins = is_worth and parts.has_four_bit and _fits(parts)
            result = self._scan_four_bit(parts, queries, k) if begins else None
            return result or self._scan_int8(parts, queries, k, is_exact=True)
        return self._numpy.scan(parts, queries, precision, k)

    def rescore(self, parts: Parts, queries: Floats, precision: Precision, rows: Rows, k: int) -> ScanResult:
        """The k best of each query's own rows (m, c) int64, ascending."""
        if precision == "1bit" and not _fits(parts):
            return self._numpy.rescore(parts, queries, precision, rows, k)
        kernels, dim, top = self._kernels, parts.dim, room_for(len(queries), k)
        narrows = precision == "exact" and rows.shape[1] >= NARROWED * k and parts.has_tier
        kernel, by, each = kernels.rescore_exact, "float32", 0
        if precision == "1bit":
            kernel, by, each = kernels.rescore_one_bit, "1bit", row_bytes(dim, "1bit")
        elif narrows or precision == "int8":
            kernel, by, each = kernels.rescore_int8, "int8", dim + 8 if narrows else row_bytes(dim, "int8")
        fixed = (parts.table(by), dim, narrows) if by == "int8" else (parts.table(by), dim)
        counts = []

        def work(part: slice) -> None:
            counts.append(kernel(*fixed, queries[part], rows[part], top.scores[part], top.rows[part]))

        share_queries(len(queries), self.threads, work)
        scored, rescored = (sum(numbers) for numbers in zip(*counts, strict=True))
        return ScanResult(top, rescored, scored * each // len(rows), by)

    def narrowing(self, parts: Parts, keep: int, later: Parts, k: int) -> Narrowing | None:
        """Both stages in one call of a kernel, where one thread is enough and no table is to be made."""
        read = len(parts) * row_bytes(parts.dim, "1bit")
        is_ready = _fits(parts) and parts.has_table("1bit") and later.has_table("int8")
        if not is_ready or keep < NARROWED * k or threads_for(read, self.threads, LEAST_OF_ONE_BIT) > 1:
            return None
        fixed = parts.table("1bit"), parts.dim, keep, _room_of(keep), later.table("int8"), later.dim

        def narrow(query: Floats) -> Timed | None:
            top = room_for(1, k)
            scored, rescored, *times = kernel(*fixed, np.ascontiguousarray(query), top.scores, top.rows)
            if scored < 0:
                return None
            last = ScanResult(top, rescored, scored * (later.dim + 8), "int8")
            return [(ScanResult(top, 0, read, "1bit"), times[0] * 1e-9), (last, times[1] * 1e-9)]

        kernel = self._kernels.search_one_bit
        return narrow

    def _scan_int8(self, parts: Parts, queries: Floats, k: int, *, is_exact: bool) -> ScanResult:
        """The best by their codes, or exactly: if too many rows must be rescored, numpy reads the floats."""
        n, kernels = len(parts), self._kernels
        by_code = kernels.rescore_int8, (parts.table("int8"), parts.dim, is_exact)
        by_definition = kernels.rescore_exact, (parts.table("float32"), parts.dim)
        most = int(base.TOO_MANY * n) if is_exact else n
        room = 4 * k + ROOM + (2 * most if is_exact else 0)
        bytes_of_row = row_bytes(parts.dim, "int8") + (4 if is_exact else 0)  # a step, and an error
        scan = Scan(kernels.scan_int8, by_code[1], [queries], (k, most), n, bytes_of_row, room, lower=k)
        result = self._best(parts, scan, "int8", *(by_definition if is_exact else by_code))
        return result or self._numpy.scan(parts, queries, "float32", k)

    def _scan_four_bit(self, parts: Parts, queries: Floats, k: int) -> ScanResult | None:
        """The best, by codes of four bits and then by int8; None if too many rows are left for these."""
        n, fixed, kernels = len(parts), (parts.table("4bit"), parts.dim), self._kernels
        most = int(base.TOO_MANY * n)
        # The k-th best score among likely rows is a bound that leaves few others.
        likely = self._scan_one_bit(parts, queries, min(n, LIKELY * k), -(-parts.dim // 2)).top.rows
        likely.sort(axis=1)
        scores = self.rescore(parts, queries, "exact", likely, k).top.scores[:, -1]
        floors: NDArray[Any] = scores - queries.astype(np.float64) @ parts.mean.astype(np.float64)
        bytes_of_row, room = row_bytes(parts.dim, "4bit"), 4 * k + ROOM + 2 * most
        scan = Scan(
            kernels.scan_four_bit, fixed, [queries, floors], (k, most), n, bytes_of_row, room, lower=k
        )
        by_code = kernels.rescore_int8, (parts.table("int8"), parts.dim, True)
        return self._best(parts, scan, "4bit", *by_code)

    def _best(
        self, parts: Parts, scan: Scan, by: str, kernel: Any, fixed: tuple[Any, ...]
    ) -> ScanResult | None:
        """The best candidates of a scan, as a kernel of rescoring ranks them; None if there are too many."""
        queries, kernels = scan.per_query[0], self._kernels
        top, rescored = room_for(len(queries), scan.lower), []

        def finish(part: slice, buffers: Buffers, waited: bool) -> None:
            left = kernels.survivors(*buffers)
            left.sort(axis=1)
            if waited:
                codes = kernel is kernels.rescore_int8
                parts.prefetch(left[left >= 0][:MOST_PREFETCHED], codes=codes)
            rescored.append(kernel(*fixed, queries[part], left, top.scores[part], top.rows[part])[1])

        if not parallel_scan(scan, len(queries), self.threads, finish):
            return None
        return ScanResult(top, sum(rescored), scan.rows * scan.row_bytes, by)

    def _scan_one_bit(self, parts: Parts, queries: Floats, k: int, dim: int) -> ScanResult:
        """The best by the codes of the first `dim` dimensions."""
        bytes_of_row, top = row_bytes(dim, "1bit"), room_for(len(queries), k)

        def finish(part: slice, buffers: Buffers, waited: bool) -> None:
            self._kernels.best_words(*buffers, top.scores[part], top.rows[part])

        kernel, room = self._kernels.scan_one_bit, _room_of(k)
        fixed = parts.table("1bit"), dim
        rows, least = len(parts), LEAST_OF_ONE_BIT
        scan = Scan(kernel, fixed, [queries], (k,), rows, bytes_of_row, room, least=least, words=True)
        parallel_scan(scan, len(queries), self.threads, finish)
        return ScanResult(top, 0, len(parts) * bytes_of_row, "1bit")

    def truncate(self, rows: Floats, dim: int) -> Floats:
        """`vectors.truncate_queries`."""
        out = np.empty((len(rows), dim), np.float32)
        is_finite = self._kernels.truncate(np.ascontiguousarray(rows), dim, out)
        return out if is_finite else vectors.truncate_queries(rows, dim)  # which raises


def _room_of(k: int) -> int:
    """The candidates of one-bit codes that a buffer holds: few, so that a good bound comes soon."""
    return k + k // 2 + 128


def _fits(parts: Parts) -> bool:
    """Whether the kernels of one-bit codes can scan these parts."""
    return len(parts) < MOST_PACKED and parts.dim <= MOST_LOOKED_UP
