"""Where queries wait for an index: those that are there at once are answered by one scan."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import RsearchError
from resizable_search.search.index import Index
from resizable_search.search.options import SearchOptions
from resizable_search.search.results import Answer
from resizable_search.service.index_pool import IndexPool
from resizable_search.store.filter import Selection

MOST_TOGETHER = 64
"""Queries of one scan: beyond that a query costs no less, and the first of them waits for the last."""


class MovedError(RsearchError):
    """The index is another by now: the text has to be embedded again, or the expression evaluated."""


Outcome = Answer | BaseException
Selected = tuple[Index, Selection]
"""An index, and the rows of it that an expression is true of."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A text with its vector (full_dim,), which the embedder of that fingerprint made in `embed` seconds.

    `wanted` is whom the outcome is for. `selected` has the rows that the search's expression is true of, and
    the index it was asked of: to evaluate it here would keep everybody waiting.
    """

    text: str
    vector: NDArray[np.float32]
    fingerprint: str
    embed: float
    search: SearchOptions
    wanted: Any
    selected: Selected | None = None
    since: float = field(default_factory=time.perf_counter)


class Batcher:
    """Answers the queries of one index on a thread of its own, in the order in which they come.

    `tell` is called there with the outcome of each ask of a scan, `observe` with how many there were and
    the seconds that each had waited.
    """

    def __init__(
        self,
        shelf: IndexPool,
        name: str,
        tell: Callable[[list[tuple[Ask, Outcome]]], None],
        observe: Callable[[str, Sequence[float]], None] = lambda name, waited: None,
    ) -> None:
        self._shelf = shelf
        self._name = name
        self._tell = tell
        self._observe = observe
        self._asks: SimpleQueue[Ask | None] = SimpleQueue()
        threading.Thread(target=self._work, name=f"desk of {name}", daemon=True).start()

    def put(self, asks: Iterable[Ask]) -> None:
        """Have these answered."""
        for ask in asks:
            self._asks.put(ask)

    def close(self) -> None:
        """Answer what is there, and end."""
        self._asks.put(None)

    def _work(self) -> None:
        while (ask := self._asks.get()) is not None:
            batch = [ask]
            try:
                while len(batch) < MOST_TOGETHER:
                    more = self._asks.get_nowait()
                    if more is None:
                        self._asks.put(None)
                        break
                    batch.append(more)
            except Empty:
                pass
            begin = time.perf_counter()
            self._observe(self._name, [begin - ask.since for ask in batch])
            self._tell(self._outcomes(batch))

    def _outcomes(self, batch: Sequence[Ask]) -> list[tuple[Ask, Outcome]]:
        alike: dict[SearchOptions, list[Ask]] = {}
        for ask in batch:
            alike.setdefault(ask.search, []).append(ask)
        outcomes: list[tuple[Ask, Outcome]] = []
        try:
            with self._shelf.lend(self._name) as index:
                for search, asks in alike.items():
                    outcomes += zip(asks, self._answers(index, search, asks), strict=True)
        except Exception as error:  # of opening the index
            return [(ask, error) for ask in batch]
        return outcomes

    def _answers(self, index: Index, search: SearchOptions, asks: Sequence[Ask]) -> Sequence[Outcome]:
        if any(ask.fingerprint != index.fingerprint for ask in asks):
            return [MovedError(f"{self._name} is embedded by another model now: ask again")] * len(asks)
        selection = None
        if search.where is not None:
            stale = [ask for ask in asks if ask.selected is None or ask.selected[0] is not index]
            if stale:
                return [MovedError(f"{self._name} has changed: ask again")] * len(asks)
            selection = asks[0].selected[1] if asks[0].selected else None
        try:
            return index.search_vectors(
                [ask.text for ask in asks],
                np.stack([ask.vector for ask in asks]),
                search,
                selection,
                [ask.embed for ask in asks],
            )
        except Exception as error:
            return [error] * len(asks)
