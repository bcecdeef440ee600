"""The reference engine: numpy alone, by blocks, in bounded memory.

A block of rows is multiplied by BLAS in float32; rows that reach the running threshold are held as
candidates and scored by the definition at the end. There is no n-long array and no n-long sort.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resizable_search.scan.base import View, margin
from resizable_search.topk import Top, gather, select

BLOCK_ROWS = 1 << 16
"""The most rows of a block: enough that BLAS's threads seldom meet, few enough that memory stays bounded."""

BLOCK_SCORES = 1 << 21
"""The most scores (queries x rows) that one block may make: 8 MB."""


@dataclass(slots=True)
class _Pool:
    """The candidates of one query so far, and the fast score below which nothing can matter."""

    k: int
    slack: float
    threshold: np.float32 = np.float32(-np.inf)
    scores: list[NDArray[np.float32]] = field(default_factory=list)
    rows: list[NDArray[np.int64]] = field(default_factory=list)
    size: int = 0

    def add(self, scores: NDArray[np.float32], start: int, allowed: NDArray[np.bool_] | None) -> None:
        """Take from one block's fast scores those that reach the threshold."""
        if allowed is None and not self.rows:
            self.threshold = self.bound(scores)  # so that the first block is not taken whole
        reach = scores >= self.threshold
        if allowed is not None:
            reach &= allowed
        found = reach.nonzero()[0]
        if not len(found):
            return
        self.scores.append(scores[found])
        self.rows.append(found + start)
        self.size += len(found)
        if self.size > 4 * self.k + 256:
            self.shrink()

    def shrink(self) -> None:
        """Raise the threshold to what the k-th best fast score allows, and drop what is below it."""
        scores, rows = np.concatenate(self.scores), np.concatenate(self.rows)
        self.threshold = max(self.threshold, self.bound(scores))
        kept = scores >= self.threshold
        self.scores, self.rows, self.size = [scores[kept]], [rows[kept]], int(kept.sum())

    def bound(self, scores: NDArray[np.float32]) -> np.float32:
        """The fast score below which no row matters, judged by some rows' fast scores alone."""
        if len(scores) <= self.k:
            return np.float32(-np.inf)
        kth = np.partition(scores, len(scores) - self.k)[len(scores) - self.k]
        below: np.float32 = np.nextafter(np.float32(float(kth) - self.slack), np.float32(-np.inf))
        return below

    def candidates(self) -> NDArray[np.int64]:
        """The rows that may belong to the answer, ascending, so that a file is read forwards."""
        if not self.rows:
            return np.empty(0, np.int64)
        self.shrink()
        return self.rows[0]


class NumpyEngine:
    """Blocks of `rows @ query` with proven margins; see `scan.base` for the contract."""

    name = "numpy"

    def top(self, view: View, queries: NDArray[np.float32], k: int) -> Top:
        """The k best rows of `view` for each of the queries (m, dim) float32."""
        n, m = len(view.stored), len(queries)
        cut = view.stored[:, : view.dim]
        pools = [_Pool(k, 2 * margin(view)) for _ in range(m)]
        most = max(256, min(BLOCK_ROWS, BLOCK_SCORES // max(1, m)))
        blocks = max(1, math.ceil(n / most))
        step = max(1, math.ceil(n / blocks))  # of one size: a short last block would cost nearly as much
        held = np.empty(m * step, np.float32)
        for start in range(0, n, step):
            stop = min(start + step, n)
            scores = held[: m * (stop - start)].reshape(m, stop - start)
            if m > 1:
                np.matmul(queries, cut[start:stop].T, out=scores)
            else:
                np.matmul(cut[start:stop], queries[0], out=scores[0])
            if view.scale is not None:
                scores *= view.scale[start:stop]
            allowed = None if view.allowed is None else view.allowed[start:stop]
            for pool, row in zip(pools, scores, strict=True):
                pool.add(row, start, allowed)
        found = []
        for pool, query in zip(pools, queries, strict=True):
            rows = np.union1d(pool.candidates(), view.doubtful)
            found.append(select(view.defined_scores(query, rows), rows, k))
        return gather(found, k)
