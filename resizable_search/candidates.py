"""Which plans are worth trying on an index: its first looks, second looks, and how many rows to keep.

Pure: it knows what an index stores and measures nothing. A first stage is a few sign bits, int8 codes
or floats of every row; what it keeps is scored at the full width, or by a second stage first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from resizable_search.plan import Plan, Stage
from resizable_search.quantise import WORD

FACTORS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100)
"""How many times k a stage may keep."""

KEPT_AT_MOST = 4
"""A stage keeps no more than one row in so many: else the stage behind it has most of the work."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What an index offers to plans: dimensions ascending, those with int8 codes, whether sign bits."""

    dims: tuple[int, ...]
    codes: tuple[int, ...] = ()
    signs: bool = False

    @property
    def full(self) -> int:
        """The full dimension."""
        return self.dims[-1]


def keeps(k: int, rows: int) -> list[int]:
    """How many rows a stage may keep when k hits are wanted of so many rows, ascending."""
    return [k * factor for factor in FACTORS if k * factor * KEPT_AT_MOST <= rows]


def first_stages(stored: Stored) -> list[Stage]:
    """The stages that may look at every row; an exact one may also be a whole plan."""
    words = range(WORD, stored.full + WORD, WORD) if stored.signs else ()
    bits = [Stage(min(dim, stored.full), precision="bits") for dim in words]
    int8 = [Stage(dim, precision="int8") for dim in stored.codes]
    return [*bits, *int8, *(Stage(dim) for dim in stored.dims[:-1])]


def second_stages(first: Stage, stored: Stored) -> list[Stage]:
    """The stages that may thin out what `first` kept, each knowing more of a row than it does."""
    bits = [Stage(stored.full, precision="bits")] if stored.signs else []
    int8 = [Stage(dim, precision="int8") for dim in stored.codes if 4 * dim >= stored.full]
    found: list[Stage] = []
    if first.precision == "bits":
        found = [stage for stage in bits if stage.dim > first.dim] + int8
    elif first.precision == "int8":
        found = [stage for stage in int8 if stage.dim > first.dim]
    else:
        found = [stage for stage in int8 if stage.dim > first.dim]
        found += [Stage(dim) for dim in stored.dims[:-1] if dim > first.dim]
    return found


def chain(stages: Sequence[tuple[Stage, int]], full: int) -> Plan:
    """The plan of these stages, each with how many rows it keeps, and a rerank at the full dimension."""
    kept = (Stage(stage.dim, keep, stage.precision) for stage, keep in stages)
    return Plan((*kept, Stage(full)))
