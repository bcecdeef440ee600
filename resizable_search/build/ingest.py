"""Read a corpus into an unfinished build: block by block, cleaned, up to a limit, resumable."""

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import cast

from resizable_search.build.journal import PendingDocument, Work
from resizable_search.corpora.base import Block, Corpus, Document
from resizable_search.embedders.base import clean
from resizable_search.errors import BuildStateError, CorpusError
from resizable_search.specs import Checkpoint


@dataclass(slots=True)
class Ingest:
    """Brings documents from a corpus into `work`. `start` is where an index that is extended was left.

    `limit` counts the corpus's rows from its beginning. Documents without text are left out and told,
    or end the build if `strict`.
    """

    corpus: Corpus
    work: Work
    start: Checkpoint
    limit: int | None
    strict: bool

    @property
    def source(self) -> Checkpoint:
        """How far the corpus has been read."""
        kept = self.work.get("stream")
        return self.start if kept is None else Checkpoint(**kept)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing more to read, by the limit or by the corpus's end."""
        source = self.source
        return source.exhausted or (self.limit is not None and source.read >= self.limit)

    def read(self) -> Generator[int, None, None]:
        """Read on, a block at a time; yields how many rows each brought, 0 when none has come for a moment.

        Closing it closes the corpus.
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
                    # The position stays before the last row, so that it can be looked at again.
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
        self.work.spool([], [], asdict(replace(source, exhausted=True)))

    def end(self) -> None:
        """Read no more: what has been read is all that this build is made of."""
        self.work.spool([], [], asdict(replace(self.source, exhausted=True)))

    def check_counts(self) -> None:
        """Refuse an unfinished build that does not hold each document that it has read.

        Each is embedded, waits, or was left out. Raises BuildStateError.
        """
        read = self.source.read - self.start.read
        held = self.work.rows + self.work.count_incoming() + self.work.count_left_out()
        if read != held or not self.work.has_its_rows:
            raise BuildStateError(
                f"the unfinished build in {self.work.folder} is damaged ({read:,} documents were read, and "
                f"{held:,} are there): begin again with --restart"
            )

    def _check_last(self, row: int, expected: str, found: str | None) -> None:
        """Refuse a corpus whose row, the last that was read, is another now, or is gone."""
        if expected and (found is None or clean(found) != expected):
            now = "is gone" if found is None else f"is {found!r}"
            raise BuildStateError(
                f"{self.corpus.label} has changed since it was read: its document {row:,} was {expected!r} "
                f"and {now} now: --restart builds it anew, another --name keeps both"
            )

    def take(self, documents: Sequence[Document], first: int, after: Checkpoint) -> None:
        """Put some documents into `work`, the first of which is the corpus's row `first`, and move on."""
        incoming = [as_pending(seq, document) for seq, document in enumerate(documents, first)]
        blank = [document for document in incoming if not document.text.strip()]
        reasons = reasons_of(documents, first)
        if blank and self.strict:
            raise no_text(blank[0], reasons)
        self.work.spool((d for d in incoming if d.text.strip()), blank, asdict(after), reasons)


def reasons_of(documents: Sequence[Document], first: int) -> dict[int, str]:
    """Why documents, the first of which is the corpus's row `first`, have no text, by row, as far as told."""
    return {seq: clean(d.problem) for seq, d in enumerate(documents, first) if d.problem}


def no_text(document: PendingDocument, reasons: Mapping[int, str]) -> CorpusError:
    """The error for a document without text where none may be left out."""
    why = reasons.get(document.seq, "it is empty")
    return CorpusError(
        f"document {document.id!r} has no text ({why}): leave such documents out with --on-bad-text skip"
    )


def as_pending(seq: int, document: Document) -> PendingDocument:
    """The document as the build keeps it, without what no database takes."""
    metadata = _AS_JSON(dict(document.metadata)) if document.metadata else "{}"
    return PendingDocument(
        seq, clean(document.id), clean(document.title), clean(document.url), metadata, clean(document.text)
    )


_AS_JSON = json.JSONEncoder(sort_keys=True).encode
