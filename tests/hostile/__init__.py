"""Machines that are against us: full disks, crowds, limits, clocks. For tests and scripts/drills."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """What came of a situation: a line of the script's table, and whether all was as it should be."""

    situation: str
    outcome: str
    identical: bool | None = None
    """Whether the index that was resumed is, byte for byte, that of an undisturbed build (dates apart)."""
    twice: int | None = None
    """Texts that were billed more than once."""
    wrong: str = ""
    """What is not as it should be."""
