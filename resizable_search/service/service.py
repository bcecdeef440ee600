"""What HTTP and MCP share: a text is embedded once, searches of one index are batched, both are counted."""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from typing import TypeVar

import numpy as np
from anyio import CapacityLimiter
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from resizable_search import __version__
from resizable_search.engine.vectors import tamed
from resizable_search.errors import (
    DocumentNotFoundError,
    IndexBusyError,
    IndexFormatError,
    IndexNotFoundError,
    QueryError,
    QueryTimeoutError,
    RefusedTextError,
    RsearchError,
    UsageError,
)
from resizable_search.search.index import Index
from resizable_search.search.planning import SearchOptions
from resizable_search.search.results import Answer
from resizable_search.service.batcher import Batcher, MovedError, PendingQuery
from resizable_search.service.index_pool import IndexPool, describe
from resizable_search.service.schemas import IndexModel
from resizable_search.store.documents import StoredDocument
from resizable_search.store.filter import Selection
from resizable_search.text import quoted

T = TypeVar("T")
Vectors = tuple[str, list[NDArray[np.float32]]]
"""The fingerprint of an embedder, and the vector (full_dim,) that it made of each text."""

MOST_THREADS = 16  # blocking calls at once: opening an index, a document, the list
MOST_EMBEDDINGS = 16  # calls of an index's embedder at once: it may hang, and others have their own
QUERY_SECONDS = 15.0  # how long a search waits for the vectors of its texts
MOST_VECTORS = 4096  # query vectors in memory: 12 MB at 768 dimensions
MOST_MOVES = 5  # how often a search starts again because its index was replaced

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of the buckets: a scan of one-bit codes takes half a millisecond, a hosted embedder seconds."""

STAGES = ("embed", "prepare", "scan", "rerank")


class ServiceMetrics:
    """The metrics of one service, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        seconds = partial(Histogram, buckets=BUCKETS, registry=registry)
        self._requests = counter("rsearch_requests", "Requests by route and status.", ("route", "status"))
        self._request_seconds = seconds(
            "rsearch_request_seconds", "Seconds from a request to its answer.", ("route",)
        )
        self.under_way = gauge("rsearch_requests_under_way", "Requests without an answer.")
        self._queries = counter("rsearch_queries", "Texts answered, by index.", ("index",))
        self._stage_seconds = seconds(
            "rsearch_stage_seconds",
            "Seconds of a query: wait (for the scan before it), embed, prepare (a dimension that is not "
            "stored), scan, rerank; a batch shares a scan.",
            ("index", "stage"),
        )
        self._batch_sizes = Histogram(
            "rsearch_scan_queries",
            "Queries answered by one scan.",
            ("index",),
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        gauge("rsearch_build_info", "The running version.", ("version",)).labels(__version__).set(1)
        # Which takes longer than to count.
        self._labelled = cache(lambda metric, *labels: metric.labels(*labels))

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._labelled(self._requests, route, str(status)).inc()
        self._labelled(self._request_seconds, route).observe(seconds)

    def scanned(self, index: str, waited: Sequence[float]) -> None:
        """Count a scan of several queries, and the seconds that each one waited for it."""
        self._labelled(self._batch_sizes, index).observe(len(waited))
        wait = self._labelled(self._stage_seconds, index, "wait")
        for seconds in waited:
            wait.observe(seconds)

    def answered(self, answers: Sequence[Answer]) -> None:
        """Count the answered queries of an index."""
        name = answers[0].index
        self._labelled(self._queries, name).inc(len(answers))
        for stage in STAGES:
            histogram = self._labelled(self._stage_seconds, name, stage)
            for answer in answers:
                histogram.observe(getattr(answer.timings_ms, stage) / 1e3)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class Service:
    """Answers searches of a pool's indexes from one event loop; scans run in other threads."""

    def __init__(self, pool: IndexPool, metrics: ServiceMetrics | None = None) -> None:
        self.pool = pool
        self.metrics = metrics or ServiceMetrics()
        self._loop = asyncio.get_running_loop()
        self._batchers: dict[str, Batcher] = {}
        self._limiter = CapacityLimiter(MOST_THREADS)
        self._filter_limiters: dict[str, CapacityLimiter] = {}
        self._embed_limiters: dict[str, CapacityLimiter] = {}
        self._vectors: OrderedDict[tuple[str, str], NDArray[np.float32]] = OrderedDict()
        self._embedding: dict[tuple[str, tuple[str, ...]], asyncio.Task[Vectors]] = {}

    async def search(
        self,
        name: str | None,
        texts: Sequence[str],
        options: SearchOptions,
        vector: Sequence[float] | None = None,
    ) -> list[Answer]:
        """An answer to each text, or to the vector of the only one. Raises what `Index.search` raises."""
        known = name if name in self._batchers else await self.in_thread(lambda: self.pool.resolve(name))
        assert known is not None
        for _ in range(MOST_MOVES):
            selected = await self._select(known, options)
            begin = time.perf_counter()
            found = None
            if vector is not None:
                found = await self.with_index(known, partial(_given, vector))
            elif options.mode == "lexical":
                found = await self.with_index(known, partial(_zeros_for, texts, options))
            fingerprint, vectors = found or await self._vectors_of(known, texts)
            seconds = time.perf_counter() - begin
            future = self._loop.create_future
            queries = [
                PendingQuery(text, vector, fingerprint, seconds, options, future(), selected)
                for text, vector in zip(texts, vectors, strict=True)
            ]
            if known not in self._batchers:
                self._batchers[known] = Batcher(self.pool, known, self.metrics.scanned)
            self._batchers[known].put(queries)
            try:
                if len(queries) == 1:  # for which `gather` takes longer than all else here
                    answers = [await queries[0].future]
                else:
                    answers = await asyncio.gather(*(query.future for query in queries))
            except MovedError:
                continue
            self.metrics.answered(answers)
            return answers
        raise IndexBusyError(f"{known} is replaced again and again: try again later")

    async def search_each(
        self, name: str | None, texts: Sequence[str], options: SearchOptions
    ) -> list[Answer | RsearchError]:
        """As `search`, with the error of each text that cannot be embedded; raised if none can."""
        try:
            return list(await self.search(name, texts, options))
        except (UsageError, QueryError, RefusedTextError):
            if len(texts) == 1:
                raise

            async def alone(text: str) -> Answer | RsearchError:
                try:
                    return (await self.search(name, [text], options))[0]
                except RsearchError as error:
                    return error

            outcomes = await asyncio.gather(*map(alone, texts))
            if not any(isinstance(outcome, Answer) for outcome in outcomes):
                raise
            return outcomes

    async def similar(self, name: str | None, document: str | int, options: SearchOptions) -> Answer:
        """The answer of `Index.search_similar` for a document's id or row. Raises DocumentNotFoundError."""

        def search(index: Index) -> Answer:
            id_ = document if isinstance(document, str) else _document(index, document).id
            return replace(index.search_similar(id_, options), generation=index.manifest.state)

        answer = await self.with_index(name, search)
        self.metrics.answered([answer])
        return answer

    async def document(self, name: str | None, document: str | int) -> tuple[str, StoredDocument]:
        """The index's name, and its document by id or row. Raises DocumentNotFoundError."""
        return await self.with_index(name, lambda index: (index.name, _document(index, document)))

    async def indexes(self) -> list[IndexModel]:
        """Every index, damaged ones too. Opens all of them."""
        return await self.in_thread(lambda: [describe(self.pool, name) for name in self.pool.names()])

    async def with_index(
        self, name: str | None, use: Callable[[Index], T], limiter: CapacityLimiter | None = None
    ) -> T:
        """Call a function with an index, in another thread."""

        def call() -> T:
            with self.pool.lend(name) as index:
                return use(index)

        return await self.in_thread(call, limiter)

    def close(self) -> None:
        """End the batchers and close the indexes."""
        for batcher in self._batchers.values():
            batcher.close()
        self._batchers.clear()
        self.pool.close()

    async def _select(self, name: str, options: SearchOptions) -> tuple[Index, Selection | None] | None:
        """The rows that match the filter, one filter of an index at a time: a slow one delays only those."""
        if options.where is None:
            return None

        def select(index: Index) -> tuple[Index, Selection | None]:
            index.plan(options)  # wrong options are refused first
            return index, index.select(options.where)

        limiter = self._filter_limiters.setdefault(name, CapacityLimiter(1))
        return await self.with_index(name, select, limiter)

    async def _vectors_of(self, name: str, texts: Sequence[str]) -> Vectors:
        """The vectors of texts, from memory, the cache or the index's embedder. Raises QueryTimeoutError."""
        fingerprint = self.pool.fingerprint(name)
        if fingerprint is None:  # opening an index may take longer than a query may
            fingerprint = await self.with_index(name, lambda index: index.fingerprint)
        until = self._loop.time() + QUERY_SECONDS
        try:
            while missing := tuple(dict.fromkeys(t for t in texts if (fingerprint, t) not in self._vectors)):
                async with asyncio.timeout_at(until):
                    fingerprint, made = await self._embed(name, missing)
                self._vectors.update(zip(((fingerprint, text) for text in missing), made, strict=True))
        except TimeoutError:
            raise QueryTimeoutError(
                f"the embedder of {name} gave no vector within {QUERY_SECONDS:g} s: check that its server "
                "answers, or try again later"
            ) from None
        assert fingerprint is not None  # else every text was missing
        vectors = [self._vectors[fingerprint, text] for text in texts]
        for text in texts:
            self._vectors.move_to_end((fingerprint, text))
        while len(self._vectors) > MOST_VECTORS:
            self._vectors.popitem(last=False)
        return fingerprint, vectors

    async def _embed(self, name: str, texts: tuple[str, ...]) -> Vectors:
        """Embed texts; callers that want the same texts at once share one request."""

        def cached(index: Index) -> Vectors | None:
            vectors = index.cached_queries(texts)
            return None if vectors is None else (index.fingerprint, list(vectors))

        def embed(index: Index) -> Vectors:
            return index.fingerprint, list(index.embed_queries(texts))

        async def made() -> Vectors:
            limiter = self._embed_limiters.setdefault(name, CapacityLimiter(MOST_EMBEDDINGS))
            if (known := await self.with_index(name, cached)) is not None:
                return known
            return await self.with_index(name, embed, limiter)

        def forget(done: "asyncio.Task[Vectors]") -> None:
            if not done.cancelled():
                done.exception()  # all who waited for it may have gone
            if self._embedding.get(key) is done:
                del self._embedding[key]

        key = name, texts
        earlier = self._embedding.get(key)
        if earlier is not None:
            # It began before this call: if it met a damaged index, the index may be whole by now.
            with suppress(IndexFormatError, IndexNotFoundError):
                return await asyncio.shield(earlier)
        task = self._embedding.get(key)
        if task is None or task is earlier:
            task = self._embedding[key] = self._loop.create_task(made())
            task.add_done_callback(forget)
        return await asyncio.shield(task)

    async def in_thread(self, call: Callable[[], T], limiter: CapacityLimiter | None = None) -> T:
        """Make a blocking call in a daemon thread: a process waits for anyio's threads when it exits."""
        # A cancelled caller leaves the call running; it counts for the limiter until it ends.
        limiter = limiter or self._limiter
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()

        def work() -> None:
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(limiter.release_on_behalf_of, future)

        await limiter.acquire_on_behalf_of(future)
        try:
            threading.Thread(target=work, name="blocking call", daemon=True).start()
        except BaseException:
            limiter.release_on_behalf_of(future)
            raise
        return await asyncio.wrap_future(future)


def _given(vector: Sequence[float], index: Index) -> Vectors:
    """A vector that a request brings. Raises UsageError: it must not fail a scan that others share."""
    if len(vector) != index.full_dim:
        raise UsageError(f"vector has {len(vector)} numbers: {index.name} takes {index.full_dim}")
    return index.fingerprint, list(tamed(np.array([vector])))


def _document(index: Index, document: str | int) -> StoredDocument:
    """The document with an id or at a row. Raises DocumentNotFoundError."""
    if isinstance(document, int):
        row, which = document, f"at row {document}"
    else:
        row = index.rows_of([document]).get(document, -1)
        which = f"with the id {quoted(document)}"
    if not index.is_live(row):
        raise DocumentNotFoundError(f"{index.name} has no document {which}")
    return index.documents([row])[0]


def _zeros_for(texts: Sequence[str], options: SearchOptions, index: Index) -> Vectors | None:
    """Zeros for a search by words; None where an index has no words."""
    plan = index.plan(options)
    return None if plan.stages else (index.fingerprint, list(index.embed_for(plan, texts)))
