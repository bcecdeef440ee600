"""Time calls one by one, in loops as timeit does, and on files that are not in memory.

`posix_fadvise(DONTNEED)` drops a file from the page cache, but no page that is dirty or mapped into a
process. So the file is first synced, and our own mappings of it are let go (`madvise(DONTNEED)`; a mapping
stays valid and reads the file again). `mincore` counts what is left: pages of other processes stay.
"""

import ctypes
import itertools
import mmap
import os
import statistics
import time
import timeit
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resizable_search.engine import vectors
from resizable_search.engine.base import Engine
from resizable_search.engine.kernel_cache import load_engine
from resizable_search.engine.numpy_engine import NumpyEngine
from resizable_search.engine.parts import Parts, View
from resizable_search.errors import RsearchError, StorageError, UsageError
from resizable_search.search.index import Index, open_index

MAPS = Path("/proc/self/maps")

REPEATS = 5  # repeats of a loop; timeit's default

LOOPS = tuple(step * 10**power for power in range(7) for step in (1, 2, 5))
LOOP_SECONDS = 0.2  # a loop has the fewest calls of `LOOPS` that take this long, as in timeit
SECONDS, LONGEST = 1.0, 2.0  # for single calls, whose percentiles are taken; for the first ENOUGH of them
FEWEST, ENOUGH = 3, 20  # single calls that are timed however slow they are, and however few queries there are
SLOW = 0.3  # a call that takes this many seconds is its own loop: single calls are the repeats
PACED = 10_000_000  # numbers of a scan that shows the pace: more than a processor's caches hold
COLD_RUNS, MOST_STAYED = 5, 0.5  # cold runs of a plan; they mean nothing if a larger share of files stays


def check() -> None:
    """Raise UsageError on a platform that cannot drop files from the page cache, or count what is left."""
    if not (hasattr(os, "posix_fadvise") and MAPS.exists() and hasattr(ctypes.CDLL(None), "mincore")):
        raise UsageError("`cold` needs Linux: this platform cannot drop files from its page cache")


def drop(files: Iterable[Path]) -> float:
    """Drop files from the page cache. Returns the share of their bytes that stayed. Raises StorageError."""
    check()
    chosen = [path.resolve() for path in files]
    paths = {str(path) for path in chosen}
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for line in MAPS.read_text(errors="surrogateescape").splitlines():
        addresses, rights, *rest = line.split(maxsplit=5)
        # Shared read-only mappings of these files. The kernel escapes only the newline in this list.
        if rights == "r--s" and len(rest) == 4 and rest[3].replace("\\012", "\n") in paths:
            begin, end = (int(address, 16) for address in addresses.split("-"))
            libc.madvise(begin, end - begin, mmap.MADV_DONTNEED)
    stayed = total = 0
    for path in chosen:
        try:
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            stayed += resident(path)
            total += path.stat().st_size
        except OSError as error:
            raise StorageError(f"cannot read {path} ({error.strerror}): check its permissions") from None
    return stayed / max(1, total)


def resident(path: Path) -> int:
    """The bytes of a file that are in memory; counting loads none. Raises OSError."""
    size = path.stat().st_size
    if not size:
        return 0
    mapped, states = np.memmap(path, np.uint8, "r"), np.empty(-(-size // mmap.PAGESIZE), np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    if libc.mincore(mapped.ctypes.data, size, states.ctypes.data):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return min(size, int(np.count_nonzero(states & 1)) * mmap.PAGESIZE)


@dataclass(frozen=True, slots=True)
class Timed:
    """`seconds` a call in each repeat of `loops` calls, those of single `calls`; the share that `stayed`."""

    engine: str
    seconds: list[float]
    loops: int
    calls: list[float]
    stayed: float = 0.0


def time_warm(ask: Callable[[int], str], turns: int) -> Timed:
    """Time calls with the files in memory: single ones first, then timeit's loops unless calls are slow.

    `ask` takes the number of the turn, of which `turns` differ, and returns the engine.
    """
    engine = ask(0)  # loads the files
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


def scan_pace(engine: str, threads: int, dim: int) -> float:
    """Seconds that an engine's exact scan of many rows takes for each of their numbers."""
    rows = np.random.default_rng(0).standard_normal((max(1, PACED // dim), dim), np.float32)
    rows = vectors.normalise(rows)
    view = View(rows, dim, None, vectors.Tier(*vectors.quantise(rows)))
    parts = Parts([view])
    scanner: Engine = load_engine(threads) if engine == "numba" else NumpyEngine()
    return min(timeit.repeat(lambda: scanner.scan(parts, rows[:1], "exact", 10), number=1)) / rows.size


def time_cold(index: Index, ask: Callable[[Index, int], str], engine: str) -> Timed:
    """Time calls of an index that is opened again, with no file of it in memory. Raises RsearchError."""
    files = [path for path in index.folder.rglob("*") if path.is_file()]
    calls, stayed = [], 0.0
    for turn in range(COLD_RUNS):
        with open_index(index.folder, threads=index.threads, engine=engine) as fresh:
            fresh.warm()
            stayed = max(stayed, drop(files))
            if stayed > MOST_STAYED:
                share = f"{stayed * 100:.0f} % of {index.name}'s files stay in memory (a RAM disk?)"
                raise RsearchError(f"{share}: measure without `cold`")
            begin = time.perf_counter()
            engine = ask(fresh, turn)
            calls.append(time.perf_counter() - begin)
    return Timed(engine, calls, 1, calls, stayed)
