"""The relevance of what each plan finds, against human judgements: nDCG, recall, reciprocal rank.

Each plan runs every query once, for as many hits as the metrics need or as the plan keeps. The others are
compared with the full dimension, query by query.
"""

import statistics
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine.base import NO_ROW, Top, gather, result_width, without
from resizable_search.engine.plan import Plan
from resizable_search.errors import RsearchError, UsageError
from resizable_search.evaluate.bench import ANSWER_BATCH, BenchOptions, overlap_at_k, rerank_of
from resizable_search.evaluate.qrels import Metrics, Qrels
from resizable_search.progress import SILENT, Progress
from resizable_search.search.index import Index
from resizable_search.search.results import DEEPER
from resizable_search.statistics import RESAMPLES, paired_intervals
from resizable_search.text import counted, quoted

READ_BATCH = 1_000  # documents that are read together for their ids
ENDLESS = 1_000  # hits for a metric without a cut-off, such as AP; TREC's runs have as many
TIMED = 100  # single queries that are timed for each plan, round and round
EMBED_BATCH = 100  # queries that are embedded before they are cached: the most that a failing service loses


@dataclass(frozen=True, slots=True)
class MetricValue:
    """The mean of a metric, and its difference from the full dimension with its 95 % interval."""

    mean: float
    difference: float
    difference_ci: tuple[float, float] | None

    @property
    def is_certain(self) -> bool:
        """Whether the interval excludes 0."""
        return self.difference_ci is not None and (self.difference_ci[0] > 0 or self.difference_ci[1] < 0)


@dataclass(frozen=True, slots=True)
class EvaluatedPlan:
    """A plan with its metrics by name, from the first `depth` hits; `overlap` as `bench` measures it."""

    dim: int
    rerank: int | None
    plan: str
    depth: int
    measures: dict[str, MetricValue]
    overlap: float
    overlap_ci: tuple[float, float] | None
    ms: float  # the median time of a single query for k hits, without embedding


@dataclass(frozen=True, slots=True)
class JudgedQueries:
    """How many queries were judged, their source, and the ids of unusual ones."""

    count: int
    source: str
    embed_seconds: float
    unasked: list[str]  # judged without a text; in no mean
    silent: list[str]  # without a word that the embedder knows; no hits
    hopeless: list[str]  # without a relevant document; always 0
    documents: list[str]
    """Documents of the index by the same id; a query does not find itself, as in BEIR's own evaluation."""


