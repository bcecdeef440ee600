"""What a search takes and what it returns, as values: its options, and the hits of an answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from resizable_search.engine.plan import Plan, check_recall
from resizable_search.errors import UsageError
from resizable_search.system import blas_threads

if TYPE_CHECKING:  # a command that a service answers loads no numpy
    from resizable_search.store.documents import StoredDocument
    from resizable_search.store.executor import StageStats

DEEPER = 4
"""A search by document takes so many times the rows of the one before."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search. Equal options may share a scan. Raises UsageError for values that make no sense.

    `k`: hits wanted. `dim`: scan the first so many dimensions (None: all). `rerank`: score
    rerank x max(k, 10) candidates again at the full dimension (0: none); it does nothing without `dim`.
    `plan`: the stages themselves, in place of these two; a text is parsed. `recall`: the plan that was tuned
    for this overlap and k, in place of all three. `where`: an SQL expression over id, title, url and
    metadata; it selects rows before the ranking. `group`: of each document only the best chunk, and of equal
    texts only the first; False: every row.
    """

    k: int = 10
    dim: int | None = None
    rerank: int = 0
    plan: Plan | str | None = None
    recall: float | None = None
    where: str | None = None
    group: bool = True

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UsageError(f"k must be 1 or more, not {self.k}")
        if self.rerank < 0:
            raise UsageError(f"rerank must be 0 (none) or more, not {self.rerank}")
        has_stages = self.dim is not None or self.rerank > 0
        if self.recall is not None:
            check_recall(self.recall)
            if has_stages or self.plan is not None:
                raise UsageError("recall names a tuned plan: give either it or a dimension, rerank or plan")
        if self.plan is not None:
            if has_stages:
                raise UsageError("a plan says dimension and rerank itself: give either it or them")
            if isinstance(self.plan, str):
                object.__setattr__(self, "plan", Plan.parse(self.plan))

    def with_plan(self, plan: Plan | str | None) -> "SearchOptions":
        """The same search by another plan; None: an exact scan at the full dimension."""
        return replace(self, dim=None, rerank=0, plan=plan, recall=None)


@dataclass(frozen=True, slots=True)
class Hit:
    """One result: `rank` from 1, `row` within this generation, `score` the cosine similarity.

    `copies`: other documents with the same text among the rows looked at; they are no hits themselves.
    """

    rank: int
    row: int
    score: float
    id: str
    title: str
    url: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    copies: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds to embed the text of a query, to scan and to rerank."""

    embed: float
    scan: float
    rerank: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of a query, which is a text or the id of a document, and how they were found."""

    query: str
    index: str
    k: int
    plan: str
    timings_ms: Timings
    hits: list[Hit]
    explain: "list[StageStats]"


def fields(answer: Answer, *, threads: int | None = None) -> dict[str, Any]:
    """An answer as a JSON object; a hit without metadata or copies has no such key.

    `threads`: those of the index; if given, `explain` has the stages.
    """
    timings = answer.timings_ms
    content: dict[str, Any] = {  # by hand: `asdict` takes ten times as long
        "query": answer.query,
        "index": answer.index,
        "k": answer.k,
        "plan": answer.plan,
        "timings_ms": {"embed": timings.embed, "scan": timings.scan, "rerank": timings.rerank},
        "hits": [_hit(hit) for hit in answer.hits],
    }
    if threads is not None:
        content["explain"] = [
            {
                "stage": run.stage,
                "rows_in": run.rows_in,
                "rows_out": run.rows_out,
                "ms": run.seconds * 1e3,
                "read": run.by,
                "bytes": run.read,
                "looked": run.rescored,
                "engine": run.engine,
                "threads": blas_threads() if run.engine == "numpy" else threads,
            }
            for run in answer.explain
        ]
    return content


def _hit(hit: Hit) -> dict[str, Any]:
    content: dict[str, Any] = {
        "rank": hit.rank,
        "row": hit.row,
        "score": hit.score,
        "id": hit.id,
        "title": hit.title,
        "url": hit.url,
        "text": hit.text,
    }
    if hit.metadata:
        content["metadata"] = dict(hit.metadata)
    if hit.copies:
        content["copies"] = hit.copies
    return content


ScoredDocuments = list[tuple[float, "StoredDocument", int]]
"""Documents with their scores, best first, and how many other documents have the same text."""


def best_of_each(scored: ScoredDocuments, k: int) -> ScoredDocuments:
    """The best k, one a document and one a text, with the copies that were left out.

    Chunks whose metadata name the same document belong together; any other row is its own document.
    """
    best: ScoredDocuments = []
    names: set[str] = set()
    texts: dict[str, int] = {}
    for score, document, _ in scored:
        name = str(document.metadata.get("document", document.id))
        if name in names:
            continue
        names.add(name)
        if (at := texts.get(document.text)) is not None:
            best[at] = (*best[at][:2], best[at][2] + 1)
        elif len(best) < k:
            if document.text:
                texts[document.text] = len(best)
            best.append((score, document, 0))
    return best


def as_answer(
    query: str,
    index: str,
    k: int,
    plan: Plan,
    embed_seconds: float,
    scored: ScoredDocuments,
    stages: "list[StageStats]",
) -> Answer:
    """The answer to a query of an index, whose vector took `embed_seconds`."""
    hits = [
        Hit(rank, d.row, score, d.id, d.title, d.url, d.text, d.metadata, copies)
        for rank, (score, d, copies) in enumerate(scored, 1)
    ]
    timings = Timings(
        embed=embed_seconds * 1e3,
        scan=stages[0].seconds * 1e3,
        rerank=sum(stage.seconds for stage in stages[1:]) * 1e3,
    )
    return Answer(query, index, k, str(plan), timings, hits, stages)
