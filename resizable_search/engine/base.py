"""What a scan engine does, and the margins that make a fast scan exact.

An engine looks through the rows of all parts at one dimension and finds, for each query, the best by
the scores of one precision. Every engine gives the same rows, scores and order as every other, for
one query or many, on one thread or many, in one part or many: ties go to the lower row, and each score
has one value.

- `exact` and `float32`: the dot product of the stored float32 row and the normalised float32 query,
  accumulated by `vectors.lane_sum` and rounded to float32: the defined score.
- `int8`: a sum of integers times the row's step (`quantise`), rounded to float32.
- `bits`: of the first `dim` signs, how many agree less how many do not, as float32.

For `exact` and `float32` an engine may use any fast arithmetic to choose candidates, as long as what
it leaves out is proven not to belong to the answer. With a fast score a of a row whose defined score
is t, and |a - t| <= e: k rows have a - e of at least L, the k-th best of these, so the k-th best t is
at least L, and a row with a + e < L cannot be among the k best nor tie with them. The engine scores
the others by the definition. For a float32 product e is `margin`, the same for every row; for int8 it
is `ErrorBound`, from the row's own error. `float32` reads the floats; `exact` is whatever is fastest.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine import vectors
from resizable_search.engine.parts import Parts, View
from resizable_search.engine.plan import Precision
from resizable_search.engine.quantise import WORD, IntegerQueries
from resizable_search.engine.topk import Top

FLOAT32_UNIT = 2.0**-24
"""Half the distance from 1 to the next float32: the relative error of one rounding."""

TOO_MANY = 0.05
"""Of all rows: where more survive the int8 scan, reading the floats costs less than scoring them."""


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a look through rows found, and what it took.

    `looked` counts, over all queries, the rows whose defined score was computed; `read` the bytes of
    files that one query looked at, those rows apart; `by` says what was read: `float32`, `int8` or `bits`.
    """

    top: Top
    looked: int
    read: int
    by: str


class Engine(Protocol):
    """Finds the best rows of an index, all of whose parts are looked through together."""

    name: str

    def scan(self, parts: Parts, precision: Precision, queries: NDArray[np.float32], k: int) -> ScanResult:
        """The k best rows for each of the queries (m, dim) float32, unit rows; k >= 1.

        Where fewer than k rows are allowed, the rest is row -1, score -inf.
        """

    def rescore(
        self,
        parts: Parts,
        precision: Precision,
        queries: NDArray[np.float32],
        rows: NDArray[np.int64],
        k: int,
    ) -> ScanResult:
        """The k best of each query's own rows (m, c) int64, ascending; rows of no part are passed over."""

    def scan_and_rescore(
        self,
        bits: Parts,
        keep: int,
        exact: Parts,
        queries: NDArray[np.float32],
        k: int,
    ) -> tuple[ScanResult, ScanResult, float] | None:
        """A scan of sign bits and an exact rescore of what it keeps, as one; None: do them one by one.

        `bits` and `exact` are of the same rows, `queries` (m, width) float32. What the first keeps is not
        told (its `top` is empty); the number is the seconds that it took.
        """

    def truncate(self, rows: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
        """`vectors.truncate` of queries (m, width) float32: (m, dim) float32."""


def rescored(parts: Parts, precision: Precision, rows: NDArray[np.int64], top: Top) -> ScanResult:
    """What was found among the rows (m, c), all of those in these parts scored by that precision."""
    own = rows_in(parts, rows)
    if precision in ("exact", "float32"):
        return ScanResult(top, own, 0, "float32")
    row_bytes = parts.dim + 4 if precision == "int8" else -(-parts.dim // WORD) * 8
    return ScanResult(top, 0, own * row_bytes // len(rows), precision)


def rows_in(parts: Parts, rows: NDArray[np.int64]) -> int:
    """How many of these rows lie in these parts."""
    return int(np.count_nonzero((rows >= parts.starts[0]) & (rows < parts.stop)))


@dataclass(frozen=True, slots=True)
class ErrorBound:
    """How far an int8 score may be from the defined one: |a - t| <= factor x the row's error + base.

    With q̂ the query's integers and x̂ the row's: |q·x - q̂·x̂| <= |q| |x - x̂| + |q - q̂| |x̂|, and
    |x̂| <= |x| + |x - x̂|. The base also holds what the defined score loses when it is rounded to
    float32, and a few roundings of float64.
    """

    factor: NDArray[np.float64]
    base: NDArray[np.float64]

    @classmethod
    def of(cls, queries: IntegerQueries) -> "ErrorBound":
        """The slack of each query: two (m,) float64."""
        norm = 1 + vectors.UNIT_TOLERANCE
        return cls(
            (queries.lengths + queries.errors) * (1 + 1e-9),
            queries.errors * norm + queries.lengths * norm * (FLOAT32_UNIT * 1.01) + 1e-12,
        )


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
