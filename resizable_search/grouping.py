"""Chunks are found, documents wanted: the best chunk of each document, however deep the search must go."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from resizable_search.index.documents import StoredDocument
from resizable_search.topk import Top

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
