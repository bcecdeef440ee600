"""How many threads the engine runs, and the pool that it runs them on.

The pool is our own: numba's is not safe from several threads at once, and one that is shared can be
asked from any thread without more of them being made.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

from resizable_search.errors import UsageError

THREADS_VARIABLE = "RSEARCH_THREADS"
MOST = 1024

T = TypeVar("T")
R = TypeVar("R")

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


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


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def submit(task: Callable[[], R]) -> "Future[R]":
    """Have a task run on the shared pool."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(usable_cores(), 2), thread_name_prefix="rsearch-scan")
        return _pool.submit(task)


def run_together(task: Callable[[int], None], threads: int) -> None:
    """Run task(0) … task(threads - 1), the first on this thread, the others on the pool; wait for all.

    The pool may be busy with other callers': then this thread is done first, and tasks that have not
    begun by then are dropped. So a task must take whatever work is left, and none may be its alone.
    """
    others = [submit(lambda number=number: task(number)) for number in range(1, threads)]  # type: ignore[misc]
    try:
        task(0)
    finally:
        for other in others:
            if not other.cancel():
                other.result()


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
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
