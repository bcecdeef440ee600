"""What HTTP and MCP take and give, as pydantic models: checked on the way in, described on the way out."""

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator
from pydantic_core import PydanticCustomError

from resizable_search.engine.plan import Plan, candidates
from resizable_search.errors import UsageError
from resizable_search.search.planning import SearchOptions
from resizable_search.search.results import Timings
from resizable_search.store.tuned_plans import Curve

MOST_K = 1000
MOST_HITS = 10_000  # of one request: k times texts
MOST_RERANK = 1000
MOST_CANDIDATES = 100_000  # rows that a stage may keep for the next one
MOST_TEXTS = 100
MOST_CHARACTERS = 8192
MOST_WHERE = 2000
MOST_PLAN = 200
MOST_ROW = 2**63 - 1
MOST_DIM = 65_536
MOST_NAME = 255

Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]
Texts = Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
IndexName = Annotated[
    str | None,
    Field(max_length=MOST_NAME, description="Name of the index; null: wiki100k, else the only one."),
]
HitField = Literal[
    "rank", "row", "score", "id", "title", "url", "text", "snippet", "text_length", "metadata", "copies",
    "ranks",
]  # fmt: skip
NUMBERS = ("k", "dim", "rerank", "similar_row", "row", "offset", "limit", "snippet", "passage")
QUERIES = ("query", "vector", "similar", "similar_row")
OPTIONS = {field.name for field in fields(SearchOptions)}


def whole_number(value: Any) -> Any:
    """A value, unless it is a text that is no plain number: `01`, `1_0`, `+1`. Raises PydanticCustomError."""
    if isinstance(value, str) and not re.fullmatch("0|[1-9][0-9]*", value):
        raise PydanticCustomError("int_parsing", "Input should be a number in digits, such as 10")
    return value


class Request(BaseModel):
    """A request; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    _in_digits = field_validator(*NUMBERS, mode="before", check_fields=False)(whole_number)


class SearchFields(Request):
    """What HTTP and MCP may ask of a search; the options are those of `SearchOptions`.

    The descriptions are also for models that never saw the program.
    """

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
        """The options of a search. Raises UsageError for a wrong plan."""
        return SearchOptions(**{name: value for name, value in vars(self).items() if name in OPTIONS})


class OldSearchRequest(SearchFields):
    """A search: one text, or a list of texts. The options are those of `rsearch query`."""

    model_config = ConfigDict(strict=True)

    query: Texts
    plan: str | None = Field(None, max_length=MOST_PLAN, description="256:1bit:400,768")
    explain: bool = Field(False, description="Report what each stage read, kept and took.")
    compare: bool = Field(False, description="Add the full dimension's answer, and the overlap.")

    def options(self) -> SearchOptions:
        """As those of `SearchFields`. Raises UsageError also for more than a request may ask for."""
        options = super().options()
        self.check_size(options)
        return options

    def check_size(self, options: SearchOptions) -> None:
        """Raise UsageError for more candidates or hits than a request may ask for."""
        stages = options.plan.stages if isinstance(options.plan, Plan) else ()
        most = max([candidates(options.rerank, options.k), *(stage.keep or 0 for stage in stages)])
        if most > MOST_CANDIDATES:
            problem = f"a stage may keep {MOST_CANDIDATES:,} rows here, not {most:,}: lower rerank or k"
            raise UsageError(problem)
        texts = len(self.query) if isinstance(self.query, list) else 1
        hits = texts * options.k * (2 if self.compare else 1)
        if hits > MOST_HITS:
            raise UsageError(
                f"a request may ask for {MOST_HITS:,} hits, and this one asks for {hits:,}: lower k, send "
                "fewer texts at once, or leave compare out, which doubles them"
            )


class LocalSearchRequest(OldSearchRequest):
    """A search through the home's Unix socket: k has no limit."""

    k: int = Field(10, ge=1)
    rerank: int = Field(0, ge=0)
    similar: bool = False  # the query is the id of a document
    expects: dict[str, Any] | None = None
    """The `identity` of the only process that may answer, with `served`; others refuse with 412."""

    def check_size(self, options: SearchOptions) -> None:
        """Nothing: who asks is the user of this process."""


