"""Share a scan out among threads, with the scratch space that each of them needs.

One query, or a few: the rows are shared out in chunks, and whichever thread is free takes the next, so
that a busy core holds nothing up and a cold file is read forwards. Many queries: they are shared out in
groups, and a group goes through the rows block by block, while the block is in the core's cache.

The pool of threads that a scan runs on.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine.topk import NO_ROW, Top
from resizable_search.system import usable_cores

T = TypeVar("T")


R = TypeVar("R")


_lock = threading.Lock()


_jobs: "SimpleQueue[_Job] | None" = None


class _Job:
    """A task that a thread of the pool may take, until whoever offered it takes it back."""

    __slots__ = ("_claim", "_done", "_error", "_number", "_task")

    def __init__(self, task: Callable[[int], None], number: int) -> None:
        self._task = task
        self._number = number
        self._claim = threading.Lock()
        self._done = threading.Lock()
        self._done.acquire()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do it, unless it was taken back."""
        if self._claim.acquire(blocking=False):
            try:
                self._task(self._number)
            except BaseException as error:  # raised again by `finish`, where it belongs
                self._error = error
            finally:
                self._done.release()

    def finish(self) -> None:
        """Take it back if nobody has begun it; else wait for its end. Raises what it raised."""
        if not self._claim.acquire(blocking=False):
            self._done.acquire()
            if self._error is not None:
                raise self._error


def _offer(job: _Job) -> None:
    global _jobs
    with _lock:
        if _jobs is None:
            _jobs = SimpleQueue()
            for number in range(max(usable_cores(), 2)):
                threading.Thread(
                    target=_work, args=(_jobs,), name=f"rsearch-scan-{number}", daemon=True
                ).start()
    _jobs.put(job)


def _work(jobs: "SimpleQueue[_Job]") -> None:
    while True:
        jobs.get().run()


def run_together(task: Callable[[int], None], threads: int) -> None:
    """Run task(0) … task(threads - 1), the first on this thread, the others on the pool; wait for all.

    The pool may be busy with other callers': then this thread is done first, and tasks that have not
    begun by then are dropped. So a task must take whatever work is left, and none may be its alone.
    """
    jobs = [_Job(task, number) for number in range(1, threads)]
    for job in jobs:
        _offer(job)
    try:
        task(0)
    finally:
        for job in jobs:
            job.finish()


def unordered(task: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """The results of task(item), on threads of its own, as they come; few items are taken ahead."""
    left = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="rsearch") as pool:
        running = {pool.submit(task, item) for item in islice(left, 2 * threads)}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(task, item) for item in islice(left, len(done))}
                for future in done:
                    yield future.result()
        finally:
            for future in running:
                future.cancel()


def _forget_pool() -> None:
    """A forked child has none of its parent's threads."""
    global _jobs, _lock
    _jobs, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


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
class CandidateBuffers:
    """Scratch space of some threads for some queries; see `kernels`."""

    lows: NDArray[np.float64]
    sizes: NDArray[np.int64]
    rows: NDArray[np.int64]
    keys: NDArray[np.float64]
    counts: NDArray[np.int64]
    tallies: NDArray[np.int64]

    @classmethod
    def of(cls, threads: int, queries: int, size: PoolSize) -> "CandidateBuffers":
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


Scan = Callable[[int, int, CandidateBuffers, int], bool]
"""Looks through rows start … stop - 1 into the pools of one thread; False: it gave up."""

Begin = Callable[[slice], Scan]
"""Makes the scan of some of the queries."""

Finish = Callable[[slice, CandidateBuffers, bool], None]
"""Takes the pools of some queries; told whether the scan was seen to wait for the disk."""


def parallel_scan(
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
    scan, pools = begin(everything), CandidateBuffers.of(used, queries, size)
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
        pools = CandidateBuffers.of(1, part.stop - part.start, size)
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
