"""Chunks are found, documents wanted: the best chunk of each document, however deep the search must go."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine.topk import NO_ROW, Top
from resizable_search.store.documents import StoredDocument

DEEPER = 4
"""How many times as many rows each search takes as the one before it."""
_READ_AT_ONCE = 200

Runs = TypeVar("Runs")
Scored = list[tuple[float, StoredDocument]]
"""Documents with their scores, best first."""


def first_of_each(
    search: Callable[[int], tuple[Top, Runs]],
    documents: Callable[[Sequence[int]], Sequence[StoredDocument]],
    k: int,
    rows: int,
) -> tuple[Scored, Runs]:
    """The best chunk of each of the best k documents (all of them if there are fewer), best first.

    `search(n)` finds the best n of the index's `rows` for one query, and `documents` are what lies at
    some rows. Chunks that name the same document in their metadata are of one; a row without such a name
    is one by itself. Also returns how the last search went.
    """
    depth = min(k * DEEPER, max(k, rows))
    while True:
        top, runs = search(depth)
        best = _best(top, documents, k)
        if len(best) >= k or depth >= rows:
            return best, runs
        depth = min(depth * DEEPER, rows)


def _best(top: Top, documents: Callable[[Sequence[int]], Sequence[StoredDocument]], k: int) -> Scored:
    found: dict[str, tuple[float, StoredDocument]] = {}
    for start in range(0, top.rows.shape[1], _READ_AT_ONCE):
        some = slice(start, start + _READ_AT_ONCE)
        read = documents(top.rows[0, some].tolist())
        for document, score in zip(read, top.scores[0, some].tolist(), strict=False):
            found.setdefault(str(document.metadata.get("document", document.id)), (score, document))
            if len(found) == k:
                return list(found.values())
    return list(found.values())


class DocumentGroups:
    """The documents that an index's rows were cut from, each known by the first of its rows.

    `names` says for each row which document it is of, `found_rows` which rows may be found.
    """

    def __init__(self, names: Sequence[str], found_rows: NDArray[np.int64]) -> None:
        self.rows: dict[str, int] = {}
        """The first row of each document, by name."""
        self._of = np.full(len(names), NO_ROW, np.int64)
        for row in found_rows.tolist():
            self._of[row] = self.rows.setdefault(names[row], row)
        self._names = {row: name for name, row in self.rows.items()}

    def name(self, row: int) -> str:
        """The document whose first row this is."""
        return self._names[row]

    def best(self, search: Callable[[int], Top], k: int) -> Top:
        """The best chunk of each of the best k documents of each query, as rows that documents are known by.

        `search(n)` finds the best n rows of each query. As for `first_of_each`, it goes as deep as it must.
        """
        depth = min(k * DEEPER, len(self._of))
        while True:
            top = search(depth)
            found = [self._first(rows, scores, k) for rows, scores in zip(top.rows, top.scores, strict=True)]
            if depth >= len(self._of) or all(len(rows) == k for rows, _ in found):
                break
            depth = min(depth * DEEPER, len(self._of))
        best = Top(np.full((len(found), k), -np.inf, np.float32), np.full((len(found), k), NO_ROW, np.int64))
        for number, (rows, scores) in enumerate(found):
            best.rows[number, : len(rows)], best.scores[number, : len(rows)] = rows, scores
        return best

    def _first(
        self, rows: NDArray[np.int64], scores: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        documents = self._of[rows[rows != NO_ROW]]
        places = np.sort(np.unique(documents, return_index=True)[1])[:k]
        return documents[places], scores[places]
