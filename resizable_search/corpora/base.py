"""What a corpus is: a stream of documents, the same and in the same order whenever it is opened.

After each block stands a position: plain JSON, which only this corpus understands, and from which a stopped
build resumes. If that is the same after all blocks, `blocks` begins with the first document, and the build
passes over what it has. The manifest keeps a `CorpusSpec`, by which `inputs.reopened` makes the corpus again.
"""

import json
import math
import queue
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from resizable_search.errors import UsageError
from resizable_search.progress import Progress
from resizable_search.specs import CorpusSpec, Json
from resizable_search.text import quoted

DEFAULT_CHARS = 1200  # characters of a text that are kept: they fit a model, and the cookbook keeps as many
BLOCK_SIZE = 100  # documents a block: a build commits after each
OTHER = object()  # a value that is neither text nor number nor time
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1f]")


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its id, which should be unique in the corpus, and flat JSON metadata."""

    id: str
    title: str
    url: str
    text: str
    metadata: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    problem: str = ""  # why there is no text: it is left out, and listed in the build's report
    unread: bool = False  # it cannot be read now: an index keeps it, and all below it as a path


@dataclass(frozen=True, slots=True)
class Block:
    """Some documents in order, and the position after them."""

    documents: list[Document]
    position: Json


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `number`, from 1, of a corpus that is cut into `count` shards of about the same size."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read '3/16'. Raises UsageError."""
        if match := re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII):
            shard = cls(int(match[1]), int(match[2]))
            if 1 <= shard.number <= shard.count:
                return shard
        raise UsageError(f"`shard` must be one of all shards, such as 3/16, not {quoted(text)}")

    def of(self, total: int) -> tuple[int, int]:
        """Its first unit of so many, and the first after it."""
        return total * (self.number - 1) // self.count, total * self.number // self.count


class Corpus(ABC):
    """An ordered stream of documents that can be opened again."""

    kind: ClassVar[str]
    label: str  # its name for people, in a few words: 'wikimedia/wikipedia 20231101.en'
    is_remote: bool = False  # whether reading it needs a network
    has_vectors: bool = False  # whether it brings the vector of each document
    is_mutable: bool = False  # whether its documents may change, so that its index has to follow them
    shard: str | None = None  # such as 3/16, if it is only that shard of a corpus
    adjustable: ClassVar[tuple[str, ...]] = ()  # options that may change in updates
    example: str = "tree data structures"  # a query for a newcomer to try: words without quotes

    @property
    def embeds_headings(self) -> bool:
        """Whether each document's title and headings are embedded before its text (`chunking.context_of`)."""
        return False

    def spec(self) -> CorpusSpec:
        """What reopens this corpus: the kind alone, if whoever builds again brings its documents."""
        return CorpusSpec(self.kind, {})

    def pin(self, spec: Mapping[str, Json]) -> None:
        """Adopt what an earlier run resolved, such as a branch's commit; `spec` is its spec as JSON."""
        return

    @abstractmethod
    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """The documents after `position` (None: all). Closing it frees what it holds. Raises CorpusError."""

    def blocks_nowait(self, position: Json | None = None) -> Iterator[Block | None]:
        """As `blocks`, but None while nothing has arrived: a build need not wait for a network."""
        return self.blocks(position)

    def start(self) -> Json | None:
        """The position of the first document, if it has one. A long search happens once, with progress."""
        return None

    def is_unchanged(self, position: Json) -> bool:
        """Whether `blocks` would continue from `position`: a mutable corpus may have changed."""
        start = self.start()
        return start is None or bool(position == start)

    def holds(self, path: str) -> bool:
        """Whether a document's file, by the `path` of its metadata, is there, be it read or left out."""
        return False

    def check(self) -> str:
        """Where it is, in a few words. Makes sure of it without reading documents; raises CorpusError."""
        return f"{self.label} is read on this machine"

    def size_hint(self) -> int | None:
        """The number of documents, if it is known without reading them."""
        return None


