"""Rows that were chosen before a search: a mask for each part, and the rows themselves where they are few."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEW = 1 / 20
"""Of an index's rows: so many or fewer are searched one by one, more by a scan that passes over the others.

Measured by scripts/where_speed.py: a row that is gathered costs some ten times one that is scanned,
for numpy twice that.
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows that may be found, deleted ones left out.

    `allowed` has a (rows,) bool for each part; `rows` (count,) int64 are the same rows of the index,
    ascending, where they are FEW, else None.
    """

    allowed: tuple[NDArray[np.bool_], ...]
    count: int
    rows: NDArray[np.int64] | None

    @classmethod
    def of(cls, masks: list[NDArray[np.bool_]]) -> "Selection":
        """The selection of these masks, a (rows,) bool for each part in order."""
        for mask in masks:
            mask.flags.writeable = False
        count = sum(int(np.count_nonzero(mask)) for mask in masks)
        rows = None
        if count <= FEW * sum(map(len, masks)):
            starts = np.cumsum([0, *map(len, masks)])[:-1]
            found = [np.flatnonzero(mask) + start for mask, start in zip(masks, starts, strict=True)]
            rows = np.concatenate(found)
        return cls(tuple(masks), count, rows)
