"""Have a disk read rows of a mapped file that are about to be looked at, all of them at once.

A page fault waits for one read after the other; a disk gives its best when it is asked for many.
Reading the chunks of a scan ahead was measured and brings nothing: the system's own read-ahead does it.
"""

import mmap
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def ask_for_rows(stored: NDArray[Any], rows: Iterable[int]) -> None:
    """Have these rows of a mapped array be read, without waiting for them.

    Does nothing for an array that is in memory by nature.
    """
    base: Any = stored
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, mmap.mmap) or not hasattr(mmap, "MADV_WILLNEED"):
        return
    first = stored.ctypes.data - np.frombuffer(base, np.uint8).ctypes.data
    stride = stored.strides[0]
    for row in rows:
        begin = (first + row * stride) // mmap.PAGESIZE * mmap.PAGESIZE
        end = min(first + (row + 1) * stride, len(base))
        base.madvise(mmap.MADV_WILLNEED, begin, end - begin)
