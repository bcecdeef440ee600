"""Drop files from the page cache, and tell how much of a file is in it. Linux only."""

import ctypes
import mmap
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

BUFFER = 1 << 20
MOST_RESIDENT = 0.01
_libc = ctypes.CDLL(None, use_errno=True)


def drop(paths: Sequence[Path]) -> None:
    """Have the kernel forget files that no process has mapped pages of; RuntimeError if it keeps them."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # a page that is not on disk yet would stay
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
        left = resident(path) / path.stat().st_size
        if left > MOST_RESIDENT and resident(path) > BUFFER:
            raise RuntimeError(f"{left:.0%} of {path} stays in memory: some process has it mapped")


def resident(path: Path) -> int:
    """The bytes of a file that are in memory."""
    size = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapped:
        pages = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
        view = np.frombuffer(mapped, np.uint8)
        failed = _libc.mincore(
            ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(size), ctypes.c_void_p(pages.ctypes.data)
        )
        del view  # or the map could not be closed
        if failed:
            raise OSError(ctypes.get_errno(), "mincore")
    return min(size, int((pages & 1).sum()) * mmap.PAGESIZE)


def read_seconds(paths: Sequence[Path]) -> float:
    """Seconds to read files one after the other, from begin to end, into a buffer of a mebibyte."""
    buffer = bytearray(BUFFER)
    begin = time.perf_counter()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - begin
