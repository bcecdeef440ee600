"""The bytes and the text of a file: unpacked if it is compressed, limited in size, and decoded."""

import codecs
import gzip
import io
import math
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

PACKINGS = ("", ".gz", ".zst")  # the suffixes of compressed files; '' for others
MAX_BYTES = 64 << 20  # of a file that is one document: it is read whole
MAX_RATIO = 200  # how many times its size a packed file may unpack to, beyond `MAX_BYTES`; text does not
SAMPLE = 1 << 20  # bytes that tell the encoding of a file that is not read whole
_BUFFER = 1 << 20

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0?\0", "utf-16-le"),  # XML's declaration, which needs no mark
    (b"\0<\0?", "utf-16-be"),
)
_CONTROLS = bytes(c for c in range(32) if c not in b"\t\n\v\f\r\b\x1b")
_GUESSED = 100_000  # bytes around the first that is not UTF-8, from which another encoding is guessed
_FEW = 10  # with more characters of UTF-8 for a byte that is not, the text is damaged UTF-8
_WESTERN = "cp1252"
_WIDE = ["utf_7", "utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_32_le", "utf_32_be"]


class UnreadableError(Exception):
    """Why a file or a record cannot be read; `unread`: the system refused, and it may be unchanged."""

    def __init__(self, problem: str, *, unread: bool = False) -> None:
        super().__init__(problem)
        self.unread = unread


@contextmanager
def unreadable() -> Iterator[None]:
    """Turn errors of the system and of the unpackers into UnreadableError."""
    try:
        yield
    except FileNotFoundError:
        raise UnreadableError("it is gone") from None
    except EOFError:
        raise UnreadableError("it is cut short: its compressed data has no end") from None
    except (OSError, zlib.error) as error:
        refused = getattr(error, "errno", None) is not None  # gzip has no number for bad data
        words = getattr(error, "strerror", None) or error
        raise UnreadableError(f"it cannot be read ({words})", unread=refused) from None


@contextmanager
def open_unpacked(path: str, packing: str, *, whole: bool = False) -> Iterator[BinaryIO]:
    """Unpack a regular file; `whole`: of `MAX_BYTES` at most. Raises UnreadableError, also while reading."""
    with unreadable():
        # A pipe may have replaced the file since it was listed: do not wait for it.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(handle, "rb", 0) as raw:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise UnreadableError("it is not a file any more")
        limit, problem = math.inf, ""
        if whole:
            limit = MAX_BYTES
            problem = (
                f"it is larger than {MAX_BYTES >> 20} MB: split it, or make JSON lines of it, a text a line"
            )
        elif packing:
            limit = max(MAX_BYTES, MAX_RATIO * state.st_size)
            problem = f"it unpacks to more than {MAX_RATIO} times its size: unpack it yourself"
        limited = _Limited(_unpacker(cast("BinaryIO", raw), packing), limit, problem)
        buffer = _BUFFER if packing else min(state.st_size + 1, _BUFFER)
        yield cast("BinaryIO", io.BufferedReader(limited, buffer))


def _unpacker(raw: BinaryIO, packing: str) -> Callable[[int], bytes]:
    if not packing:
        return raw.read
    if packing == ".gz":
        # `read` would return nothing of a file that is cut short.
        return gzip.GzipFile(fileobj=raw).read1
    from pyarrow import CompressedInputStream, PythonFile  # it reads Parquet too: no library more

    return cast("Callable[[int], bytes]", CompressedInputStream(PythonFile(raw, "r"), "zstd").read)


class _Limited(io.RawIOBase):
    """Bytes as they are read, up to a limit; `problem` is what an excess means."""

    def __init__(self, read: Callable[[int], bytes], limit: float, problem: str) -> None:
        self._read = read
        self._room = limit
        self._problem = problem

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what RawIOBase is given
        with unreadable():
            data = self._read(len(buffer))
        self._room -= len(data)
        if self._room < 0:
            raise UnreadableError(self._problem)
        buffer[: len(data)] = data
        return len(data)


def decode(data: bytes) -> str:
    """The text of a whole file; lines end in line feeds. Raises UnreadableError."""
    encoding = encoding_of(data, whole=True)
    try:
        # Strictly: without lone surrogates.
        text = data.decode(encoding, "replace" if encoding == "utf-8" else "strict")
    except UnicodeDecodeError:
        raise UnreadableError(f"it begins as {encoding} but is not: save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def encoding_of(data: bytes, *, whole: bool) -> str:
    """The encoding of a file that begins with `data`; `whole`: there is no more. Raises UnreadableError.

    A byte order mark decides. Else it is UTF-8 if it can be but for a few bytes, and Windows' Western code
    page (which includes Latin-1) unless another one fits better.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return encoding
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, whole)
    except UnicodeDecodeError as error:
        text = data.decode("utf-8", "replace")
        damaged = text.count("\ufffd")
        if len(text) - len(text.encode("ascii", "ignore")) <= _FEW * damaged:
            return _narrow(data, error.start)
    # A single NUL in a text is a slip.
    if _controls(data) * 10 > len(data):
        raise UnreadableError("it is not text")
    return "utf-8"


def is_utf(data: bytes) -> bool:
    """Whether a file has a byte order mark, or is UTF-8 from beginning to end."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.startswith(tuple(mark for mark, _ in _BOMS))
    return True


def _controls(data: bytes) -> int:
    """How many bytes are control characters that no text has."""
    return len(data) - len(data.translate(None, _CONTROLS))


def _narrow(data: bytes, first: int) -> str:
    """An encoding of one or two bytes a character; `first` is the first byte that is not UTF-8."""
    if b"\0" in data or _controls(data) * 50 > len(data):
        raise UnreadableError("it is not text")
    from charset_normalizer import from_bytes

    sample = data[max(0, first - 1000) : first + _GUESSED]
    # It names the first in the alphabet of those that fit, which for Western texts is Central European.
    if from_bytes(sample, cp_isolation=[_WESTERN]).best() is not None:
        return _WESTERN
    best = from_bytes(sample, cp_exclusion=_WIDE).best()
    if best is None:
        raise UnreadableError("its encoding is unknown: save it as UTF-8")
    return str(best.encoding)
