"""An open index: search it by text, by document id or by vector, and read its documents."""

import time
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.embedders.base import Embedder
from resizable_search.embedders.registry import TrustedEndpoints
from resizable_search.engine.base import NO_ROW, Top
from resizable_search.engine.kernel_cache import Chooser
from resizable_search.engine.plan import LEAST_RERANKED, Plan
from resizable_search.errors import DocumentNotFoundError, IndexBusyError, IndexFormatError, UsageError
from resizable_search.search.planning import SearchOptions, plan_of, remark_on
from resizable_search.search.query_embedder import QueryEmbedder, query_cache
from resizable_search.search.results import (
    DEEPER,
    Answer,
    Hit,
    ScoredDocument,
    as_answer,
    best_of_each,
    scored_documents,
)
from resizable_search.specs import EmbedderSpec
from resizable_search.store.documents import DocumentCache, StoredDocument
from resizable_search.store.executor import MOST_PLANS, EngineMaker, Executor, StageStats
from resizable_search.store.filter import Filter, Selection
from resizable_search.store.layout import Home, home_of, resolve_index
from resizable_search.store.manifest import Manifest
from resizable_search.store.reader import MOST_TRIES, IndexReader
from resizable_search.store.tuned_plans import StoredPlans
from resizable_search.text import counted, dimensions, quoted

MOST_READ = 1000  # rows that are read to group them; of more, only the best row of each document is read


