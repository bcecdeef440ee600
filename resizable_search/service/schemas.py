"""What HTTP and MCP take and give, as pydantic models: checked on the way in, described on the way out."""

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from resizable_search.engine.plan import Plan, candidates
from resizable_search.errors import UsageError
from resizable_search.search.results import Hit, SearchOptions, Timings

MOST_K = 1000
MOST_RERANK = 1000
MOST_CANDIDATES = 100_000  # rows that a stage may keep for the next one

MOST_TEXTS = 100
MOST_CHARACTERS = 8192
MOST_WHERE = 2000
MOST_PLAN = 200
MOST_ROW = 2**63 - 1
MOST_DIM = 65_536
MOST_NAME = 255

MOST_TOOL_HITS = 100  # hits of one answer to an assistant, who reads all of them

MOST_PASSAGE = 4_000
MOST_PAGE = 100_000

Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]
IndexName = Annotated[
    str | None,
    Field(max_length=MOST_NAME, description="Name of the index; null: wiki100k, else the only one."),
]
OPTIONS = {field.name for field in fields(SearchOptions)}


def invalid(errors: Sequence[Any], skip: int = 0) -> str:
    """The first problem of a request in one line, without the request's content.

    `errors`: pydantic's, whose locations start with `skip` words that are of no interest.
    """
    # A query is a text or a list, and pydantic reports errors for both: those of lists say more.
    of_lists = [one for one in errors if any(str(step).startswith("list[") for step in one["loc"])]
    first = next((one for one in of_lists if one["type"] != "list_type"), errors[0])
    if first["type"] == "json_invalid":
        return "the request is not JSON"
    steps = [str(step) for step in first["loc"][skip:]]
    location = ".".join(step for step in steps if not step.startswith(("constrained", "list[")))
    return f"{location}: {first['msg']}" if location else "the request is not a JSON object"


class Request(BaseModel):
    """A request; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class SearchFields(Request):
    """What HTTP and MCP may ask of a search; the options are those of `SearchOptions`.

    The descriptions are also for models that never saw the program.
    """

    most_candidates: ClassVar[float] = MOST_CANDIDATES

    query: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
    index: IndexName = None
    k: int = Field(10, ge=1, le=MOST_K, description="Number of hits.")
    dim: int | None = Field(None, ge=1, le=MOST_DIM)
    """Compare only the first dimensions: faster, less exact. The index's `dims` are fastest; null: all."""
    rerank: int = Field(0, ge=0, le=MOST_RERANK)
    """With dim: score the best rerank × max(k, 10) hits again at all dimensions. 10 is usual; 0: none."""
    recall: float | None = Field(None, gt=0, le=1)
    """Instead of dim and rerank: the fastest search proven to find this share of the exact answer.

    Only the values in `tuned` of the index, for their k.
    """
    mode: Literal["dense", "lexical", "hybrid"] | None = None
    """Rank by meaning (dense), by words (lexical) or by both (hybrid): for names and identifiers.

    null: as the index is set up, else dense.
    """
    where: str | None = Field(None, max_length=MOST_WHERE)
    """A condition for every hit: SQL (SQLite) over the index's columns.

    Such as year >= 2020 AND title LIKE '%tree%'. Leave matters of meaning to the query.
    """
    group: bool = True
    """Only the best chunk of each document, and only the first of equal texts; false: every one."""

    def options(self) -> SearchOptions:
        """The options of a search. Raises UsageError for a wrong plan, and for too many candidates."""
        options = SearchOptions(**{name: value for name, value in vars(self).items() if name in OPTIONS})
        keeps = [candidates(options.rerank, options.k)]
        if isinstance(options.plan, Plan):
            keeps += [stage.keep or 0 for stage in options.plan.stages]
        if max(keeps) > self.most_candidates:
            raise UsageError(
                f"a stage may keep {MOST_CANDIDATES:,} rows here, not {max(keeps):,}: lower rerank or k"
            )
        return options


class SearchRequest(SearchFields):
    """A search: one text, or a list of texts. The options are those of `rsearch query`."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={"example": {"query": "tree data structures", "dim": 256, "rerank": 10}},
    )

    plan: str | None = Field(None, max_length=MOST_PLAN, description="256:1bit:400,768")
    explain: bool = Field(False, description="Report what each stage read, kept and took.")
    compare: bool = Field(False, description="Add the full dimension's answer, and the overlap.")


class LocalSearchRequest(SearchRequest):
    """A search through the home's Unix socket: k has no limit.

    `similar`: the query is the id of a document. `expects`: the `identity` of the only process that may
    answer; others refuse with 412, and its answer has `served`.
    """

    k: int = Field(10, ge=1)
    rerank: int = Field(0, ge=0)
    similar: bool = False
    expects: dict[str, Any] | None = None
    most_candidates: ClassVar[float] = math.inf


class StageModel(BaseModel):
    """A stage of a search: `bytes` read per query, `looked`: rows scored by the definition."""

    stage: str
    rows_in: int
    rows_out: int
    ms: float
    read: str
    bytes: int
    looked: int
    engine: str
    threads: int


class PlainAnswerModel(BaseModel):
    """The hits of one search; `explain` if requested."""

    plan: str
    timings_ms: Timings
    hits: list[Hit]
    explain: list[StageModel] | None = None
    generation: str = Field("", description="That of the index which answered: see /api/indexes.")
    remark: str | None = Field(None, description="Why words did not count, though they were to.")


class FullAnswerModel(PlainAnswerModel):
    """The full dimension's answer to the same query; `overlap`: the share of its hits in the answer."""

    overlap: float


