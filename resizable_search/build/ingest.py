"""The beginning of an update: read a corpus into the journal, and match each document with the index."""

import json
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Literal, cast

from resizable_search.build.journal import NO_TEXT, Journal, PendingDocument, sha256
from resizable_search.build.report import Changes
from resizable_search.corpora.base import Block, Corpus, Document
from resizable_search.corpora.chunking import context_of
from resizable_search.embedders.base import clean
from resizable_search.errors import BuildStateError, CorpusError
from resizable_search.specs import Checkpoint
from resizable_search.store.documents import StoredDocument
from resizable_search.store.reader import IndexReader
from resizable_search.text import sound_json

_ENCODER = json.JSONEncoder(sort_keys=True)

_IS_GONE = (
    "id NOT IN (SELECT id FROM documents) AND id NOT IN (SELECT id FROM unchanged) "
    "AND NOT EXISTS (SELECT 1 FROM unread WHERE unread.path IN ('.', stored.path) "
    "OR substr(stored.path, 1, length(unread.path) + 1) = unread.path || '/')"
)
"""Whether the corpus has no document for a row of `stored`, and could read the file or folder it is of."""

_IS_OF_NO_OTHER = (  # nothing else of its file stays or comes
    "path NOT IN (SELECT path FROM stored WHERE id IN (SELECT id FROM unchanged)) "
    "AND path NOT IN (SELECT coalesce(metadata ->> 'path', id) FROM documents)"
)


@dataclass(slots=True)
class Ingest:
    """Reads documents of a corpus into the journal."""

    corpus: Corpus
    journal: Journal
    match: "Match"  # compares each document with the index
    reader: IndexReader | None = None  # of the index
    start: Checkpoint = Checkpoint()  # where the index that is extended was left
    limit: int | None = None  # of the corpus's rows, from its beginning
    on_blank: Literal["skip", "fail", "keep"] = "skip"

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
        before = 0  # documents since `start`, in earlier blocks
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
                if self.limit is not None:
                    documents = documents[: self.limit - source.read]
                if documents:
                    # The position stays before the last row, so that it can be compared again.
                    read, inside = source.read + len(documents), before + passed + len(documents)
                    after = Checkpoint(read, start, inside, last_id=clean(documents[-1].id))
                    self._receive(documents, source.read, after)
                    source = after
                    yield len(documents)
                    if self.is_done:
                        return
                before = before + len(block.documents) if block.position == start else 0
                start = block.position
        if to_pass:
            self._check_last(source.read, last_id, None)
        self.journal.set(stream=asdict(replace(source, exhausted=True)))

    def _check_last(self, row: int, expected: str, actual: str | None) -> None:
        if expected and (actual is None or clean(actual) != expected):
            now = "is gone" if actual is None else f"is {actual!r}"
            raise BuildStateError(
                f"{self.corpus.label} has changed since it was read: its document {row:,} was {expected!r} "
                f"and {now} now: `restart` builds it again, another `name` keeps both"
            )

    def _receive(self, documents: Sequence[Document], first: int, after: Checkpoint) -> None:
        """Put documents into the journal, the first of which is the corpus's row `first`, and move on."""
        taken, left_out = [], []
        for seq, document in enumerate(documents, first):
            pending = as_pending(seq, document, self.corpus.embeds_headings)
            if pending.text.strip() or self.on_blank == "keep":
                taken.append(pending)
            else:
                left_out.append((seq, pending.id, clean(document.problem) or NO_TEXT))
        if left_out and self.on_blank == "fail":
            _, id_, why = left_out[0]
            raise CorpusError(f"document {id_!r} has no text ({why}): skip it with `on_bad_text=skip`")
        unread = [clean(document.id) for document in documents if document.unread]
        self.journal.receive(taken, partial(self.match, self), asdict(after), left_out, unread)

    def outcome(self, documents: int) -> tuple[list[int], Changes]:
        """The rows that go, and what is done to the index, which has so many documents, in figures."""
        db, lost = self.journal.db, {}
        replaced = [row for (row,) in db.execute("SELECT replaces FROM documents WHERE replaces NOTNULL")]
        if self.source.exhausted:
            lost = dict(db.execute(f"SELECT row, text_sha256 FROM stored WHERE {_IS_GONE}"))
        added = db.execute(
            "SELECT text_sha256 FROM documents "
            "WHERE replaces IS NULL AND text_sha256 IN (SELECT text_sha256 FROM stored)"
        )
        renamed = (Counter(lost.values()) & Counter(key for (key,) in added)).total()
        removed = len(lost) - renamed
        paths = db.execute(f"SELECT path FROM stored WHERE {_IS_GONE} AND {_IS_OF_NO_OTHER}")
        changes = Changes(
            added=self.journal.rows - len(replaced) - renamed,
            changed=len(replaced),
            removed=removed,
            renamed=renamed,
            unchanged=documents - len(replaced) - len(lost),
            excluded=min(removed, sum(self.corpus.holds(path) for (path,) in paths)) if removed else 0,
        )
        return [*replaced, *lost], changes

    def row_of(self, id_: str) -> int | None:
        """The row of the index that has the document with this id."""
        return None if self.reader is None else self.reader.row_of(id_)

    def unique(self, id_: str, *, in_index: bool = False) -> str:
        """The id itself, or with '#2', '#3', … behind it where another document has it, or the index."""
        db = self.journal.db

        def is_taken(id_: str) -> bool:
            taken = "SELECT 1 FROM documents WHERE id = ? UNION ALL SELECT 1 FROM unchanged WHERE id = ?"
            is_read = db.execute(taken, (id_, id_)).fetchone() is not None
            return is_read or (in_index and self.row_of(id_) is not None)

        if not is_taken(id_):
            return id_
        (number,) = db.execute("SELECT last FROM repeats WHERE id = ?", (id_,)).fetchone() or (1,)
        while is_taken(unique := f"{id_}#{number + 1}"):
            number += 1
        db.execute("INSERT OR REPLACE INTO repeats VALUES (?, ?)", (id_, number + 1))
        return unique