@dataclass(frozen=True, slots=True)
class JudgedDocuments:
    """How many documents are judged, and how many of these the index lacks."""

    count: int
    absent: int


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The JSON of `eval`. `by_chunk`: each document counts by its best chunk."""

    index: str
    rows: int
    full_dim: int
    k: int
    queries: JudgedQueries
    documents: JudgedDocuments
    engine: str
    threads: int
    seed: int
    resamples: int
    by_chunk: bool
    plans: list[EvaluatedPlan]

    @property
    def title(self) -> str:
        """What was evaluated, in one line."""
        judged = counted(self.queries.count, "judged query")
        return f"{self.index} · {self.rows:,} × {self.full_dim} · k {self.k} · {judged}"


class DocumentGroups:
    """The documents that an index's live rows were cut from: `rows` has the first row of each by its name."""

    def __init__(self, names: Sequence[str], live_rows: NDArray[np.int64]) -> None:
        self.rows: dict[str, int] = {}
        self._first_rows = np.full(len(names), NO_ROW, np.int64)
        for row in live_rows.tolist():
            self._first_rows[row] = self.rows.setdefault(names[row], row)
        self.names = {row: name for name, row in self.rows.items()}

    def best(self, search: Callable[[int], Top], k: int) -> Top:
        """The best k documents for each query, as first rows; `search(n)` returns the best n rows of each."""
        most = len(self._first_rows)
        k = result_width(k, most)
        depth = min(k * DEEPER, most)
        while True:
            top, best = search(depth), []
            for scores, rows in zip(top.scores, top.rows, strict=True):
                first_rows = self._first_rows[rows[rows != NO_ROW]]
                ranks = np.sort(np.unique(first_rows, return_index=True)[1])[:k]
                best.append((scores[ranks], first_rows[ranks]))
            if depth >= most or all(len(first_rows) == k for _, first_rows in best):
                return gather(best, k)
            depth = min(depth * DEEPER, most)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The report, and what is behind it."""

    report: EvaluationReport
    ids: list[str]  # of the queries
    names: tuple[str, ...]  # of the metrics
    values: NDArray[np.float64]  # (plans, queries, metrics)
    tops: list[Top]  # the rows and scores of each plan; with `groups` those of documents
    groups: DocumentGroups | None = None

    def per_query(self) -> Iterator[tuple[str, str, list[float]]]:
        """Query, plan, and the values of the metrics, query by query."""
        for number, query in enumerate(self.ids):
            for plan, values in zip(self.report.plans, self.values[:, number], strict=True):
                yield query, plan.plan, values.tolist()

    def run_of(self, index: Index, number: int) -> Iterator[tuple[str, str, int, float]]:
        """The run of a plan: query, document id, rank from 1, and score, lowered a little where equal."""
        top = self.tops[number]
        ids: dict[int, str] = {}
        rows = np.unique(top.rows[top.rows != NO_ROW]).tolist()
        if self.groups is not None:
            ids = self.groups.names
        else:
            for start in range(0, len(rows), READ_BATCH):
                part = rows[start : start + READ_BATCH]
                ids |= {row: doc.id for row, doc in zip(part, index.documents(part), strict=True)}
        for query, of_query, scores in zip(self.ids, top.rows.tolist(), top.scores, strict=True):
            last = np.float32(np.inf)
            for rank, (row, score) in enumerate(zip(of_query, scores, strict=True), 1):
                if row != NO_ROW:
                    last = min(score, np.nextafter(last, np.float32(-np.inf)))
                    yield query, ids[row], rank, float(last)


def evaluate(
    index: Index,
    qrels: Qrels,
    options: BenchOptions | None = None,
    metrics: Metrics | None = None,
    *,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Evaluation:
    """Run every query by each plan of the options, and compute the metrics (None: the usual ones).

    A judged document that the index lacks counts as not found, as in trec_eval. Raises UsageError,
    EmbedderError, and RsearchError if the index has no judged document.
    """
    options, metrics = (options or BenchOptions()).check(), metrics or Metrics.parse()
    if seed < 0:
        raise UsageError(f"`seed` must be 0 or more, not {seed}")
    plans = options.chosen_plans(index.full_dim, index.dims)
    rows, groups = _named_rows(index, qrels)
    ids = list(qrels.queries)
    own_rows = np.array([rows.get(id_, NO_ROW) for id_ in ids], np.int64)
    begin = time.perf_counter()
    texts = np.array(list(qrels.queries.values()), object)
    vectors, known = _embedded(index, texts.tolist(), progress)
    seconds = time.perf_counter() - begin
    engine = index.warm()
    if index.remark:
        progress.note(index.remark)
    # A document is named by its row, an absent one by a word.
    relevance = {
        query: {str(rows.get(id_, f"absent {id_}")): grade for id_, grade in qrels.relevance[query].items()}
        for query in ids
    }
    depth = result_width(max(options.k, metrics.depth or ENDLESS), index.rows)
    progress.stage("evaluating", len(plans), "plans")
    tops, values, times = [], [], []
    for plan in plans:
        hits = min([depth, *plan.keeps(depth)])
        top = _searched(index, vectors, texts, known, own_rows, plan, hits, groups)
        found = zip(ids, top.rows.tolist(), strict=True)
        ranked = {query: [str(row) for row in best if row != NO_ROW] for query, best in found}
        tops.append(top)
        values.append(metrics.of(relevance, ranked))
        times.append(_milliseconds(index, vectors[known], texts[known], plan, options.k))
        progress.advance(1)
    compared = _metric_values(np.stack(values), metrics.names, seed)
    top_k = [[line[line != NO_ROW] for line in top.rows[known, : options.k]] for top in tops]
    evaluated = [
        EvaluatedPlan(
            plan.dim or index.full_dim,
            rerank_of(plan, options.k, index.full_dim),
            str(plan),
            top.rows.shape[1],
            measures,
            *overlap_at_k(top_k[0], best),
            ms,
        )
        for plan, top, measures, best, ms in zip(plans, tops, compared, top_k, times, strict=True)
    ]
    report = EvaluationReport(
        index=index.name,
        rows=index.rows,
        full_dim=index.full_dim,
        k=options.k,
        queries=JudgedQueries(
            count=len(ids),
            source=qrels.source,
            embed_seconds=seconds,
            unasked=list(qrels.unasked),
            silent=[query for query, is_known in zip(ids, known.tolist(), strict=True) if not is_known],
            hopeless=qrels.hopeless,
            documents=[query for query in ids if query in rows],
        ),
        documents=JudgedDocuments(len(qrels.documents), len(qrels.documents - rows.keys())),
        engine=engine,
        threads=index.threads,
        seed=seed,
        resamples=RESAMPLES,
        by_chunk=groups is not None,
        plans=evaluated,
    )
    return Evaluation(report, ids, metrics.names, np.stack(values), tops, groups)


def _named_rows(index: Index, qrels: Qrels) -> tuple[dict[str, int], DocumentGroups | None]:
    """The rows of judged documents and of queries by id, and the groups of chunks. Raises RsearchError."""
    judged = qrels.documents
    groups = None
    if index.manifest.corpus.get("chunk"):
        groups = DocumentGroups(index.document_names(), index.live_rows())
    rows = groups.rows if groups else index.rows_of({*judged, *qrels.queries})
    if not judged & rows.keys():
        none = f"{index.name} has none of the {counted(len(judged), 'document')} that {qrels.source} judges"
        raise RsearchError(f"{none}, such as {quoted(min(judged))}: name the index with these ids")
    return rows, groups


def _embedded(
    index: Index, texts: Sequence[str], progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The vectors of texts (n, full_dim), and which are known (n,); others are zero. Raises UsageError."""
    progress.stage("embedding", len(texts), "queries")
    parts = []
    for start in range(0, len(texts), EMBED_BATCH):
        some = texts[start : start + EMBED_BATCH]
        parts.append(index.embed_known(some))
        progress.advance(len(some))
    vectors, known = map(np.concatenate, zip(*parts, strict=True))
    if not known.any():
        raise UsageError(f"no query has a word that {index.name}'s embedder knows: look at their texts")
    return vectors, known


