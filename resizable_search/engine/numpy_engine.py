"""The reference engine: numpy alone, by blocks, in bounded memory.

BLAS multiplies a block of rows in float32; rows that reach the running threshold become candidates, and are
rescored by the definition at the end. There is no n-long array and no n-long sort. It reads the floats for
`exact` too: BLAS has no int8, and the conversion costs what int8 would gain.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine import short_codes, vectors
from resizable_search.engine.base import Engine, ScanResult, gather, margin, rescore_result, row_bytes, select
from resizable_search.engine.parts import Parts
from resizable_search.engine.plan import Precision
from resizable_search.engine.vectors import Floats, Rows

BLOCK_ROWS = 1 << 16  # at most in a block: BLAS's threads seldom wait, and memory stays bounded
BLOCK_SCORES = 1 << 21  # queries x rows of a block at most: 8 MB

# Scores rows of a part, a slice or numbers (c,), for some of the queries: (queries, c) float32.
Scorer = Callable[[slice, int, Any], Floats]
# Scores the rows start … stop - 1 of a part for all queries: (part, start, stop, out).
Products = Callable[[int, int, int, Floats], None]


@dataclass(slots=True)
class _Candidates:
    """The candidates of one query so far, and the fast score below which no row matters."""

    k: int
    error: float
    threshold: np.float32 = np.float32(-np.inf)
    scores: list[Floats] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
    size: int = 0

    def add(self, scores: Floats, start: int, allowed: NDArray[np.bool_] | None) -> None:
        """Add the rows of one block whose fast scores reach the threshold."""
        if allowed is None and not self.rows:
            self.threshold = self.bound(scores)  # so that the first block is not taken whole
        reach = scores >= self.threshold
        if allowed is not None:
            reach &= allowed
        rows = reach.nonzero()[0]
        if not len(rows):
            return
        self.scores.append(scores[rows])
        self.rows.append(rows + start)
        self.size += len(rows)
        if self.size > 4 * self.k + 256:
            self.shrink()

    def shrink(self) -> None:
        """Raise the threshold to what the k-th best fast score allows, and drop what is below it."""
        if not self.rows:
            return
        scores, rows = np.concatenate(self.scores), np.concatenate(self.rows)
        self.threshold = max(self.threshold, self.bound(scores))
        reach = scores >= self.threshold
        self.scores, self.rows, self.size = [scores[reach]], [rows[reach]], int(reach.sum())

    def bound(self, scores: Floats) -> np.float32:
        """The fast score below which no row matters, as far as these scores tell."""
        if len(scores) <= self.k:
            return np.float32(-np.inf)
        kth = np.partition(scores, len(scores) - self.k)[len(scores) - self.k]
        if self.error == 0.0:
            return np.float32(kth)
        return np.float32(np.nextafter(np.float32(float(kth) - self.error), np.float32(-np.inf)))

    def final_rows(self) -> Rows:
        """The rows that may be in the answer, ascending, so that a file is read forwards."""
        self.shrink()
        return self.rows[0] if self.rows else np.empty(0, np.int64)

    def best(self) -> tuple[Floats, Rows]:
        """The k best, if the fast scores are the precision's own."""
        rows = self.final_rows()
        return select(self.scores[0] if len(rows) else np.empty(0, np.float32), rows, self.k)


