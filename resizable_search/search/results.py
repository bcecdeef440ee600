"""What a search returns, as values: the hits of an answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any

from resizable_search.system import blas_threads

if TYPE_CHECKING:  # a command that a service answers loads no numpy
    from resizable_search.engine.base import Top
    from resizable_search.engine.plan import Plan
    from resizable_search.store.documents import StoredDocument
    from resizable_search.store.executor import StageStats

DEEPER = 4  # a search by document takes so many times the rows of the one before


@dataclass(slots=True)  # frozen, it would take four times as long to make
class Hit:
    """One result: `rank` from 1, `row` within this generation, `score` the cosine similarity.

    By words, the score is the lexical one; by both, their weighted mean. `copies`: other documents with the
    same text, which are no hits. `ranks`, if words counted: by meaning (`dense`) and by words (`lexical`),
    from 1; None where it is not among the best.
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
    ranks: Mapping[str, int | None] | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds to embed a query, scan, rerank, score its words, and derive a dimension (`prepare`)."""

    embed: float
    scan: float
    rerank: float
    words: float = 0.0
    prepare: float = 0.0


@dataclass(slots=True)
class Answer:
    """The hits of a query, which is a text or the id of a document, and how they were found.

    `remark`: why words did not count; '' if they did. `generation`: the state of the index in a service.
    `missing`: the parts that were not searched, and why.
    """

    query: str
    index: str
    k: int
    plan: str
    timings_ms: Timings
    hits: list[Hit]
    explain: "list[StageStats]"
    remark: str = ""
    generation: str = ""
    missing: Sequence[str] = ()


_OPTIONAL = {"metadata", "copies", "ranks", "words", "prepare"}  # in JSON only if there is something to say


def fields(answer: Answer, *, threads: int | None = None, hits: Any = None) -> dict[str, Any]:
    """An answer as JSON, with other `hits` if given; with `explain` if the `threads` of the index are."""
    content: dict[str, Any] = {
        "query": answer.query,
        "index": answer.index,
        "k": answer.k,
        "plan": answer.plan,
        "timings_ms": _named(answer.timings_ms),
        "hits": [_named(hit) for hit in answer.hits] if hits is None else hits,
    }
    for name in ("generation", "remark", "missing"):
        if value := getattr(answer, name):
            content[name] = value
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


def _named(value: Hit | Timings) -> dict[str, Any]:
    """The attributes by name: `asdict`, which copies, takes ten times as long."""
    pairs = ((name, getattr(value, name)) for name in value.__slots__)
    return {name: content for name, content in pairs if content or name not in _OPTIONAL}


@dataclass(slots=True)
class ScoredDocument:
    """A document with its score, the ranks of a hit, and how many other documents have the same text."""

    score: float
    document: "StoredDocument"
    ranks: Mapping[str, int | None] | None = None
    copies: int = 0


def scored_documents(
    top: "Top", query: int, documents: Mapping[int, "StoredDocument"]
) -> list[ScoredDocument]:
    """The best rows of one of the queries that are among these documents by row."""
    both: Iterable[Any] = repeat(None)
    if top.ranks is not None:
        both = ({"dense": d or None, "lexical": w or None} for d, w in top.ranks[query].tolist())
    found = zip(top.rows[query].tolist(), top.scores[query].tolist(), both, strict=False)
    return [ScoredDocument(score, documents[row], ranks) for row, score, ranks in found if row in documents]


def best_of_each(scored: Sequence[ScoredDocument], k: int) -> list[ScoredDocument]:
    """The best k, one a document (which a chunk's metadata name) and one a text, with their copies."""
    best: list[ScoredDocument] = []
    names: set[str] = set()
    texts: dict[str, int] = {}
    for one in scored:
        document = one.document
        name = str(document.metadata.get("document", document.id))
        if name in names:
            continue
        names.add(name)
        if (at := texts.get(document.text)) is not None:
            best[at].copies += 1
        elif len(best) < k:
            if document.text:
                texts[document.text] = len(best)
            best.append(one)
    return best


def as_answer(
    query: str,
    index: str,
    k: int,
    plan: "Plan",
    embed_seconds: float,
    scored: Sequence[ScoredDocument],
    stages: "list[StageStats]",
    remark: str = "",
) -> Answer:
    """The answer to a query of an index, whose vector took `embed_seconds`."""
    hits = [
        Hit(rank, d.row, one.score, d.id, d.title, d.url, d.text, d.metadata, one.copies, one.ranks)
        for rank, one in enumerate(scored, 1)
        for d in (one.document,)
    ]
    times = [stage.seconds * 1e3 for stage in stages]
    words = 0.0 if plan.words is None else times.pop()
    prepare = sum(stage.prepare_seconds for stage in stages) * 1e3
    timings = Timings(embed_seconds * 1e3, sum(times[:1]), sum(times[1:]), words, prepare)
    missing = list(dict.fromkeys(part for stage in stages for part in stage.missing))
    return Answer(query, index, k, str(plan), timings, hits, stages, remark, missing=missing)
