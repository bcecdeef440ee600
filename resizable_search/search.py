"""Query an index: a plan's stages over its parts, and the hits with their documents."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from resizable_search.answers import Answer, Hit, Timings
from resizable_search.embedders.base import Embedder
from resizable_search.errors import IndexBusyError, IndexFormatError, RsearchError
from resizable_search.grouping import first_of_each
from resizable_search.index.documents import StoredDocument
from resizable_search.index.layout import Home, default_home, expanded
from resizable_search.index.locate import find_index
from resizable_search.index.reader import MOST_TRIES, IndexReader
from resizable_search.index.selection import Selection
from resizable_search.opened import OpenedIndex
from resizable_search.plan import Plan
from resizable_search.stages import StageRun
from resizable_search.topk import NO_ROW, Top


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
        runs: list[StageRun],
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
    ) -> tuple[Top, list[StageRun]]:
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
        reader = IndexReader(find_index(name, places))
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
