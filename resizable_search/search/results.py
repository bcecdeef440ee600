"""What a search gives back, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resizable_search.system import blas_threads

if TYPE_CHECKING:  # a command that a service answers loads no numpy
    from resizable_search.store.executor import StageStats


@dataclass(frozen=True, slots=True)
class Hit:
    """One result: `rank` from 1, `row` within this generation, `score` the cosine similarity."""

    rank: int
    row: int
    score: float
    id: str
    title: str
    url: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds that a query took: to embed its text, to scan, to rerank."""

    embed: float
    scan: float
    rerank: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query found, and how: the object that `rsearch query --json` prints, `explain` on demand.

    `query` is the text, or the id of the document whose like were looked for.
    """

    query: str
    index: str
    k: int
    plan: str
    timings_ms: Timings
    hits: list[Hit]
    explain: "list[StageStats]"


def fields(answer: Answer, *, threads: int | None = None) -> dict[str, Any]:
    """An answer as the object that `rsearch query --json` prints; metadata only where a hit has some.

    `threads`: those of the index, to tell also how each stage went (milliseconds, bytes of the index's
    files for each query, rows scored by the definition).
    """
    timings = answer.timings_ms
    told: dict[str, Any] = {  # by hand: `asdict` takes ten times as long
        "query": answer.query,
        "index": answer.index,
        "k": answer.k,
        "plan": answer.plan,
        "timings_ms": {"embed": timings.embed, "scan": timings.scan, "rerank": timings.rerank},
        "hits": [_hit(hit) for hit in answer.hits],
    }
    if threads is not None:
        told["explain"] = [
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
    return told


def _hit(hit: Hit) -> dict[str, Any]:
    told = {
        "rank": hit.rank,
        "row": hit.row,
        "score": hit.score,
        "id": hit.id,
        "title": hit.title,
        "url": hit.url,
        "text": hit.text,
    }
    return {**told, "metadata": dict(hit.metadata)} if hit.metadata else told