class NumpyEngine(Engine):
    """Blocks of products with proven margins; see `engine.base` for the contract."""

    name = "numpy"

    def scan(self, parts: Parts, queries: Floats, precision: Precision, k: int) -> ScanResult:
        """The k best rows for each of the queries (m, dim) float32."""
        if precision in ("exact", "float32"):
            return self._scan_float32(parts, queries, k)
        score, everything = _scorer(parts, queries, precision), slice(0, len(queries))

        def products(part: int, start: int, stop: int, scores: Floats) -> None:
            scores[:] = score(everything, part, slice(start, stop))

        best = [own.best() for own in _scan_blocks(parts, len(queries), k, 0.0, products)]
        return ScanResult(gather(best, k), 0, len(parts) * row_bytes(parts.dim, precision), precision)

    def rescore(self, parts: Parts, queries: Floats, precision: Precision, rows: Rows, k: int) -> ScanResult:
        """The k best of each query's own rows (m, c) int64, ascending."""
        score = _scorer(parts, queries, precision)

        def scores_of(i: int, here: Rows) -> Floats:
            return parts.each(here, lambda part, own: score(slice(i, i + 1), part, own)[0])

        best, scored = [], 0
        for i, own in enumerate(rows):
            here = own[(own >= 0) & (own < len(parts))]
            best.append(select(scores_of(i, here), here, k))
            scored += len(here)
        return rescore_result(parts.dim, precision, scored, gather(best, k))

    def truncate(self, rows: Floats, dim: int) -> Floats:
        """`vectors.truncate_queries`."""
        return vectors.truncate_queries(rows, dim)

    def _scan_float32(self, parts: Parts, queries: Floats, k: int) -> ScanResult:
        scales, short = zip(*[view.scale_and_short for view in parts.views], strict=True)
        cut = [view.stored[:, : view.dim] for view in parts.views]

        def products(part: int, start: int, stop: int, scores: Floats) -> None:
            if len(queries) > 1:
                np.matmul(queries, cut[part][start:stop].T, out=scores)
            else:
                np.matmul(cut[part][start:stop], queries[0], out=scores[0])
            if scales[part] is not None:
                scores *= scales[part][start:stop]
                begin, end = np.searchsorted(short[part], (start, stop))
                scores[:, short[part][begin:end] - start] = -np.inf  # these are rescored anyway

        candidates = _scan_blocks(parts, len(queries), k, 2 * margin(parts.views[0]), products)
        doubtful = [
            start + (rows if mask is None else rows[mask[rows]])
            for start, rows, mask in zip(parts.starts, short, parts.masks, strict=True)
        ]
        best, rescored = [], 0
        for own, query in zip(candidates, queries, strict=True):
            rows = np.unique(np.concatenate([own.final_rows(), *doubtful]))
            rescored += len(rows)
            best.append(select(parts.defined_scores(query, rows), rows, k))
        read = len(parts) * row_bytes(parts.dim, "float32")
        return ScanResult(gather(best, k), rescored, read, "float32")


def _scorer(parts: Parts, queries: Floats, precision: Precision) -> Scorer:
    """The scores of a precision."""
    if precision in ("exact", "float32"):

        def defined(some: slice, part: int, rows: Any) -> Floats:
            return np.stack([parts.views[part].defined_scores(query, rows) for query in queries[some]])

        return defined
    if precision == "int8":
        tiers, (integers, units) = [view.tier for view in parts.views], vectors.quantise_queries(queries)
        # Sums of integers below 2^53 are exact in float64, in whatever order BLAS takes them.
        wide = integers[:, : parts.dim].astype(np.float64)

        def in_int8(some: slice, part: int, rows: Any) -> Floats:
            tier = tiers[part]
            sums: NDArray[np.float64] = wide[some] @ tier.codes[rows, : parts.dim].astype(np.float64).T
            sums *= tier.steps[rows].astype(np.float64)
            sums *= units[some, None]
            return sums.astype(np.float32)

        return in_int8
    codes = [view.codes for view in parts.views]
    small = short_codes.small_queries(queries).astype(np.float32)

    def in_one_bit(some: slice, part: int, rows: Any) -> Floats:
        return short_codes.one_bit_scores(small[some], codes[part], rows)

    return in_one_bit


def _scan_blocks(parts: Parts, m: int, k: int, error: float, products: Products) -> list[_Candidates]:
    """Score all rows for m queries block by block, and collect each query's candidates over all parts."""
    candidates = [_Candidates(k, error) for _ in range(m)]
    most = max(256, min(BLOCK_ROWS, BLOCK_SCORES // max(1, m)))
    # Blocks of one size: a short last block would cost nearly as much as a whole one.
    steps = [max(1, math.ceil(len(view) / max(1, math.ceil(len(view) / most)))) for view in parts.views]
    buffer = np.empty(m * max(steps), np.float32)
    for part, (view, first, step) in enumerate(zip(parts.views, parts.starts, steps, strict=True)):
        mask = parts.masks[part]
        for start in range(0, len(view), step):
            stop = min(start + step, len(view))
            scores = buffer[: m * (stop - start)].reshape(m, stop - start)
            products(part, start, stop, scores)
            own_mask = None if mask is None else mask[start:stop]
            for own, own_scores in zip(candidates, scores, strict=True):
                own.add(own_scores, first + start, own_mask)
    return candidates
