"""The beginning of an update: read a corpus into the journal, and match each document with the index."""

import json
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Literal, cast

from resizable_search.build.journal import NO_TEXT, Journal, PendingDocument, sha256
from resizable_search.corpora.base import Block, Corpus, Document
from resizable_search.corpora.chunking import context_of
from resizable_search.embedders.base import clean
from resizable_search.errors import BuildStateError, CorpusError
from resizable_search.specs import Checkpoint
from resizable_search.store.documents import PartIds, row_of
from resizable_search.store.reader import IndexReader

_ENCODER = json.JSONEncoder(sort_keys=True)


@dataclass(slots=True)
class Ingest:
    """Reads documents of a corpus into the journal. `start`: where the index that is extended was left.

    `limit` counts the corpus's rows from its beginning. `matching` says what becomes of each document. Those
    without text are left out and reported ("skip"), end the update ("fail"), or become rows too ("keep").
    """

    corpus: Corpus
    journal: Journal
    matching: "Matching"
    start: Checkpoint = Checkpoint()
    limit: int | None = None
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
                    read, inside = source.read + len(documents), passed + len(documents)
                    after = Checkpoint(read, start, inside, last_id=clean(documents[-1].id))
                    self._receive(documents, source.read, after)
                    source = after
                    yield len(documents)
                    if self.is_done:
                        return
                start = block.position
        if to_pass:
            self._check_last(source.read, last_id, None)
        self.journal.set(stream=asdict(replace(source, exhausted=True)))

    def check_counts(self) -> None:
        """Check that each document that was read is in the journal. Raises BuildStateError."""
        read = self.source.read - self.start.read
        held = self.journal.rows + self.journal.count("left_out")
        if read != held:
            raise self.journal.damaged(f"{read:,} documents were read, and {held:,} are there")

    def _check_last(self, row: int, expected: str, actual: str | None) -> None:
        """Refuse a corpus whose row that was read last has changed, or is gone."""
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
            pending = as_pending(seq, document, self.matching.with_context)
            if pending.text.strip() or self.on_blank == "keep":
                taken.append(pending)
            else:
                left_out.append((seq, pending.id, clean(document.problem) or NO_TEXT))
        if left_out and self.on_blank == "fail":
            _, id_, why = left_out[0]
            raise CorpusError(
                f"document {id_!r} has no text ({why}): leave such documents out with `on_bad_text=skip`"
            )
        unread = [clean(document.id) for document in documents if document.unread]
        self.journal.receive(taken, self.matching.match, asdict(after), left_out, unread)


def as_pending(seq: int, document: Document, with_context: bool = False) -> PendingDocument:
    """The document as the journal has it, without characters that no database takes.

    `with_context`: its title and headings are embedded before its text.
    """
    metadata = _ENCODER.encode(dict(document.metadata)) if document.metadata else "{}"
    id_, title, url, text = map(clean, (document.id, document.title, document.url, document.text))
    context = clean(context_of(title, document.metadata)) if with_context else ""
    return PendingDocument(seq, id_, title, url, metadata, text, context=context)


class Matching:
    """Compares each document with the index that is changed: its ids are in `parts`, its rows in `reader`.

    `with_context` is as for `as_pending`.
    """

    def __init__(
        self,
        journal: Journal,
        parts: Sequence[PartIds] = (),
        reader: IndexReader | None = None,
        with_context: bool = False,
    ) -> None:
        self.with_context = with_context
        self.db, self.parts = journal.db, parts
        self.reader = cast("IndexReader", reader)  # None only if nothing is compared with an index

    def match(self, document: PendingDocument) -> PendingDocument:
        """The document with its id in the index, and what it has in common with it. Raises CorpusError."""
        raise NotImplementedError

    def gone(self) -> tuple[list[int], int]:
        """Once all is read: the rows of documents that the corpus no longer has, and how many are renamed."""
        return [], 0

    def gone_paths(self) -> list[str]:
        """The path of each of these documents of whose file nothing is read any more."""
        return []


class NewIds(Matching):
    """Every document is new (a build, an extension). An id that is taken gets '#2', '#3', … behind it.

    Ids are taken by the journal's documents and by those of the index.
    """

    def match(self, document: PendingDocument) -> PendingDocument:
        """Give the document an id of its own."""
        return replace(document, id=self.unique(document.id))

    def is_taken(self, id_: str) -> bool:
        """Whether a document has this id."""
        taken = "SELECT 1 FROM documents WHERE id = ? UNION ALL SELECT 1 FROM unchanged WHERE id = ?"
        return (
            self.db.execute(taken, (id_, id_)).fetchone() is not None or row_of(self.parts, id_) is not None
        )

    def unique(self, id_: str) -> str:
        """The id itself, or with '#2', '#3', … behind it where it is taken."""
        if not self.is_taken(id_):
            return id_
        last = self.db.execute("SELECT last FROM repeats WHERE id = ?", (id_,)).fetchone()
        number = last[0] if last else 1
        while True:
            number += 1
            unique = f"{id_}#{number}"
            if not self.is_taken(unique):
                self.db.execute("INSERT OR REPLACE INTO repeats VALUES (?, ?)", (id_, number))
                return unique


class OwnIds(NewIds):
    """Every document is new, has an id of its own, and gets the vector at its row of the file (vectors)."""

    def match(self, document: PendingDocument) -> PendingDocument:
        """Refuse an id that is taken. Raises CorpusError with both rows."""
        if not self.is_taken(document.id):
            return replace(document, source=document.seq)
        found = self.db.execute("SELECT seq FROM documents WHERE id = ?", (document.id,)).fetchone()
        row = found[0] if found else row_of(self.parts, document.id)
        raise CorpusError(
            f"the documents of row {row:,} and row {document.seq:,} both have the id {document.id!r}: "
            "give each an id of its own, or leave the ids out"
        )


