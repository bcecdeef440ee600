"""Queries of one index that arrive together are answered by one scan."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import RsearchError
from resizable_search.search.index import Index
from resizable_search.search.planning import SearchOptions
from resizable_search.search.results import Answer
from resizable_search.service.index_pool import IndexPool
from resizable_search.store.filter import Selection

MOST_TOGETHER = 64  # queries of one scan: more would save nothing, and make the first wait for the last


class MovedError(RsearchError):
    """The index was replaced: embed the text, and evaluate the filter, again."""


@dataclass(slots=True)
class PendingQuery:
    """A text with its vector (full_dim,), which the embedder `fingerprint` made in `seconds`."""

    text: str
    vector: NDArray[np.float32]
    fingerprint: str
    seconds: float
    options: SearchOptions
    future: "asyncio.Future[Answer]"
    selected: tuple[Index, Selection | None] | None = None  # an index, and its rows that match the filter
    since: float = field(default_factory=time.perf_counter)


class Batcher:
    """Answers the queries of one index in their order, on a thread of its own."""

    def __init__(
        self,
        pool: IndexPool,
        name: str,
        observe: Callable[[str, Sequence[float]], None] = lambda name, waited: None,
    ) -> None:
        self._pool = pool
        self._name = name
        self._observe = observe  # gets the index's name, and the seconds that each query of a scan has waited
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
            while len(batch) < MOST_TOGETHER and not self._queue.empty():  # nobody else takes from it
                if (more := self._queue.get()) is None:
                    self._queue.put(None)
                    break
                batch.append(more)
            begin = time.perf_counter()
            self._observe(self._name, [begin - query.since for query in batch])
            groups: dict[SearchOptions, list[PendingQuery]] = {}
            for query in batch:
                if not query.future.done():  # else the caller has gone
                    groups.setdefault(query.options, []).append(query)
            for queries in groups.values():
                self._answer(queries)

    def _answer(self, queries: Sequence[PendingQuery]) -> None:
        """Answer queries of the same options, which wait in the same event loop."""
        outcomes: Sequence[Answer | Exception]
        try:
            with self._pool.lend(self._name) as index:
                outcomes = search_together(index, queries)
        except Exception as error:
            outcomes = [error] * len(queries)
        loop = queries[0].future.get_loop()
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_deliver, queries, outcomes)


def _deliver(queries: Sequence[PendingQuery], outcomes: Sequence[Answer | Exception]) -> None:
    for query, outcome in zip(queries, outcomes, strict=True):
        if query.future.done():  # the caller has gone
            continue
        if isinstance(outcome, Exception):
            query.future.set_exception(outcome)
        else:
            query.future.set_result(outcome)


def search_together(index: Index, queries: Sequence[PendingQuery]) -> list[Answer]:
    """The answers to queries of the same options, by one scan. Raises MovedError if the index is another."""
    options, selection = queries[0].options, None
    if any(query.fingerprint != index.fingerprint for query in queries):
        raise MovedError(f"{index.name} has another embedder now: ask again")
    if options.where is not None:
        for query in queries:
            if query.selected is None or query.selected[0] is not index:
                raise MovedError(f"{index.name} has changed: ask again")
            selection = query.selected[1]
    texts, seconds = [query.text for query in queries], [query.seconds for query in queries]
    vectors, state = np.stack([query.vector for query in queries]), index.manifest.state
    answers = index.search_vectors(texts, vectors, options, selection, seconds)
    for answer in answers:
        answer.generation = state
    return answers
