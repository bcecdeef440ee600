"""Timing of calls: one by one for percentiles, in loops as timeit does, and on cold files.

The operating system's page cache: drop an index's files from it, and see what is left in it.

`posix_fadvise(DONTNEED)` writes nothing back and drops no page that a process has in its page tables,
so a file is written back first (fsync), and what this process has mapped of it is let go of
(madvise(DONTNEED): a mapping stays valid, its next touch reads the file). What is left is counted by
mincore. Pages that another process holds stay; what a disk's own cache keeps, nobody drops from here.
"""

import ctypes
import itertools
import mmap
import os
import statistics
import time
import timeit
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine.plan import Plan
from resizable_search.errors import RsearchError, StorageError, UsageError
from resizable_search.search.index import Index, open_index

MAPS = Path("/proc/self/maps")


def check() -> None:
    """Raise UsageError where files cannot be dropped from the page cache, nor what is left be seen."""
    if not (hasattr(os, "posix_fadvise") and MAPS.exists() and hasattr(ctypes.CDLL(None), "mincore")):
        raise UsageError(
            "this platform cannot drop files from its page cache (Linux can): measure without --cold"
        )


def drop(files: Iterable[Path]) -> float:
    """Drop these files from the page cache; the share of their bytes, 0 to 1, that stayed.

    Raises UsageError where the platform cannot, StorageError for a file that cannot be read.
    """
    check()
    chosen = [path.resolve() for path in files]
    _let_go(chosen)
    stayed = pages = 0
    for path in chosen:
        try:
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                held, all_of_it = _resident(file.fileno())
        except OSError as error:
            raise StorageError(f"cannot read {path} ({error.strerror}): check its permissions") from None
        stayed, pages = stayed + held, pages + all_of_it
    return stayed / max(1, pages)


def resident(path: Path) -> int:
    """The bytes of a file that are in memory; looking brings none in. Raises OSError."""
    with path.open("rb") as file:
        held, _ = _resident(file.fileno())
        return min(held * mmap.PAGESIZE, os.fstat(file.fileno()).st_size)


