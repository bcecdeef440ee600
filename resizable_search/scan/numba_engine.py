"""The compiled engine: int8 and sign-bit scans over the kernels, on our own threads (`schedule`).

`float32`, and what int8 cannot narrow down, is left to the numpy engine, which reads the floats by BLAS.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from resizable_search.plan import Precision
from resizable_search.quantise import PADDED, IntegerQueries, prefix_masks, sign_words
from resizable_search.scan import base
from resizable_search.scan.ahead import ask_for_rows
from resizable_search.scan.base import Found, Slack, View, need_signs, need_tier
from resizable_search.scan.numpy_engine import NumpyEngine
from resizable_search.scan.schedule import (
    Begin,
    Finish,
    Lot,
    Pools,
    PoolSize,
    Results,
    Scan,
    is_few,
    look_through,
    look_through_lots,
    share_queries,
)
from resizable_search.topk import Top

ROOM = 1024
"""Candidates that a pool holds beyond the few times k that it needs: it is thinned out when it is full."""

MOST_ASKED = 1000
"""Candidates that the disk is asked for at once, where a scan waited for it."""

NARROWED = 3
"""Times k: from so many rows on, their int8 codes are asked which of them to score by the definition."""

ALL = np.empty(0, np.uint8)
"""What the kernels take for a part of which every row may be found."""
ALL.flags.writeable = False


EMPTY = Top(np.empty((0, 0), np.float32), np.empty((0, 0), np.int64))


class NumbaEngine:
    """See `scan.base` for the contract. Made by `warm.load_engine`, once the kernels are there."""

    name = "numba"

    def __init__(self, threads: int) -> None:
        from resizable_search.scan import kernels

        self.threads = threads
        self._kernels = kernels
        self._numpy = NumpyEngine()

    def scan(self, view: View, precision: Precision, queries: NDArray[np.float32], k: int) -> Found:
        """The k best rows of `view` for each of the queries (m, dim) float32."""
        if precision == "bits":
            return self._scan_bits(view, queries, k)
        if precision == "int8":
            return self._scan_int8(view, queries, k)
        if precision == "exact" and view.tier is not None and k <= base.TOO_MANY * len(view):
            return self._scan_exact(view, queries, k)
        return self._numpy.scan(view, precision, queries, k)

    def rescore(
        self,
        view: View,
        precision: Precision,
        queries: NDArray[np.float32],
        rows: NDArray[np.int64],
        first: int,
        k: int,
    ) -> Found:
        """The k best of each query's own rows (m, c) int64 that lie in this view."""
        results = Results.of(len(rows), k)
        kernels, dim = self._kernels, view.dim
        narrows = precision == "exact" and rows.shape[1] >= NARROWED * k and view.has_tier
        if narrows:
            return self._rescore_narrowed(view, queries, rows, first, results)
        if precision == "bits":
            signs, words, masks = need_signs(view), sign_words(queries), prefix_masks(dim)

            def work(part: slice) -> None:
                kernels.rescore_bits(
                    signs, dim, masks, words[part], rows[part], first, *results.of_queries(part)
                )

        elif precision == "int8":
            tier, asked = need_tier(view), self._integers(queries)
            codes, units = asked.codes, asked.units

            def work(part: slice) -> None:
                kernels.rescore_int8(
                    tier.codes, tier.steps, dim, codes[part], units[part], rows[part], first,
                    *results.of_queries(part),
                )  # fmt: skip

        else:

            def work(part: slice) -> None:
                kernels.rescore_exact(
                    view.stored, dim, queries[part], rows[part], first, *results.of_queries(part)
                )

        share_queries(len(queries), self.threads, work)
        return base.rescored(view, precision, rows, first, results.top())

    def _rescore_narrowed(
        self,
        view: View,
        queries: NDArray[np.float32],
        rows: NDArray[np.int64],
        first: int,
        results: Results,
    ) -> Found:
        """As `rescore` by exact, where the int8 codes say which rows need not be looked at."""
        tier, asked = need_tier(view), self._integers(queries)
        codes, units, slack = asked.codes, asked.units, Slack.of(asked)
        looked: list[int] = []

        def work(part: slice) -> None:
            found = self._kernels.rescore_narrowed(
                view.stored, tier.codes, tier.steps, tier.errors, view.dim, queries[part], codes[part],
                units[part], slack.factor[part], slack.base[part], rows[part], first,
                *results.of_queries(part),
            )  # fmt: skip
            looked.append(found)

        share_queries(len(queries), self.threads, work)
        read = base.rows_in(view, rows, first) * (view.dim + 8) // len(rows)
        return Found(results.top(), sum(looked), read, "int8")

    def scan_parts(
        self, views: Sequence[View], precision: Precision, queries: NDArray[np.float32], k: int
    ) -> list[Found]:
        """As `scan` of each view, by one call of the threads where that is what takes the time."""
        together = len(views) > 1 and is_few(len(queries), self.threads)
        if precision == "bits" and together:
            return self._scan_bits_of_parts(views, queries, k)
        narrow = [view.tier is not None and k <= base.TOO_MANY * len(view) for view in views]
        if precision != "exact" or not together or not all(narrow):
            return [self.scan(view, precision, queries, min(k, len(view))) for view in views]
        asked = self._integers(queries)
        made = [self._exact_lot(view, queries, k, asked) for view in views]
        done = look_through_lots([lot for lot, _ in made], views[0].dim + 8, len(queries), self.threads)
        return [
            found() if fine else self._numpy.scan(view, "float32", queries, k)
            for view, (_, found), fine in zip(views, made, done, strict=True)
        ]

    def _scan_exact(self, view: View, queries: NDArray[np.float32], k: int) -> Found:
        lot, found = self._exact_lot(view, queries, k, self._integers(queries))
        row_bytes = view.dim + 8
        if not look_through(lot.rows, row_bytes, len(queries), self.threads, lot.size, lot.begin, lot.finish):
            return self._numpy.scan(view, "float32", queries, k)
        return found()

    def _exact_lot(
        self, view: View, queries: NDArray[np.float32], k: int, asked: IntegerQueries
    ) -> tuple[Lot, Callable[[], Found]]:
        """The exact scan of one part, and what it has found once it was looked through."""
        n, row_bytes = len(view), view.dim + 8
        most = int(base.TOO_MANY * n)
        results = Results.of(len(queries), k)
        looked: list[int] = []

        def settle(part: slice, pools: Pools, waited: bool) -> None:
            if waited:
                _ask_for_candidates(view.stored, pools, k)
            found = self._kernels.settle(
                view.stored, view.dim, queries[part], pools.rows, pools.keys, pools.counts, pools.lows,
                pools.sizes, *results.of_queries(part),
            )  # fmt: skip
            looked.append(found)

        begin = self._int8_scan(view, asked, k, most, exact=True)
        size = PoolSize(lows=k, candidates=2 * most + 4 * k + ROOM)
        lot = Lot(n, size, begin, settle)
        return lot, lambda: Found(results.top(), sum(looked), n * row_bytes, "int8")

    def _scan_int8(self, view: View, queries: NDArray[np.float32], k: int) -> Found:
        n, row_bytes = len(view), view.dim + 4
        results = Results.of(len(queries), k)

        def pick(part: slice, pools: Pools, waited: bool) -> None:
            self._kernels.best_of_pools(
                pools.rows, pools.keys, pools.counts, pools.lows, pools.sizes, *results.of_queries(part)
            )

        begin = self._int8_scan(view, self._integers(queries), k, n, exact=False)
        size = PoolSize(lows=k, candidates=4 * k + ROOM)
        look_through(n, row_bytes, len(queries), self.threads, size, begin, pick)
        return Found(results.top(), 0, n * row_bytes, "int8")

    def _scan_bits(self, view: View, queries: NDArray[np.float32], k: int) -> Found:
        results = Results.of(len(queries), k)
        read = self._bits_pass(view, queries, k, self._picking(view.dim, results))
        return Found(results.top(), 0, read, "bits")

    def _scan_bits_of_parts(self, views: Sequence[View], queries: NDArray[np.float32], k: int) -> list[Found]:
        found = [Results.of(len(queries), k) for _ in views]
        lots = [
            self._bits_lot(view, queries, k, self._picking(view.dim, results))
            for view, results in zip(views, found, strict=True)
        ]
        row_bytes = _bits_bytes(views[0].dim)
        look_through_lots(lots, row_bytes, len(queries), self.threads)
        return [
            Found(results.top(), 0, lot.rows * row_bytes, "bits")
            for lot, results in zip(lots, found, strict=True)
        ]

    def _picking(self, dim: int, results: Results) -> Finish:
        def pick(part: slice, pools: Pools, waited: bool) -> None:
            self._kernels.best_by_count(
                pools.rows, pools.keys, pools.counts, pools.tallies, dim, *results.of_queries(part)
            )

        return pick

    def scan_and_rescore(
        self, bits: View, keep: int, exact: View, queries: NDArray[np.float32], k: int
    ) -> tuple[Found, Found, float] | None:
        """A scan of sign bits and an exact rescore of what it keeps, as one; None: do them one by one."""
        if keep < NARROWED * k or not exact.has_tier:
            return None
        begin = time.perf_counter()
        m = len(queries)
        kept, results = Results.of(m, keep), Results.of(m, k)
        tier, cut = need_tier(exact), self.truncate(queries, exact.dim)
        asked = self._integers(cut)
        codes, units, slack = asked.codes, asked.units, Slack.of(asked)
        looked: list[int] = []
        scanned = 0.0

        def finish(part: slice, pools: Pools, waited: bool) -> None:
            nonlocal scanned
            scanned = time.perf_counter()
            found = self._kernels.rescore_best_by_count(
                pools.rows, pools.keys, pools.counts, pools.tallies, bits.dim, *kept.of_queries(part),
                exact.stored, tier.codes, tier.steps, tier.errors, exact.dim, cut[part], codes[part],
                units[part], slack.factor[part], slack.base[part], *results.of_queries(part),
            )  # fmt: skip
            looked.append(found)

        read = self._bits_pass(bits, queries[:, : bits.dim], keep, finish)
        first = Found(EMPTY, 0, read, "bits")
        second = Found(results.top(), sum(looked), int(kept.sizes.sum()) * (exact.dim + 8) // m, "int8")
        return first, second, scanned - begin

    def _bits_pass(self, view: View, queries: NDArray[np.float32], k: int, finish: Finish) -> int:
        """Look through the sign bits for the k best of each query; the bytes that one query read."""
        lot, row_bytes = self._bits_lot(view, queries, k, finish), _bits_bytes(view.dim)
        look_through(lot.rows, row_bytes, len(queries), self.threads, lot.size, lot.begin, lot.finish)
        return lot.rows * row_bytes

    def _bits_lot(self, view: View, queries: NDArray[np.float32], k: int, finish: Finish) -> Lot:
        signs, words, masks = need_signs(view), sign_words(queries), prefix_masks(view.dim)
        allowed, dim, kernels = _allowed(view), view.dim, self._kernels

        def begin(part: slice) -> Scan:
            def scan(start: int, stop: int, pools: Pools, thread: int) -> bool:
                kernels.scan_bits(
                    signs, allowed, dim, masks, words[part], start, stop, k, pools.tallies[thread],
                    pools.rows[thread], pools.keys[thread], pools.counts[thread],
                )  # fmt: skip
                return True

            return scan

        return Lot(len(view), PoolSize(lows=0, candidates=4 * k + ROOM, tallies=dim + 3), begin, finish)

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

    def _int8_scan(self, view: View, asked: IntegerQueries, k: int, limit: int, *, exact: bool) -> Begin:
        tier = need_tier(view)
        codes, units, slack = asked.codes, asked.units, Slack.of(asked)
        allowed, kernels = _allowed(view), self._kernels

        def begin(part: slice) -> Scan:
            def scan(start: int, stop: int, pools: Pools, thread: int) -> bool:
                narrow: bool = kernels.scan_int8(
                    tier.codes, tier.steps, tier.errors, allowed, view.dim, codes[part], units[part],
                    slack.factor[part], slack.base[part], exact, start, stop, k, limit, pools.lows[thread],
                    pools.sizes[thread], pools.rows[thread], pools.keys[thread], pools.counts[thread],
                )  # fmt: skip
                return narrow

            return scan

        return begin


def _ask_for_candidates(stored: NDArray[np.float32], pools: Pools, k: int) -> None:
    """Have the rows that will be looked at again be read all at once, and not one after the other."""
    for query in range(pools.counts.shape[1]):
        full = pools.sizes[:, query] == k
        bound = pools.lows[full, query, 0].max() if full.any() else -np.inf
        for thread, count in enumerate(pools.counts[:, query]):
            rows = pools.rows[thread, query, :count][pools.keys[thread, query, :count] >= bound]
            ask_for_rows(stored, rows[:MOST_ASKED].tolist())


def _bits_bytes(dim: int) -> int:
    """What a row's first `dim` signs take."""
    return 8 * len(prefix_masks(dim))


def _allowed(view: View) -> NDArray[np.uint8]:
    return ALL if view.allowed is None else view.allowed.view(np.uint8)
