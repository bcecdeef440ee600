"""What came of an evaluation, as values: the figures that are printed, and what they were made of.

What each way to search finds of what people judged relevant: nDCG, recall, reciprocal rank by plan.

Overlap says how much of the full dimension's answer a cheaper search keeps; judgements say how much of
that mattered. Each plan is asked every query, once, for as many hits as the measures look at, or as it
keeps, if those are fewer. The full dimension is what the others are compared with, query by query.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine.plan import Plan
from resizable_search.engine.topk import NO_ROW, Top, result_width
from resizable_search.errors import RsearchError, UsageError
from resizable_search.evaluate.bench import AT_ONCE, overlap_at_k, rerank_of
from resizable_search.evaluate.bench_options import BenchOptions
from resizable_search.evaluate.metrics import MOST_CUT, USUAL, Metrics
from resizable_search.evaluate.qrels import Qrels
from resizable_search.progress import SILENT, Progress
from resizable_search.search.groups import DocumentGroups
from resizable_search.search.index import Index
from resizable_search.statistics import RESAMPLES, paired_intervals
from resizable_search.text import counted, quoted

READ_AT_ONCE = 1_000
"""Documents that are read at once for their ids."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A measure's mean over the queries, and how far that is from the full dimension's.

    `difference_ci` is the 95 % interval of that difference (`confidence.paired_intervals`); None for the
    full dimension itself, and for a single query.
    """

    mean: float
    difference: float
    difference_ci: tuple[float, float] | None

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves no doubt that there is a difference, and of which sign."""
        return self.difference_ci is not None and (self.difference_ci[0] > 0 or self.difference_ci[1] < 0)


@dataclass(frozen=True, slots=True)
class EvaluatedPlan:
    """One way to search, judged.

    `depth` is how many hits it gave for the measures, the most that it keeps if those are fewer.
    `measures` by name, in the order that they were asked in. `overlap` is the mean share of the full
    dimension's top k that it finds, with its 95 % interval; `ms` the median time of a single query for k
    hits, once it is embedded.
    """

    dim: int
    rerank: int | None
    plan: str
    depth: int
    measures: dict[str, Measured]
    overlap: float
    overlap_ci: tuple[float, float] | None
    ms: float


@dataclass(frozen=True, slots=True)
class JudgedQueries:
    """Which queries were judged: how many, from where, and what should be known of some.

    `unasked`: judged, but their texts are not there, so that they count in no mean. `silent`: blank, or
    the embedder knows no word of them; they find nothing. `hopeless`: no document is relevant, so that
    they count as 0 whatever is found.
    """

    count: int
    source: str
    embed_seconds: float
    unasked: list[str]
    silent: list[str]
    hopeless: list[str]


@dataclass(frozen=True, slots=True)
class JudgedDocuments:
    """How many documents are judged, and how many of those the index lacks: they cannot be found."""

    count: int
    absent: int


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What `rsearch eval --json` prints. `by_chunk`: of each document, its best chunk counts."""

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


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The report, and what it was made of.

    `ids` are the queries'; `values` (plans, queries, measures) each measure of each query; `tops` for each
    plan the rows and scores that it gave, a row of those a query, `NO_ROW` where there was none. With
    `wholes` these are the first rows of documents, whose best chunks have the scores.
    """

    report: EvaluationReport
    ids: list[str]
    names: tuple[str, ...]
    values: NDArray[np.float64]
    tops: list[Top]
    wholes: DocumentGroups | None = None

    def per_query(self) -> Iterator[tuple[str, str, list[float]]]:
        """Query, plan, and the values of the measures, query by query."""
        for number, query in enumerate(self.ids):
            for plan, values in zip(self.report.plans, self.values[:, number], strict=True):
                yield query, plan.plan, values.tolist()

    def run_of(self, index: Index, number: int) -> Iterator[tuple[str, str, int, float]]:
        """What the plan of that number found: query, document's id, rank from 1, and a score.

        Scores are lowered by as little as a float32 can be where they do not fall, since programs that
        read a run go by its scores alone and order equal ones as they like.
        """
        top = self.tops[number]
        ids: dict[int, str] = {}
        rows = np.unique(top.rows[top.rows != NO_ROW])
        for start in range(0, len(rows), READ_AT_ONCE):
            some = rows[start : start + READ_AT_ONCE].tolist()
            if self.wholes is not None:
                ids |= {row: self.wholes.name(row) for row in some}
                continue
            ids |= {row: document.id for row, document in zip(some, index.documents(some), strict=True)}
        for query, found, scores in zip(self.ids, top.rows.tolist(), top.scores, strict=True):
            last = np.float32(np.inf)
            for rank, (row, score) in enumerate(zip(found, scores, strict=True), 1):
                if row != NO_ROW:
                    last = min(score, np.nextafter(last, np.float32(-np.inf)))
                    yield query, ids[row], rank, float(last)


