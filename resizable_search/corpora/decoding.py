"""The bytes and the text of a file: unpacked if it is compressed, limited in size, and decoded."""

import codecs
import gzip
import io
import math
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from resizable_search.errors import UsageError
from resizable_search.text import quoted

PACKINGS = ("", ".gz", ".zst")  # the suffixes of compressed files; '' for others
MAX_BYTES = 64 << 20  # of a file that is one document: it is read whole
MAX_RATIO = 200  # how many times its size a packed file may unpack to, beyond `MAX_BYTES`; text does not
MAX_LINE = 64 << 20  # characters of the longest line
SAMPLE = 1 << 20  # bytes that tell the encoding of a file that is not read whole
DAMAGED = re.compile("[\udc80-\udcff]")  # what bytes that are not UTF-8 become in a line
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
_JAPANESE_MAIL = "iso2022_jp_ext"  # has ASCII's bytes alone, and an escape before other characters
_DECODERS = {
    "gbk": "gb18030",
    "euc-jp": "euc_jis_2004",
    "iso-2022-jp": _JAPANESE_MAIL,
    "x-user-defined": "cp1252",
}  # codecs that know more characters of an encoding, as browsers do, than those of its name
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


@dataclass(slots=True)
class SourceFile:
    """A file to read. Reading raises UnreadableError."""

    path: str
    packing: str = ""
    encoding: str = ""  # the codec of bytes that are not UTF-8; if it is '', it is guessed
    guessed: str = ""  # the codec that was guessed

    @contextmanager
    def open(self, *, whole: bool = False) -> Iterator[BinaryIO]:
        """Unpack a regular file; `whole`: of `MAX_BYTES` at most."""
        with unreadable():
            # A pipe may have replaced the file since it was listed: do not wait for it.
            handle = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(handle, "rb", 0) as raw:
            state = os.fstat(handle)
            if not stat.S_ISREG(state.st_mode):
                raise UnreadableError("it is not a file any more")
            limit, problem = math.inf, ""
            if whole:
                limit = MAX_BYTES
                problem = f"it is larger than {MAX_BYTES >> 20} MB: split it, or make JSON lines of it"
            elif self.packing:
                limit = max(MAX_BYTES, MAX_RATIO * state.st_size)
                problem = f"it unpacks to more than {MAX_RATIO} times its size: unpack it yourself"
            limited = _Limited(self._unpacker(cast("BinaryIO", raw)), limit, problem)
            buffer = _BUFFER if self.packing else min(state.st_size + 1, _BUFFER)
            yield cast("BinaryIO", io.BufferedReader(limited, buffer))

    def _unpacker(self, raw: BinaryIO) -> Callable[[int], bytes]:
        if not self.packing:
            return raw.read
        if self.packing == ".zst":
            from pyarrow import CompressedInputStream, PythonFile  # it reads Parquet too: no library more

            return cast("Callable[[int], bytes]", CompressedInputStream(PythonFile(raw, "r"), "zstd").read)
        file = gzip.GzipFile(fileobj=raw)

        def read(size: int) -> bytes:
            try:
                return file.read1(size)  # `read` would return nothing of a file that is cut short
            except gzip.BadGzipFile as error:
                if not file.tell() or "Not a gzipped file" not in str(error):
                    raise
                return b""  # what lies behind the data is ignored, as by gzip

        return read

    def decode(self, data: bytes) -> str:
        """The text of the whole file, which has these bytes; lines end in line feeds."""
        encoding = self.encoding_of(data, whole=True)
        # Strictly: without lone surrogates.
        is_certain = encoding == "utf-8" or (encoding == self.encoding and not encoding.startswith("utf-16"))
        try:
            text = data.decode(encoding, "replace" if is_certain else "strict")
        except UnicodeDecodeError:
            raise UnreadableError(f"it begins as {encoding} but is not: save it as UTF-8") from None
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def lines(self, skip: int = 0) -> Iterator[tuple[int, str | None]]:
        """The lines after the first `skip`, with ends and numbers from 1; None for one that is too long.

        What is not UTF-8 all the same becomes `DAMAGED`.
        """
        with self.open() as file:
            sample = file.peek(SAMPLE)[:SAMPLE]  # type: ignore[attr-defined]  # the file is buffered
            for number, line in lines_of(file, self.encoding_of(sample, whole=False), skip):
                if line and self.encoding and DAMAGED.search(line):  # beyond the sample
                    raw = line.encode("utf-8", "surrogateescape")
                    line = raw.decode(self.encoding, _errors(self.encoding))
                yield number, line

    def encoding_of(self, data: bytes, *, whole: bool) -> str:
        """The encoding of the file, which begins with `data`; `whole`: there is no more.

        A byte order mark decides. Else it is UTF-8 if it can be but for a few bytes, then what is stated, and
        Windows' Western code page (which includes Latin-1) unless another one fits better.
        """
        for mark, encoding in _BOMS:
            if data.startswith(mark):
                return encoding
        first = _first_not_utf8(data, whole=whole)
        if self.encoding == _JAPANESE_MAIL and b"\x1b" in data:
            return self.encoding
        # A single NUL in a text is a slip.
        if first is None and _controls(data) * 10 <= len(data):
            return "utf-8"
        if self.encoding.startswith("utf-16"):
            return self.encoding
        if first is None or b"\0" in data or _controls(data) * 50 > len(data):
            raise UnreadableError("it is not text")
        if not self.encoding:
            self.guessed = _guessed(data, first)
        return self.encoding or self.guessed


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


