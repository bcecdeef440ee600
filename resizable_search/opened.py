"""An index that is open: its rows, the plans that look through them, and what lies at a row."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.embedders.base import Embedder, EmbedderSpec
from resizable_search.embedders.cache import QueryCache
from resizable_search.embedders.trust import Trust
from resizable_search.errors import IndexFormatError, UsageError
from resizable_search.index.documents import StoredDocument
from resizable_search.index.kept import Kept
from resizable_search.index.layout import Home
from resizable_search.index.manifest import Manifest
from resizable_search.index.plans import StoredPlans, TunedPlan, plan_key, tune_command
from resizable_search.index.reader import IndexReader
from resizable_search.index.selection import Selection
from resizable_search.index.where import Conditions
from resizable_search.plan import Plan
from resizable_search.questions import Questions
from resizable_search.scan.choose import Chooser
from resizable_search.stages import Executor, StageRun
from resizable_search.topk import NO_ROW, Top


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
        self._questions = Questions(
            reader.name, reader.folder, spec, QueryCache(home.queries), Trust(home.trusted), embedder
        )
        self.fingerprint = spec.fingerprint
        """Of the embedder: vectors of queries that have it are this index's."""
        if spec.state_checksum:
            self._questions.hold()
        self._plans = StoredPlans(reader.folder, reader.manifest)
        self._conditions = Conditions(reader)
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
        self._reader.kept = Kept(characters)

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
                    f"`{command}`, or from Python with resizable_search.tune.tune(index, {recall:g}, k={k})"
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
    ) -> tuple[Top, list[StageRun]]:
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
