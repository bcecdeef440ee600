"""The compiled engine: int8 and sign-bit scans over the kernels, on our own threads.

One query, or a few: the rows are shared out in chunks, and whichever thread is free takes the next, so
that a busy core holds nothing up and a cold file is read forwards. Many queries: they are shared out in
groups, and a group goes through the rows block by block, while the block is in the core's cache.
`float32`, and what int8 cannot narrow down, is left to the numpy engine, which reads the floats by BLAS.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from resizable_search.plan import Precision
from resizable_search.quantise import PADDED, IntegerQueries, prefix_masks, sign_words
from resizable_search.scan import base
from resizable_search.scan.ahead import WAITING, read_ahead
from resizable_search.scan.base import Found, Slack, View, need_signs, need_tier
from resizable_search.scan.numpy_engine import NumpyEngine
from resizable_search.threads import run_together
from resizable_search.topk import NO_ROW, Top

MOST_BYTES = 4 << 20
"""Of rows that a thread takes at once: a fraction of a millisecond."""

LEAST_BYTES = 1 << 20
"""Of rows that are worth another thread: waking it takes some 50 microseconds."""

FEW = 4
"""Queries a thread: from there on queries are shared out, not rows."""

AHEAD_CHUNKS = 2
"""Chunks a thread that the disk is asked for ahead, where a scan waits for it."""

MOST_ASKED = 1000
"""Candidates that the disk is asked for at once, where a scan waited for it."""

GROUP_QUERIES = 32
"""Queries that go through the rows together."""

POOL_NUMBERS = 1 << 23
"""The most candidates that the pools of one group of queries may have room for: 128 MB, touched as used."""

ALL = np.empty(0, np.uint8)
"""What the kernels take for a part of which every row may be found."""
ALL.flags.writeable = False


@dataclass(frozen=True, slots=True)
class _Pools:
    """Scratch space of some threads for some queries; see `kernels`."""

    lows: NDArray[np.float64]
    sizes: NDArray[np.int64]
    rows: NDArray[np.int64]
    keys: NDArray[np.float64]
    counts: NDArray[np.int64]
    tallies: NDArray[np.int64]

    @classmethod
    def of(cls, threads: int, m: int, lows: int, capacity: int, tallies: int = 0) -> "_Pools":
        return cls(
            np.empty((threads, m, lows)),
            np.zeros((threads, m), np.int64),
            np.empty((threads, m, capacity), np.int64),
            np.empty((threads, m, capacity)),
            np.zeros((threads, m), np.int64),
            np.zeros((threads, m, tallies), np.int64),
        )


@dataclass(frozen=True, slots=True)
class _Answer:
    """Where kernels write what they found."""

    keys: NDArray[np.float64]
    rows: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, m: int, k: int) -> "_Answer":
        return cls(np.empty((m, k)), np.empty((m, k), np.int64), np.empty(m, np.int64))

    def of_queries(self, part: slice) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        return self.keys[part], self.rows[part], self.sizes[part]

    def top(self) -> Top:
        k = self.rows.shape[1]
        if self.sizes.min(initial=k) < k:
            empty = np.arange(k) >= self.sizes[:, None]
            self.keys[empty], self.rows[empty] = -np.inf, NO_ROW
        return Top(self.keys.astype(np.float32), self.rows)


_Scan = Callable[[int, int, _Pools, int], bool]
"""Looks through rows start … stop - 1 into the pools of one thread; False: it gave up."""


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
    ) -> Top:
        """The k best of each query's own rows (m, c) int64 that lie in this view."""
        answer = _Answer.of(len(rows), k)
        kernels, dim = self._kernels, view.dim
        if precision == "bits":
            signs, words, masks = need_signs(view), sign_words(queries), prefix_masks(dim)

            def work(part: slice) -> None:
                kernels.rescore_bits(
                    signs, dim, masks, words[part], rows[part], first, *answer.of_queries(part)
                )

        elif precision == "int8":
            tier, asked = need_tier(view), self._integers(queries)
            codes, units = asked.codes, asked.units

            def work(part: slice) -> None:
                kernels.rescore_int8(
                    tier.codes, tier.steps, dim, codes[part], units[part], rows[part], first,
                    *answer.of_queries(part),
                )  # fmt: skip

        else:

            def work(part: slice) -> None:
                kernels.rescore_exact(
                    view.stored, dim, queries[part], rows[part], first, *answer.of_queries(part)
                )

        self._share_queries(len(queries), work)
        return answer.top()

    def _scan_exact(self, view: View, queries: NDArray[np.float32], k: int) -> Found:
        m, n = len(queries), len(view)
        most = int(base.TOO_MANY * n)
        answer = _Answer.of(m, k)
        looked: list[int] = []

        waited: list[bool] = []

        def settle(part: slice, pools: _Pools) -> None:
            if waited:
                _ask_for_candidates(view.stored, pools, k)
            found = self._kernels.settle(
                view.stored, view.dim, queries[part], pools.rows, pools.keys, pools.counts, pools.lows,
                pools.sizes, *answer.of_queries(part),
            )  # fmt: skip
            looked.append(found)

        begin = self._int8_scan(view, queries, k, most, exact=True)
        pool = k, 2 * most + 4 * k + 1024

        def ahead(start: int, stop: int) -> None:
            waited.append(True)
            read_ahead(need_tier(view).codes, start, stop)

        if not self._go_through(n, view.dim + 8, m, pool, begin, settle, ahead):
            return self._numpy.scan(view, "float32", queries, k)
        return Found(answer.top(), sum(looked), n * (view.dim + 8), "int8")

    def _scan_int8(self, view: View, queries: NDArray[np.float32], k: int) -> Found:
        answer = _Answer.of(len(queries), k)

        def pick(part: slice, pools: _Pools) -> None:
            self._kernels.best_of_pools(
                pools.rows, pools.keys, pools.counts, pools.lows, pools.sizes, *answer.of_queries(part)
            )

        begin = self._int8_scan(view, queries, k, len(view), exact=False)
        ahead = partial(read_ahead, need_tier(view).codes)
        self._go_through(len(view), view.dim + 4, len(queries), (k, 4 * k + 1024), begin, pick, ahead)
        return Found(answer.top(), 0, len(view) * (view.dim + 4), "int8")

    def _scan_bits(self, view: View, queries: NDArray[np.float32], k: int) -> Found:
        signs, words, masks = need_signs(view), sign_words(queries), prefix_masks(view.dim)
        allowed, dim, kernels = _allowed(view), view.dim, self._kernels

        answer = _Answer.of(len(queries), k)

        def begin(part: slice, threads: int) -> _Scan:
            def scan(start: int, stop: int, pools: _Pools, thread: int) -> bool:
                kernels.scan_bits(
                    signs, allowed, dim, masks, words[part], start, stop, k, pools.tallies[thread],
                    pools.rows[thread], pools.keys[thread], pools.counts[thread],
                )  # fmt: skip
                return True

            return scan

        def pick(part: slice, pools: _Pools) -> None:
            kernels.best_by_count(
                pools.rows, pools.keys, pools.counts, pools.tallies, dim, *answer.of_queries(part)
            )

        def ahead(start: int, stop: int) -> None:
            for line in signs[: len(masks)]:
                read_ahead(line, start, stop)

        pool = 0, 4 * k + 1024, dim + 3
        self._go_through(len(view), 8 * len(masks), len(queries), pool, begin, pick, ahead)
        return Found(answer.top(), 0, len(view) * 8 * len(masks), "bits")

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

    def _int8_scan(
        self, view: View, queries: NDArray[np.float32], k: int, limit: int, *, exact: bool
    ) -> Callable[[slice, int], _Scan]:
        tier, asked = need_tier(view), self._integers(queries)
        codes, units, slack = asked.codes, asked.units, Slack.of(asked)
        allowed, kernels = _allowed(view), self._kernels

        def begin(part: slice, threads: int) -> _Scan:
            def scan(start: int, stop: int, pools: _Pools, thread: int) -> bool:
                narrow: bool = kernels.scan_int8(
                    tier.codes, tier.steps, tier.errors, allowed, view.dim, codes[part], units[part],
                    slack.factor[part], slack.base[part], exact, start, stop, k, limit, pools.lows[thread],
                    pools.sizes[thread], pools.rows[thread], pools.keys[thread], pools.counts[thread],
                )  # fmt: skip
                return narrow

            return scan

        return begin

    def _go_through(
        self,
        n: int,
        row_bytes: int,
        m: int,
        pool: tuple[int, ...],
        begin: Callable[[slice, int], _Scan],
        finish: Callable[[slice, _Pools], None],
        ahead: Callable[[int, int], None],
    ) -> bool:
        """Scan n rows for m queries on the threads there are; False if a scan gave up.

        `pool` is the size of a pool, as for `_Pools.of`. `begin` makes the scan of some
        queries on some threads, `finish` takes its pools, `ahead` has rows read that are not in memory.
        """
        if m >= FEW * self.threads and m > 1:
            return self._by_queries(n, m, pool, begin, finish)
        threads = max(1, min(self.threads, n * row_bytes // LEAST_BYTES))
        share = n * row_bytes // (2 * threads if threads > 1 else 1) + row_bytes
        size = max(1024, min(MOST_BYTES, share) // row_bytes)
        everything = slice(0, m)
        scan, pools = begin(everything, threads), _Pools.of(threads, m, *pool)
        starts = iter(range(0, n, size))  # whoever takes the next start holds the GIL
        gave_up: list[bool] = []

        def work(thread: int) -> None:
            for start in starts:
                if gave_up:
                    return
                stop = min(start + size, n)
                since = time.perf_counter()
                if not scan(start, stop, pools, thread):
                    gave_up.append(True)
                if (stop - start) * row_bytes < WAITING * (time.perf_counter() - since):
                    ahead(stop, min(stop + AHEAD_CHUNKS * threads * size, n))

        run_together(work, threads)
        if not gave_up:
            finish(everything, pools)
        return not gave_up

    def _by_queries(
        self,
        n: int,
        m: int,
        pool: tuple[int, ...],
        begin: Callable[[slice, int], _Scan],
        finish: Callable[[slice, _Pools], None],
    ) -> bool:
        gave_up: list[bool] = []

        def work(part: slice) -> None:
            if gave_up:
                return
            pools = _Pools.of(1, part.stop - part.start, *pool)
            if begin(part, 1)(0, n, pools, 0):
                finish(part, pools)
            else:
                gave_up.append(True)

        self._share_queries(m, work, max(1, min(GROUP_QUERIES, POOL_NUMBERS // sum(pool))))
        return not gave_up

    def _share_queries(self, m: int, work: Callable[[slice], None], most: int = GROUP_QUERIES) -> None:
        """Have the threads do `work` on all queries, some at a time."""
        size = max(1, min(most, -(-m // self.threads)))
        if size >= m:
            work(slice(0, m))
            return
        parts = iter([slice(start, min(start + size, m)) for start in range(0, m, size)])

        def take(_: int) -> None:
            for part in parts:
                work(part)

        run_together(take, min(self.threads, -(-m // size)))


def _ask_for_candidates(stored: NDArray[np.float32], pools: _Pools, k: int) -> None:
    """Have the rows that will be looked at again be read all at once, and not one after the other."""
    for query in range(pools.counts.shape[1]):
        full = pools.sizes[:, query] == k
        bound = pools.lows[full, query, 0].max() if full.any() else -np.inf
        for thread, count in enumerate(pools.counts[:, query]):
            rows = pools.rows[thread, query, :count][pools.keys[thread, query, :count] >= bound]
            for row in rows[:MOST_ASKED].tolist():
                read_ahead(stored, row, row + 1)


def _allowed(view: View) -> NDArray[np.uint8]:
    return ALL if view.allowed is None else view.allowed.view(np.uint8)
