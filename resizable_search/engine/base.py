"""What a scan engine does, the best rows it returns, and the margins that make a fast scan exact.

An engine scans the rows of all parts at one dimension and returns, for each query, the best by the scores
of one precision. Every engine gives the same rows, scores and order, for one query or many, on one thread or
many, in one part or many: higher score first, equal scores by lower row. Places without a match have row -1,
score -inf, and come last. Only rows by `1bit` have no order (`ordered`). Each score has one value:

- `exact` and `float32`: the dot product of the stored float32 row and the normalised float32 query,
  accumulated by `vectors.lane_sum` and rounded to float32: the defined score.
- `int8`: a sum of integers times the row's step (`vectors.quantise`), rounded to float32.
- `1bit`: a sum of integers times the row's factor (`short_codes.one_bit`), rounded to float32.

For `exact` and `float32` an engine may choose candidates by any fast arithmetic, if the rows it leaves out
are proven not to be in the answer. Let a be the fast score of a row, t its defined score, |a - t| <= e, and
L the k-th best a - e. Then the k-th best t is at least L, so a row with a + e < L is not among the k best
and does not tie with them. The engine rescores the other rows by the definition. For a float32 product e is
`margin`, the same for every row. For int8 it follows from the row's own error: with q̂ the query's integers
and x̂ the row's, |q·x - q̂·x̂| <= |q| |x - x̂| + |q - q̂| |x̂|, and |x̂| <= |x| + |x - x̂|. What the defined score
loses when it is rounded to float32, and a few roundings of float64, are added. `float32` reads the floats;
`exact` reads whatever is fastest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from resizable_search.engine import short_codes, vectors
from resizable_search.engine.parts import Parts, View
from resizable_search.engine.plan import Precision
from resizable_search.engine.vectors import Floats, Rows

NO_ROW = -1
PADDED_COLUMNS = 1000  # a result has k columns up to this k, however few rows there are
FLOAT32_UNIT = 2.0**-24  # half the distance from 1 to the next float32: the relative error of one rounding
TOO_MANY = 0.05  # the share of candidates from which reading all floats costs less than rescoring them


@dataclass(slots=True)
class Top:
    """The best rows of a search: `scores` (m, k) float32 and `rows` (m, k) int64, best first.

    `ranks` (m, k, 2) int64 if words counted: each row's rank by meaning and by words, from 1; 0 if it is
    not among the best there. `missing`: the parts of the index that were not searched, and why.
    """

    scores: Floats
    rows: Rows
    ranks: Rows | None = None
    missing: Sequence[str] = ()


def result_width(k: int, rows: int) -> int:
    """The columns of a result for k hits: at most the rows or PADDED_COLUMNS, which bounds its memory."""
    return min(k, max(rows, PADDED_COLUMNS))


def select(scores: Floats, rows: Rows, k: int) -> tuple[Floats, Rows]:
    """The best min(k, n) of n scores (n,) float32 and their rows (n,) int64, in order."""
    if 0 < k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        reach = np.flatnonzero(scores >= least)
        scores, rows = scores[reach], rows[reach]
    order = np.lexsort((rows, -scores))[:k]
    return scores[order], rows[order]


def room_for(queries: int, k: int) -> Top:
    """Room for the k best rows of each query."""
    return Top(np.empty((queries, k), np.float32), np.empty((queries, k), np.int64))


def gather(best: Sequence[tuple[Floats, Rows]], k: int) -> Top:
    """One `Top` of m queries, from each query's own scores and rows (at most k, in order)."""
    top = room_for(len(best), k)
    top.scores[:], top.rows[:] = -np.inf, NO_ROW
    for i, (scores, rows) in enumerate(best):
        top.scores[i, : len(scores)], top.rows[i, : len(rows)] = scores, rows
    return top


def without(top: Top, skip: Rows, k: int) -> Top:
    """The k best of more rows without one row a query, `skip` (m,)."""
    stays = top.rows != skip[:, None]
    order = np.argsort(~stays, axis=1, kind="stable")[:, :k]
    scores, rows = np.where(stays, top.scores, -np.inf), np.where(stays, top.rows, NO_ROW)
    return Top(np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1))


def ordered(top: Top) -> Top:
    """The same rows, best first."""
    order = np.lexsort((top.rows, -top.scores))
    return Top(np.take_along_axis(top.scores, order, 1), np.take_along_axis(top.rows, order, 1))


@dataclass(slots=True)
class ScanResult:
    """The best rows of a scan, and what it did.

    `rescored`: the rows whose defined score was computed, over all queries. `read`: bytes of files that one
    query read, apart from those rows. `by`: what was read: `float32`, `int8`, `4bit` or `1bit`.
    `missing`: which parts were left out, and why.
    """

    top: Top
    rescored: int
    read: int
    by: str
    missing: Sequence[str] = ()


Timed = Sequence[tuple[ScanResult, float]]  # what each stage of a plan did, and its seconds
Narrowing = Callable[[Floats], Timed | None]  # of a raw query (1, width) float32; None if it is not finite


class Engine(Protocol):
    """Finds the best rows of an index; scans all its parts together."""

    name: str

    def scan(self, parts: Parts, queries: Floats, precision: Precision, k: int) -> ScanResult:
        """The k best rows for each of the queries (m, dim) float32, unit rows; k >= 1."""

    def rescore(self, parts: Parts, queries: Floats, precision: Precision, rows: Rows, k: int) -> ScanResult:
        """The k best of each query's own rows (m, c) int64, ascending. Rows of no part are skipped."""

    def narrowing(self, parts: Parts, keep: int, later: Parts, k: int) -> Narrowing | None:
        """Runs a plan `dim:1bit:keep,dim` for k hits as `scan` and `rescore` do; None if not faster."""
        return None

    def truncate(self, rows: Floats, dim: int) -> Floats:
        """`vectors.truncate_queries` of (m, width) float32: (m, dim) float32."""


def rescore_result(dim: int, precision: Precision, count: int, top: Top) -> ScanResult:
    """The result `top` of a rescore that scored so many rows in all by that precision."""
    if precision in ("exact", "float32"):
        return ScanResult(top, count, 0, "float32")
    return ScanResult(top, 0, count * row_bytes(dim, precision) // len(top.rows), precision)


def row_bytes(dim: int, precision: str) -> int:
    """The bytes that a scan by `float32`, `int8`, `4bit` or `1bit` reads of each row."""
    if precision == "1bit":
        return short_codes.HEAD + -(-dim // 8)
    if precision == "4bit":
        return short_codes.four_bit_width(dim) + 8
    return dim + 4 if precision == "int8" else 4 * dim


def margin(view: View) -> float:
    """The largest difference of a float32 dot product and the defined score, for any row of this view.

    gamma_d = d u / (1 - d u) bounds any order of summation, fused or not, times the norms of row and
    query (N. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1). A few more
    roundings are those of the defined score, the rounded row and the scale. The scale's sum of squares is in
    float32 too, which costs another gamma_d. What float32 loses below its smallest normal number is at most
    2^-149 a term, times a scale of at most 1 / SHORT: less than 1e-12.
    """
    terms = (view.dim + 8) * (2 if view.is_cut else 1)
    gamma = terms * FLOAT32_UNIT / (1 - terms * FLOAT32_UNIT)
    norm = 1 + vectors.UNIT_TOLERANCE
    return gamma * norm * norm + 1e-12
