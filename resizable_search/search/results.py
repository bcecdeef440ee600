"""The results of a search, as values."""

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
    """An answer as a JSON object; a hit without metadata has no such key.

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


_HIT_KEYS = ("rank", "row", "score", "id", "title", "url", "text")


def _hit(hit: Hit) -> dict[str, Any]:
    content = {name: getattr(hit, name) for name in _HIT_KEYS}
    return {**content, "metadata": dict(hit.metadata)} if hit.metadata else content
