"""Files as streams of bytes, unpacked where they are packed, and never larger than is sane."""

import gzip
import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import BinaryIO, cast

MOST_BYTES = 64 << 20
"""Of a file that is one document; it is read whole."""
MOST_RATIO = 200
"""How many times its size a packed file may unpack to, beyond `MOST_BYTES`: text does not reach it."""
_AHEAD = 1 << 20
"""Bytes that are read at once, if there are so many."""


class UnreadableError(Exception):
    """Why a file, or a record of it, cannot be read: a few words for the build's report.

    `for_now`: the system refused it, which says nothing about what it holds.
    """

    for_now = False


class RefusedError(UnreadableError):
    """A file that the system does not let be read, so that it may be as it was."""

    for_now = True


class Packing(StrEnum):
    """How a file is compressed; the value is the last part of its name."""

    none = ""
    gz = ".gz"
    zst = ".zst"


@contextmanager
def told() -> Iterator[None]:
    """Turn what the system and the unpackers raise into UnreadableError."""
    try:
        yield
    except FileNotFoundError:
        raise UnreadableError("it is gone") from None
    except EOFError:
        raise UnreadableError("it is cut short: its compressed data has no end") from None
    except (OSError, zlib.error) as error:
        # What gzip finds wrong is an OSError too, without a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise RefusedError(f"it cannot be read ({error.strerror})") from None
        raise UnreadableError(f"it cannot be read ({error})") from None


@contextmanager
def opened(path: str, packing: Packing, most: int | None = None) -> Iterator[BinaryIO]:
    """The unpacked bytes of a regular file, at most so many.

    Raises UnreadableError, also while they are read.
    """
    with told():
        # A pipe that took the file's place since it was found must not make us wait.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(handle, "rb", 0) as raw:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableError("it is no file any more")
        read, ahead = cast("Callable[[int], bytes]", raw.read), found.st_size + 1
        sane = None
        if packing is not Packing.none:
            read, ahead = _unpacker(cast("BinaryIO", raw), packing), _AHEAD
            sane = max(MOST_BYTES, MOST_RATIO * found.st_size)
        yield cast("BinaryIO", io.BufferedReader(_Guarded(read, most, sane), min(ahead, _AHEAD)))


def read_whole(path: str, packing: Packing) -> bytes:
    """All of a file. Raises UnreadableError, also for one beyond `MOST_BYTES`."""
    with opened(path, packing, MOST_BYTES) as file:
        return file.read()


def _unpacker(raw: BinaryIO, packing: Packing) -> Callable[[int], bytes]:
    if packing is Packing.gz:
        # Not `read`: of a file that is cut short, it would give nothing where some is left.
        return gzip.GzipFile(fileobj=raw).read1
    # What reads Parquet unpacks zstd too: no library more.
    from pyarrow import CompressedInputStream, PythonFile

    unpacked = CompressedInputStream(PythonFile(raw, "r"), "zstd")
    return cast("Callable[[int], bytes]", unpacked.read)


class _Guarded(io.RawIOBase):
    """Bytes as they are read or unpacked, with failures that say what is wrong.

    There are at most `most` of them, or `sane`, which a text does not unpack to.
    """

    def __init__(self, read: Callable[[int], bytes], most: int | None, sane: int | None) -> None:
        self._read = read
        self._most = most
        self._sane = sane
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what RawIOBase is given
        with told():
            data = self._read(len(buffer))
        self._count += len(data)
        if self._most is not None and self._count > self._most:
            raise UnreadableError(
                f"it is larger than {self._most >> 20} MB: split it, or make JSON lines of it, a text a line"
            )
        if self._sane is not None and self._count > self._sane:
            raise UnreadableError(f"it unpacks to more than {MOST_RATIO} times its size: unpack it yourself")
        buffer[: len(data)] = data
        return len(data)