def lines_of(file: BinaryIO, encoding: str = "utf-8-sig", skip: int = 0) -> Iterator[tuple[int, str | None]]:
    """The lines of a stream after the first `skip`, as `SourceFile.lines` gives them."""
    text = io.TextIOWrapper(file, encoding, _errors(encoding), newline="")
    number = 0
    while line := text.readline(MAX_LINE + 1):
        number += 1
        whole: str | None = line
        while len(line) > MAX_LINE:
            whole, line = None, text.readline(MAX_LINE + 1)
        if number > skip:
            yield number, whole


def _errors(encoding: str) -> str:
    return "surrogateescape" if encoding.startswith("utf-8") else "replace"


def checked_codec(label: str | None) -> str:
    """The codec of an encoding that the user names; '' for none. Raises UsageError."""
    codec = codec_of(label) if label else ""
    if label and not codec:
        raise UsageError(
            f"`encoding`: {quoted(label)} is unknown: name one of the web, such as windows-1252, shift_jis "
            "or koi8-r"
        )
    return codec


def codec_of(label: str) -> str:
    """The codec of an encoding by its label, as browsers read it; '' for what they do not read."""
    from webencodings import lookup

    encoding = lookup(label)
    if encoding is None or encoding.name == "replacement":
        return ""
    return _DECODERS.get(encoding.name) or str(encoding.codec_info.name)


def name_of(label: str) -> str:
    """The name that browsers have for an encoding; the label itself if they do not know it."""
    from webencodings import lookup

    encoding = lookup(label.replace("_", "-"))
    return label if encoding is None else str(encoding.name)


def _first_not_utf8(data: bytes, *, whole: bool) -> int | None:
    """The place of the first byte that is not UTF-8; None if none or only few are not."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, whole)
    except UnicodeDecodeError as error:
        text = data.decode("utf-8", "replace")
        damaged = text.count("\ufffd")
        if len(text) - len(text.encode("ascii", "ignore")) <= _FEW * damaged:
            return error.start
    return None


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


def _guessed(data: bytes, first: int) -> str:
    """An encoding of one or two bytes a character; `first` is the first byte that is not UTF-8."""
    from charset_normalizer import from_bytes

    sample = data[max(0, first - 1000) : first + _GUESSED]
    # It names the first in the alphabet of those that fit, which for Western texts is Central European.
    if from_bytes(sample, cp_isolation=[_WESTERN]).best() is not None:
        return _WESTERN
    if (best := from_bytes(sample, cp_exclusion=_WIDE).best()) is None:
        raise UnreadableError("its encoding is unknown: give `encoding`, or save it as UTF-8")
    return str(best.encoding)
