"""The parts of an index as a scan at one dimension sees them: their views, and tables for the kernels.

A table names each part's arrays by their addresses, so that one call of a kernel goes through the rows
of all parts; a row is counted through the parts, as in the index.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.scan.ahead import ask_for_rows
from resizable_search.scan.view import View, need_signs, need_tier

FIRST, ROWS, ALLOWED, WIDTH, STORED, CODES_WIDTH, CODES, STEPS, ERRORS, WORDS, SIGNS = range(11)
"""Columns of a table: the first row, how many, and addresses, 0 for an array that there is not.

WIDTH is the numbers of a stored row, CODES_WIDTH those of its codes, of which a cut may have a shorter
copy, WORDS the lines of the sign bits.
"""


class Parts:
    """Views (one a part, in order) of rows that are counted through them, the first of which is `first`."""

    def __init__(self, views: Sequence[View], first: int = 0) -> None:
        self.views = list(views)
        self.dim = self.views[0].dim
        self.starts: list[int] = []
        """The first row of each."""
        for view in self.views:
            self.starts.append(first)
            first += len(view)
        self.stop = first

    def __len__(self) -> int:
        return self.stop - self.starts[0]

    @property
    def range(self) -> range:
        """The rows."""
        return range(self.starts[0], self.stop)

    def narrowed(self, allowed: Sequence[NDArray[np.bool_]]) -> "Parts":
        """The same rows, of which only these may be found: a mask a part, all of them allowed here."""
        return _NarrowedParts(self, allowed)

    @property
    def is_cut(self) -> bool:
        """Whether this dimension is not stored."""
        return self.views[0].is_cut

    @property
    def has_tier(self) -> bool:
        """Whether the int8 codes are there at this dimension, without a pass to make them."""
        return all(view.has_tier for view in self.views)

    @property
    def can_have_tier(self) -> bool:
        """Whether the int8 codes can be had."""
        return all(view.whole is not None for view in self.views)

    @cached_property
    def floats(self) -> NDArray[np.int64]:
        """(parts, 11) int64: the table of the stored rows."""
        table = np.zeros((len(self.views), 11), np.int64)
        for line, view, start in zip(table, self.views, self.starts, strict=True):
            line[FIRST], line[ROWS], line[WIDTH] = start, len(view), view.stored.shape[1]
            line[STORED] = _address(view.stored, np.float32)
            line[ALLOWED] = 0 if view.allowed is None else _address(view.allowed, np.bool_)
        return table

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """As `floats`, with the int8 tiers. Raises UsageError where there are none."""
        table = self.floats.copy()
        for line, view in zip(table, self.views, strict=True):
            tier = need_tier(view)
            line[CODES_WIDTH], line[CODES] = tier.codes.shape[1], _address(tier.codes, np.int8)
            line[STEPS], line[ERRORS] = (
                _address(numbers, np.float32) for numbers in (tier.steps, tier.errors)
            )
        return table

    @cached_property
    def signs(self) -> NDArray[np.int64]:
        """As `floats`, with the sign bits. Raises UsageError where there are none."""
        table = self.floats.copy()
        for line, view in zip(table, self.views, strict=True):
            signs = need_signs(view)
            line[WORDS], line[SIGNS] = signs.shape[0], _address(signs, np.uint64)
        return table

    def each(
        self, rows: NDArray[np.int64], score: Callable[[int, NDArray[np.int64]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """The scores of ascending rows (c,): `score(part, its own rows)` of each part that has some."""
        bounds = np.searchsorted(rows, [*self.starts, self.stop])
        found = [
            score(part, rows[begin:end] - self.starts[part])
            for part, (begin, end) in enumerate(pairwise(bounds.tolist()))
            if begin < end
        ]
        return np.concatenate(found) if found else np.empty(0, np.float32)

    def defined_scores(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The defined score of one query (dim,) against rows (c,), ascending: (c,) float32."""
        return self.each(rows, lambda part, own: self.views[part].defined_scores(query, own))

    def ask_for(self, rows: NDArray[np.int64]) -> None:
        """Have the stored rows (c,) be read from a disk, all at once, without waiting for them."""
        for view, start in zip(self.views, self.starts, strict=True):
            mine = rows[(rows >= start) & (rows < start + len(view))] - start
            if len(mine):
                ask_for_rows(view.stored, mine.tolist())


class _NarrowedParts(Parts):
    """Fewer rows than another's, whose tables serve with other masks."""

    def __init__(self, whole: Parts, allowed: Sequence[NDArray[np.bool_]]) -> None:
        views = [view.narrowed(mask) for view, mask in zip(whole.views, allowed, strict=True)]
        super().__init__(views, whole.starts[0])
        self._whole = whole

    def _masked(self, table: NDArray[np.int64]) -> NDArray[np.int64]:
        own = table.copy()
        own[:, ALLOWED] = [
            0 if view.allowed is None else _address(view.allowed, np.bool_) for view in self.views
        ]
        return own

    @cached_property
    def floats(self) -> NDArray[np.int64]:
        return self._masked(self._whole.floats)

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        return self._masked(self._whole.codes)

    @cached_property
    def signs(self) -> NDArray[np.int64]:
        return self._masked(self._whole.signs)


def _address(array: NDArray[Any], dtype: Any) -> int:
    """Where an array's numbers lie, which a kernel will take for C order of that dtype."""
    if array.dtype != dtype or not array.flags.c_contiguous:
        raise ValueError(f"a kernel takes {np.dtype(dtype)} in C order, not {array.dtype} {array.strides}")
    address: int = array.__array_interface__["data"][0]
    return address
