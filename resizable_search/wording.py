"""Words that messages share: counts in the right number, texts cut to a length that one can read."""

from collections.abc import Sequence

SHOWN = 60
"""Characters of a text that a message quotes."""

BACK = "put it back from a copy, or build the index again with --restart"
"""What to do about a damaged file that nothing else holds."""


def counted(count: int, noun: str) -> str:
    """`1 document`, `1,234 documents`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def dimensions(dims: Sequence[int]) -> str:
    """`64, 128 dimensions`, `1 dimension`."""
    return f"{', '.join(map(str, dims))} dimension{'' if list(dims) == [1] else 's'}"


def quoted(text: str) -> str:
    """The text in quotation marks on one line, cut if it is long."""
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


def plain(text: str) -> str:
    """The text on one line, without the control characters that a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def clipped(text: str) -> str:
    """The text as `plain` has it, cut if it is long."""
    return plain(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")
