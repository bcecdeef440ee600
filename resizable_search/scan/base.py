"""What a scan engine does, and the margins that make a fast scan exact.

An engine looks through the rows of one part at one dimension and finds, for each query, the best by
the scores of one precision. Every engine gives the same rows, scores and order as every other, for
one query or many, on one thread or many: ties go to the lower row, and each score has one value.

- `exact` and `float32`: the dot product of the stored float32 row and the normalised float32 query,
  accumulated by `vectors.lane_sum` and rounded to float32: the defined score.
- `int8`: a sum of integers times the row's step (`quantise`), rounded to float32.
- `bits`: of the first `dim` signs, how many agree less how many do not, as float32.

For `exact` and `float32` an engine may use any fast arithmetic to choose candidates, as long as what
it leaves out is proven not to belong to the answer. With a fast score a of a row whose defined score
is t, and |a - t| <= e: k rows have a - e of at least L, the k-th best of these, so the k-th best t is
at least L, and a row with a + e < L cannot be among the k best nor tie with them. The engine scores
the others by the definition. For a float32 product e is `margin`, the same for every row; for int8 it
is `Slack`, from the row's own error. `float32` reads the floats; `exact` is whatever is fastest.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from resizable_search import vectors
from resizable_search.errors import UsageError
from resizable_search.plan import Precision
from resizable_search.quantise import WORD, IntegerQueries, Tier
from resizable_search.topk import Top

FLOAT32_UNIT = 2.0**-24
"""Half the distance from 1 to the next float32: the relative error of one rounding."""

SHORT = 1e-30
"""The length of a cut row from which products of it are safely above float32's smallest numbers."""

TOO_MANY = 0.05
"""Of a part's rows: where more survive the int8 scan, reading the floats costs less than scoring them."""


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


@dataclass(frozen=True, slots=True)
class Found:
    """What a look through rows of one part found, and what it took.

    `looked` counts, over all queries, the rows whose defined score was computed; `read` the bytes of
    files that one query looked at, those rows apart; `by` says what was read: `float32`, `int8` or `bits`.
    """

    top: Top
    looked: int
    read: int
    by: str


class Engine(Protocol):
    """Finds the best rows of one part."""

    name: str

    def scan(self, view: View, precision: Precision, queries: NDArray[np.float32], k: int) -> Found:
        """The k best rows of `view` for each of the queries (m, dim) float32, unit rows; k >= 1.

        Where the view allows fewer than k rows, the rest is row -1, score -inf.
        """

    def scan_parts(
        self, views: Sequence[View], precision: Precision, queries: NDArray[np.float32], k: int
    ) -> "list[Found]":
        """As `scan`, of every part of an index: what each finds has all its rows among the k best of all.

        It may lack others, and have up to k columns, whatever the part's rows.
        """

    def rescore(
        self,
        view: View,
        precision: Precision,
        queries: NDArray[np.float32],
        rows: NDArray[np.int64],
        first: int,
        k: int,
    ) -> Found:
        """The k best of each query's own rows (m, c) int64, ascending, that lie in this view.

        Row `first` is the view's first; rows outside it, and -1, are passed over.
        """

    def scan_and_rescore(
        self,
        bits: View,
        keep: int,
        exact: View,
        queries: NDArray[np.float32],
        k: int,
    ) -> tuple[Found, Found, float] | None:
        """A scan of sign bits and an exact rescore of what it keeps, as one; None: do them one by one.

        `bits` and `exact` are views of the same rows, `queries` (m, width) float32. What the first keeps
        is not told (its `top` is empty); the number is the seconds that it took.
        """

    def truncate(self, rows: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
        """`vectors.truncate` of queries (m, width) float32: (m, dim) float32."""


def rescored(view: View, precision: Precision, rows: NDArray[np.int64], first: int, top: Top) -> Found:
    """What was found among the rows (m, c) that lie in this view, all of them scored by that precision."""
    own = rows_in(view, rows, first)
    if precision in ("exact", "float32"):
        return Found(top, own, 0, "float32")
    row_bytes = view.dim + 4 if precision == "int8" else -(-view.dim // WORD) * 8
    return Found(top, 0, own * row_bytes // len(rows), precision)


def rows_in(view: View, rows: NDArray[np.int64], first: int) -> int:
    """How many of these rows lie in this view, whose first is row `first`."""
    return int(np.count_nonzero((rows >= first) & (rows < first + len(view))))


def need_tier(view: "View") -> Tier:
    """The view's int8 tier. Raises UsageError if the index has none."""
    if view.tier is None:
        raise UsageError("this index has no int8 tier: derive it with `rsearch warm`, or use exact stages")
    return view.tier


def need_signs(view: "View") -> NDArray[np.uint64]:
    """The view's sign bits. Raises UsageError if the index has none."""
    if view.signs is None:
        raise UsageError("this index has no sign bits: derive them with `rsearch warm`, or use exact stages")
    return view.signs


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """The same numbers, not to be written through what is returned."""
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, slots=True)
class Slack:
    """How far an int8 score may be from the defined one: |a - t| <= factor x the row's error + base.

    With q̂ the query's integers and x̂ the row's: |q·x - q̂·x̂| <= |q| |x - x̂| + |q - q̂| |x̂|, and
    |x̂| <= |x| + |x - x̂|. The base also holds what the defined score loses when it is rounded to
    float32, and a few roundings of float64.
    """

    factor: NDArray[np.float64]
    base: NDArray[np.float64]

    @classmethod
    def of(cls, queries: IntegerQueries) -> "Slack":
        """The slack of each query: two (m,) float64."""
        norm = 1 + vectors.UNIT_TOLERANCE
        return cls(
            (queries.lengths + queries.errors) * (1 + 1e-9),
            queries.errors * norm + queries.lengths * norm * (FLOAT32_UNIT * 1.01) + 1e-12,
        )


def _read_only_tier(tier: Tier) -> Tier:
    return Tier(read_only(tier.codes), read_only(tier.steps), read_only(tier.errors), tier.dim)


def margin(view: View) -> float:
    """The most by which a float32 dot product may miss the defined score of a row of this view.

    gamma_d = d u / (1 - d u) bounds any order of summation, fused or not, times the norms of row and
    query (N. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1); a few
    roundings more are the defined score's own, the rounded row and the scale. The scale's sum of
    squares is in float32 too, which costs another gamma_d. What float32 loses below its smallest normal
    number is at most 2^-149 a term, times a scale of at most 1 / SHORT: less than 1e-12.
    """
    terms = (view.dim + 8) * (2 if view.is_cut else 1)
    gamma = terms * FLOAT32_UNIT / (1 - terms * FLOAT32_UNIT)
    norm = 1 + vectors.UNIT_TOLERANCE
    return gamma * norm * norm + 1e-12


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
