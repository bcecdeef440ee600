"""What the tools of assistants take and give; the descriptions are for models that never saw the program."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from resizable_search.search.options import SearchOptions
from resizable_search.service.schemas import (
    MOST_CHARACTERS,
    MOST_DIM,
    MOST_NAME,
    MOST_RERANK,
    MOST_ROW,
    MOST_WHERE,
    TunedFor,
    search_of,
)

MOST_HITS = 100
"""Hits of one answer: whoever reads it reads all of it."""

MOST_PASSAGE = 4_000
MOST_LIMIT = 100_000

IndexName = Annotated[
    str | None,
    Field(
        max_length=MOST_NAME,
        description="Name of the index, as list_indexes tells it; null: the default one.",
    ),
]


class SearchWanted(BaseModel):
    """A search."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(
        min_length=1,
        max_length=MOST_CHARACTERS,
        description="What to look for, in plain words: a question, or what the wanted text would say.",
    )
    index: IndexName = None
    k: int = Field(10, ge=1, le=MOST_HITS, description="How many hits to return.")
    where: str | None = Field(
        None,
        max_length=MOST_WHERE,
        description=(
            "A condition that every hit must fulfil, as an SQL (SQLite) expression over the columns that "
            "list_indexes tells: year >= 2020 AND title LIKE '%tree%'. Use it for hard conditions on "
            "metadata; leave matters of meaning to the query."
        ),
    )
    dim: int | None = Field(
        None,
        ge=1,
        le=MOST_DIM,
        description=(
            "Look at the first so many dimensions of the embeddings alone: faster, less exact. Those in "
            "`dims` of list_indexes are fastest. null: all of them."
        ),
    )
    rerank: int = Field(
        0,
        ge=0,
        le=MOST_RERANK,
        description=(
            "With dim: score rerank × k of the best hits again at all dimensions, which wins back most of "
            "what dim loses. 10 is usual; 0: do not."
        ),
    )
    recall: float | None = Field(
        None,
        gt=0,
        le=1,
        description=(
            "Instead of dim and rerank: the fastest way that is proven to find this share of the exact "
            "answer. Only what `tuned` of list_indexes has, for that k."
        ),
    )
    group: bool = Field(
        False,
        description="Where long documents were cut into chunks: the best chunk of each document alone.",
    )
    passage: int = Field(
        400,
        ge=0,
        le=MOST_PASSAGE,
        description="Characters of each hit's passage at most; they get shorter where there are many hits.",
    )

    def search(self) -> SearchOptions:
        """How to search. Raises UsageError for more candidates than are allowed."""
        return search_of(self.k, self.dim, self.rerank, None, self.recall, self.where, self.group)


class FoundHit(BaseModel):
    """A document that was found."""

    rank: int = Field(description="1 for the best.")
    row: int = Field(description="Where it lies; another document may lie there once the index has changed.")
    score: float = Field(description="Cosine similarity to the query, at the dimension that ranked it.")
    id: str = Field(description="Its id; one that ends with … was cut: use the row.")
    title: str
    url: str
    passage: str = Field(description="Part of its text; … where it goes on.")
    length: int = Field(description="Characters of the whole text.")


class Found(BaseModel):
    """The hits, best first."""

    index: str
    plan: str = Field(description="How the index was searched.")
    hits: list[FoundHit]


class DocumentWanted(BaseModel):
    """A document, by its id or its row."""

    model_config = ConfigDict(extra="forbid")

    index: IndexName = None
    id: str | None = Field(None, max_length=MOST_CHARACTERS, description="Id of the document.")
    row: int | None = Field(
        None, ge=0, le=MOST_ROW, description="Row of the document, instead of its id; holds until it changes."
    )
    offset: int = Field(0, ge=0, le=MOST_ROW, description="Character of the text to begin at.")
    limit: int = Field(10_000, ge=1, le=MOST_LIMIT, description="Characters of the text to return at most.")


class Documented(BaseModel):
    """A document, and as much of its text as was asked for."""

    index: str
    row: int
    id: str
    title: str
    url: str
    metadata: dict[str, Any]
    metadata_left_out: int = Field(description="Entries of the metadata that are too long to be told.")
    text: str = Field(description="The text from offset on.")
    offset: int
    length: int = Field(description="Characters of the whole text.")
    next_offset: int | None = Field(description="Where the rest begins; null if there is none.")


class Nothing(BaseModel):
    """No arguments."""

    model_config = ConfigDict(extra="forbid")


class ListedIndex(BaseModel):
    """An index."""

    name: str
    rows: int = Field(description="How many documents it has.")
    full_dim: int = Field(description="Dimensions of its embeddings.")
    dims: Sequence[int] = Field(description="Dimensions that are stored, and so the fastest for `dim`.")
    columns: list[str] = Field(description="What `where` may name.")
    more_columns: int = Field(description="Columns that are not told here.")
    embedder: str = Field(description="What embeds its documents and queries.")
    tuned: list[TunedFor] = Field(description="For which k there is a proven `recall`.")
    problem: str | None = Field(description="Why it cannot be searched; null if it can.")


class Listed(BaseModel):
    """What can be searched."""

    default: str | None = Field(description="The index that is meant where none is named; null: name one.")
    indexes: list[ListedIndex]
    more: int = Field(description="Indexes that are not told here.")
    note: str | None = Field(description="What to do where there is no index.")
