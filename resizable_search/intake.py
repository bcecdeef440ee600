"""Read a corpus into an unfinished build: block by block, cleaned, up to a limit, resumable."""

import json
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import cast

from resizable_search.corpora.base import Block, Corpus, Document
from resizable_search.embedders.base import clean
from resizable_search.errors import CorpusError
from resizable_search.index.manifest import Source
from resizable_search.index.work import Incoming, Work


@dataclass(slots=True)
class Intake:
    """Brings documents from a corpus into `work`. `start` is where an index that is extended was left.

    `limit` counts the corpus's rows from its beginning. Documents without text are left out and told,
    or end the build if `strict`.
    """

    corpus: Corpus
    work: Work
    start: Source
    limit: int | None
    strict: bool

    @property
    def source(self) -> Source:
        """How far the corpus has been read."""
        kept = self.work.get("stream")
        return self.start if kept is None else Source(**kept)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing more to read, by the limit or by the corpus's end."""
        source = self.source
        return source.exhausted or (self.limit is not None and source.read >= self.limit)

    def read(self) -> Generator[int, None, None]:
        """Read on, a block at a time; yields how many rows each brought. Closing it closes the corpus."""
        if self.is_done:
            return
        source = self.source
        blocks = cast("Generator[Block, None, None]", self.corpus.blocks(source.position))
        with closing(blocks):
            for block in blocks:
                documents = block.documents[source.inside :]
                if not documents:
                    source = replace(source, inside=source.inside - len(block.documents))
                    continue
                room = len(documents) if self.limit is None else self.limit - source.read
                taken = documents[:room]
                if len(taken) < len(documents):
                    after = replace(source, read=source.read + len(taken), inside=source.inside + len(taken))
                else:
                    after = replace(source, read=source.read + len(taken), position=block.position, inside=0)
                self.take(taken, source.read, after)
                source = after
                yield len(taken)
                if self.limit is not None and source.read >= self.limit:
                    return
        self.work.spool([], [], asdict(replace(source, exhausted=True)))

    def take(self, documents: Sequence[Document], first: int, after: Source) -> None:
        """Put some documents into `work`, the first of which is the corpus's row `first`, and move on."""
        incoming = [as_incoming(seq, document) for seq, document in enumerate(documents, first)]
        blank = [document for document in incoming if not document.text.strip()]
        if blank and self.strict:
            raise CorpusError(
                f"document {blank[0].id!r} has no text: leave such documents out with --on-bad-text skip"
            )
        self.work.spool((d for d in incoming if d.text.strip()), blank, asdict(after))


def as_incoming(seq: int, document: Document) -> Incoming:
    """The document as the build keeps it, without what no database takes."""
    metadata = _AS_JSON(dict(document.metadata)) if document.metadata else "{}"
    return Incoming(
        seq, clean(document.id), clean(document.title), clean(document.url), metadata, clean(document.text)
    )


_AS_JSON = json.JSONEncoder(sort_keys=True).encode
