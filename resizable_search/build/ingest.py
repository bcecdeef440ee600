"""The beginning of an update: read a corpus into the journal, and match it with the index.

`NewIds`: every document is new (a build, an extension). `OwnIds`: the same, and an id must not repeat
(vectors). `ByContent`: the index follows its corpus. `ById`: documents are added to it. `AsStored`: it is
compacted.
"""

import hashlib
import json
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Protocol, cast

from resizable_search.build.journal import NO_TEXT, Journal, Match, PendingDocument, text_key
from resizable_search.build.report import Changes
from resizable_search.corpora.base import Block, Corpus, Document
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
    without text are left out and reported; if `strict`, they end the update.
    """

    corpus: Corpus
    journal: Journal
    matching: "Matching"
    start: Checkpoint = Checkpoint()
    limit: int | None = None
    strict: bool = False
    keeps_blank: bool = False
    """Whether a document without text becomes a row too, because its vector is there."""

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
                    self._receive(taken, source.read, after)
                    source = after
                    yield len(taken)
                    if self.limit is not None and source.read >= self.limit:
                        return
                start = block.position
        if to_pass:
            self._check_last(source.read, last_id, None)
        self.end()

    def end(self) -> None:
        """Read no more: the corpus consists of what has been read."""
        self.journal.set(stream=asdict(replace(self.source, exhausted=True)))

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
        """Put documents into the journal, the first of which is the corpus's row `first`, and move on.

        Raises CorpusError for one without text if `strict`.
        """
        pending = [as_pending(seq, document) for seq, document in enumerate(documents, first)]
        left_out = {
            p.seq: (p.id, clean(document.problem) or NO_TEXT)
            for p, document in zip(pending, documents, strict=True)
            if not (self.keeps_blank or p.text.strip())
        }
        for id_, why in left_out.values() if self.strict else ():
            raise CorpusError(
                f"document {id_!r} has no text ({why}): leave such documents out with `on_bad_text=skip`"
            )
        unread = [clean(document.id) for document in documents if document.unread]
        taken = [document for document in pending if document.seq not in left_out]
        self.journal.receive(taken, self.matching.match, asdict(after), left_out, unread)


def as_pending(seq: int, document: Document) -> PendingDocument:
    """The document as the journal has it, without characters that no database takes."""
    metadata = _ENCODER.encode(dict(document.metadata)) if document.metadata else "{}"
    id_, title, url, text = map(clean, (document.id, document.title, document.url, document.text))
    return PendingDocument(seq, id_, title, url, metadata, text)


class Matching(Protocol):
    """Says what becomes of each document, and which rows of the index go with all of them."""

    def match(self, document: PendingDocument) -> Match:
        """What becomes of a document. Raises CorpusError."""

    def outcome(self, *, exhausted: bool) -> tuple[list[int], Changes | None]:
        """The rows of the index that go, ascending, and what is done to it in figures, if it is compared.

        `exhausted`: the whole corpus was read.
        """


class NewIds:
    """Every document is new. An id that is taken gets '#2', '#3', … behind it.

    Ids are taken by the journal's documents and by those of `parts`, the index that is extended.
    """

    def __init__(
        self, journal: Journal, parts: Sequence[PartIds] = (), reader: IndexReader | None = None
    ) -> None:
        self._db = journal.db
        self._parts = parts

    def match(self, document: PendingDocument) -> Match:
        """Give the document an id of its own."""
        return Match(self.unique(document.id))

    def outcome(self, *, exhausted: bool) -> tuple[list[int], Changes | None]:
        """No row goes."""
        return [], None

    def is_taken(self, id_: str) -> bool:
        """Whether a document has this id."""
        taken = "SELECT 1 FROM documents WHERE id = ?1 UNION ALL SELECT 1 FROM unchanged WHERE id = ?1"
        return self._db.execute(taken, (id_,)).fetchone() is not None or row_of(self._parts, id_) is not None

    def unique(self, id_: str) -> str:
        """The id itself, or with '#2', '#3', … behind it where it is taken."""
        if not self.is_taken(id_):
            return id_
        last = self._db.execute("SELECT last FROM repeats WHERE id = ?", (id_,)).fetchone()
        number = last[0] if last else 1
        while True:
            number += 1
            unique = f"{id_}#{number}"
            if not self.is_taken(unique):
                self._db.execute("INSERT OR REPLACE INTO repeats VALUES (?, ?)", (id_, number))
                return unique


class OwnIds(NewIds):
    """Every document is new, has an id of its own, and gets the vector at its row of the file."""

    def match(self, document: PendingDocument) -> Match:
        """Refuse an id that is taken. Raises CorpusError with both rows."""
        if not self.is_taken(document.id):
            return Match(document.id, source=document.seq)
        found = self._db.execute("SELECT seq FROM documents WHERE id = ?", (document.id,)).fetchone()
        row = found[0] if found else row_of(self._parts, document.id)
        raise CorpusError(
            f"the documents of row {row:,} and row {document.seq:,} both have the id {document.id!r}: "
            "give each an id of its own, or leave the ids out"
        )


_IS_UNREAD = (
    "EXISTS (SELECT 1 FROM unread WHERE unread.path IN ('.', stored.path) "
    "OR substr(stored.path, 1, length(unread.path) + 1) = unread.path || '/')"
)
"""Whether a row of `stored` is of a file, or in a folder, that cannot be read now."""

_IS_MISSING = "id NOT IN (SELECT id FROM documents) AND id NOT IN (SELECT id FROM unchanged)"


class ByContent:
    """Each document is compared with the whole index, by hashes of its content.

    A text that the index has, under whatever id, is not embedded again: its vector is copied.
    """

    def __init__(self, journal: Journal, parts: Sequence[PartIds], reader: IndexReader | None) -> None:
        self._journal, self._db = journal, journal.db
        self._ids = NewIds(journal)
        with self._db:
            self._db.execute("DROP TABLE IF EXISTS stored")
            self._db.execute(
                "CREATE TABLE stored (id TEXT PRIMARY KEY, row INTEGER NOT NULL, content BLOB NOT NULL, "
                "text_sha256 BLOB NOT NULL, path TEXT NOT NULL) STRICT, WITHOUT ROWID"
            )
            self._db.execute("CREATE INDEX stored_by_text ON stored (text_sha256)")
            for part in parts:
                documents = part.db.execute(
                    "SELECT row, id, title, url, metadata, text FROM documents JOIN texts USING (row) "
                    "ORDER BY row"
                )
                for row, id_, title, url, metadata, text in documents:
                    if part.allowed is None or part.allowed[row]:
                        hashes = (_hash(title, url, metadata, text), text_key(text))
                        path = str(json.loads(metadata).get("path", id_))
                        values = (id_, part.start + row, *hashes, path)
                        self._db.execute("INSERT INTO stored VALUES (?, ?, ?, ?, ?)", values)

    def match(self, document: PendingDocument) -> Match:
        """Compare the document with the one that has its id, else look for one with its text."""
        d, id_ = document, self._ids.unique(document.id)
        query = "SELECT row, content, text_sha256 FROM stored WHERE id = ?"
        row, content, key = self._db.execute(query, (id_,)).fetchone() or (None, None, None)
        if content == _hash(d.title, d.url, d.metadata, d.text):
            return Match(id_, unchanged=True)
        source = row
        if key != text_key(d.text):
            same_text = "SELECT row FROM stored WHERE text_sha256 = ? LIMIT 1"
            found = self._db.execute(same_text, (text_key(d.text),)).fetchone()
            source = found and found[0]
        return Match(id_, source, replaces=row)

    def outcome(self, *, exhausted: bool) -> tuple[list[int], Changes]:
        """Rows go whose document has new content, or is not in the corpus although it could be read."""
        is_gone = f"{_IS_MISSING} AND NOT {_IS_UNREAD}" if exhausted else "false"
        replaced = self._journal.replaced()
        gone = [row for (row,) in self._db.execute(f"SELECT row FROM stored WHERE {is_gone}")]
        (renamed,) = self._db.execute(
            "SELECT coalesce(sum(min(new, old)), 0) FROM "
            "(SELECT text_sha256, count(*) AS new FROM documents WHERE replaces IS NULL GROUP BY 1) JOIN "
            f"(SELECT text_sha256, count(*) AS old FROM stored WHERE {is_gone} GROUP BY 1) "
            "USING (text_sha256)"
        ).fetchone()
        count = self._journal.count
        changes = Changes(
            added=self._journal.rows - len(replaced) - renamed,
            changed=len(replaced),
            removed=len(gone) - renamed,
            renamed=renamed,
            unchanged=count("unchanged") + count(f"stored WHERE {_IS_MISSING} AND {_IS_UNREAD}"),
        )
        return sorted(replaced + gone), changes


class ById:
    """Each document is looked up in the index by its id: the cost is that of the documents given.

    `replaces`: a document takes the place of the one with its id; otherwise that is refused.
    """

    def __init__(
        self, name: str, journal: Journal, parts: Sequence[PartIds], reader: IndexReader, *, replaces: bool
    ) -> None:
        self._name, self._journal, self._parts, self._reader = name, journal, parts, reader
        self._replaces = replaces

    def match(self, document: PendingDocument) -> Match:
        """Compare the document with the one that has its id. Raises CorpusError if it may not replace it."""
        row = row_of(self._parts, document.id)
        if row is None:
            return Match(document.id)
        s = self._reader.documents([row])[row]
        stored = as_pending(document.seq, Document(s.id, s.title, s.url, s.text, s.metadata))
        if document == stored:
            return Match(document.id, unchanged=True)
        if not self._replaces:
            raise CorpusError(
                f"{self._name} has another document {document.id!r}: nothing was added; "
                "replace it with `replace`, or give it another id"
            )
        return Match(document.id, row if stored.text == document.text else None, replaces=row)

    def outcome(self, *, exhausted: bool) -> tuple[list[int], Changes]:
        """The rows go whose documents are replaced."""
        replaced = self._journal.replaced()
        changed, documents = len(replaced), self._reader.manifest.documents
        return replaced, Changes(self._journal.rows - changed, changed, unchanged=documents - changed)


class AsStored:
    """The documents are those of the index, in order: each keeps its id and its vector (compaction)."""

    def __init__(self, journal: Journal, parts: Sequence[PartIds], reader: IndexReader) -> None:
        self._rows = reader.live_rows()

    def match(self, document: PendingDocument) -> Match:
        """Copy the vector of the row that the document has now."""
        return Match(document.id, source=int(self._rows[document.seq]))

    def outcome(self, *, exhausted: bool) -> tuple[list[int], Changes | None]:
        """No row is deleted: those that are not copied are left behind."""
        return [], None


def _hash(*fields: str) -> bytes:
    """The hash of all that an index shows of a document, without its id."""
    # No field holds a NUL: cleaning has replaced it.
    return hashlib.sha256("\0".join(fields).encode("utf-8", "surrogatepass")).digest()
