"""How fast this machine reads memory: what a scan's bytes a second are held against."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

REPEATS = 7
READERS = (np.add.reduce, np.bitwise_or.reduce, np.maximum.reduce)


def read_bandwidth(path: Path, threads: int) -> float:
    """Bytes a second at which so many threads read a mapped file that is in memory: the best of several.

    The numbers of the file, as int64, are reduced to one by numpy: by whichever of READERS is fastest.
    """
    raw = np.memmap(path, np.uint8, mode="r")
    numbers = raw[: len(raw) // 8 * 8].view(np.ndarray).view(np.int64)
    parts: list[NDArray[np.int64]] = np.array_split(numbers, threads)
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for reader in READERS:
            for _ in range(REPEATS):
                begin = time.perf_counter()
                list(pool.map(reader, parts))
                best = max(best, numbers.nbytes / (time.perf_counter() - begin))
    return best
