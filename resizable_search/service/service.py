"""What every door of the service shares: a text becomes a vector once, searches meet at a desk."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from anyio import CapacityLimiter
from numpy.typing import NDArray

from resizable_search.errors import IndexBusyError, IndexNotFoundError, RsearchError
from resizable_search.search.index import Index
from resizable_search.search.options import SearchOptions
from resizable_search.search.results import Answer
from resizable_search.service.batcher import Ask, Batcher, MovedError, Outcome, Selected
from resizable_search.service.daemon_threads import aside
from resizable_search.service.index_pool import IndexPool
from resizable_search.service.mapped import outlive_cuts
from resizable_search.service.metrics import ServiceMetrics
from resizable_search.store.documents import StoredDocument
from resizable_search.text import quoted

T = TypeVar("T")

MOST_THREADS = 16
"""Calls that may block at once: opening an index, an expression, a text that goes to a service."""

MOST_VECTORS = 4096
"""Query vectors kept in memory: 12 MB of them at 768 dimensions."""

MOST_MOVES = 5
"""How often a search begins again because its index became one of another embedder."""


@dataclass(frozen=True, slots=True)
class Compared:
    """An answer, the full dimension's to the same query, and the share of its hits that the first one has."""

    answer: Answer
    full: Answer

    @property
    def overlap(self) -> float:
        """Overlap@k of this one query, 0 to 1; 1 where the full dimension finds nothing."""
        wanted = {hit.row for hit in self.full.hits}
        return len(wanted & {hit.row for hit in self.answer.hits}) / len(wanted) if wanted else 1.0


@dataclass(frozen=True, slots=True)
class Card:
    """An index as it is listed: `problem` says in one line why it cannot be searched, '' if it can.

    `tuned` are its tuned plans, each a mapping with k, recall and plan.
    """

    name: str
    problem: str = ""
    rows: int = 0
    full_dim: int = 0
    dims: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    embedder: tuple[str, str] = ("", "")
    tuned: tuple[dict[str, Any], ...] = ()
    threads: int = 0
    remark: str = ""