def _resident(descriptor: int) -> tuple[int, int]:
    """How many of a file's pages are in memory, and how many it has; looking brings none in."""
    size = os.fstat(descriptor).st_size
    if not size:
        return 0, 0
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    pages = -(-size // mmap.PAGESIZE)
    states = ctypes.create_string_buffer(pages)
    # A private writable mapping only because ctypes finds the address of no other; nothing is written.
    with mmap.mmap(descriptor, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as view:
        start = ctypes.c_char.from_buffer(view)
        failed = libc.mincore(ctypes.addressof(start), size, states)
        del start
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return sum(state & 1 for state in states.raw), pages


def _let_go(files: Iterable[Path]) -> None:
    """Take the pages of these files, wherever this process maps them to read, out of its page tables."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start, length in list(_mappings({str(path) for path in files})):
        libc.madvise(start, length, mmap.MADV_DONTNEED)


def _mappings(paths: set[str]) -> Iterator[tuple[int, int]]:
    """Address and length of what this process maps of these files, shared and for reading alone."""
    for line in MAPS.read_text(errors="surrogateescape").splitlines():
        ends, rights, *rest = line.split(maxsplit=5)
        if rights == "r--s" and len(rest) == 4 and _unescaped(rest[3]) in paths:
            first, _, last = ends.partition("-")
            yield int(first, 16), int(last, 16) - int(first, 16)


def _unescaped(path: str) -> str:
    """The one character that the kernel escapes in this list is the newline."""
    return path.replace("\\012", "\n")


REPEATS = 5
"""How often timeit repeats its loop; its own default."""

LOOPS = tuple(step * 10**power for power in range(7) for step in (1, 2, 5))
LOOP_SECONDS = 0.2
"""A loop has the least of these numbers of calls that takes so long, as timeit's own choice is."""

SECONDS, LONGEST = 1.0, 2.0
"""How long calls are timed one by one, for percentiles; and how long if there were fewer than ENOUGH."""

FEWEST, ENOUGH = 3, 20
"""So many calls are timed one by one however long they take, and so many however few queries there are."""

SLOW = 0.3
"""Seconds of a call from which on it is its own loop: the calls timed one by one are the repeats."""

COLD_RUNS = 5
"""How often a plan is run on cold files."""

MOST_STAYED = 0.5
"""Where more of the files than this stay in memory, nothing cold can be measured."""


@dataclass(frozen=True, slots=True)
class Timed:
    """The engine that ran, and what calls took.

    `seconds` a call, one for each repeat of `loops` calls; `calls`: the seconds of calls timed singly;
    `stayed`: the share of the files that stayed in memory before cold calls.
    """

    engine: str
    seconds: list[float]
    loops: int
    calls: list[float]
    stayed: float = 0.0

    @property
    def percentiles_ms(self) -> tuple[float, float, float]:
        """The 50th, 95th and 99th percentile of the calls, in milliseconds."""
        p50, p95, p99 = np.percentile(np.array(self.calls) * 1e3, (50, 95, 99)).tolist()
        return p50, p95, p99


class Batches:
    """Queries (m, full_dim) dealt out in batches of one size, round and round."""

    def __init__(self, vectors: NDArray[np.float32], own_rows: NDArray[np.int64] | None, size: int) -> None:
        self._count = len(vectors)
        self._size = size
        # So long that every batch is one slice: nothing is copied while the clock runs.
        places = np.arange(self._count + (size - 1 if size > 1 else 0)) % self._count
        self._vectors = vectors[places] if size > 1 else vectors
        self._own = None if own_rows is None else own_rows[places]

    def __len__(self) -> int:
        """How many batches it takes until each query was asked."""
        return -(-self._count // self._size)

    def ask(self, index: Index, plan: Plan, k: int, number: int) -> str:
        """Run the batch of this number; the engine that ran it."""
        first = number * self._size % self._count
        own = None if self._own is None else self._own[first : first + self._size]
        _, runs = index.run(self._vectors[first : first + self._size], plan, k, own)
        return runs[0].engine


def time_warm(ask: Callable[[int], str], turns: int) -> Timed:
    """Time a call, files in memory.

    `ask` is given the number of the turn and says which engine ran; `turns`: how many differ. Each turn
    is timed by itself, as far as time allows. Then come timeit's loops, unless the call is slow.
    """
    engine = ask(0)  # brings the files into memory
    calls: list[float] = []
    begun = time.perf_counter()
    for turn in range(max(turns, ENOUGH)):
        if turn >= FEWEST and time.perf_counter() - begun > (SECONDS if turn >= ENOUGH else LONGEST):
            break
        begin = time.perf_counter()
        ask(turn)
        calls.append(time.perf_counter() - begin)
    median = statistics.median(calls)
    if median >= SLOW:
        return Timed(engine, calls, 1, calls)
    numbers = itertools.count()
    timer = timeit.Timer(lambda: ask(next(numbers)))
    loops = next(n for n in LOOPS if n * median >= LOOP_SECONDS or n == LOOPS[-1])
    return Timed(engine, [seconds / loops for seconds in timer.repeat(REPEATS, loops)], loops, calls)


def time_cold(index: Index, ask: Callable[[Index, int], str], engine: str, turns: int) -> Timed:
    """Time calls that find none of the index's files in memory.

    Before each, the index is opened anew, so that nothing is remembered, and its files are dropped from
    the page cache. Raises RsearchError where that cannot be done.
    """
    files = index_files(index)
    calls, stayed = [], 0.0
    for turn in range(COLD_RUNS):
        with open_index(index.folder, threads=index.threads, engine=engine) as fresh:
            fresh.warm()
            stayed = max(stayed, drop(files))
            if stayed > MOST_STAYED:
                raise RsearchError(
                    f"{stayed * 100:.0f} % of {index.name}'s files stay in memory (a RAM disk, another "
                    "user's files, or read by another process?): measure without --cold"
                )
            begin = time.perf_counter()
            engine = ask(fresh, turn % turns)
            calls.append(time.perf_counter() - begin)
    return Timed(engine, calls, 1, calls, stayed)


def index_files(index: Index) -> list[Path]:
    """Every file of the index."""
    return sorted(path for path in index.folder.rglob("*") if path.is_file())


def blas_limited(threads: int | None) -> AbstractContextManager[object]:
    """Within it numpy's matrix products use so many threads; None: as they are."""
    if threads is None:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(threads, user_api="blas")
    return limits