class AnswerModel(PlainAnswerModel):
    """What `rsearch query --json` prints; `full` if requested."""

    query: str
    index: str
    k: int
    full: FullAnswerModel | None = None


class AnswersModel(BaseModel):
    """An answer to each text of a list, in its order."""

    results: list[AnswerModel]


class DocumentModel(BaseModel):
    """The document at a row."""

    index: str
    row: int
    id: str
    title: str
    url: str
    text: str
    metadata: dict[str, Any]


class EmbedderModel(BaseModel):
    """The embedder of an index."""

    kind: str = ""
    model: str = ""


class TunedModel(BaseModel):
    """An overlap that a plan is proven to reach for this k."""

    model_config = ConfigDict(from_attributes=True)

    k: int
    recall: float


class TunedPlanModel(TunedModel):
    """A tuned plan."""

    plan: str


class IndexFields(BaseModel):
    """What HTTP and MCP say of an index."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    name: str
    rows: int = Field(default=0, description="Number of documents.")
    full_dim: int = Field(default=0, description="Dimensions of its embeddings.")
    dims: Sequence[int] = Field(default=(), description="Stored dimensions: the fastest for `dim`.")
    columns: Sequence[str] = Field(default=(), description="What `where` may name.")
    problem: str | None = Field(default=None, description="Why it cannot be searched; null if it can.")


class IndexModel(IndexFields):
    """An index."""

    generation: str = Field(default="", description="Differs after every change of the index.")
    embedder: EmbedderModel = EmbedderModel()
    tuned: Sequence[TunedPlanModel] = ()


class LimitsModel(BaseModel):
    """The most that a request may ask for."""

    k: int = MOST_K
    rerank: int = MOST_RERANK
    candidates: int = MOST_CANDIDATES
    batch: int = MOST_TEXTS
    query: int = MOST_CHARACTERS
    where: int = MOST_WHERE


class IndexesModel(BaseModel):
    """The indexes; `default`: the one of a search that names none."""

    version: str
    default: str | None
    limits: LimitsModel
    indexes: list[IndexModel]


class ErrorModel(BaseModel):
    """What is wrong and what to do, in one line."""

    error: str


# -- the tools of assistants


class ToolSearch(SearchFields):
    """A search."""

    query: str = Field(min_length=1, max_length=MOST_CHARACTERS)
    """What to look for, in plain words: a question, or what the wanted text would say."""
    k: int = Field(10, ge=1, le=MOST_TOOL_HITS, description="Number of hits.")
    passage: int = Field(400, ge=0, le=MOST_PASSAGE)
    """Most characters of a hit's passage; fewer if hits are many."""


class ToolHit(BaseModel):
    """A hit."""

    rank: int = Field(description="1 for the best.")
    row: int = Field(description="Its row; a row may hold another document after the index has changed.")
    score: float = Field(description="Cosine similarity to the query, at the dimension that ranked it.")
    id: str = Field(description="Its id; an id that ends with … was cut: use the row.")
    title: str
    url: str
    passage: str = Field(description="Part of its text; … where the text continues.")
    length: int = Field(description="Characters of the whole text.")
    copies: int = Field(description="Other documents with the same text among the rows looked at, left out.")
    ranks: dict[str, int | None] | None = Field(
        description="Its rank by meaning and by words, if words count."
    )


class ToolHits(BaseModel):
    """The hits, best first."""

    index: str
    plan: str = Field(description="How the index was searched.")
    remark: str = Field(description="Why words did not count, though they were to; empty if they did.")
    hits: list[ToolHit]


class ToolDocumentRequest(Request):
    """A document, by its id or its row."""

    index: IndexName = None
    id: str | None = Field(None, max_length=MOST_CHARACTERS, description="Id of the document.")
    row: int | None = Field(None, ge=0, le=MOST_ROW, description="Its row, instead of its id.")
    offset: int = Field(0, ge=0, le=MOST_ROW, description="Character of the text to start at.")
    limit: int = Field(10_000, ge=1, le=MOST_PAGE, description="Characters of the text to return at most.")


class ToolDocument(BaseModel):
    """A document, and the requested part of its text."""

    index: str
    row: int
    id: str
    title: str
    url: str
    metadata: dict[str, Any]
    metadata_left_out: int = Field(description="Entries of the metadata that are too long to show.")
    text: str = Field(description="The text from offset on.")
    offset: int
    length: int = Field(description="Characters of the whole text.")
    next_offset: int | None = Field(description="Where the rest starts; null at the end.")


class ToolIndex(IndexFields):
    """An index."""

    more_columns: int = Field(description="Columns that are not listed here.")
    embedder: str = Field(description="What embeds its documents and queries.")
    tuned: list[TunedModel] = Field(description="The proven values of `recall`, each for its k.")


class ToolIndexes(BaseModel):
    """The indexes."""

    default: str | None = Field(description="The index of a search that names none; null: name one.")
    indexes: list[ToolIndex]
    more: int = Field(description="Indexes that are not listed here.")
    note: str | None = Field(description="What to do if there is no index.")
