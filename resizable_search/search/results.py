"""What a search takes and what it returns, as values: its options, and the hits of an answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import TYPE_CHECKING, Any

from resizable_search.engine.plan import MODES, Plan, check_recall
from resizable_search.errors import UsageError
from resizable_search.system import blas_threads
from resizable_search.text import quoted

if TYPE_CHECKING:  # a command that a service answers loads no numpy
    from resizable_search.engine.base import Top
    from resizable_search.store.documents import StoredDocument
    from resizable_search.store.executor import StageStats

DEEPER = 4  # a search by document takes so many times the rows of the one before


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search. Equal options may share a scan. Raises UsageError for values that make no sense.

    `k`: hits wanted. `dim`: scan the first so many dimensions (None: all). `rerank`: score
    rerank x max(k, 10) candidates again at the full dimension (0: none); it does nothing without `dim`.
    `plan`: the stages themselves, in place of these two; a text is parsed. `recall`: the plan that was tuned
    for this overlap and k, in place of all three. `where`: an SQL expression over id, title, url and
    metadata; it selects rows before the ranking. `group`: of each document only the best chunk, and of equal
    texts only the first; False: every row. `mode`: `dense` ranks by meaning, `lexical` by words, `hybrid` by
    both; None: as the plan says, else the index's default, else dense.
    """

    k: int = 10
    dim: int | None = None
    rerank: int = 0
    plan: Plan | str | None = None
    recall: float | None = None
    where: str | None = None
    group: bool = True
    mode: str | None = None

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
        if self.mode is not None:
            self._check_mode(self.mode)

    def _check_mode(self, mode: str) -> None:
        """Raise UsageError unless the mode agrees with the other options."""
        if mode not in MODES:
            raise UsageError(f"mode must be one of {', '.join(MODES)}, not {quoted(mode)}")
        if mode == "lexical" and (self.dim, self.rerank, self.recall) != (None, 0, None):
            raise UsageError("mode lexical ranks by words alone: leave dimension, rerank and recall out")
        if (
            isinstance(self.plan, Plan)
            and self.plan.mode != mode
            and (self.plan.mode, mode) != ("dense", "hybrid")
        ):
            raise UsageError(f"plan {self.plan} is {self.plan.mode}, not {mode}: give either it or the mode")

    @property
    def wants_words(self) -> bool:
        """Whether the mode or the plan says that words count."""
        plan_has_words = isinstance(self.plan, Plan) and self.plan.words is not None
        return plan_has_words or self.mode not in (None, "dense")

    def without_words(self) -> "SearchOptions":
        """The options of a search by vectors. Raises UsageError if words are to count."""
        if self.wants_words:
            raise UsageError("a search by vectors has no words: search a text, or leave mode and lexical out")
        return replace(self, mode="dense")

    def by_meaning(self) -> "SearchOptions":
        """The same search without words."""
        plan = self.plan.in_mode("dense") if isinstance(self.plan, Plan) and self.plan.stages else None
        return replace(self, plan=plan, mode="dense")

    def with_plan(self, plan: Plan | str | None) -> "SearchOptions":
        """The same search by another plan; None: an exact scan at the full dimension."""
        mode = "dense" if plan is None else None
        return replace(self, dim=None, rerank=0, plan=plan, recall=None, mode=mode)


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
    plan: Plan,
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
