"""Wording of messages, and the passage of a text that fits a query best."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

SHOWN = 60  # characters that a message quotes

BACK = "put it back from a copy, or build the index again with `restart`"
"""The remedy for a damaged file that cannot be rebuilt."""


def counted(count: int, noun: str) -> str:
    """`1 document`, `1,234 documents`, `2 queries`."""
    if count != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{count:,} {noun}"


def listed(names: Sequence[str], most: int, count: int = 0) -> str:
    """`a, b and 3 others`. `count`: how many there are, if `names` are only the first."""
    others = max(count, len(names)) - most
    more = f" and {counted(others, 'other')}" if others > 0 else ""
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


_OPTION = re.compile(r"(?<= )([a-z]+(?:_[a-z]+)*)=")


def command_line(command: str) -> str:
    """A command as it is typed: `tune index=wiki k=20` is `rsearch tune --index wiki -k 20`."""
    return "rsearch " + _OPTION.sub(lambda option: f"{flag(option[1])} ", command)


def flag(option: str) -> str:
    """An option as it is typed: `base_url` is --base-url."""
    return f"-{option}" if len(option) == 1 else f"--{option.replace('_', '-')}"


def clipped(text: str) -> str:
    """The text on one line, cut if long."""
    return plain(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for lone surrogates, which are no characters."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_ESCAPED = re.compile(r"(\\\\|\\ud[89ab]..\\ud[c-f]..)|\\(?:u0000|ud[89a-f]..)", re.IGNORECASE)


def sound_json(text: str) -> str:
    """JSON in ASCII, with U+FFFD for NUL and lone surrogates."""
    return _ESCAPED.sub(lambda match: match[1] or r"\ufffd", text)


MOST_READ = 200_000  # characters of a text that are searched for a passage: it may have millions

# Marks in words that `\w` does not match: accents, and vowel signs of Hebrew, Arabic, India, Thai and Lao
MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u0670\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e\u0eb1-\u0ecd"
_WORD = re.compile(r"\w+")
_ENDING = re.compile(r"(?<=\w{3})(?:(?:ing|ed|ie|e|y)(?:(?<!s)s)?|(?<!s)s)$")
_SENTENCE = re.compile(r"(?<=[.!?]) ")
_WHOLE = 1 << 40  # the weight of a unique word. Sums of whole numbers do not depend on the order
_STOP_WORDS = """
a about after also an and any are as at be because been before but by can could did do does for from get had
has have how i if in into is it its me more most my no not of on only or other our over same should so some
such than that the their them then there these they this those to up very was we were what when where which
who whose why will with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())  # never change them: vectors of wordllama depend on them


def rarity(query: str, texts: Iterable[str]) -> dict[str, int]:
    """The words of a query, folded and without their endings; the fewer texts have one, the more it weighs.

    Stop words count only if there are no others.
    """
    words = {word.casefold() for word in _WORD.findall(query)}
    wanted = set(map(_stem, words.difference(STOP_WORDS) or words))
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(wanted.intersection(map(_stem, _WORD.findall(text[:MOST_READ]))))
    return {word: _WHOLE // (1 + counts[word]) for word in wanted}


def matches(text: str, weights: Mapping[str, int]) -> list[tuple[int, int, str]]:
    """The start and end of each word of a text that has a weight, and the word as `rarity` has it."""
    words = ((match.start(), match.end(), _stem(match.group())) for match in _WORD.finditer(text))
    return [word for word in words if word[2] in weights]


def snippet(text: str, weights: Mapping[str, int], length: int) -> str:
    """Up to `length` characters of the text around words of a query (`weights`: `rarity`), or its beginning.

    Of the passages that begin a little before such a word, the first whose different words weigh the most
    together. It begins with a sentence if it can.
    """
    text = " ".join(text[:MOST_READ].split())
    if len(text) <= length:
        return text
    words = matches(text, weights)
    inside: Counter[str] = Counter()
    best, begin, value, first, last = 0, 0, 0, 0, 0
    for at, _, _ in words:  # the passage slides: each word enters once and leaves once
        start = min(at - length // 4, len(text) - length) if at > length // 2 else 0
        while last < len(words) and words[last][1] <= start + length:
            word = words[last][2]
            value += weights[word] if not inside[word] else 0
            inside[word] += 1
            last += 1
        while first < last and words[first][0] < start:
            word = words[first][2]
            inside[word] -= 1
            value -= weights[word] if not inside[word] else 0
            first += 1
        if value > best:
            best, begin = value, start
            sentence = _SENTENCE.search(text, start, at) if start else None
            begin = sentence.end() if sentence else start
    return _trimmed(text, begin, length)


def _stem(word: str) -> str:
    """The word folded, without a usual ending of English: `directories` is `director`, as `directory` is."""
    return _ENDING.sub("", word.casefold())


def _trimmed(text: str, start: int, length: int) -> str:
    """The passage without half words at its ends, with an ellipsis where a sentence was cut."""
    stop = min(len(text), start + length)
    cut = text[start:stop]
    if start and text[start - 1] != " " and " " in cut:
        cut = cut.partition(" ")[2]
    if stop < len(text) and text[stop] != " " and " " in cut:
        cut = cut.rpartition(" ")[0]
    begins = not start or text[max(0, start - 2) : start] in (". ", "! ", "? ")
    return f"{'' if begins else '…'}{cut.strip()}{'…' if stop < len(text) else ''}"
