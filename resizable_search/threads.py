"""How many threads the engine runs, and the pool that it runs them on.

The pool is our own: numba's is not safe from several threads at once, and one that is shared can be
asked from any thread without more of them being made. Handing a task over takes some 15 microseconds,
a third of what ThreadPoolExecutor takes: a scan of sign bits has no more than some hundreds.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from queue import SimpleQueue
from typing import TypeVar

from resizable_search.errors import UsageError

THREADS_VARIABLE = "RSEARCH_THREADS"
MOST = 1024

T = TypeVar("T")
R = TypeVar("R")

_lock = threading.Lock()
_jobs: "SimpleQueue[_Job] | None" = None


def thread_count(wanted: int | None = None) -> int:
    """`wanted`, else $RSEARCH_THREADS, else the cores that this process may use. Raises UsageError."""
    source, text = "threads", str(wanted)
    if wanted is None:
        chosen = os.environ.get(THREADS_VARIABLE, "").strip()
        if not chosen:
            return usable_cores()
        source, text = f"${THREADS_VARIABLE}", chosen
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MOST):
        raise UsageError(f"{source} must be a number from 1 to {MOST}, not {text!r}")
    return int(text)


def blas_threads() -> int:
    """How many threads numpy's matrix products use."""
    from threadpoolctl import threadpool_info

    pools: Sequence[dict[str, object]] = threadpool_info()
    return max((int(str(pool["num_threads"])) for pool in pools if pool["user_api"] == "blas"), default=1)


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
