"""The passage of a text that says most about a query."""

import re
from collections import Counter

MOST_READ = 200_000
"""Characters of a text that are looked through: a text may have millions."""

_WORD = re.compile(r"\w+")


def snippet(text: str, query: str, length: int) -> str:
    """Up to `length` characters of the text around the words of the query; its beginning if it has none.

    Of all passages that begin a few words before one of them, the one whose different words are the
    rarest in this text together, and the earliest of equals.
    """
    text = " ".join(text[:MOST_READ].split())
    if len(text) <= length:
        return text
    wanted = {word.casefold() for word in _WORD.findall(query)}
    found = [
        (match.start(), match.end(), match.group().casefold())
        for match in _WORD.finditer(text)
        if match.group().casefold() in wanted
    ]
    counts = Counter(word for _, _, word in found)
    best, begin = 0.0, 0
    for i, (first, _, _) in enumerate(found):
        start = max(0, min(first - length // 4, len(text) - length))
        inside: set[str] = set()
        for at, end, word in found[max(0, i - length // 4) :]:
            if end > start + length:
                break
            if at >= start:
                inside.add(word)
        worth = sum(1 / (1 + counts[word]) for word in inside)
        if worth > best:
            best, begin = worth, start
    return _trimmed(text, begin, length)


def words_of(query: str) -> re.Pattern[str] | None:
    """What finds the words of a query in a text; None if it has no word."""
    words = sorted({re.escape(word) for word in _WORD.findall(query)})
    return re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE) if words else None


def _trimmed(text: str, start: int, length: int) -> str:
    """That passage without the half words at its ends, and an ellipsis where the text goes on."""
    stop = min(len(text), start + length)
    cut = text[start:stop]
    if start and text[start - 1] != " " and " " in cut:
        cut = cut.partition(" ")[2]
    if stop < len(text) and text[stop] != " " and " " in cut:
        cut = cut.rpartition(" ")[0]
    return f"{'…' if start else ''}{cut.strip()}{'…' if stop < len(text) else ''}"