class Index:
    """An open index, made by `open_index`: one generation, safe to use from several threads at once."""

    def __init__(
        self,
        reader: IndexReader,
        home: Home,
        embedder: Embedder | None = None,
        *,
        threads: int | None = None,
        engine: str | EngineMaker = "auto",
        stays: bool = True,
    ) -> None:
        self._reader = reader
        self._closed = False
        self.manifest: Manifest = reader.manifest  # the manifest of the open generation
        self.name: str = reader.name
        self.folder: Path = reader.folder
        self.rows: int = self.manifest.documents  # the number of documents
        self.dims: tuple[int, ...] = self.manifest.dims
        """The stored dimensions, ascending. A scan may use any other one up to the full dimension."""
        self.full_dim: int = self.manifest.full_dim  # the full dimension: the embedder's width
        spec = EmbedderSpec.from_json(self.manifest.embedder)
        self.fingerprint: str = spec.fingerprint
        """The embedder's fingerprint: query vectors with the same one fit this index."""
        made = engine if isinstance(engine, str) else engine(reader)
        self._chooser = Chooser(made, threads, numbers=self.rows * self.full_dim, stays=stays)
        self.threads: int = self._chooser.threads  # the number of threads of a scan
        cache, trust = query_cache(home.queries), TrustedEndpoints(home.trusted)
        self._embedder = QueryEmbedder(self.name, self.folder, spec, cache, trust, embedder)
        if spec.state_checksum:
            self._embedder.load()
        self.plans = StoredPlans(reader.folder, reader.manifest)  # the tuned plans
        self._plan_of_vectors = lru_cache(MOST_PLANS)(
            partial(_plan_of_vectors, self.name, self.full_dim, self.plans)
        )
        self._filter = Filter(reader)
        self._executor = Executor(reader, self._chooser.pick, centred=spec.centred)

    def __repr__(self) -> str:
        documents, dims = counted(self.rows, "document"), dimensions(self.dims)
        kind, state = self.manifest.embedder["kind"], "closed" if self._closed else "open"
        return f"<Index {self.name}: {documents} at {dims} by {kind}, {state}, in {self.folder}>"

    @property
    def remark(self) -> str:
        """Why searches are slower than they could be, and what to do; '' if they are not."""
        return self._chooser.remark

    def warm(self) -> str:
        """Load the compiled kernels before the first query. Returns the name of the engine in use."""
        return self._chooser.warm()

    def cache_documents(self, characters: int) -> None:
        """Keep documents in memory, shared by all hits, up to so many characters in total."""
        self._reader.cache = DocumentCache(characters)

    def query(
        self,
        text: str,
        k: int = 10,
        dim: int | None = None,
        rerank: int = 0,
        plan: Plan | str | None = None,
        recall: float | None = None,
        where: str | None = None,
        group: bool = True,
        mode: str | None = None,
    ) -> list[Hit]:
        """The k documents nearest to a text, best first; options as in `SearchOptions`.

        Raises UsageError for a blank text, QueryError for one that cannot be embedded, and EmbedderError.
        """
        return self.search([text], SearchOptions(k, dim, rerank, plan, recall, where, group, mode))[0].hits

    def similar(
        self,
        id: str,
        k: int = 10,
        dim: int | None = None,
        rerank: int = 0,
        plan: Plan | str | None = None,
        recall: float | None = None,
        where: str | None = None,
    ) -> list[Hit]:
        """The k rows nearest to the document of this id, by its vector. Raises DocumentNotFoundError."""
        return self.search_similar(id, SearchOptions(k, dim, rerank, plan, recall, where)).hits

    def scan(
        self,
        vectors: NDArray[Any],
        k: int = 10,
        dim: int | None = None,
        rerank: int = 0,
        plan: Plan | str | None = None,
        recall: float | None = None,
        where: str | None = None,
    ) -> Top:
        """The k best rows for each raw query vector, (m, full_dim) of any float type; options as for `query`.

        Vectors are centred (if the index is), cut and normalised here. Returns Top(scores (m, k) float32,
        rows (m, k) int64), best first. Columns without a match have row -1, score -inf; a k above 1,000 gives
        no more columns than there are rows. Raises UsageError.
        """
        known = self._plan_of_vectors(self.plans.times_read, k, dim, rerank, plan, recall)
        return self.run(vectors, known, k, selection=self.select(where))[0]

    def search(self, queries: Sequence[str], options: SearchOptions) -> list[Answer]:
        """An answer to each text, by one scan. Raises as `query` does."""
        plan = self.plan(options)  # wrong options are refused before anything is embedded
        selection = self.select(options.where)
        begin = time.perf_counter()
        vectors = self.embed_for(plan, queries)
        seconds = [time.perf_counter() - begin] * len(queries)
        return self.search_vectors(queries, vectors, options, selection, seconds)

    def search_vectors(
        self,
        queries: Sequence[str],
        vectors: NDArray[np.float32],
        options: SearchOptions,
        selection: Selection | None = None,
        embed_seconds: Sequence[float] | None = None,
    ) -> list[Answer]:
        """As `search`, with the raw vectors (m, full_dim) of the queries, and the seconds that each took.

        `selection`: what `select` made of `options.where`, if that was done before.
        """
        plan, k = self.plan(options), options.k
        selection = selection or self.select(options.where)
        seconds = embed_seconds or [0.0] * len(queries)
        depth = k
        if options.group and self.manifest.corpus.get("chunk"):
            # As deep for fewer hits, so that they are the first of more.
            depth = max(1, min(max(k, LEAST_RERANKED) * DEEPER, self.rows))
        top, stages = self.run(vectors, plan.deepened(k, depth), depth, selection=selection, texts=queries)
        documents = {d.row: d for d in self.documents(np.unique(top.rows).tolist())}
        answers = []
        for i, (query, spent) in enumerate(zip(queries, seconds, strict=True)):
            scored, own = scored_documents(top, i, documents), stages
            if options.group:
                scored, own = self._grouped(query, vectors[i], plan, k, depth, selection, scored, stages)
            remark = remark_on(query, plan, options, scored, self.name, self._executor.knows_words)
            answers.append(as_answer(query, self.name, k, plan, spent, scored, own, remark))
        return answers

    def search_similar(self, id: str, options: SearchOptions) -> Answer:
        """As `similar`, with the plan and the timings; `query` of the answer is the id."""
        plan = self.plan(options, by_vectors=True)
        self._refuse_if_closed()
        if (found := self._reader.row_of(id)) is None:
            missing = f"{self.name} has no document with the id {quoted(id)}"
            raise DocumentNotFoundError(f"{missing}: `query format=tsv` shows ids")
        row = np.array([found])
        top, stages = self.run(self.vectors(row), plan, options.k, row, self.select(options.where))
        scored = scored_documents(top, 0, {d.row: d for d in self.documents(top.rows[0])})
        return as_answer(id, self.name, options.k, plan, 0.0, scored, stages)

    def plan(self, options: SearchOptions, *, by_vectors: bool = False) -> Plan:
        """The plan that the options mean here; a search by vectors has no words. Raises UsageError."""
        has_words = None if by_vectors else self._executor.has_words
        return plan_of(options, self.name, self.full_dim, self.plans, has_words=has_words)

    def run(
        self,
        queries: NDArray[Any],
        plan: Plan,
        k: int,
        skip: NDArray[np.int64] | None = None,
        selection: Selection | None = None,
        texts: Sequence[str] = (),
    ) -> tuple[Top, list[StageStats]]:
        """Run a checked plan for raw queries (m, full_dim). Returns the best rows and what each stage did.

        `skip` (m,): a row for each query that its answer leaves out. `texts` (m) are for a plan with words.
        """
        return self._executor.run(queries, plan, k, skip, selection, texts)

    def select(self, where: str | None) -> Selection | None:
        """The rows that an expression selects (None: all). Raises UsageError, RsearchError if it is slow."""
        self._refuse_if_closed()
        return None if where is None else self._filter.select(where)

    def check_where(self, where: str | None) -> int:
        """The number of documents that an expression selects. Raises as `select` does."""
        selection = self.select(where)
        return self.rows if selection is None else selection.count

    def columns(self) -> tuple[str, ...]:
        """The names an expression may use: id, title, url, the metadata's keys, and metadata (JSON)."""
        self._refuse_if_closed()
        return self._filter.columns

    def documents(self, rows: Sequence[int] | NDArray[np.int64]) -> list[StoredDocument]:
        """The documents at these rows, in their order, without rows of -1. Raises UsageError."""
        wanted = [int(row) for row in rows if row != NO_ROW]
        self._refuse_unknown_rows(np.array(wanted, object))
        try:
            documents = self._reader.documents(wanted)
        except IndexFormatError:
            self._refuse_if_closed()
            raise
        return [documents[row] for row in wanted]

    def vectors(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """A copy of the full vectors at these rows: (len(rows), full_dim) float32. Raises UsageError."""
        self._refuse_unknown_rows(np.asarray(rows))
        return self._reader.vectors(np.asarray(rows, np.int64))

    def live_rows(self) -> NDArray[np.int64]:
        """The rows that are not deleted, ascending: (rows,) int64."""
        return self._reader.live_rows()

    def is_live(self, row: int) -> bool:
        """Whether the row exists and is not deleted."""
        return self._reader.is_live(row)

    def rows_of(self, ids: Iterable[str]) -> dict[str, int]:
        """The rows of the documents with these ids, by id. Unknown ids are left out."""
        self._refuse_if_closed()
        return self._reader.rows_of(ids)

    def document_names(self) -> list[str]:
        """The document of each row: the one its chunk was cut from, else its own id."""
        self._refuse_if_closed()
        return self._filter.document_names()

    @property
    def embeds_for_free(self) -> bool:
        """Whether its embedder works on this machine, so that a text costs nothing."""
        return self._embedder.is_free

    def embed_for(self, plan: Plan, texts: Sequence[str]) -> NDArray[np.float32]:
        """`embed_queries`, or zeros if the plan looks at no vector."""
        if plan.stages:
            return self.embed_queries(texts)
        return np.zeros((len(texts), self.full_dim), np.float32)

    def cached_queries(self, texts: Sequence[str]) -> NDArray[np.float32] | None:
        """As `embed_queries`, but only from the cache: None unless it has all of them."""
        return self._embedder.cached(texts)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Raw query vectors (m, full_dim) float32. Raises UsageError, QueryError and EmbedderError."""
        return self._embedder.embed(texts)

    def embed_known(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """As `embed_queries`, and which texts (m,) have a vector: those without a known word have zeros."""
        return self._embedder.embed_known(texts)

    def has_moved_on(self) -> bool:
        """Whether the folder now holds another index, generation or plan. Raises IndexNotFoundError."""
        return self._reader.has_moved_on()

    def close(self) -> None:
        """Close the documents. Arrays that were returned stay valid."""
        self._closed = True
        self._filter.close()
        self._reader.close()

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise UsageError(f"{self.name} is closed: open it again with open_index")

    def _refuse_unknown_rows(self, rows: NDArray[Any]) -> None:
        unknown = rows[(rows < 0) | (rows >= self.manifest.rows)]
        if len(unknown):
            last = self.manifest.rows - 1
            raise UsageError(f"row {unknown[0]} is not within 0 to {last}, {self.name}'s rows")

    def _grouped(
        self,
        query: str,
        vector: NDArray[np.float32],
        plan: Plan,
        k: int,
        depth: int,
        selection: Selection | None,
        scored: list[ScoredDocument],
        stages: list[StageStats],
    ) -> tuple[list[ScoredDocument], list[StageStats]]:
        """`best_of_each` of the best `depth` rows, or of more, and the stages of the last search."""
        count = len(scored)
        while len(best := best_of_each(scored, k)) < k and count == depth < self.rows:
            depth = min(depth * DEEPER, self.rows)
            top, stages = self.run(vector, plan.deepened(k, depth), depth, selection=selection, texts=[query])
            rows = top.rows[0][top.rows[0] != NO_ROW]
            count = len(rows)
            if count > MOST_READ:
                rows = rows[np.sort(np.unique(self._filter.document_numbers[rows], return_index=True)[1])]
            scored = scored_documents(top, 0, {d.row: d for d in self.documents(rows)})
        return best, stages


def _plan_of_vectors(name: str, full_dim: int, plans: StoredPlans, times_read: int, *options: Any) -> Plan:
    """The plan of a search by vectors, until the tuned plans are read again."""
    return plan_of(SearchOptions(*options), name, full_dim, plans, has_words=None)


def open_index(
    name: str | Path,
    *,
    home: str | Path | None = None,
    embedder: Embedder | None = None,
    threads: int | None = None,
    engine: str | EngineMaker = "auto",
    stays: bool = True,
) -> Index:
    """Open an index by its name in the home, or by its folder (a Path, or a text with a separator).

    `embedder` embeds the queries in place of the index's own, in the same space. `threads` of a scan: None
    takes $RSEARCH_THREADS, else all cores. `engine`: auto, numpy or numba, or what makes one of the opened
    files (`cluster.search`). `stays`: the compiled kernels are loaded beside the first queries. Raises
    UsageError, IndexNotFoundError, IndexFormatError and EmbedderMismatchError.
    """
    base = home_of(home)
    for _ in range(MOST_TRIES):
        reader = IndexReader(resolve_index(name, base))
        try:
            index = Index(reader, base, embedder, threads=threads, engine=engine, stays=stays)
            if not reader.has_moved_on():  # else the embedder may be the new index's
                return index
            index.close()
        except BaseException as error:
            reader.close()
            if not isinstance(error, IndexFormatError) or not reader.has_moved_on():
                raise
    raise IndexBusyError(f"{name} is replaced again and again: try again later")
