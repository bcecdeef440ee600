"""Words that messages share: counts in the right number, texts cut to a length that one can read."""

from collections.abc import Sequence

SHOWN = 60
"""Characters of a text that a message quotes."""


def counted(count: int, noun: str) -> str:
    """`1 document`, `1,234 documents`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def dimensions(dims: Sequence[int]) -> str:
    """`64, 128 dimensions`, `1 dimension`."""
    return f"{', '.join(map(str, dims))} dimension{'' if list(dims) == [1] else 's'}"


def quoted(text: str) -> str:
    """The text in quotation marks on one line, cut if it is long."""
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")
