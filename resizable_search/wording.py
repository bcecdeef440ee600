"""Words that messages share: counts in the right number, texts cut to a length that one can read."""

from collections.abc import Sequence

SHOWN = 60
"""Characters of a text that a message quotes."""

BACK = "put it back from a copy, or build the index again with --restart"
"""What to do about a damaged file that nothing else holds."""


def counted(count: int, noun: str) -> str:
    """`1 document`, `1,234 documents`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """`8 s`, `42 min`, `3 h 20 min`, `2 d 5 h`: as exact as one needs to know."""
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
    """The text in quotation marks on one line, cut if it is long."""
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


def plain(text: str) -> str:
    """The text on one line, without the control characters that a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def plain_lines(text: str) -> list[str]:
    """The lines of a text as they are indented, without control characters that a terminal would obey."""
    return [
        "".join(c if c.isprintable() else " " for c in line.expandtabs(8)).rstrip()
        for line in text.splitlines()
    ]


def clipped(text: str) -> str:
    """The text as `plain` has it, cut if it is long."""
    return plain(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")
