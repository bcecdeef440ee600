"""The operating system's page cache: drop an index's files from it, and see what is left in it.

`posix_fadvise(DONTNEED)` writes nothing back and drops no page that a process has in its page tables,
so a file is written back first (fsync), and what this process has mapped of it is let go of
(madvise(DONTNEED): a mapping stays valid, its next touch reads the file). What is left is counted by
mincore. Pages that another process holds stay; what a disk's own cache keeps, nobody drops from here.
"""

import ctypes
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from resizable_search.errors import StorageError, UsageError

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
