"""What a search gives back, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resizable_search.stages import StageRun


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
    explain: list[StageRun]
