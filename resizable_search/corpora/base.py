"""What a corpus is: an ordered, reopenable stream of documents.

A corpus yields the same documents in the same order whenever it is opened, so that a build which
was stopped can go on where it was. It hands them out in blocks; behind each block stands the
position from which `blocks` continues with the document after it. A position is plain JSON and
means something to the corpus that made it alone. A corpus is described by a `CorpusSpec`, which
the index's manifest keeps whose options make the corpus again.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from resizable_search.specs import CorpusSpec, Json

BLOCK_SIZE = 100
"""Documents a block: the step in which a build commits."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text with what identifies it. `id` should be unique in the corpus; `metadata` is flat JSON.

    `problem` says why there is no text: such a document is left out, and told in the build's report.
    `unread`: it may well be as it was, and what lies below it as a path, but cannot be looked at now; an
    index that has it keeps it.
    """

    id: str
    title: str
    url: str
    text: str
    metadata: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    problem: str = ""
    unread: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """Some documents in order, and the position from which the stream goes on after them."""

    documents: list[Document]
    position: Json


class Corpus(ABC):
    """An ordered, reopenable stream of documents."""

    kind: ClassVar[str]
    example: str = "tree data structures"
    """A query that a newcomer may try on it: words without quotes."""

    @abstractmethod
    def spec(self) -> CorpusSpec:
        """What reopens this corpus. A hub corpus resolves its revision first; raises HubError."""

    def pin(self, held: Mapping[str, Json]) -> None:
        """Take over what an earlier run settled and this one leaves open; `held` is its spec as JSON.

        A hub's branch moves on, and a build that goes on reads what it began with.
        """
        return

    @abstractmethod
    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """The documents from `position` (None: the start) to the end. Raises CorpusError.

        The iterator is closed when its consumer stops, and frees what it holds then.
        """

    def blocks_nowait(self, position: Json | None = None) -> Iterator[Block | None]:
        """As `blocks`, but None whenever there is nothing yet, so that nobody need wait for a network."""
        return self.blocks(position)

    @property
    @abstractmethod
    def label(self) -> str:
        """What a person calls it, in a few words: 'wikimedia/wikipedia 20231101.en'."""

    @property
    def is_remote(self) -> bool:
        """Whether reading it takes a network."""
        return False

    @property
    def is_mutable(self) -> bool:
        """Whether its documents may be others when it is read again, so that its index is to follow them."""
        return False

    def start(self) -> Json | None:
        """The position of the first document; None where there is nothing to tell of it.

        What it takes to find out is done once, and told to the corpus's `progress` if it is long.
        """
        return None

    def is_as_read(self, position: Json) -> bool:
        """Whether `blocks` would go on from `position`, which a living corpus may have moved away from."""
        return True

    def check(self) -> str:
        """Make sure, reading no document, that it is there; in a few words, where. Raises CorpusError."""
        return f"{self.label} is read on this machine"

    def size_hint(self) -> int | None:
        """How many documents there are, if that is known without reading them."""
        return None


def in_blocks(documents: Iterable[Document], start: int, size: int = BLOCK_SIZE) -> Iterator[Block]:
    """Cut a sequence that begins at document `start` into blocks whose position is a plain count."""
    held: list[Document] = []
    count = start
    for document in documents:
        held.append(document)
        count += 1
        if len(held) == size:
            yield Block(held, count)
            held = []
    if held:
        yield Block(held, count)