ENDLESS = 1_000
"""How many hits are looked at by a measure without a cut-off, such as AP; TREC's own runs are so long."""

TIMED, FEWEST_TIMED = 200, 20
"""So many single queries are timed for each plan: one after the other, round and round if there are fewer."""

EMBEDDED_AT_ONCE = 100
"""Queries that are embedded before they are kept: what is lost if a service fails."""


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What to evaluate: plans as `BenchOptions` has them, by measures that `Metrics.parse` takes.

    `k` is that of the overlap and of the times, and what a rerank is a multiple of. `seed` draws the
    queries of the intervals.
    """

    dims: tuple[int, ...] | None = None
    reranks: tuple[int, ...] = ()
    plans: tuple[str, ...] = ()
    k: int = 10
    measures: str | Sequence[str] = USUAL
    seed: int = 0

    def check(self) -> "EvaluationOptions":
        """The options themselves, if they make sense on some index; else UsageError."""
        if not 1 <= self.k <= MOST_CUT:
            raise UsageError(f"k must be 1 to {MOST_CUT:,} to be evaluated, not {self.k}")
        if self.seed < 0:
            raise UsageError(f"--seed must be 0 or more, not {self.seed}")
        Metrics.parse(self.measures)
        for plan in self.plans:
            Plan.parse(plan)
        return self

    def chosen_plans(self, index: Index) -> list[Plan]:
        """What is evaluated on an index, the full dimension first. Raises UsageError."""
        ways = BenchOptions(dims=self.dims, reranks=self.reranks, plans=self.plans, k=self.k)
        return ways.chosen_plans(index.full_dim, index.dims)


def evaluate(
    index: Index,
    judgements: Qrels,
    options: EvaluationOptions | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Ask each plan every query, and measure what it finds.

    A judged document that the index lacks is one that was not found, as in trec_eval. Raises UsageError,
    EmbedderError, and RsearchError where nothing that is judged is in the index.
    """
    options = (options or EvaluationOptions()).check()
    measures = Metrics.parse(options.measures)
    plans = options.chosen_plans(index)
    judged = judgements.documents
    wholes = None
    if index.manifest.corpus.get("chunk"):
        wholes = DocumentGroups(index.document_names(), index.found_rows())
    rows = _rows_of(index, judged, judgements.source, wholes)
    ids = list(judgements.queries)
    begin = time.perf_counter()
    vectors, known = _embedded(index, list(judgements.queries.values()), progress)
    seconds = time.perf_counter() - begin
    engine = index.warm()
    if index.remark:
        progress.note(index.remark)
    relevance = {
        query: {_name(rows, id_): grade for id_, grade in judgements.relevance[query].items()}
        for query in ids
    }
    depth = result_width(max(options.k, measures.depth or ENDLESS), index.rows)
    progress.stage("evaluating", len(plans), "plans")
    tops, values, times = [], [], []
    for plan in plans:
        top = _asked(index, vectors, known, plan, _hits(plan, depth), wholes)
        found = {
            query: [str(row) for row in of_query[of_query != NO_ROW].tolist()]
            for query, of_query in zip(ids, top.rows, strict=True)
        }
        tops.append(top)
        values.append(measures.of(relevance, found))
        times.append(_milliseconds(index, vectors[known], plan, options.k))
        progress.advance(1)
    together = np.stack(values)
    report = EvaluationReport(
        index=index.name,
        rows=index.rows,
        full_dim=index.full_dim,
        k=options.k,
        queries=JudgedQueries(
            count=len(ids),
            source=judgements.source,
            embed_seconds=seconds,
            unasked=list(judgements.unasked),
            silent=[query for query, says in zip(ids, known.tolist(), strict=True) if not says],
            hopeless=judgements.hopeless,
        ),
        documents=JudgedDocuments(len(judged), len(judged) - len(rows)),
        engine=engine,
        threads=index.threads,
        seed=options.seed,
        resamples=RESAMPLES,
        by_chunk=wholes is not None,
        plans=_judged(plans, tops, together, times, measures.names, known, index.full_dim, options),
    )
    return Evaluation(report, ids, measures.names, together, tops, wholes)


