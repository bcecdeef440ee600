"""Share a scan out among threads, with the scratch space that each of them needs.

The rows of a few queries are shared out in chunks: a free thread takes the next chunk, so that a busy core
holds nothing up, and a cold file is read forwards. Many queries are shared out in groups: a group scans the
rows block by block, while the block is in the core's cache.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine.vectors import Rows
from resizable_search.system import usable_cores

CHUNK_BYTES = 256 << 10  # of rows that a thread takes at once: some ten microseconds
PATIENCE = 50e-6  # seconds that a thread stays awake for the last chunks of others: waking takes as long
LEAST_BYTES = 1 << 20  # of rows that are worth one more thread: waking it takes some 50 microseconds
LEAST_OF_ONE_BIT = 1 << 23  # of one-bit codes: below twice as many, two threads were no faster than one
FEW = 4  # queries a thread; from there on queries are shared out, not rows
GROUP_QUERIES = 32  # that scan the rows together
GROUP_CANDIDATES = 1 << 23  # that the buffers of one group have room for: 128 MB, touched as used
DISK_SPEED = 1.5e9  # bytes a second of a thread, below which rows seem to come from a disk, not from memory
DONE = 1  # the place of the rows that were scanned, in the progress of a scan (`kernels.basics`)

Buffers = tuple[NDArray[Any], ...]
T = TypeVar("T")
R = TypeVar("R")


class _Job:
    """A task that a thread of the pool may begin, as long as nobody has taken it back."""

    __slots__ = ("_begun", "_ended", "_error", "_number", "_task")

    def __init__(self, task: Callable[[int], object], number: int) -> None:
        self._task, self._number = task, number
        self._begun, self._ended = Lock(), Lock()
        self._error: BaseException | None = None
        self._ended.acquire()

    def run(self) -> None:
        """Run it, unless it was taken back."""
        if self._begun.acquire(blocking=False):
            try:
                self._task(self._number)
            except BaseException as error:
                self._error = error
            finally:
                self._ended.release()

    def take_back(self) -> bool:
        """Whether it had not begun; it never will."""
        return self._begun.acquire(blocking=False)

    def wait(self) -> None:
        """Wait for its end. Raises what it raised."""
        self._ended.acquire()
        if self._error is not None:
            raise self._error


@cache
def _shared_pool() -> "SimpleQueue[_Job]":
    """The queue of a pool of threads: a ThreadPoolExecutor takes three times as long to hand a job over."""
    jobs: SimpleQueue[_Job] = SimpleQueue()

    def serve() -> None:
        while True:
            jobs.get().run()

    for _ in range(max(usable_cores(), 2)):
        Thread(target=serve, name="rsearch-scan", daemon=True).start()
    return jobs


os.register_at_fork(after_in_child=_shared_pool.cache_clear)  # a child has none of its parent's threads


def run_together(
    task: Callable[[int], object], threads: int, is_done: Callable[[], bool] | None = None
) -> None:
    """Run task(0) … task(threads - 1), the first on this thread, the others on the pool; wait for all.

    If other callers keep the pool busy, tasks that have not begun when task(0) ends are dropped. So each
    task must do whatever work is left. Once all of it `is_done`, nobody waits for the ends of tasks.
    """
    if threads == 1:
        task(0)
        return
    jobs = [_Job(task, number) for number in range(1, threads)]
    for job in jobs:
        _shared_pool().put(job)
    try:
        task(0)
    finally:
        begun = [job for job in jobs if not job.take_back()]
        until = time.perf_counter() + PATIENCE
        while begun and is_done is not None and time.perf_counter() < until:
            if is_done():
                begun = []
        for job in begun:
            job.wait()


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


@dataclass(slots=True)
class Scan:
    """A scan of `rows` rows, of which it reads `row_bytes` bytes each, by a kernel.

    The kernel is called with `fixed`, what is `per_query`, the progress, the rows of a chunk, the `limits`
    and the buffers of a thread. These have room for so many `candidates` and `lower` bounds a query.
    Candidates that are `words` have their score in them. One more thread has `least` bytes to read.
    """

    kernel: Any
    fixed: tuple[Any, ...]
    per_query: Sequence[NDArray[Any]]
    limits: tuple[int, ...]
    rows: int
    row_bytes: int
    candidates: int
    lower: int = 0
    words: bool = False
    least: int = LEAST_BYTES

    def buffers(self, threads: int, queries: int) -> Buffers:
        """Scratch space of some threads, empty: words; or lower bounds, how many, rows, keys and how many."""
        shape, room = (threads, queries), (threads, queries, self.candidates)
        if self.words:
            return (np.zeros(room, np.uint64),)
        lower, sizes = np.empty((*shape, self.lower)), np.zeros(shape, np.int64)
        return lower, sizes, np.empty(room, np.int64), np.empty(room), np.zeros(shape, np.int64)

    def call(
        self, part: slice, progress: Rows, chunk: int, buffers: Buffers, thread: int
    ) -> Callable[[], bool]:
        """A call that scans chunks for some of the queries until all rows are taken; False: it gave up."""
        own: list[Any] = [each[part] for each in self.per_query]
        own += progress, chunk, *self.limits, *[each[thread] for each in buffers]
        return partial(self.kernel, *self.fixed, *own)


def threads_for(total: int, threads: int, least: int) -> int:
    """How many of some threads share the reading of `total` bytes, at least so many each."""
    return max(1, min(threads, total // least))


# Takes the buffers of some queries, and whether the scan seemed to wait for the disk.
Finish = Callable[[slice, Buffers, bool], None]


def parallel_scan(scan: Scan, queries: int, threads: int, finish: Finish) -> bool:
    """Scan all rows, whatever their parts, for all queries on up to so many threads; False: it gave up."""
    if queries > 1 and queries >= FEW * threads:
        return _scan_by_queries(scan, queries, threads, finish)
    total = scan.rows * scan.row_bytes
    used = threads_for(total, threads, scan.least)
    chunk = scan.rows if used == 1 else max(1024, CHUNK_BYTES // scan.row_bytes)
    everything, progress = slice(0, queries), np.zeros(2, np.int64)
    buffers = scan.buffers(used, queries)

    calls = [scan.call(everything, progress, chunk, buffers, thread) for thread in range(used)]
    begin = time.perf_counter()
    run_together(lambda thread: calls[thread](), used, lambda: bool(progress[DONE] >= scan.rows))
    if progress[DONE] < scan.rows:
        return False
    waited = total < used * DISK_SPEED * (time.perf_counter() - begin)
    finish(everything, buffers, waited)
    return True


def _scan_by_queries(scan: Scan, queries: int, threads: int, finish: Finish) -> bool:
    gave_up = False

    def work(part: slice) -> None:
        nonlocal gave_up
        if gave_up:
            return
        buffers = scan.buffers(1, part.stop - part.start)
        if scan.call(part, np.zeros(2, np.int64), scan.rows, buffers, 0)():
            finish(part, buffers, False)
        else:
            gave_up = True

    numbers = scan.lower + scan.candidates
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
