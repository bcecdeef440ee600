"""An index that is open: its rows, the plans that look through them, and what lies at a row.

Query an index: a plan's stages over its parts, and the hits with their documents.
"""

import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.embedders.base import Embedder
from resizable_search.embedders.cache import QueryCache
from resizable_search.embedders.trusted_endpoints import TrustedEndpoints
from resizable_search.engine.kernel_cache import Chooser
from resizable_search.engine.plan import Plan
from resizable_search.engine.topk import NO_ROW, Top
from resizable_search.errors import IndexBusyError, IndexFormatError, RsearchError, UsageError
from resizable_search.search.groups import first_of_each
from resizable_search.search.query_embedder import QueryEmbedder
from resizable_search.search.results import Answer, Hit, Timings
from resizable_search.specs import EmbedderSpec
from resizable_search.store.documents import DocumentCache, StoredDocument
from resizable_search.store.executor import Executor, StageStats
from resizable_search.store.filter import Filter, Selection
from resizable_search.store.layout import Home, default_home, expanded, resolve_index
from resizable_search.store.manifest import Manifest
from resizable_search.store.reader import MOST_TRIES, IndexReader
from resizable_search.store.tuned_plans import StoredPlans, TunedPlan, plan_key, tune_command


class OpenedIndex:
    """One generation of an index, searched by vectors; `search.Index` adds texts and hits."""

    def __init__(
        self,
        reader: IndexReader,
        home: Home,
        embedder: Embedder | None = None,
        *,
        threads: int | None = None,
        engine: str = "auto",
    ) -> None:
        self._reader = reader
        self._closed = False
        spec = EmbedderSpec.from_json(reader.manifest.embedder)
        self._chooser = Chooser(engine, threads)
        self._questions = QueryEmbedder(
            reader.name,
            reader.folder,
            spec,
            QueryCache(home.queries),
            TrustedEndpoints(home.trusted),
            embedder,
        )
        self.fingerprint = spec.fingerprint
        """Of the embedder: vectors of queries that have it are this index's."""
        if spec.state_checksum:
            self._questions.hold()
        self._plans = StoredPlans(reader.folder, reader.manifest)
        self._conditions = Filter(reader)
        self._executor = Executor(reader, self._chooser.pick, centred=spec.centred)

    @property
    def name(self) -> str:
        """The index's name: that of its folder."""
        return self._reader.name

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._reader.folder

    @property
    def manifest(self) -> Manifest:
        """What it is made of."""
        return self._reader.manifest

    @property
    def rows(self) -> int:
        """How many documents it has."""
        return self.manifest.documents

    @property
    def dims(self) -> tuple[int, ...]:
        """The stored dimensions, ascending; any other up to the full one can be scanned too."""
        return self.manifest.dims

    @property
    def full_dim(self) -> int:
        """The full dimension: the embedder's width."""
        return self.manifest.full_dim

    @property
    def threads(self) -> int:
        """How many threads a scan runs on."""
        return self._chooser.threads

    @property
    def remark(self) -> str:
        """Why searches are slower than they could be, and what to do; '' if nothing is amiss."""
        return self._chooser.remark

    def warm(self) -> str:
        """Load the compiled kernels now, so that no query has to; says which engine runs from here on."""
        return self._chooser.warm()

    def keep_documents(self, characters: int) -> None:
        """Keep documents that are read in memory, up to so many characters: for a process that stays.

        They are shared by all hits from here on: whoever changes a hit's metadata changes that of others.
        """
        self._reader.kept = DocumentCache(characters)

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
        """The k best rows for each raw query vector of full width.

        `vectors` is (m, full_dim), any float type; it is centred (if the index is), cut and
        normalised here, and never written. `dim`: scan the first so many dimensions (None: all);
        `rerank`: score rerank x k candidates again at the full dimension; `plan`: say it all;
        `recall`: the plan that `tune` has proven to reach that overlap, for this k alone; `where`: an
        SQL expression over id, title, url and metadata that what is found must fulfil, chosen before
        anything is ranked. Returns Top(scores (m, k) float32, rows (m, k) int64), best first; what is
        asked for beyond what there is has row -1, score -inf. Raises UsageError.
        """
        return self.run(vectors, self.plan(k, dim, rerank, plan, recall), k, where=where)[0]

    def check_where(self, where: str | None) -> int:
        """How many documents an expression is true of (all if None), kept for the searches to come.

        Raises UsageError for one that is not allowed, RsearchError for one that runs too long.
        """
        self._refuse_if_closed()
        return self.rows if where is None else self._conditions.select(where).count

    def select(self, where: str) -> Selection:
        """The rows that an expression is true of, for `run` and `answers`. Raises as `check_where`."""
        self._refuse_if_closed()
        return self._conditions.select(where)

    def columns(self) -> tuple[str, ...]:
        """What an expression may name: id, title, url, the metadata's keys, and metadata, which is JSON."""
        self._refuse_if_closed()
        return self._conditions.columns

    def plan(
        self,
        k: int = 10,
        dim: int | None = None,
        rerank: int = 0,
        plan: Plan | str | None = None,
        recall: float | None = None,
    ) -> Plan:
        """The plan that these options mean on this index. Raises UsageError."""
        if recall is not None:
            if dim is not None or rerank or plan is not None:
                raise UsageError("recall names a tuned plan: give either it or a dimension, rerank or plan")
            tuned = self.tuned(k, recall)
            if tuned is None:
                command = tune_command(self.name, plan_key(k, recall))
                raise UsageError(
                    f"{self.name} has no plan tuned for recall {recall:g} at k {k}: measure one with "
                    f"`{command}`, or from Python with resizable_search.evaluate.tune.tune(index, "
                    f"{recall:g}, k={k})"
                )
            return Plan.parse(tuned.plan)
        if plan is None:
            return Plan.of(dim, rerank, k, self.full_dim)
        if dim is not None or rerank:
            raise UsageError("a plan says dimension and rerank itself: give either it or them")
        return (Plan.parse(plan) if isinstance(plan, str) else plan).check(k, self.full_dim)

    def tuned(self, k: int, recall: float) -> TunedPlan | None:
        """The plan that was tuned for k and that overlap, with its evidence; None if none was.

        Raises UsageError for a recall outside (0, 1], IndexFormatError for a plan that makes no sense.
        """
        return self._plans.get(k, recall)

    def tuned_plans(self) -> list[TunedPlan]:
        """Every tuned plan, by k and target. Raises IndexFormatError for one that makes no sense."""
        return self._plans.all()

    def read_plans(self) -> None:
        """Learn of plans that were tuned since the index was opened, if it still is of this generation."""
        self._plans.read_again()

    def documents(self, rows: Sequence[int] | NDArray[np.int64]) -> list[StoredDocument]:
        """The documents at these rows, in their order; rows of -1 are passed over. Raises UsageError."""
        wanted = [int(row) for row in rows if row != NO_ROW]
        self._refuse_unknown_rows(np.array(wanted, object))
        try:
            found = self._reader.documents(wanted)
        except IndexFormatError:
            self._refuse_if_closed()
            raise
        return [found[row] for row in wanted]

    def vectors(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """The stored full vectors of these rows, copied: (len(rows), full_dim) float32. Raises UsageError."""
        self._refuse_unknown_rows(np.asarray(rows))
        return self._reader.vectors(np.asarray(rows, np.int64))

    def _refuse_unknown_rows(self, rows: NDArray[Any]) -> None:
        unknown = rows[(rows < 0) | (rows >= self.manifest.rows)]
        if len(unknown):
            raise UsageError(
                f"row {unknown[0]} is not within 0 to {self.manifest.rows - 1}, {self.name}'s rows"
            )

    def found_rows(self) -> NDArray[np.int64]:
        """The rows that a search may find, ascending: (rows,) int64."""
        return self._reader.found_rows()

    def may_find(self, row: int) -> bool:
        """Whether there is such a row, and its document was not deleted."""
        return self._reader.may_find(row)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Raw query vectors of these texts, (m, full_dim) float32: from the cache, else the embedder.

        Raises UsageError, QueryError and EmbedderError.
        """
        return self._questions.embed(texts)

    def embed_known(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """As `embed_queries`, and which of them (m,) say something; the embedder knows no word of the others.

        Those, and blank ones, have rows of zeros. Raises UsageError and EmbedderError.
        """
        return self._questions.embed_known(texts)

    def rows_of(self, ids: Iterable[str]) -> dict[str, int]:
        """The rows of the documents of these ids, by id; an id that the index does not have is left out."""
        self._refuse_if_closed()
        return self._conditions.rows_of(ids)

    def document_names(self) -> list[str]:
        """For each row which document it is of: the one that a chunk was cut from, else its own id."""
        self._refuse_if_closed()
        return self._conditions.document_names()

    def run(
        self,
        queries: NDArray[Any],
        plan: Plan,
        k: int,
        skip: NDArray[np.int64] | None = None,
        where: str | Selection | None = None,
    ) -> tuple[Top, list[StageStats]]:
        """Execute a checked plan for raw queries (m, full_dim): the best rows, and how each stage went.

        `skip` (m,) names a row for each query that is left out of its answer, as if it were not there.
        `where` is an expression, or what `select` made of one.
        """
        if where is None:
            return self._executor.run(queries, plan, k, skip)
        self._refuse_if_closed()
        selection = where if isinstance(where, Selection) else self._conditions.select(where)
        return self._executor.run(queries, plan, k, skip, selection)

    def has_moved_on(self) -> bool:
        """Whether another index or generation, or a newly tuned plan, lies at its place by now.

        Raises IndexNotFoundError where nothing does.
        """
        return self._reader.has_moved_on()

    def close(self) -> None:
        """Close the documents. Arrays that were handed out stay valid."""
        self._closed = True
        self._conditions.close()
        self._reader.close()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise UsageError(f"{self.name} is closed: open it again with open_index")


class Index(OpenedIndex):
    """An index, open for reading; safe to use from several threads at once. Made by `open_index`.

    It holds one generation: it goes on giving the same answers while the index on disk is changed.
    """

    def query(
        self,
        text: str,
        k: int = 10,
        dim: int | None = None,
        rerank: int = 0,
        plan: Plan | str | None = None,
        recall: float | None = None,
        where: str | None = None,
    ) -> list[Hit]:
        """The k documents nearest to a text, best first (all of them if there are fewer).

        `dim`, `rerank`, `plan`, `recall` and `where` as for `scan`. Raises UsageError for a blank text,
        QueryError for one that cannot be embedded, EmbedderError when the embedder fails.
        """
        return self.answer(text, k, dim, rerank, plan, recall, where).hits

    def answer(
        self,
        text: str,
        k: int = 10,
        dim: int | None = None,
        rerank: int = 0,
        plan: Plan | str | None = None,
        recall: float | None = None,
        where: str | None = None,
        *,
        group: bool = False,
    ) -> Answer:
        """As `query`, with the plan that was run and how long its steps took.

        `group`: of each document that was cut into chunks the best one, k documents if there are so many;
        the plan is run again with k and its keeps four times as large until they are found.
        """
        chosen = self.plan(k, dim, rerank, plan, recall)
        self.check_where(where)
        begin = time.perf_counter()
        vector = self.embed_queries([text])
        embed = time.perf_counter() - begin
        return self.answers([text], vector, chosen, k, where, group=group, embed=[embed])[0]

    def answers(
        self,
        queries: Sequence[str],
        vectors: NDArray[np.float32],
        plan: Plan,
        k: int,
        where: str | Selection | None = None,
        *,
        group: bool = False,
        embed: Sequence[float] | None = None,
    ) -> list[Answer]:
        """As `answer`, to several queries by one scan, with a checked plan and vectors (m, full_dim) given.

        `queries` is what each answer is told to be of, `where` also what `select` made of an expression,
        `embed` the seconds that each vector took. The scan's time and bytes are those of all together.
        """
        embed = embed or [0.0] * len(queries)
        if group:
            return [
                self._grouped(*each, plan, k, where) for each in zip(queries, vectors, embed, strict=True)
            ]
        top, runs = self.run(vectors, plan, k, where=where)
        documents = {d.row: d for d in self.documents(np.unique(top.rows))}
        return [
            self._answer(
                query,
                k,
                plan,
                seconds,
                [(score, documents[row]) for score, row in zip(scores, rows, strict=True) if row != NO_ROW],
                runs,
            )
            for query, seconds, scores, rows in zip(
                queries, embed, top.scores.tolist(), top.rows.tolist(), strict=True
            )
        ]

    def _grouped(
        self,
        query: str,
        vector: NDArray[np.float32],
        embed: float,
        plan: Plan,
        k: int,
        where: str | Selection | None,
    ) -> Answer:
        """The best chunk of each of the best k documents."""
        deep = partial(self._run_deep, vector, plan, k, where)
        found, runs = first_of_each(deep, self.documents, k, self.rows)
        return self._answer(query, k, plan, embed, found, runs)

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
        """The k documents nearest to the one with this id, itself left out; options as for `query`.

        The query is its stored row, so nothing is embedded. Raises UsageError, which suggests ids where
        there is no such document.
        """
        return self.answer_similar(id, k, dim, rerank, plan, recall, where).hits

    def answer_similar(
        self,
        id: str,
        k: int = 10,
        dim: int | None = None,
        rerank: int = 0,
        plan: Plan | str | None = None,
        recall: float | None = None,
        where: str | None = None,
    ) -> Answer:
        """As `similar`, with the plan that was run and how long its steps took; `query` is the id."""
        chosen = self.plan(k, dim, rerank, plan, recall)
        self._refuse_if_closed()
        row = np.array([self._conditions.row_of(id)])
        top, runs = self.run(self.vectors(row), chosen, k, row, where)
        return self._answer(id, k, chosen, 0.0, self._scored(top), runs)

    def _scored(self, top: Top) -> list[tuple[float, StoredDocument]]:
        """Scores and documents of the first query's rows, best first."""
        return list(zip(top.scores[0].tolist(), self.documents(top.rows[0]), strict=False))

    def _answer(
        self,
        query: str,
        k: int,
        plan: Plan,
        embed: float,
        found: Sequence[tuple[float, StoredDocument]],
        runs: list[StageStats],
    ) -> Answer:
        hits = [
            Hit(rank, d.row, score, d.id, d.title, d.url, d.text, d.metadata)
            for rank, (score, d) in enumerate(found, 1)
        ]
        timings = Timings(
            embed=embed * 1e3,
            scan=runs[0].seconds * 1e3,
            rerank=sum(run.seconds for run in runs[1:]) * 1e3,
        )
        return Answer(query, self.name, k, str(plan), timings, hits, runs)

    def _run_deep(
        self, query: NDArray[np.float32], plan: Plan, k: int, where: str | Selection | None, depth: int
    ) -> tuple[Top, list[StageStats]]:
        """The best `depth` rows by a plan that was made for k."""
        return self.run(query, plan.deepened(k, depth), depth, where=where)

    def __enter__(self) -> "Index":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_index(
    name: str | Path,
    *,
    home: str | Path | None = None,
    embedder: Embedder | None = None,
    threads: int | None = None,
    engine: str = "auto",
) -> Index:
    """Open an index by its name in the home, or by its folder (a Path, or a text with a separator).

    `embedder` embeds the queries instead of the one that the manifest names; it must be of the same
    space. A scan runs on `threads` threads (None: $RSEARCH_THREADS, else the cores there are) of
    `engine` (auto, numpy or numba). Raises UsageError, IndexNotFoundError, IndexFormatError and
    EmbedderMismatchError.
    """
    places = Home(expanded(home) if home is not None else default_home())
    for _ in range(MOST_TRIES):
        reader = IndexReader(resolve_index(name, places))
        try:
            index = Index(reader, places, embedder, threads=threads, engine=engine)
        except IndexFormatError:
            try:
                if not reader.has_moved_on():
                    raise
            finally:
                reader.close()
            continue
        except RsearchError:
            reader.close()
            raise
        if reader.is_in_place:
            return index
        index.close()  # replaced meanwhile: what was opened after the reader may be the new index's
    raise IndexBusyError(f"{name} is replaced again and again: try again later")
