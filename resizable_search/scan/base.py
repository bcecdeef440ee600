"""What a scan engine does, and the margins that make a fast scan exact.

An engine looks through the rows of one part at one dimension and finds, for each query, the k best
by the defined score: the dot product of the stored float32 row and the normalised float32 query,
accumulated by `vectors.lane_sum` and rounded to float32; ties by lower row. Every engine gives the
same rows, scores and order as every other, for one query or many.

An engine may use any fast arithmetic to choose candidates, as long as what it leaves out is proven
not to belong to the answer. With a fast score a of a row whose defined score is t, and |a - t| <= e
for every row: k rows have a fast score of at least A, the k-th best, so the k-th best t is at least
A - e, and a row with a < A - 2e cannot be among the k best nor tie with them. The engine scores the
others by the definition.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resizable_search import vectors
from resizable_search.topk import Top

FLOAT32_UNIT = 2.0**-24
"""Half the distance from 1 to the next float32: the relative error of one rounding."""

SHORT = 1e-30
"""The length of a cut row from which products of it are safely above float32's smallest numbers."""


@dataclass(frozen=True, slots=True)
class View:
    """The rows of one part as a scan at `dim` sees them.

    `stored` is the file's (n, width) float32 array, width >= dim, its rows of norm 1 or 0. Where dim
    is smaller than width the rows meant are `truncate(stored, dim)`, which are not kept: `scale` (n,)
    float32 holds the reciprocal length of each cut row, near enough for candidates. `allowed` (n,)
    bool, if given, says which rows a fast scan may find; `doubtful` (c,) int64 are further rows, too
    short at this dimension for float32, which are always scored by the definition.
    """

    stored: NDArray[np.float32]
    dim: int
    scale: NDArray[np.float32] | None = None
    allowed: NDArray[np.bool_] | None = None
    doubtful: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    @classmethod
    def of(cls, stored: NDArray[np.float32], dim: int, allowed: NDArray[np.bool_] | None = None) -> "View":
        """A view of (n, width) stored rows at dim <= width; one pass over them if dim < width."""
        if dim == stored.shape[1]:
            return cls(stored, dim, None, allowed)
        scale, doubtful = reciprocal_lengths(stored, dim)
        if len(doubtful):
            allowed = np.ones(len(stored), bool) if allowed is None else allowed.copy()
            found = doubtful[allowed[doubtful]]
            allowed[doubtful] = False
            doubtful = found
        return cls(stored, dim, scale, allowed, doubtful)

    def rows(self, where: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows at `where` (c,), as they are defined at this dimension: (c, dim) float32."""
        chosen = self.stored[where]
        return chosen if self.scale is None else vectors.truncate(chosen, self.dim)

    def defined_scores(self, query: NDArray[np.float32], where: NDArray[np.int64]) -> NDArray[np.float32]:
        """The defined score of one query (dim,) against the rows `where`, in ranges of bounded memory."""
        out = np.empty(len(where), np.float32)
        for start, stop in vectors.spans(len(where), self.stored.shape[1]):
            out[start:stop] = vectors.dot(self.rows(where[start:stop]), query)
        return out


class Engine(Protocol):
    """Finds the best rows of one part."""

    name: str

    def top(self, view: View, queries: NDArray[np.float32], k: int) -> Top:
        """The k best rows of `view` for each of the queries (m, dim) float32, unit rows; k >= 1.

        Where the view allows fewer than k rows, the rest is row -1, score -inf.
        """


def margin(view: View) -> float:
    """The most by which a float32 dot product may miss the defined score of a row of this view.

    gamma_d = d u / (1 - d u) bounds any order of summation, fused or not, times the norms of row and
    query (N. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1); a few
    roundings more are the defined score's own, the rounded row and the scale. The scale's sum of
    squares is in float32 too, which costs another gamma_d. What float32 loses below its smallest normal
    number is at most 2^-149 a term, times a scale of at most 1 / SHORT: less than 1e-12.
    """
    terms = (view.dim + 8) * (1 if view.scale is None else 2)
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
