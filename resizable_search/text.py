"""Wording of messages, and the passage of a text that fits a query best."""

import re
from collections import Counter
from collections.abc import Sequence

SHOWN = 60  # characters that a message quotes

BACK = "put it back from a copy, or build the index again with `restart`"
"""The remedy for a damaged file that cannot be rebuilt."""


def counted(count: int, noun: str) -> str:
    """`1 document`, `1,234 documents`, `2 queries`."""
    if count != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{count:,} {noun}"


def listed(names: Sequence[str], most: int) -> str:
    """`a, b and 3 others`."""
    more = f" and {counted(len(names) - most, 'other')}" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def duration(seconds: float) -> str:
    """`8 s`, `42 min`, `3 h 20 min`, `2 d 5 h`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def size(count: int) -> str:
    """Bytes for people: 691 MB."""
    value, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 999.5 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"


def dimensions(dims: Sequence[int]) -> str:
    """`64, 128 dimensions`, `1 dimension`."""
    return f"{', '.join(map(str, dims))} dimension{'' if list(dims) == [1] else 's'}"


def quoted(text: str) -> str:
    """The text in quotation marks on one line, cut if long."""
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


def plain(text: str) -> str:
    """The text on one line, without control characters."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def plain_lines(text: str) -> list[str]:
    """The lines of a text with their indentation, without control characters."""
    lines = (line.expandtabs(8) for line in text.splitlines())
    return ["".join(c if c.isprintable() else " " for c in line).rstrip() for line in lines]


def clipped(text: str) -> str:
    """The text on one line, cut if long."""
    return plain(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for lone surrogates, which are no characters."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


MOST_READ = 200_000  # characters of a text that are searched for a passage: it may have millions

_WORD = re.compile(r"\w+")
_WHOLE = 1 << 40  # the weight of a unique word. Sums of whole numbers do not depend on the order


def snippet(text: str, query: str, length: int) -> str:
    """Up to `length` characters of the text around words of the query, or its beginning.

    Of the passages that begin a little before such a word, the one whose different words are the rarest in
    the text together; the earliest of equals.
    """
    text = " ".join(text[:MOST_READ].split())
    if len(text) <= length:
        return text
    wanted = {word.casefold() for word in _WORD.findall(query)}
    matches = [
        (match.start(), match.end(), match.group().casefold())
        for match in _WORD.finditer(text)
        if match.group().casefold() in wanted
    ]
    counts = Counter(word for _, _, word in matches)
    worth = {word: _WHOLE // (1 + count) for word, count in counts.items()}
    inside: Counter[str] = Counter()
    best, begin, value, first, last = 0, 0, 0, 0, 0
    for at, _, _ in matches:  # the passage slides: each word enters once and leaves once
        start = max(0, min(at - length // 4, len(text) - length))
        while last < len(matches) and matches[last][1] <= start + length:
            word = matches[last][2]
            value += worth[word] if not inside[word] else 0
            inside[word] += 1
            last += 1
        while first < last and matches[first][0] < start:
            word = matches[first][2]
            inside[word] -= 1
            value -= worth[word] if not inside[word] else 0
            first += 1
        if value > best:
            best, begin = value, start
    return _trimmed(text, begin, length)


def words_of(query: str) -> re.Pattern[str] | None:
    """A pattern for the words of a query; None if it has no word."""
    words = sorted({re.escape(word) for word in _WORD.findall(query)})
    return re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE) if words else None


def _trimmed(text: str, start: int, length: int) -> str:
    """The passage without half words at its ends, with an ellipsis where the text continues."""
    stop = min(len(text), start + length)
    cut = text[start:stop]
    if start and text[start - 1] != " " and " " in cut:
        cut = cut.partition(" ")[2]
    if stop < len(text) and text[stop] != " " and " " in cut:
        cut = cut.rpartition(" ")[0]
    return f"{'…' if start else ''}{cut.strip()}{'…' if stop < len(text) else ''}"
