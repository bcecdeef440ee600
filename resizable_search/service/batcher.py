"""Queries of one index that arrive together are answered by one scan."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import RsearchError
from resizable_search.search.index import Index
from resizable_search.search.results import Answer, SearchOptions
from resizable_search.service.index_pool import IndexPool
from resizable_search.store.filter import Selection

MOST_TOGETHER = 64
"""Queries of one scan: more would save nothing, and make the first wait for the last."""


class MovedError(RsearchError):
    """The index was replaced: embed the text, and evaluate the filter, again."""


Outcome = Answer | BaseException
Selected = tuple[Index, Selection | None]
"""An index, and its rows that match a filter."""


@dataclass(frozen=True, slots=True)
class PendingQuery:
    """A text with its vector (full_dim,), which the embedder `fingerprint` made in `seconds`.

    `selected`: the rows that match the options' filter; evaluating it here would delay everybody.
    `future`: receives the answer.
    """

    text: str
    vector: NDArray[np.float32]
    fingerprint: str
    seconds: float
    options: SearchOptions
    selected: Selected | None = None
    future: "Future[Answer]" = field(default_factory=Future)
    since: float = field(default_factory=time.perf_counter)


class Batcher:
    """Answers the queries of one index in their order, on a thread of its own.

    There it calls `observe` with the index's name and the seconds that each query of a scan has waited.
    """

    def __init__(
        self,
        pool: IndexPool,
        name: str,
        observe: Callable[[str, Sequence[float]], None] = lambda name, waited: None,
    ) -> None:
        self._pool = pool
        self._name = name
        self._observe = observe
        self._queue: SimpleQueue[PendingQuery | None] = SimpleQueue()
        threading.Thread(target=self._work, name=f"batcher of {name}", daemon=True).start()

    def put(self, queries: Iterable[PendingQuery]) -> None:
        """Queue queries."""
        for query in queries:
            self._queue.put(query)

    def close(self) -> None:
        """Answer the queued queries, then end the thread."""
        self._queue.put(None)

    def _work(self) -> None:
        while (query := self._queue.get()) is not None:
            batch = [query]
            try:
                while len(batch) < MOST_TOGETHER:
                    more = self._queue.get_nowait()
                    if more is None:
                        self._queue.put(None)
                        break
                    batch.append(more)
            except Empty:
                pass
            begin = time.perf_counter()
            self._observe(self._name, [begin - query.since for query in batch])
            for query, outcome in self._outcomes(batch):
                if not query.future.set_running_or_notify_cancel():  # the caller has gone
                    continue
                if isinstance(outcome, BaseException):
                    query.future.set_exception(outcome)
                else:
                    query.future.set_result(outcome)

    def _outcomes(self, batch: Sequence[PendingQuery]) -> list[tuple[PendingQuery, Outcome]]:
        groups: dict[SearchOptions, list[PendingQuery]] = {}
        for query in batch:
            groups.setdefault(query.options, []).append(query)
        outcomes: list[tuple[PendingQuery, Outcome]] = []
        try:
            with self._pool.lend(self._name) as index:
                for options, queries in groups.items():
                    outcomes += zip(queries, self._answers(index, options, queries), strict=True)
        except Exception as error:  # the index cannot be opened
            return [(query, error) for query in batch]
        return outcomes

    def _answers(
        self, index: Index, options: SearchOptions, queries: Sequence[PendingQuery]
    ) -> Sequence[Outcome]:
        if any(query.fingerprint != index.fingerprint for query in queries):
            return [MovedError(f"{self._name} has another embedder now: ask again")] * len(queries)
        selection = None
        if options.where is not None:
            if any(query.selected is None or query.selected[0] is not index for query in queries):
                return [MovedError(f"{self._name} has changed: ask again")] * len(queries)
            selection = queries[0].selected[1] if queries[0].selected else None
        try:
            return search_together(index, queries, selection)
        except Exception as error:
            return [error] * len(queries)


def search_together(
    index: Index, queries: Sequence[PendingQuery], selection: Selection | None
) -> list[Answer]:
    """The answers to queries of the same options."""
    return index.search_vectors(
        [query.text for query in queries],
        np.stack([query.vector for query in queries]),
        queries[0].options,
        selection,
        [query.seconds for query in queries],
    )