def _milliseconds(
    index: Index, vectors: NDArray[np.float32], texts: NDArray[np.object_], plan: Plan, k: int
) -> float:
    """The median time of a single query, with the files in memory."""
    turns = cycle(zip(vectors, texts, strict=True))

    def run() -> None:
        vector, text = next(turns)
        index.run(vector[None], plan, k, texts=[text])

    run()  # loads the files
    return statistics.median(timeit.repeat(run, number=1, repeat=TIMED)) * 1e3


def _metric_values(
    values: NDArray[np.float64], names: Sequence[str], seed: int
) -> list[dict[str, MetricValue]]:
    """The metrics of each plan by name, compared with the first plan; `values` (plans, queries, metrics)."""
    differences = values - values[0]
    plans, count, metrics = values.shape
    # One resampling for all: a column for each plan and metric.
    columns = differences[1:].transpose(1, 0, 2).reshape(count, -1)
    intervals = paired_intervals(columns, seed).reshape(plans - 1, metrics, 2)
    by_plan: list[dict[str, MetricValue]] = [{} for _ in range(plans)]
    for number, by_name in enumerate(by_plan):
        for column, name in enumerate(names):
            interval = tuple(intervals[number - 1, column].tolist()) if number and count > 1 else None
            mean = float(values[number, :, column].mean())
            by_name[name] = MetricValue(mean, float(differences[number, :, column].mean()), interval)
    return by_plan


def _searched(
    index: Index,
    vectors: NDArray[np.float32],
    texts: NDArray[np.object_],
    known: NDArray[np.bool_],
    own_rows: NDArray[np.int64],
    plan: Plan,
    hits: int,
    groups: DocumentGroups | None,
) -> Top:
    """The hits of a plan for each query but its own row, by document if there are `groups`."""
    more = int((own_rows != NO_ROW).any())
    shape = len(vectors), hits
    top = Top(np.full(shape, -np.inf, np.float32), np.full(shape, NO_ROW, np.int64))
    numbers = np.flatnonzero(known)
    for part in np.split(numbers, range(ANSWER_BATCH, len(numbers), ANSWER_BATCH)):

        def search(depth: int, part: NDArray[np.int64] = part) -> Top:
            return index.run(vectors[part], plan.deepened(hits, depth), depth, texts=texts[part].tolist())[0]

        if groups is None:
            own = own_rows[part] if more else None
            best = index.run(vectors[part], plan, hits, own, texts=texts[part].tolist())[0]
        else:
            best = without(groups.best(search, hits + more), own_rows[part], hits)
        top.scores[part], top.rows[part] = best.scores, best.rows
    return top
