"""Share a scan out among threads, with the scratch space that each of them needs.

One query, or a few: the rows are shared out in chunks, and whichever thread is free takes the next, so
that a busy core holds nothing up and a cold file is read forwards. Many queries: they are shared out in
groups, and a group goes through the rows block by block, while the block is in the core's cache.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resizable_search.threads import run_together
from resizable_search.topk import NO_ROW, Top

MOST_BYTES = 4 << 20
"""Of rows that a thread takes at once: a fraction of a millisecond."""

LEAST_BYTES = 1 << 20
"""Of rows that are worth another thread: waking it takes some 50 microseconds."""

FEW = 4
"""Queries a thread: from there on queries are shared out, not rows."""

GROUP_QUERIES = 32
"""Queries that go through the rows together."""

POOL_NUMBERS = 1 << 23
"""The most candidates that the pools of one group of queries may have room for: 128 MB, touched as used."""

WAITING = 1.5e9
"""Bytes a second of one thread below which rows seem to come from a disk: memory gives several times it."""


@dataclass(frozen=True, slots=True)
class PoolSize:
    """Numbers that a pool holds for each query on each thread: bounds, candidates, tallies."""

    lows: int
    candidates: int
    tallies: int = 0

    @property
    def numbers(self) -> int:
        """All of them."""
        return self.lows + self.candidates + self.tallies


@dataclass(frozen=True, slots=True)
class Pools:
    """Scratch space of some threads for some queries; see `kernels`."""

    lows: NDArray[np.float64]
    sizes: NDArray[np.int64]
    rows: NDArray[np.int64]
    keys: NDArray[np.float64]
    counts: NDArray[np.int64]
    tallies: NDArray[np.int64]

    @classmethod
    def of(cls, threads: int, queries: int, size: PoolSize) -> "Pools":
        """Empty pools."""
        return cls(
            np.empty((threads, queries, size.lows)),
            np.zeros((threads, queries), np.int64),
            np.empty((threads, queries, size.candidates), np.int64),
            np.empty((threads, queries, size.candidates)),
            np.zeros((threads, queries), np.int64),
            np.zeros((threads, queries, size.tallies), np.int64),
        )


@dataclass(frozen=True, slots=True)
class Results:
    """Where kernels write what they found: keys (m, k) float64, rows (m, k) int64, sizes (m,) int64."""

    keys: NDArray[np.float64]
    rows: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, queries: int, k: int) -> "Results":
        """Room for the k best of each query."""
        return cls(np.empty((queries, k)), np.empty((queries, k), np.int64), np.empty(queries, np.int64))

    def of_queries(self, part: slice) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """The room of some queries, as kernels take it."""
        return self.keys[part], self.rows[part], self.sizes[part]

    def top(self) -> Top:
        """What was found, padded where there were fewer than k."""
        k = self.rows.shape[1]
        if self.sizes.min(initial=k) < k:
            empty = np.arange(k) >= self.sizes[:, None]
            self.keys[empty], self.rows[empty] = -np.inf, NO_ROW
        return Top(self.keys.astype(np.float32), self.rows)


Scan = Callable[[int, int, Pools, int], bool]
"""Looks through rows start … stop - 1 into the pools of one thread; False: it gave up."""

Begin = Callable[[slice], Scan]
"""Makes the scan of some of the queries."""

Finish = Callable[[slice, Pools, bool], None]
"""Takes the pools of some queries; told whether the scan was seen to wait for the disk."""


def look_through(
    rows: range, row_bytes: int, queries: int, threads: int, size: PoolSize, begin: Begin, finish: Finish
) -> bool:
    """Scan all rows for all queries on up to so many threads; False if a scan gave up.

    Chunks are of rows, whichever parts of the index these lie in: many parts take what one takes.
    """
    if not is_few(queries, threads):
        return _by_queries(rows, queries, threads, size, begin, finish)
    total = len(rows) * row_bytes
    used = max(1, min(threads, total // LEAST_BYTES))
    share = total // (2 * used if used > 1 else 1) + row_bytes
    chunk = max(1024, min(MOST_BYTES, share) // row_bytes)
    everything = slice(0, queries)
    scan, pools = begin(everything), Pools.of(used, queries, size)
    starts = iter(range(rows.start, rows.stop, chunk))  # whoever takes the next start holds the GIL
    gave_up = waited = False

    def work(thread: int) -> None:
        nonlocal gave_up, waited
        for start in starts:
            if gave_up:
                return
            stop = min(start + chunk, rows.stop)
            since = time.perf_counter()
            if not scan(start, stop, pools, thread):
                gave_up = True
            if (stop - start) * row_bytes < WAITING * (time.perf_counter() - since):
                waited = True

    run_together(work, used)
    if not gave_up:
        finish(everything, pools, waited)
    return not gave_up


def is_few(queries: int, threads: int) -> bool:
    """Whether so many queries share out the rows, and not themselves."""
    return queries < FEW * threads or queries <= 1


def _by_queries(
    rows: range, queries: int, threads: int, size: PoolSize, begin: Begin, finish: Finish
) -> bool:
    gave_up = False

    def work(part: slice) -> None:
        nonlocal gave_up
        if gave_up:
            return
        pools = Pools.of(1, part.stop - part.start, size)
        if begin(part)(rows.start, rows.stop, pools, 0):
            finish(part, pools, False)
        else:
            gave_up = True

    share_queries(queries, threads, work, max(1, min(GROUP_QUERIES, POOL_NUMBERS // size.numbers)))
    return not gave_up


def share_queries(
    queries: int, threads: int, work: Callable[[slice], None], most: int = GROUP_QUERIES
) -> None:
    """Have the threads do `work` on all queries, some at a time, at most so many together."""
    size = max(1, min(most, -(-queries // threads)))
    if size >= queries:
        work(slice(0, queries))
        return
    parts = iter([slice(start, min(start + size, queries)) for start in range(0, queries, size)])

    def take(_: int) -> None:
        for part in parts:
            work(part)

    run_together(take, min(threads, -(-queries // size)))
