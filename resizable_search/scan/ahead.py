"""Have the disk read ahead of a scan of a mapped file that is not in memory.

A page fault brings in some tens of kilobytes; a disk gives its best when it is asked for megabytes. Asking
for what is in memory already costs time too, so it is done only while a scan is seen to wait.
"""

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

WAITING = 1.5e9
"""Bytes a second of one thread below which rows seem to come from a disk: memory gives several times it."""


def read_ahead(rows: NDArray[Any], start: int, stop: int) -> None:
    """Have rows start … stop - 1 of a mapped array be read, without waiting for them.

    Does nothing for an array that is in memory by nature.
    """
    base: Any = rows
    while isinstance(base, np.ndarray):
        base = base.base
    if start >= stop or not isinstance(base, mmap.mmap) or not hasattr(mmap, "MADV_WILLNEED"):
        return
    first = rows.ctypes.data - np.frombuffer(base, np.uint8).ctypes.data
    begin = (first + start * rows.strides[0]) // mmap.PAGESIZE * mmap.PAGESIZE
    end = min(first + stop * rows.strides[0], len(base))
    if begin < end:
        base.madvise(mmap.MADV_WILLNEED, begin, end - begin)
