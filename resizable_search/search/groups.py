"""Chunks grouped by document: the best chunk of each document, as deep as the search must go."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine.base import NO_ROW, Top, gather, result_width
from resizable_search.store.documents import StoredDocument

DEEPER = 4
"""Each search takes so many times the rows of the one before."""
_BATCH = 200  # documents read at once

Stats = TypeVar("Stats")
ScoredDocuments = list[tuple[float, StoredDocument]]
"""Documents with their scores, best first."""


def best_of_each_document(
    search: Callable[[int], tuple[Top, Stats]],
    documents: Callable[[Sequence[int]], Sequence[StoredDocument]],
    k: int,
    rows: int,
) -> tuple[ScoredDocuments, Stats]:
    """The best chunk of each of the best k documents (all, if there are fewer), and the last search's stats.

    `search(n)` returns the best n of the index's `rows` for one query, `documents` the documents at rows.
    Chunks whose metadata name the same document belong together; any other row is its own document.
    """
    k = min(k, rows)
    depth = min(k * DEEPER, rows)
    while True:
        top, stats = search(depth)
        best = _best(top, documents, k)
        if len(best) >= k or depth >= rows:
            return best, stats
        depth = min(depth * DEEPER, rows)


def _best(
    top: Top, documents: Callable[[Sequence[int]], Sequence[StoredDocument]], k: int
) -> ScoredDocuments:
    best: dict[str, tuple[float, StoredDocument]] = {}
    for start in range(0, top.rows.shape[1], _BATCH):
        batch = slice(start, start + _BATCH)
        read = documents(top.rows[0, batch].tolist())
        for document, score in zip(read, top.scores[0, batch].tolist(), strict=False):
            best.setdefault(str(document.metadata.get("document", document.id)), (score, document))
            if len(best) == k:
                return list(best.values())
    return list(best.values())


class DocumentGroups:
    """The documents that an index's rows were cut from. A document is known by its first row.

    `names` gives the document of each row, `live_rows` the rows that are not deleted.
    """

    def __init__(self, names: Sequence[str], live_rows: NDArray[np.int64]) -> None:
        self.rows: dict[str, int] = {}
        """The first row of each document, by name."""
        self._first_rows = np.full(len(names), NO_ROW, np.int64)
        for row in live_rows.tolist():
            self._first_rows[row] = self.rows.setdefault(names[row], row)
        self._names = {row: name for name, row in self.rows.items()}

    def name(self, row: int) -> str:
        """The document with this first row."""
        return self._names[row]

    def best(self, search: Callable[[int], Top], k: int) -> Top:
        """The best chunk of each of the best k documents for each query, as first rows.

        `search(n)` returns the best n rows of each query. The result has `result_width(k, rows)` columns.
        """
        rows = len(self._first_rows)
        k = result_width(k, rows)
        depth = min(k * DEEPER, rows)
        while True:
            top = search(depth)
            best = [self._group(*each, k) for each in zip(top.scores, top.rows, strict=True)]
            if depth >= rows or all(len(first_rows) == k for _, first_rows in best):
                return gather(best, k)
            depth = min(depth * DEEPER, rows)

    def _group(
        self, scores: NDArray[np.float32], rows: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        first_rows = self._first_rows[rows[rows != NO_ROW]]
        ranks = np.sort(np.unique(first_rows, return_index=True)[1])[:k]
        return scores[ranks], first_rows[ranks]
