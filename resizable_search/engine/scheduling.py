"""Share a scan out among threads, with the scratch space that each of them needs.

The rows of a few queries are shared out in chunks: a free thread takes the next chunk, so that a busy core
holds nothing up, and a cold file is read forwards. Many queries are shared out in groups: a group scans the
rows block by block, while the block is in the core's cache.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine.base import NO_ROW, Top
from resizable_search.engine.vectors import Rows
from resizable_search.system import usable_cores

CHUNK_BYTES = 4 << 20
"""Bytes of rows that a thread takes at once: a fraction of a millisecond."""

LEAST_BYTES = 1 << 20
"""Bytes of rows that are worth one more thread: waking it takes some 50 microseconds."""

FEW = 4
"""Queries a thread; from there on queries are shared out, not rows."""

GROUP_QUERIES = 32
"""Queries that scan the rows together."""

GROUP_CANDIDATES = 1 << 23
"""The most candidates that the buffers of one group have room for: 128 MB, touched as used."""

DISK_SPEED = 1.5e9
"""Bytes a second of one thread, below which rows seem to come from a disk: memory is several times faster."""

T = TypeVar("T")
R = TypeVar("R")


@cache
def _shared_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(usable_cores(), 2), thread_name_prefix="rsearch-scan")


os.register_at_fork(after_in_child=_shared_pool.cache_clear)  # a child has none of its parent's threads


def run_together(task: Callable[[int], None], threads: int) -> None:
    """Run task(0) … task(threads - 1), the first on this thread, the others on the pool; wait for all.

    If other callers keep the pool busy, tasks that have not begun when task(0) ends are dropped. So each
    task must do whatever work is left.
    """
    futures = [_shared_pool().submit(task, number) for number in range(1, threads)]
    try:
        task(0)
    finally:
        for future in futures:
            if not future.cancel():
                future.result()


def map_ahead(task: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """The results of task(item), in order, on threads of its own; takes few items ahead."""
    running: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="rsearch") as pool:
        for item in items:
            running.append(pool.submit(task, item))
            if len(running) > 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


@dataclass(frozen=True, slots=True)
class BufferSize:
    """Numbers that a buffer has for each query on each thread.

    Candidates that are `words` have their score in them.
    """

    candidates: int
    lower: int = 0
    words: bool = False


@dataclass(frozen=True, slots=True)
class CandidateBuffers:
    """Scratch space of some threads for some queries, as kernels take it.

    `candidates`: their rows, keys and counts, or words and counts. `bounds`: lower bounds and how many they
    are, or the least word that counts.
    """

    candidates: tuple[NDArray[Any], ...]
    bounds: tuple[NDArray[Any], ...]

    def of_thread(self, thread: int) -> list[NDArray[Any]]:
        """The buffers of one thread, as the kernels of a scan take them."""
        return [each[thread] for each in (*self.bounds, *self.candidates)]

    @classmethod
    def of(cls, threads: int, queries: int, size: BufferSize) -> "CandidateBuffers":
        """Empty buffers."""
        shape, room = (threads, queries), (threads, queries, size.candidates)
        if size.words:
            words = np.empty(room, np.uint64), np.zeros(shape, np.int64)
            return cls(words, (np.zeros(shape, np.uint64),))
        candidates = np.empty(room, np.int64), np.empty(room), np.zeros(shape, np.int64)
        return cls(candidates, (np.empty((*shape, size.lower)), np.zeros(shape, np.int64)))


@dataclass(frozen=True, slots=True)
class Results:
    """Where kernels write their results: keys (m, k) float64, rows (m, k) int64, sizes (m,) int64."""

    keys: NDArray[np.float64]
    rows: Rows
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, queries: int, k: int) -> "Results":
        """Room for the k best of each query."""
        return cls(np.empty((queries, k)), np.empty((queries, k), np.int64), np.empty(queries, np.int64))

    def of_queries(self, part: slice) -> tuple[NDArray[np.float64], Rows, Rows]:
        """The room of some queries, as kernels take it."""
        return self.keys[part], self.rows[part], self.sizes[part]

    def top(self) -> Top:
        """The results, padded where there are fewer than k."""
        k = self.rows.shape[1]
        if self.sizes.min(initial=k) < k:
            empty = np.arange(k) >= self.sizes[:, None]
            self.keys[empty], self.rows[empty] = -np.inf, NO_ROW
        return Top(self.keys.astype(np.float32), self.rows)


Scan = Callable[[int, int, CandidateBuffers, int], bool]
"""Scans rows start … stop - 1 into the buffers of one thread; False: it gave up."""

Begin = Callable[[slice], Scan]
"""Makes the scan of some of the queries."""

Finish = Callable[[slice, CandidateBuffers, bool], None]
"""Takes the buffers of some queries, and whether the scan seemed to wait for the disk."""


def parallel_scan(
    rows: int, row_bytes: int, queries: int, threads: int, size: BufferSize, begin: Begin, finish: Finish
) -> bool:
    """Scan so many rows for all queries on up to so many threads; False if a scan gave up.

    Chunks are of rows, in whichever part they lie: many parts take the time of one.
    """
    if queries > 1 and queries >= FEW * threads:
        return _scan_by_queries(rows, queries, threads, size, begin, finish)
    total = rows * row_bytes
    used = max(1, min(threads, total // LEAST_BYTES))
    everything = slice(0, queries)
    scan, buffers = begin(everything), CandidateBuffers.of(used, queries, size)
    chunk = rows
    if used > 1:
        chunk = max(1024, min(CHUNK_BYTES, total // (2 * used) + row_bytes) // row_bytes)
    starts = iter(range(0, rows, chunk))  # a thread takes the next start under the GIL
    gave_up = waited = False

    def work(thread: int) -> None:
        nonlocal gave_up, waited
        for start in starts:
            if gave_up:
                return
            stop = min(start + chunk, rows)
            since = time.perf_counter()
            if not scan(start, stop, buffers, thread):
                gave_up = True
            if (stop - start) * row_bytes < DISK_SPEED * (time.perf_counter() - since):
                waited = True

    run_together(work, used)
    if not gave_up:
        finish(everything, buffers, waited)
    return not gave_up


def _scan_by_queries(
    rows: int, queries: int, threads: int, size: BufferSize, begin: Begin, finish: Finish
) -> bool:
    gave_up = False

    def work(part: slice) -> None:
        nonlocal gave_up
        if gave_up:
            return
        buffers = CandidateBuffers.of(1, part.stop - part.start, size)
        if begin(part)(0, rows, buffers, 0):
            finish(part, buffers, False)
        else:
            gave_up = True

    numbers = size.lower + size.candidates
    share_queries(queries, threads, work, max(1, min(GROUP_QUERIES, GROUP_CANDIDATES // numbers)))
    return not gave_up


def share_queries(
    queries: int, threads: int, work: Callable[[slice], None], most: int = GROUP_QUERIES
) -> None:
    """Share the queries out among threads, at most so many in a group."""
    size = max(1, min(most, -(-queries // threads)))
    if size >= queries:
        work(slice(0, queries))
        return
    parts = iter([slice(start, min(start + size, queries)) for start in range(0, queries, size)])

    def take(_: int) -> None:
        for part in parts:
            work(part)

    run_together(take, min(threads, -(-queries // size)))