def gather(
    steps: Iterable[tuple[list[Document], Json]], size: int | None = None, chars: float = math.inf
) -> Iterator[Block]:
    """Gather documents, which come with the position after them, into blocks of about `size` or `chars`."""
    size = size or BLOCK_SIZE
    block: list[Document] = []
    length, position = 0, None
    for documents, position in steps:
        block += documents
        length += sum(len(document.text) for document in documents)
        if len(block) >= size or length >= chars:
            yield Block(block, position)
            block, length = [], 0
    if block:
        yield Block(block, position)


def as_text(value: Any) -> str:
    """A value as a field of a document: '' for nothing, lists and objects as JSON, other bytes in hex."""
    plain = as_plain(value)
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=as_text)
    if plain is OTHER:
        return value.hex() if isinstance(value, bytes) else str(value)
    return "" if plain is None else str(plain)


def as_metadata(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as metadata: numbers, texts, booleans, times in ISO 8601, lists and objects as JSON."""
    metadata = {}
    for name, value in values.items():
        plain = as_plain(value)
        if isinstance(value, Decimal):
            plain = int(value) if value == value.to_integral_value() else float(value)
        elif isinstance(value, list | dict):
            plain = as_text(value)
        if plain is not OTHER:
            metadata[name] = plain
    return metadata


def as_plain(value: Any) -> Any:
    """The value as flat JSON; None for NaN, which pandas writes for a missing value; else OTHER."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date | clock_time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, bytes) and not _CONTROL.search(value):
        with suppress(UnicodeDecodeError):
            return value.decode()
    return str(value) if isinstance(value, UUID | timedelta) else OTHER


PREFETCH_BLOCKS = 2
POLL_SECONDS = 0.01  # how long to wait for a block before the caller may do something else
FIRST_NOTE_SECONDS, NEXT_NOTE_SECONDS = 5.0, 30.0  # without a block until the user is told, and again
CLOSE_SECONDS = 1.0  # how long to wait for a stream that is closed in the middle of a read


def prefetch(
    blocks: Generator[Block], progress: Progress, label: str, patience: str
) -> Generator[Block | None]:
    """The blocks in order, read in a thread of their own; None while none has arrived.

    So a build whose corpus hangs keeps the answers of a service, hears Ctrl-C, and says what it waits for.
    `patience` says how long a failing read is repeated. Closing it closes `blocks`.
    """
    items: queue.Queue[Block | BaseException | None] = queue.Queue(PREFETCH_BLOCKS)
    closed = threading.Event()

    def read() -> None:
        """Put blocks into the queue until it is closed, then None at the end or the error."""
        last: BaseException | None = None
        try:
            with closing(blocks):
                for block in blocks:
                    items.put(block)
                    if closed.is_set():
                        return
        except BaseException as error:  # raised again where the blocks are taken
            last = error
        items.put(last)

    # A daemon: if it hangs in a socket, it does not keep the process alive.
    thread = threading.Thread(target=read, name="rsearch-reading", daemon=True)
    thread.start()
    waited_since, next_note = time.monotonic(), FIRST_NOTE_SECONDS
    try:
        while True:
            waited = time.monotonic() - waited_since
            try:
                item = items.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if waited >= next_note:
                    progress.note(f"no data from {label} for {waited:.0f} s; {patience}")
                    next_note = waited + NEXT_NOTE_SECONDS
                yield None
                continue
            if next_note > FIRST_NOTE_SECONDS:
                progress.note(f"data from {label} again, after {waited:.0f} s")
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
            waited_since, next_note = time.monotonic(), FIRST_NOTE_SECONDS  # the caller's work is no wait
    finally:
        closed.set()
        with suppress(queue.Empty):  # the thread may wait for room
            while True:
                items.get_nowait()
        thread.join(CLOSE_SECONDS)
