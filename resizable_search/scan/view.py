"""The rows of one part as a scan at one dimension sees them."""

import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search import vectors
from resizable_search.errors import UsageError
from resizable_search.quantise import Tier

SHORT = 1e-30
"""The length of a cut row from which products of it are safely above float32's smallest numbers."""


@dataclass(frozen=True, slots=True)
class Reciprocals:
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
    def reciprocals(self) -> Reciprocals:
        """For a float32 scan: made by one pass over the rows if the dimension is not stored, and kept."""
        with self._lock:
            return self._reciprocals

    @cached_property
    def _reciprocals(self) -> Reciprocals:
        if not self.is_cut:
            return Reciprocals(None, self.allowed)
        scale, doubtful = reciprocal_lengths(self.stored, self.dim)
        allowed = self.allowed
        if len(doubtful):
            allowed = np.ones(len(self), bool) if allowed is None else allowed.copy()
            found = doubtful[allowed[doubtful]]
            allowed[doubtful] = False
            doubtful = found
        return Reciprocals(scale, allowed, doubtful)

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
    def reciprocals(self) -> Reciprocals:
        near = self._other.reciprocals
        if self.allowed is None or not len(near.doubtful):
            return Reciprocals(near.scale, self.allowed)
        doubtful = near.doubtful[self.allowed[near.doubtful]]
        allowed = self.allowed.copy()
        allowed[doubtful] = False
        return Reciprocals(near.scale, allowed, doubtful)

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
