"""The rows of one part as a scan at one dimension sees them.

Have a disk read rows of a mapped file that are about to be looked at, all of them at once.

A page fault waits for one read after the other; a disk gives its best when it is asked for many.
Reading the chunks of a scan ahead was measured and brings nothing: the system's own read-ahead does it.

The parts of an index as a scan at one dimension sees them: their views, and tables for the kernels.

A table names each part's arrays by their addresses, so that one call of a kernel goes through the rows
of all parts; a row is counted through the parts, as in the index.
"""

import mmap
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine import vectors
from resizable_search.engine.quantise import Tier
from resizable_search.errors import UsageError

SHORT = 1e-30
"""The length of a cut row from which products of it are safely above float32's smallest numbers."""


@dataclass(frozen=True, slots=True)
class InverseNorms:
    """What a float32 scan needs at a dimension that is not stored.

    `scale` (n,) float32 is the reciprocal length of each cut row, near enough for candidates.
    `allowed` as the view's, less the `doubtful` rows (c,) int64: those too short at this dimension for
    float32, which are always scored by the definition.
    """

    scale: NDArray[np.float32] | None
    allowed: NDArray[np.bool_] | None
    doubtful: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


class View:
    """The rows of one part as a scan at `dim` sees them.

    `stored` is the file's (n, width) float32 array, width >= dim, its rows of norm 1 or 0. Where dim
    is smaller than width the rows meant are `truncate(stored, dim)`, which are not kept. `allowed` (n,)
    bool, if given, says which rows may be found. `whole` is the int8 tier of `stored`, `signs` the
    sign bits (words, n) uint64 of the full rows; either may be missing.
    """

    def __init__(
        self,
        stored: NDArray[np.float32],
        dim: int,
        allowed: NDArray[np.bool_] | None = None,
        whole: Tier | None = None,
        signs: NDArray[np.uint64] | None = None,
    ) -> None:
        self.stored: NDArray[np.float32] = read_only(stored)
        self.dim = dim
        self.allowed: NDArray[np.bool_] | None = None if allowed is None else read_only(allowed)
        self.whole = None if whole is None else _read_only_tier(whole)
        self.signs: NDArray[np.uint64] | None = None if signs is None else read_only(signs)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def is_cut(self) -> bool:
        """Whether this dimension is not stored, so that rows are cut from longer ones."""
        return self.dim < int(self.stored.shape[1])

    @property
    def reciprocals(self) -> InverseNorms:
        """For a float32 scan: made by one pass over the rows if the dimension is not stored, and kept."""
        with self._lock:
            return self._reciprocals

    @cached_property
    def _reciprocals(self) -> InverseNorms:
        if not self.is_cut:
            return InverseNorms(None, self.allowed)
        scale, doubtful = reciprocal_lengths(self.stored, self.dim)
        allowed = self.allowed
        if len(doubtful):
            allowed = np.ones(len(self), bool) if allowed is None else allowed.copy()
            found = doubtful[allowed[doubtful]]
            allowed[doubtful] = False
            doubtful = found
        return InverseNorms(scale, allowed, doubtful)

    def narrowed(self, allowed: NDArray[np.bool_]) -> "View":
        """The same rows, of which only these (n,) bool may be found, all of them allowed here.

        What a pass over the rows has made is shared.
        """
        return _NarrowedView(self, allowed)

    @property
    def has_tier(self) -> bool:
        """Whether the int8 codes at this dimension are there, without a pass to make them."""
        return self.whole is not None and not self.is_cut

    @property
    def tier(self) -> Tier | None:
        """The int8 codes at this dimension: made by one pass if it is not stored, and kept."""
        with self._lock:
            return self._tier

    @cached_property
    def _tier(self) -> Tier | None:
        if self.whole is None or not self.is_cut:
            return self.whole
        return _read_only_tier(self.whole.cut(self.stored, self.dim))

    def rows(self, where: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows at `where` (c,), as they are defined at this dimension: (c, dim) float32."""
        chosen = self.stored[where]
        return vectors.truncate(chosen, self.dim) if self.is_cut else chosen

    def defined_scores(self, query: NDArray[np.float32], where: NDArray[np.int64]) -> NDArray[np.float32]:
        """The defined score of one query (dim,) against the rows `where`, in ranges of bounded memory."""
        out = np.empty(len(where), np.float32)
        for start, stop in vectors.spans(len(where), self.stored.shape[1]):
            out[start:stop] = vectors.dot(self.rows(where[start:stop]), query)
        return out


class _NarrowedView(View):
    """A view of fewer rows than another one's, which keeps what is costly for both."""

    def __init__(self, whole: View, allowed: NDArray[np.bool_]) -> None:
        super().__init__(whole.stored, whole.dim, allowed, whole.whole, whole.signs)
        self._other = whole

    @property
    def reciprocals(self) -> InverseNorms:
        near = self._other.reciprocals
        if self.allowed is None or not len(near.doubtful):
            return InverseNorms(near.scale, self.allowed)
        doubtful = near.doubtful[self.allowed[near.doubtful]]
        allowed = self.allowed.copy()
        allowed[doubtful] = False
        return InverseNorms(near.scale, allowed, doubtful)

    @property
    def tier(self) -> Tier | None:
        return self._other.tier


def need_tier(view: View) -> Tier:
    """The view's int8 tier. Raises UsageError if the index has none."""
    if view.tier is None:
        raise UsageError("this index has no int8 tier: derive it with `rsearch warm`, or use exact stages")
    return view.tier


def need_signs(view: View) -> NDArray[np.uint64]:
    """The view's sign bits. Raises UsageError if the index has none."""
    if view.signs is None:
        raise UsageError("this index has no sign bits: derive them with `rsearch warm`, or use exact stages")
    return view.signs


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """The same numbers, not to be written through what is returned."""
    view = array.view()
    view.flags.writeable = False
    return view


def _read_only_tier(tier: Tier) -> Tier:
    return Tier(read_only(tier.codes), read_only(tier.steps), read_only(tier.errors), tier.dim)


def reciprocal_lengths(
    stored: NDArray[np.float32], dim: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """1 / |row[:dim]| of each row of (n, width) float32, in float32, and the rows shorter than SHORT.

    A row that is zero there has 0, which is its score too.
    """
    out = np.empty(len(stored), np.float32)
    step = 8192
    for start in range(0, len(stored), step):
        cut = stored[start : start + step, :dim]
        out[start : start + step] = np.einsum("ij,ij->i", cut, cut)
    np.sqrt(out, out=out)
    # A sum of squares this small has lost its precision: these lengths are taken in float64.
    small = np.flatnonzero(out < 1e-15)
    lengths = vectors.norms(stored[small, :dim])
    out[small] = lengths
    out[small[lengths < SHORT]] = np.inf
    np.divide(1, out, out=out)
    return out, small[(lengths > 0) & (lengths < SHORT)]


def ask_for_rows(stored: NDArray[Any], rows: Iterable[int]) -> None:
    """Have these rows of a mapped array be read, without waiting for them.

    Does nothing for an array that is in memory by nature.
    """
    base: Any = stored
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, mmap.mmap) or not hasattr(mmap, "MADV_WILLNEED"):
        return
    first = stored.ctypes.data - np.frombuffer(base, np.uint8).ctypes.data
    stride = stored.strides[0]
    for row in rows:
        begin = (first + row * stride) // mmap.PAGESIZE * mmap.PAGESIZE
        end = min(first + (row + 1) * stride, len(base))
        base.madvise(mmap.MADV_WILLNEED, begin, end - begin)


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