class SearchRequest(OldSearchRequest):
    """A search by a text, by a list of texts, by a vector, or by a document."""

    query: Texts | None = None  # type: ignore[assignment]
    """A text, or a list of texts."""
    vector: Annotated[list[FiniteFloat] | None, Field(min_length=1, max_length=MOST_DIM)] = None
    """Instead of a query: an embedding of the index's full dimension."""
    similar: str | None = Field(None, max_length=MOST_CHARACTERS)
    """Instead of a query: the id of a document, for the documents nearest to it."""
    similar_row: int | None = Field(None, ge=0, le=MOST_ROW)
    """Instead of a query: the row of a document."""
    offset: int = Field(0, ge=0, le=MOST_K, description="Leave out the first so many hits.")
    min_score: float | None = Field(None, allow_inf_nan=False)
    """Leave out hits with a lower score."""
    snippet: int | None = Field(None, ge=1, le=10_000)
    """Give `snippet` in place of `text`: a passage of so many characters around words of the query."""
    fields: list[HitField] | None = Field(None, min_length=1)
    """The fields of a hit; null: all."""

    def options(self) -> SearchOptions:
        """As those of `OldSearchRequest`. Raises UsageError also for two kinds of query."""
        given = [name for name in QUERIES if getattr(self, name, None) is not None]
        if len(given) != 1:
            problem = f"this search has {' and '.join(given) or 'no query'}: give one of {', '.join(QUERIES)}"
            raise UsageError(problem)
        if self.offset and self.recall is not None:
            raise UsageError("recall has a plan for its own k: leave offset or recall out")
        if (depth := self.k + self.offset) > MOST_K:
            raise UsageError(f"k and offset are {depth:,} together, at most {MOST_K:,}: lower one of them")
        options = SearchFields.options(self)
        options = replace(options, k=depth) if self.offset else options
        self.check_size(options)
        return options if self.query is not None else options.without_words()


class SearchParameters(SearchRequest):
    """A search in an address. Of `fields`, the names are separated by commas."""

    model_config = ConfigDict(strict=False)

    query: Text | None = Field(None, alias="q")

    @field_validator("fields", mode="before")
    @classmethod
    def _split(cls, values: list[str]) -> list[str]:
        return [name for value in values for name in value.split(",")]


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


class HitModel(BaseModel):
    """A hit, or those of its fields that were asked for."""

    rank: int = Field(1, description="From 1.")
    row: int = Field(0, description="Valid until the index changes.")
    score: float = Field(0.0, description="The cosine similarity at the dimension that ranked it.")
    id: str = ""
    title: str = ""
    url: str = ""
    text: str = Field("", description="The whole text; absent if `snippet` was asked for.")
    snippet: str = Field("", description="A passage of the text, if asked for.")
    text_length: int = Field(0, description="Characters of the whole text.")
    metadata: dict[str, Any] = {}
    copies: int = Field(0, description="Other documents with the same text, left out.")
    ranks: dict[str, int | None] | None = Field(
        None, description="Its rank by meaning and by words, if words count."
    )


class PlainAnswerModel(BaseModel):
    """The hits of one search; `explain` if requested."""

    plan: str
    timings_ms: Timings
    hits: list[HitModel]
    explain: list[StageModel] | None = None
    generation: str = Field("", description="That of the index which answered: see its list.")
    remark: str | None = Field(None, description="Why words did not count, though they were to.")
    missing: list[str] | None = Field(None, description="Parts that were not searched, and why.")


class FullAnswerModel(PlainAnswerModel):
    """The full dimension's answer to the same query; `overlap`: the share of its hits in the answer."""

    overlap: float


class AnswerModel(PlainAnswerModel):
    """The answer to one query: a text, the id of a document, or null for a vector; `full` if requested."""

    query: str | None
    index: str
    k: int
    full: FullAnswerModel | None = None


class AnswersModel(BaseModel):
    """An answer or an error for each text of a list, in its order."""

    results: list["AnswerModel | UnansweredModel"]


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
    overlap: float
    overlap_ci: tuple[float, float] = Field(description="Its 95 % interval.")
    ms: float = Field(description="The median of single queries.")


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
    local: bool = Field(default=False, description="Whether its embedder is on this machine.")


class IndexDetailModel(IndexModel):
    """An index, and what a first visit of it needs."""

    questions: Sequence[str] = Field(default=(), description="Titles or first words of three documents.")
    curve: Curve | None = Field(default=None, description="What `rsearch bench` measured; null before that.")


class LimitsModel(BaseModel):
    """The most that a request may ask for."""

    k: int = MOST_K
    rerank: int = MOST_RERANK
    candidates: int = MOST_CANDIDATES
    batch: int = MOST_TEXTS
    query: int = MOST_CHARACTERS
    where: int = MOST_WHERE
    hits: int = Field(default=MOST_HITS, description="k times texts; `compare` doubles them.")


class IndexesModel(BaseModel):
    """The indexes; `default`: the one of a search that names none."""

    version: str
    home: str | None = Field(description="What commands must name with --home; null: the usual home.")
    default: str | None
    limits: LimitsModel
    indexes: Sequence[IndexModel]


class OldErrorModel(BaseModel):
    """What is wrong and what to do, in one line."""

    error: str


class ProblemModel(BaseModel):
    """What is wrong and what to do."""

    code: str = Field(description="One of a closed list: see docs/service.md.")
    message: str
    hint: str = Field(description="What to do; may be empty.")
    field: str | None = Field(description="The field of the request that is wrong, if known.")


class ErrorModel(BaseModel):
    """The answer to a refused request."""

    error: ProblemModel


class UnansweredModel(ErrorModel):
    """A text of a list that has no answer."""

    query: str
