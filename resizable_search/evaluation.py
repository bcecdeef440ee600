"""What came of an evaluation, as values: the figures that are printed, and what they were made of."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resizable_search.grouping import Wholes
from resizable_search.search import Index
from resizable_search.topk import NO_ROW, Top

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
    wholes: Wholes | None = None

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
