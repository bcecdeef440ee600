"""Bytes to text: which encoding they are in, and whether they are text at all."""

import codecs

from resizable_search.corpora.files.compression import UnreadableError

SAMPLE = 1 << 20
"""Bytes from which the encoding of a file is told that is not read whole."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = bytes(c for c in range(32) if c not in b"\t\n\v\f\r\b\x1b")
_GUESSED = 100_000
"""Bytes around the first that is not UTF-8, by which another encoding is told."""
_WESTERN = "cp1252"
_WIDE = ["utf_7", "utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_32_le", "utf_32_be"]


def decode(data: bytes) -> str:
    """The text of a whole file, with line feeds alone at the ends of lines. Raises UnreadableError."""
    encoding = encoding_of(data, whole=True)
    try:
        text = data.decode(encoding)  # strictly: no lone surrogate comes out of it
    except UnicodeDecodeError:
        raise UnreadableError(f"it begins as {encoding} and is not: save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def cleaned(text: str) -> str:
    """The text with lone surrogates, which are no characters, as U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def encoding_of(data: bytes, *, whole: bool) -> str:
    """The name of the encoding of a file that begins with `data`; `whole` if there is no more of it.

    A byte order mark says it; else it is UTF-8 if it can be, UTF-16 if every other byte is zero, and
    Windows' Western code page (which has Latin-1 in it) unless that makes less sense than another
    one does. Raises UnreadableError for what is no text.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return encoding
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, whole)
    except UnicodeDecodeError as error:
        return _wide(data) or _narrow(data, error.start)
    # An odd NUL in a text is a slip; UTF-16 of plain letters is UTF-8 as well, with NULs between.
    if _controls(data) * 10 > len(data):
        if wide := _wide(data):
            return wide
        raise UnreadableError("it is no text")
    return "utf-8"


def _controls(data: bytes) -> int:
    """How many bytes are control characters that no text has."""
    return len(data) - len(data.translate(None, _CONTROLS))


def _wide(data: bytes) -> str | None:
    """UTF-16 without its mark, told by where the zero bytes of common characters are."""
    even = data[: len(data) & ~1]
    half = len(even) // 2
    for encoding, high, low in (("utf-16-le", even[1::2], even[::2]), ("utf-16-be", even[::2], even[1::2])):
        if half and high.count(0) * 10 > half * 4 and low.count(0) * 20 <= half:
            try:
                text = codecs.getincrementaldecoder(encoding)().decode(even)
            except UnicodeDecodeError:
                return None
            odd = sum(not (c.isprintable() or c.isspace()) for c in text)
            return encoding if odd * 20 <= len(text) else None
    return None


def _narrow(data: bytes, first: int) -> str:
    """An encoding of a byte or two a character; `first` is where `data` stops being UTF-8."""
    if b"\0" in data or _controls(data) * 50 > len(data):
        raise UnreadableError("it is no text")
    from charset_normalizer import from_bytes

    sample = data[max(0, first - 1000) : first + _GUESSED]
    # It names the first in the alphabet of those that fit, which for Western texts is Central European.
    if from_bytes(sample, cp_isolation=[_WESTERN]).best() is not None:
        return _WESTERN
    best = from_bytes(sample, cp_exclusion=_WIDE).best()
    if best is None:
        raise UnreadableError("its encoding cannot be told: save it as UTF-8")
    return str(best.encoding)
