"""Which files of an index a plan reads, as docs/format.md names them, and how fast memory gives them."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resizable_search.evaluate import timing as page_cache
from resizable_search.search.index import Index

REPEATS = 7
READERS = (np.add.reduce, np.bitwise_or.reduce, np.maximum.reduce)
TIERS = {"bits": ("bits",), "int8": ("int8", "scale"), "exact": ("int8", "scale", "error"), "float32": ()}


BUFFER = 1 << 20
MOST_RESIDENT = 0.01


def drop(paths: Sequence[Path]) -> None:
    """Drop files from the page cache; RuntimeError if much of one stays: some process has it mapped."""
    for path in paths:
        left = page_cache.drop([path])
        if left > MOST_RESIDENT and page_cache.resident(path) > BUFFER:
            raise RuntimeError(f"{left:.0%} of {path} stays in memory: some process has it mapped")


def read_seconds(paths: Sequence[Path]) -> float:
    """Seconds to read files one after the other, from begin to end, into a buffer of a mebibyte."""
    buffer = bytearray(BUFFER)
    begin = time.perf_counter()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - begin


def stages(plan: str) -> list[tuple[int, str]]:
    """The dimension and the precision of each stage of a printed plan."""
    found = []
    for stage in plan.split(","):
        dim, *rest = stage.split(":")
        found.append((int(dim), rest[0] if rest and not rest[0].isdigit() else "exact"))
    return found


def files_of(index: Index, plan: str) -> list[Path]:
    """The files that a plan reads, in the order of its stages; the first is scanned from end to end."""
    found: dict[Path, None] = {}
    # numpy reads the floats for exact stages, compiled kernels the int8 codes and then some floats.
    floats = index.warm() == "numpy"
    for dim, precision in stages(plan):
        if floats and precision == "exact":
            precision = "float32"
        stored = stored_dim(index, dim, precision)
        for tier in TIERS[precision]:
            found[index.folder / "tiers" / f"{stored}.{tier}.npy"] = None
        if precision in ("exact", "float32"):
            found[index.folder / f"{stored}.npy"] = None
    return [path for path in found if path.exists()]


def stored_dim(index: Index, dim: int, precision: str) -> int:
    """The stored dimension that a stage reads; the sign bits of the full one serve every other."""
    return index.full_dim if precision == "bits" else min(d for d in index.dims if d >= dim)


def scanned(index: Index, plan: str) -> tuple[Path, int]:
    """The file that a plan's first stage scans, and the bytes of it that a query reads."""
    dim, precision = stages(plan)[0]
    path = files_of(index, plan)[0]
    whole = np.load(path, mmap_mode="r").nbytes
    return path, whole * dim // stored_dim(index, dim, precision)


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
