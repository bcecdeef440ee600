"""What the HTTP API takes and gives, as pydantic models: checked on the way in, documented on the way out."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from resizable_search.engine.plan import Plan
from resizable_search.errors import UsageError
from resizable_search.search.options import SearchOptions

MOST_K = 1000
MOST_RERANK = 1000
MOST_CANDIDATES = 100_000
"""Rows that a stage may keep for the next."""

MOST_TEXTS = 100
MOST_CHARACTERS = 8192
MOST_WHERE = 2000
MOST_PLAN = 200
MOST_ROW = 2**63 - 1
MOST_DIM = 65_536
MOST_NAME = 255

Query = Annotated[StrictStr, Field(max_length=MOST_CHARACTERS)]
IndexName = Annotated[StrictStr, Field(max_length=MOST_NAME)]


def search_of(
    k: int,
    dim: int | None,
    rerank: int,
    plan: str | None,
    recall: float | None,
    where: str | None,
    group: bool,
) -> SearchOptions:
    """How to search. Raises UsageError for a plan that does not parse, or keeps more than is allowed."""
    options = SearchOptions(k, dim, rerank, plan, recall, where, group)
    keeps = [rerank * k]
    if isinstance(options.plan, Plan):
        keeps += [stage.keep or 0 for stage in options.plan.stages]
    if max(keeps) > MOST_CANDIDATES:
        raise UsageError(
            f"a stage may keep {MOST_CANDIDATES:,} rows here, not {max(keeps):,}: lower rerank or k"
        )
    return options


def invalid(errors: Sequence[Any], where: int = 0) -> str:
    """What is wrong with a request, the first thing of it, without what it holds.

    `errors` as pydantic tells them, whose places begin with so many words that say `where` it was.
    """
    # A query is a text or a list, and errors are of both: what is wrong with a list is told as of one.
    of_lists = [one for one in errors if any(str(step).startswith("list[") for step in one["loc"])]
    first = next((one for one in of_lists if one["type"] != "list_type"), errors[0])
    steps = [str(step) for step in first["loc"][where:]]
    place = ".".join(step for step in steps if not step.startswith(("constrained", "list[")))
    if first["type"] == "json_invalid":
        return "the request: it is no JSON"
    return f"{place}: {first['msg']}" if place else "the request: it is no JSON object"


class SearchRequest(BaseModel):
    """A search: one text, or a list of them. `dim`, `rerank`, `plan` and `recall` as in `rsearch query`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"query": "tree data structures", "dim": 256, "rerank": 10}},
    )

    query: Query | Annotated[list[Query], Field(min_length=1, max_length=MOST_TEXTS)]
    index: IndexName | None = Field(None, description="Its name; null: wiki100k, else the only one.")
    k: StrictInt = Field(10, ge=1, le=MOST_K, description="Hits wanted.")
    dim: StrictInt | None = Field(
        None, ge=1, le=MOST_DIM, description="Scan the first so many dimensions; null: all."
    )
    rerank: StrictInt = Field(
        0, ge=0, le=MOST_RERANK, description="Score rerank × k candidates again at the full dimension."
    )
    plan: StrictStr | None = Field(
        None, max_length=MOST_PLAN, description="The search as stages: 768:bits:400,768:int8:30,768"
    )
    recall: float | None = Field(
        None,
        strict=True,
        gt=0,
        le=1,
        description="The plan that `rsearch tune` has proven to reach this overlap@k.",
    )
    where: StrictStr | None = Field(
        None, max_length=MOST_WHERE, description="SQL expression over id, title, url and the metadata."
    )
    group: StrictBool = Field(False, description="Of each document that was cut into chunks, the best one.")
    explain: StrictBool = Field(False, description="Tell what each stage read, kept and took.")
    compare: StrictBool = Field(False, description="Give the full dimension's answer too, and the overlap.")

    def search(self) -> SearchOptions:
        """How to search. Raises UsageError for a plan that does not parse, or keeps more than is allowed."""
        return search_of(self.k, self.dim, self.rerank, self.plan, self.recall, self.where, self.group)


class Timings(BaseModel):
    """Milliseconds: to embed the text, to scan, to rerank. Queries that come together share a scan."""

    embed: float
    scan: float
    rerank: float


class Hit(BaseModel):
    """One result: `rank` from 1, `row` within this generation of the index, `score` the cosine similarity."""

    rank: int
    row: int
    score: float
    id: str
    title: str
    url: str
    text: str
    metadata: dict[str, Any] | None = None


class StageRun(BaseModel):
    """How a stage went: `bytes` of the index's files for each query, `looked` at by the definition."""

    stage: str
    rows_in: int
    rows_out: int
    ms: float
    read: str
    bytes: int
    looked: int
    engine: str
    threads: int


class FullAnswer(BaseModel):
    """The full dimension's answer to the same query, and the share of its hits that the answer has."""

    plan: str
    timings_ms: Timings
    hits: list[Hit]
    overlap: float
    explain: list[StageRun] | None = None


class Answer(BaseModel):
    """What `rsearch query --json` prints; `explain` and `full` where they were asked for."""

    query: str
    index: str
    k: int
    plan: str
    timings_ms: Timings
    hits: list[Hit]
    explain: list[StageRun] | None = None
    full: FullAnswer | None = None


class Answers(BaseModel):
    """An answer to each text of a list, in its order."""

    results: list[Answer]


class Document(BaseModel):
    """What lies at a row."""

    index: str
    row: int
    id: str
    title: str
    url: str
    text: str
    metadata: dict[str, Any]


class Embedder(BaseModel):
    """What an index was embedded by."""

    kind: str
    model: str


class TunedFor(BaseModel):
    """An overlap that a plan is proven to reach, for this k alone."""

    k: int
    recall: float


class TunedPlan(TunedFor):
    """The plan that reaches it."""

    plan: str


class IndexCard(BaseModel):
    """An index; `problem` says why it cannot be searched, null if it can."""

    name: str
    rows: int
    full_dim: int
    dims: list[int]
    columns: list[str]
    embedder: Embedder
    tuned: list[TunedPlan]
    problem: str | None


class Limits(BaseModel):
    """The most that a request may ask for."""

    k: int = MOST_K
    rerank: int = MOST_RERANK
    candidates: int = MOST_CANDIDATES
    batch: int = MOST_TEXTS
    query: int = MOST_CHARACTERS
    where: int = MOST_WHERE


class Indexes(BaseModel):
    """What there is to be searched; `default` is what a search without an index means."""

    version: str
    default: str | None
    limits: Limits
    indexes: list[IndexCard]


class Health(BaseModel):
    """That the service runs, and its version."""

    status: str
    version: str


class Problem(BaseModel):
    """What went wrong and what to do, in one line."""

    error: str
