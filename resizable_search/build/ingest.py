"""The beginning of a build: read a corpus into the journal, block by block, up to a limit, resumable."""

import hashlib
import json
import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from resizable_search.build.journal import Batch, Journal, PendingDocument
from resizable_search.corpora.base import Block, Corpus, Document, in_blocks
from resizable_search.embedders.base import clean
from resizable_search.errors import BuildStateError, CorpusError, UsageError
from resizable_search.specs import Checkpoint, CorpusSpec, Json


@dataclass(slots=True)
class Ingest:
    """Reads documents of a corpus into the journal. `start`: where the index that is extended was left.

    `limit` counts the corpus's rows from its beginning. Documents without text are left out and reported; if
    `strict`, they end the build.
    """

    corpus: Corpus
    journal: Journal
    start: Checkpoint
    limit: int | None
    strict: bool

    @property
    def source(self) -> Checkpoint:
        """How far the corpus has been read."""
        stream = self.journal.get("stream")
        return self.start if stream is None else Checkpoint(**stream)

    @property
    def is_done(self) -> bool:
        """Whether the limit or the corpus's end is reached."""
        source = self.source
        return source.exhausted or (self.limit is not None and source.read >= self.limit)

    def read(self) -> Generator[int, None, None]:
        """Read on, a block at a time; yields the rows of each, 0 when none has come for a moment.

        Closing it closes the corpus. Raises CorpusError, and BuildStateError if the corpus has changed.
        """
        if self.is_done:
            return
        source = self.source
        to_pass, last_id = source.inside, source.last_id
        start = self.corpus.start() if source.position is None else source.position  # of the next block
        blocks = cast("Generator[Block | None, None, None]", self.corpus.blocks_nowait(start))
        with closing(blocks):
            for block in blocks:
                if block is None:
                    yield 0
                    continue
                passed = min(to_pass, len(block.documents))
                to_pass -= passed
                if passed and not to_pass:
                    self._check_last(source.read, last_id, block.documents[passed - 1].id)
                documents = block.documents[passed:]
                if documents:
                    room = len(documents) if self.limit is None else self.limit - source.read
                    taken = documents[:room]
                    # The position stays before the last row, so that it can be compared again.
                    after = replace(
                        source,
                        read=source.read + len(taken),
                        position=start,
                        inside=passed + len(taken),
                        last_id=clean(taken[-1].id),
                    )
                    self.take(taken, source.read, after)
                    source = after
                    yield len(taken)
                    if self.limit is not None and source.read >= self.limit:
                        return
                start = block.position
        if to_pass:
            self._check_last(source.read, last_id, None)
        self.end()

    def end(self) -> None:
        """Read no more: the build consists of what has been read."""
        self.journal.receive(Batch(), asdict(replace(self.source, exhausted=True)))

    def check_counts(self) -> None:
        """Check that each document that was read is a row, waits, or was left out. Raises BuildStateError."""
        read = self.source.read - self.start.read
        held = self.journal.rows + self.journal.count_incoming() + self.journal.count_left_out()
        if read != held or not self.journal.has_its_rows:
            raise self.journal.damaged(f"{read:,} documents were read, and {held:,} are there")

    def _check_last(self, row: int, expected: str, actual: str | None) -> None:
        """Refuse a corpus whose row that was read last has changed, or is gone."""
        if expected and (actual is None or clean(actual) != expected):
            now = "is gone" if actual is None else f"is {actual!r}"
            raise BuildStateError(
                f"{self.corpus.label} has changed since it was read: its document {row:,} was {expected!r} "
                f"and {now} now: `restart` builds it again, another `name` keeps both"
            )

    def take(self, documents: Sequence[Document], first: int, after: Checkpoint) -> None:
        """Put documents into the journal, the first of which is the corpus's row `first`, and move on."""
        self.journal.receive(as_batch(documents, first, self.strict), asdict(after))


def as_batch(documents: Sequence[Document], first: int, strict: bool, chars: int | None = None) -> Batch:
    """Documents as the journal takes them, with texts cut to `chars`; `first` is the row of the first.

    Raises CorpusError for one without text if `strict`.
    """
    pending = [as_pending(seq, document, chars) for seq, document in enumerate(documents, first)]
    blank = [document for document in pending if not document.text.strip()]
    reasons = {seq: clean(d.problem) for seq, d in enumerate(documents, first) if d.problem}
    if blank and strict:
        why = reasons.get(blank[0].seq, "it is empty")
        raise CorpusError(
            f"document {blank[0].id!r} has no text ({why}): leave such documents out with `on_bad_text=skip`"
        )
    return Batch([document for document in pending if document.text.strip()], blank, reasons)


def as_pending(seq: int, document: Document, chars: int | None = None) -> PendingDocument:
    """The document as the journal keeps it, without characters that no database takes."""
    metadata = _ENCODER.encode(dict(document.metadata)) if document.metadata else "{}"
    text = clean(document.text)[:chars]
    return PendingDocument(
        seq, clean(document.id), clean(document.title), clean(document.url), metadata, text
    )


_ENCODER = json.JSONEncoder(sort_keys=True)


class TextsCorpus(Corpus):
    """Texts in memory, as `build_index` takes them; its index follows them. Raises UsageError for others."""

    kind = "texts"
    label = "texts from Python"
    is_mutable = True

    def __init__(self, texts: Iterable[str | Document | Mapping[str, Any]]) -> None:
        self._documents = [_document(row, text) for row, text in enumerate(texts)]
        pending = [as_pending(row, document) for row, document in enumerate(self._documents)]
        self._digest = hashlib.sha256(repr(pending).encode()).hexdigest()

    def spec(self) -> CorpusSpec:
        """The kind alone: whoever builds again brings the texts."""
        return CorpusSpec(self.kind, {})

    def size_hint(self) -> int:
        """The number of texts."""
        return len(self._documents)

    def start(self) -> Json:
        """Before the first text."""
        return {"texts": self._digest, "row": 0}

    def is_unchanged(self, position: Json) -> bool:
        """Whether `position` is one in the same texts."""
        return bool(position["texts"] == self._digest)

    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """The texts from `position` on."""
        row = 0 if position is None else position["row"]
        for block in in_blocks(self._documents[row:], row):
            yield Block(block.documents, {"texts": self._digest, "row": block.position})


def _document(row: int, text: str | Document | Mapping[str, Any]) -> Document:
    if isinstance(text, Document):
        return text
    if isinstance(text, str):
        return Document(str(row), "", "", text)
    if isinstance(text, Mapping):
        metadata = dict(text)
        id_, title, url, body = (metadata.pop(name, "") for name in ("id", "title", "url", "text"))
        are_texts = all(isinstance(value, str) for value in (title, url, body))
        if are_texts and all(_is_plain(value) for value in metadata.values()):
            return Document(str(id_) or str(row), title, url, body, metadata)
    raise UsageError(
        f"text {row} must be a string, a Document, or a mapping with a string as `text` and plain values"
    )


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | None) or (isinstance(value, float) and math.isfinite(value))