class Service:
    """Answers searches of a shelf's indexes in an event loop, while scans run in other threads.

    Made and used in one loop. `close` ends the desks.
    """

    def __init__(self, shelf: IndexPool, meters: ServiceMetrics | None = None) -> None:
        self.shelf = shelf
        self.meters = meters or ServiceMetrics()
        self._loop = asyncio.get_running_loop()
        self._desks: dict[str, Batcher] = {}
        self._limiter = CapacityLimiter(MOST_THREADS)
        self._expressions: dict[str, CapacityLimiter] = {}
        self._vectors: OrderedDict[tuple[str, str], NDArray[np.float32]] = OrderedDict()
        self._under_way: dict[tuple[str, tuple[str, ...]], asyncio.Task[tuple[str, NDArray[np.float32]]]] = {}

    async def search(self, name: str | None, texts: Sequence[str], search: SearchOptions) -> list[Answer]:
        """An answer to each text. Raises what `Index.search` does."""
        return (await self._found(name, texts, [search]))[0]

    async def compare(self, name: str | None, texts: Sequence[str], search: SearchOptions) -> list[Compared]:
        """As `search`, each answer beside the full dimension's."""
        full = search.with_plan(None)
        if full == search:
            found = await self._found(name, texts, [search])
            return [Compared(answer, answer) for answer in found[0]]
        answers, fulls = await self._found(name, texts, [search, full])
        return [Compared(*both) for both in zip(answers, fulls, strict=True)]

    async def document(
        self, name: str | None, row: int | None = None, *, id_: str | None = None
    ) -> tuple[str, StoredDocument]:
        """The document at a row, or of an id, and the index's name. Raises IndexNotFoundError without one."""

        def read() -> tuple[str, StoredDocument]:
            with self.shelf.lend(self.shelf.chosen(name)) as index:
                at = index.rows_of([id_]).get(id_, -1) if id_ is not None else row
                if at is None or not index.may_find(at):
                    which = f"at row {row}" if id_ is None else f"with the id {quoted(id_)}"
                    raise IndexNotFoundError(f"{index.name} has no document {which}")
                return index.name, index.documents([at])[0]

        return await self._aside(read)

    async def open_all(self) -> None:
        """Open every index, so that no search has to wait for it; survive files that are cut later."""
        await self._aside(outlive_cuts)
        await self.cards()

    async def cards(self) -> list[Card]:
        """Every index there is, also one that is damaged."""
        return await self._aside(lambda: [self._card(name) for name in self.shelf.names()])

    def close(self) -> None:
        """End the desks and close the indexes."""
        for desk in self._desks.values():
            desk.close()
        self._desks.clear()
        self.shelf.close()

    def _card(self, name: str) -> Card:
        try:
            with self.shelf.lend(name) as index:
                spec = index.manifest.embedder
                return Card(
                    name=name,
                    rows=index.rows,
                    full_dim=index.full_dim,
                    dims=index.dims,
                    columns=index.columns(),
                    embedder=(str(spec.get("kind", "")), str(spec.get("model", ""))),
                    tuned=tuple(
                        {"k": plan.k, "recall": plan.recall, "plan": plan.plan}
                        for plan in index.tuned_plans()
                    ),
                    threads=index.threads,
                    remark=index.remark,
                )
        except RsearchError as error:
            return Card(name=name, problem=str(error))

    async def _found(
        self, name: str | None, texts: Sequence[str], searches: Sequence[SearchOptions]
    ) -> list[list[Answer]]:
        """For each way to search the answers to all texts."""
        known = name if name is not None and name in self._desks else None
        if known is None:
            known = await self._aside(lambda: self.shelf.chosen(name))
        for _ in range(MOST_MOVES):
            selected = await self._selected(known, searches)
            begin = time.perf_counter()
            fingerprint, vectors = await self._embedded(known, texts)
            seconds = time.perf_counter() - begin
            try:
                return [
                    await self._grouped(known, texts, vectors, seconds, search, selected)
                    if search.group
                    else await self._at_desk(known, texts, vectors, fingerprint, seconds, search, selected)
                    for search in searches
                ]
            except MovedError:
                continue
        raise IndexBusyError(f"{known} is replaced again and again: try again later")

    async def _selected(self, name: str, searches: Sequence[SearchOptions]) -> Selected | None:
        """The rows that the expression of these searches, the same one, is true of, and of which index.

        One is evaluated at a time for each index, and waits in the loop: a slow one costs its own callers.
        """
        first = searches[0]
        if first.where is None:
            return None
        where = first.where

        def select(index: Index) -> Selected:
            for search in searches:
                index.plan(search)
            return index, index.select(where)

        limiter = self._expressions.setdefault(name, CapacityLimiter(1))
        return await self._lent(name, select, limiter)

    async def _grouped(
        self,
        name: str,
        texts: Sequence[str],
        vectors: Sequence[NDArray[np.float32]],
        seconds: float,
        search: SearchOptions,
        selected: Selected | None,
    ) -> list[Answer]:
        """The best chunk of each document: apart from the desk, since it may search deep."""

        def answers(index: Index) -> list[Answer]:
            selection = selected[1] if selected is not None and selected[0] is index else None
            return index.search_vectors(texts, np.stack(vectors), search, selection, [seconds] * len(texts))

        found = await self._lent(name, answers)
        self.meters.answered(found)
        return found

    async def _at_desk(
        self,
        name: str,
        texts: Sequence[str],
        vectors: Sequence[NDArray[np.float32]],
        fingerprint: str,
        seconds: float,
        search: SearchOptions,
        selected: Selected | None,
    ) -> list[Answer]:
        desk = self._desks.get(name)
        if desk is None:
            desk = self._desks[name] = Batcher(self.shelf, name, self._hand_over, self.meters.scanned)
        wanted: list[asyncio.Future[Answer]] = [self._loop.create_future() for _ in texts]
        desk.put(
            Ask(text, vector, fingerprint, seconds, search, future, selected)
            for text, vector, future in zip(texts, vectors, wanted, strict=True)
        )
        answers = await asyncio.gather(*wanted) if len(wanted) > 1 else [await wanted[0]]
        self.meters.answered(answers)
        return answers

    def _hand_over(self, outcomes: list[tuple[Ask, Outcome]]) -> None:
        """Bring the outcomes of a scan from the desk's thread to those who wait in the loop."""
        try:
            self._loop.call_soon_threadsafe(_settle, outcomes)
        except RuntimeError:  # the loop has ended meanwhile: nobody waits
            return

    async def _embedded(self, name: str, texts: Sequence[str]) -> tuple[str, list[NDArray[np.float32]]]:
        """The vector of each text (full_dim,), and the fingerprint of what made them."""
        fingerprint = self.shelf.fingerprint(name)
        while True:
            missing = tuple(dict.fromkeys(t for t in texts if (fingerprint, t) not in self._vectors))
            if fingerprint is not None and not missing:
                found = []
                for text in texts:
                    self._vectors.move_to_end((fingerprint, text))
                    found.append(self._vectors[fingerprint, text])
                return fingerprint, found
            made_by, made = await self._embed(name, missing)
            if made_by == fingerprint or set(missing) == set(texts):
                by_text = dict(zip(missing, made, strict=True))
                vectors = [by_text[t] if t in by_text else self._vectors[made_by, t] for t in texts]
                self._remember(made_by, by_text)
                return made_by, vectors
            fingerprint = made_by

    def _remember(self, fingerprint: str, vectors: dict[str, NDArray[np.float32]]) -> None:
        for text, vector in vectors.items():
            self._vectors[fingerprint, text] = vector
        while len(self._vectors) > MOST_VECTORS:
            self._vectors.popitem(last=False)

    async def _embed(self, name: str, texts: tuple[str, ...]) -> tuple[str, NDArray[np.float32]]:
        """Have texts embedded that are in no memory; those who want the same at once wait for one request."""
        key = name, texts
        task = self._under_way.get(key)
        if task is None:
            task = self._loop.create_task(
                self._lent(name, lambda index: (index.fingerprint, index.embed_queries(texts)))
            )
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return await asyncio.shield(task)

    async def _lent(self, name: str, use: Callable[[Index], T], limiter: CapacityLimiter | None = None) -> T:
        """What a function makes of an index, in another thread."""

        def lent() -> T:
            with self.shelf.lend(name) as index:
                return use(index)

        return await self._aside(lent, limiter)

    async def _aside(self, call: Callable[[], T], limiter: CapacityLimiter | None = None) -> T:
        """Make a call that may block, in a thread of its own."""
        return await aside(call, limiter or self._limiter)


def _settle(outcomes: list[tuple[Ask, Outcome]]) -> None:
    for ask, outcome in outcomes:
        if ask.wanted.done():  # whoever asked has gone
            continue
        if isinstance(outcome, BaseException):
            ask.wanted.set_exception(outcome)
        else:
            ask.wanted.set_result(outcome)