def _judged(
    plans: Sequence[Plan],
    tops: Sequence[Top],
    values: NDArray[np.float64],
    times: Sequence[float],
    names: Sequence[str],
    known: NDArray[np.bool_],
    full_dim: int,
    options: EvaluationOptions,
) -> list[EvaluatedPlan]:
    """The plans with what came of them; the first is what the others are compared with."""
    differences = values[1:] - values[0]
    count = values.shape[1]
    # Every plan and measure in one resampling: a column each.
    columns = differences.transpose(1, 0, 2).reshape(count, -1)
    intervals = paired_intervals(columns, options.seed).reshape(*differences.shape[::2], 2)
    truth = [_best(rows, options.k) for rows in tops[0].rows[known]]
    found = []
    for number, plan in enumerate(plans):
        measured = {}
        for column, name in enumerate(names):
            low, high = intervals[number - 1, column].tolist() if number and count > 1 else (0.0, 0.0)
            measured[name] = Measured(
                float(values[number, :, column].mean()),
                float(differences[number - 1, :, column].mean()) if number else 0.0,
                (low, high) if number and count > 1 else None,
            )
        overlap, interval = overlap_at_k(truth, [_best(rows, options.k) for rows in tops[number].rows[known]])
        found.append(
            EvaluatedPlan(
                dim=plan.stages[0].dim,
                rerank=rerank_of(plan, options.k, full_dim),
                plan=str(plan),
                depth=tops[number].rows.shape[1],
                measures=measured,
                overlap=overlap,
                overlap_ci=interval if len(truth) > 1 else None,
                ms=times[number],
            )
        )
    return found


def _rows_of(index: Index, judged: set[str], source: str, wholes: DocumentGroups | None) -> dict[str, int]:
    """The rows of the judged documents that the index has, those of `wholes` where it holds chunks.

    Raises RsearchError if it has none.
    """
    if wholes is None:
        rows = index.rows_of(judged)
    else:
        rows = {id_: wholes.rows[id_] for id_ in judged if id_ in wholes.rows}
    if not rows:
        raise RsearchError(
            f"{index.name} has none of the {counted(len(judged), 'document')} that {source} judges, such as "
            f"{quoted(min(judged))}: take the index that holds them, by the same ids"
        )
    return rows


def _embedded(
    index: Index, texts: Sequence[str], progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Raw vectors of the queries, and which of them say something. Raises UsageError if none does."""
    progress.stage("embedding", len(texts), "queries")
    vectors = np.zeros((len(texts), index.full_dim), np.float32)
    known = np.zeros(len(texts), bool)
    for start in range(0, len(texts), EMBEDDED_AT_ONCE):
        part = slice(start, start + EMBEDDED_AT_ONCE)
        vectors[part], known[part] = index.embed_known(texts[part])
        progress.advance(len(texts[part]))
    if not known.any():
        raise UsageError(f"no query has a word that {index.name}'s embedder knows: look at their texts")
    return vectors, known


def _asked(
    index: Index,
    vectors: NDArray[np.float32],
    known: NDArray[np.bool_],
    plan: Plan,
    hits: int,
    wholes: DocumentGroups | None,
) -> Top:
    """What a plan finds for each query, by documents where there are `wholes`; silent ones find nothing."""
    top = Top(
        np.full((len(vectors), hits), -np.inf, np.float32), np.full((len(vectors), hits), NO_ROW, np.int64)
    )
    places = np.flatnonzero(known)
    for start in range(0, len(places), AT_ONCE):
        some = places[start : start + AT_ONCE]
        if wholes is None:
            found, _ = index.run(vectors[some], plan, hits)
        else:
            found = wholes.best(partial(_deep, index, vectors[some], plan, hits), hits)
        top.scores[some], top.rows[some] = found.scores, found.rows
    return top


def _deep(index: Index, vectors: NDArray[np.float32], plan: Plan, hits: int, depth: int) -> Top:
    """The best `depth` rows by a plan that is for so many hits."""
    return index.run(vectors, plan.deepened(hits, depth), depth)[0]


def _hits(plan: Plan, depth: int) -> int:
    """How many hits a plan can give: no more than any of its stages keeps."""
    return min([depth, *(stage.keep for stage in plan.stages if stage.keep is not None)])


def _milliseconds(index: Index, vectors: NDArray[np.float32], plan: Plan, k: int) -> float:
    """The median time of a single query."""
    times = []
    index.run(vectors[:1], plan, k)  # brings the files into memory
    for number in range(max(FEWEST_TIMED, min(TIMED, len(vectors)))):
        query = vectors[number % len(vectors)][None]
        begin = time.perf_counter()
        index.run(query, plan, k)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def _best(rows: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    best = rows[:k]
    found: NDArray[np.int64] = best[best != NO_ROW]
    return found


def _name(rows: dict[str, int], id_: str) -> str:
    """What a judged document is called while it is measured: its row, or what no row is called."""
    row = rows.get(id_)
    return f"absent {id_}" if row is None else str(row)
