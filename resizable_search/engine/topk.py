"""The best k of a block of scores, and the merge of partial results.

One order rules everywhere: higher score first, equal scores by lower row. A place that nothing
fills has row -1 and score -inf, and comes last.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_ROW = -1
PADDED = 1000
"""A result has k columns up to this k, however few rows there are."""


@dataclass(frozen=True, slots=True)
class Top:
    """The best rows of a search: `scores` (m, k) float32 and `rows` (m, k) int64, best first."""

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]

    def merge(self, other: "Top", k: int) -> "Top":
        """The best k of both, for the same m queries over different rows."""
        return merge([self, other], k)


def result_width(k: int, rows: int) -> int:
    """The columns of a result for k hits among so many rows: k, but no more than both `rows` and `PADDED`.

    So the memory of a result is bounded by the rows, not by k.
    """
    return min(k, max(rows, PADDED))


def select(scores: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> tuple[
    NDArray[np.float32], NDArray[np.int64]
]:  # fmt: skip
    """The best min(k, n) of n scores (n,) float32 and their rows (n,) int64, in order."""
    if 0 < k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        kept = np.flatnonzero(scores >= least)
        scores, rows = scores[kept], rows[kept]
    order = np.lexsort((rows, -scores))[:k]
    return scores[order], rows[order]


def gather(found: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]], k: int) -> Top:
    """One `Top` of m queries, from each query's own scores and rows (at most k, in order)."""
    scores = np.full((len(found), k), -np.inf, np.float32)
    rows = np.full((len(found), k), NO_ROW, np.int64)
    for i, (best, where) in enumerate(found):
        scores[i, : len(best)] = best
        rows[i, : len(where)] = where
    return Top(scores, rows)


def merge(parts: Sequence[Top], k: int) -> Top:
    """The best k over partial results for the same m queries, each over rows of its own."""
    if not parts:
        raise ValueError("there is nothing to merge")
    scores = np.concatenate([part.scores for part in parts], axis=1)
    rows = np.concatenate([part.rows for part in parts], axis=1)
    found = []
    for i in range(len(scores)):
        real = rows[i] != NO_ROW
        found.append(select(scores[i][real], rows[i][real], k))
    return gather(found, k)