_IS_GONE = (
    "id NOT IN (SELECT id FROM documents) AND id NOT IN (SELECT id FROM unchanged) "
    "AND NOT EXISTS (SELECT 1 FROM unread WHERE unread.path IN ('.', stored.path) "
    "OR substr(stored.path, 1, length(unread.path) + 1) = unread.path || '/')"
)
"""Whether the corpus has no document for a row of `stored`, and could read the file or folder it is of."""


class ByContent(NewIds):
    """Each document is compared with the whole index, which follows the corpus, by hashes of its content.

    A text that the index has, under whatever id, is not embedded again: its vector is copied.
    """

    def __init__(
        self, journal: Journal, parts: Sequence[PartIds], reader: IndexReader, with_context: bool = False
    ) -> None:
        super().__init__(journal, with_context=with_context)  # the corpus may use every id of the index
        with self.db:
            self.db.execute("DROP TABLE IF EXISTS stored")
            self.db.execute(
                "CREATE TABLE stored (id TEXT PRIMARY KEY, row INTEGER NOT NULL, content BLOB NOT NULL, "
                "text_sha256 BLOB NOT NULL, path TEXT NOT NULL) STRICT, WITHOUT ROWID"
            )
            self.db.execute("CREATE INDEX stored_by_text ON stored (text_sha256)")
            for part in parts:
                documents = part.db.execute(
                    "SELECT row, id, title, url, metadata, text FROM documents JOIN texts USING (row) "
                    "ORDER BY row"
                )
                for row, id_, title, url, metadata, text in documents:
                    if part.allowed is None or part.allowed[row]:
                        fields = json.loads(metadata)
                        context = clean(context_of(title, fields)) if with_context else ""
                        hashes = (sha256(title, url, metadata, text), sha256(context + text))
                        values = (id_, part.start + row, *hashes, str(fields.get("path", id_)))
                        self.db.execute("INSERT INTO stored VALUES (?, ?, ?, ?, ?)", values)

    def match(self, document: PendingDocument) -> PendingDocument:
        """Compare the document with the one that has its id, else look for one with its text."""
        d = replace(document, id=self.unique(document.id))
        query = "SELECT row, content, text_sha256 FROM stored WHERE id = ?"
        row, content, key = self.db.execute(query, (d.id,)).fetchone() or (None, None, None)
        if content == sha256(d.title, d.url, d.metadata, d.text):
            return replace(d, unchanged=True)
        if key == sha256(d.embedded):
            return replace(d, source=row, replaces=row)
        same_text = "SELECT row FROM stored WHERE text_sha256 = ? LIMIT 1"
        (source,) = self.db.execute(same_text, (sha256(d.embedded),)).fetchone() or (None,)
        return replace(d, source=source, replaces=row)

    def gone(self) -> tuple[list[int], int]:
        """Rows go if the corpus has nothing of that id, although it could be read."""
        gone = dict(self.db.execute(f"SELECT row, text_sha256 FROM stored WHERE {_IS_GONE} ORDER BY row"))
        added = self.db.execute(
            "SELECT text_sha256 FROM documents "
            "WHERE replaces IS NULL AND text_sha256 IN (SELECT text_sha256 FROM stored)"
        )
        renamed = Counter(gone.values()) & Counter(key for (key,) in added)
        return list(gone), renamed.total()

    def gone_paths(self) -> list[str]:
        """The path of each document that goes, unless something of its file stays or comes."""
        query = (
            f"SELECT path FROM stored WHERE {_IS_GONE} "
            "AND path NOT IN (SELECT path FROM stored WHERE id IN (SELECT id FROM unchanged)) "
            "AND path NOT IN (SELECT coalesce(metadata ->> 'path', id) FROM documents)"
        )
        return [str(path) for (path,) in self.db.execute(query)]


class ById(Matching):
    """Each document is looked up in the index by its id: the cost is that of the documents given.

    One that is not the same as before is refused.
    """

    replaces = False

    def match(self, document: PendingDocument) -> PendingDocument:
        """Compare the document with the one that has its id. Raises CorpusError if it may not replace it."""
        row = row_of(self.parts, document.id)
        if row is None:
            return document
        s = self.reader.documents([row])[row]
        same = Document(s.id, s.title, s.url, s.text, s.metadata)
        stored = as_pending(document.seq, same, self.with_context)
        if document == stored:
            return replace(document, unchanged=True)
        if not self.replaces:
            raise CorpusError(
                f"{self.reader.name} has another document {document.id!r}: nothing was added; "
                "replace it with `replace`, or give it another id"
            )
        source = row if stored.embedded == document.embedded else None
        return replace(document, source=source, replaces=row)


class Replacing(ById):
    """As `ById`, but a document takes the place of the one with its id."""

    replaces = True


class AsStored(Matching):
    """The documents are those of the index, in order: each keeps its id and its vector (compaction)."""

    def __init__(
        self, journal: Journal, parts: Sequence[PartIds], reader: IndexReader, with_context: bool = False
    ) -> None:
        super().__init__(journal)
        self.rows = reader.live_rows()

    def match(self, document: PendingDocument) -> PendingDocument:
        """Copy the vector of the row that the document has now."""
        return replace(document, source=int(self.rows[document.seq]))