def as_pending(seq: int, document: Document | StoredDocument, with_context: bool) -> PendingDocument:
    """The document as the journal has it. `with_context`: title and headings are embedded before its text."""
    metadata = sound_json(_ENCODER.encode(dict(document.metadata))) if document.metadata else "{}"
    id_, title, url, text = map(clean, (document.id, document.title, document.url, document.text))
    context = clean(context_of(title, document.metadata)) if with_context else ""
    return PendingDocument(seq, id_, title, url, metadata, text, context=context)


Match = Callable[[Ingest, PendingDocument], PendingDocument]
"""Gives a document its id in the index, and says what it has in common with it. Raises CorpusError."""


def as_new(ingest: Ingest, document: PendingDocument) -> PendingDocument:
    """Every document is new (a build, an extension). An id that is taken gets '#2', '#3', … behind it."""
    return replace(document, id=ingest.unique(document.id, in_index=True))


def with_vector(ingest: Ingest, document: PendingDocument) -> PendingDocument:
    """Every document is new, has an id of its own, and gets the vector at its row of the file (vectors)."""
    found = ingest.journal.db.execute("SELECT seq FROM documents WHERE id = ?", (document.id,)).fetchone()
    row = found[0] if found else ingest.row_of(document.id)
    if row is None:
        return replace(document, source=document.seq)
    both = f"the documents of row {row:,} and row {document.seq:,} both have the id {document.id!r}"
    raise CorpusError(f"{both}: give each an id of its own, or leave the ids out")


def by_id(ingest: Ingest, document: PendingDocument, *, replaces: bool = False) -> PendingDocument:
    """Look the document up in the index by its id (add); without `replaces`, another one there is refused."""
    reader, row = ingest.reader, ingest.row_of(document.id)
    if reader is None or row is None:
        return document
    stored = as_pending(document.seq, reader.documents([row])[row], ingest.corpus.embeds_headings)
    if document == stored:
        return replace(document, unchanged=True)
    if not replaces:
        other = f"{reader.name} has another document {document.id!r}: nothing was added"
        raise CorpusError(f"{other}; replace it with `replace`, or give it another id")
    return replace(document, source=row if stored.embedded == document.embedded else None, replaces=row)


def by_content(ingest: Ingest, document: PendingDocument) -> PendingDocument:
    """Compare the document with the whole index, by hashes; a text that it has is not embedded again."""
    db, d = ingest.journal.db, replace(document, id=ingest.unique(document.id))
    query = "SELECT row, content, text_sha256 FROM stored WHERE id = ?"
    row, content, key = db.execute(query, (d.id,)).fetchone() or (None, None, None)
    if content == sha256(d.title, d.url, d.metadata, d.text):
        return replace(d, unchanged=True)
    if key == sha256(d.embedded):
        return replace(d, source=row, replaces=row)
    same_text = "SELECT row FROM stored WHERE text_sha256 = ? LIMIT 1"
    (source,) = db.execute(same_text, (sha256(d.embedded),)).fetchone() or (None,)
    return replace(d, source=source, replaces=row)


def as_stored(ingest: Ingest, document: PendingDocument) -> PendingDocument:
    """Every document is of the index, and keeps the vector of its row (compact)."""
    return replace(document, source=ingest.row_of(document.id))


def hash_stored(journal: Journal, reader: IndexReader, with_context: bool) -> None:
    """Put the hashes of every document of the index into the journal, for `by_content`."""
    with journal.db:
        for stored in reader.live_documents():
            d = as_pending(stored.row, stored, with_context)
            hashes = sha256(d.title, d.url, d.metadata, d.text), sha256(d.embedded)
            values = (d.id, d.seq, *hashes, str(stored.metadata.get("path", d.id)))
            journal.db.execute("INSERT INTO stored VALUES (?, ?, ?, ?, ?)", values)
