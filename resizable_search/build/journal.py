"""The journal of an unfinished build: an SQLite database, and the file of full vectors beside it.

Documents arrive with the corpus's position. Answers of a service are recorded on arrival. Answers without a
gap before them are committed: they become rows of vectors and documents with unique ids. Each of these is
one transaction. Vectors are written and synced before the transaction that counts them. So the file of
vectors may be longer than what is committed, but never shorter; opening it cuts it back.
"""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.arrays import NpyAppender
from resizable_search.errors import BuildStateError
from resizable_search.store.documents import IDS_SCHEMA, SCHEMA, TakenIds, write_documents
from resizable_search.store.layout import NAMES, Failpoint, failpoint
from resizable_search.system import sqlite_os_errors

CHANGE = "change"
"""The kind in the request of an unfinished change; a build has the kind of its corpus."""

NO_TEXT = "no text"
"""Why a document without text is left out, if nothing else is known."""

COMMIT_AT_MOST = 1000
"""Documents of one commit."""

_JOURNAL_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS incoming (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, title TEXT NOT NULL, url TEXT NOT NULL,
    metadata TEXT NOT NULL, text TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS journal (
    seq INTEGER PRIMARY KEY, text_sha256 BLOB NOT NULL, vector BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS left_out (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, reason TEXT NOT NULL) STRICT;
"""

Prepare = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Turns raw vectors of the embedder into rows as they are stored."""


@dataclass(frozen=True, slots=True)
class PendingDocument:
    """A document that is not yet a row; `seq` is its row in the corpus."""

    seq: int
    id: str
    title: str
    url: str
    metadata: str
    text: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents with text, those without (`blank`), and by `seq` why some have none."""

    documents: Sequence[PendingDocument] = ()
    blank: Sequence[PendingDocument] = ()
    reasons: Mapping[int, str] = field(default_factory=dict)


def text_key(text: str) -> bytes:
    """The SHA-256 of a text: an answer is recorded with it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def set_value(db: sqlite3.Connection, key: str, value: Any) -> None:
    """Set a JSON value of a journal, within a transaction."""
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))


class Journal:
    """What an unfinished build in `folder` has read and been answered, and the rows made of it.

    Its new files lie in `staged`. `values` are set when it is opened. `ids` knows which ids are taken.
    Raises BuildStateError if the database is damaged, and sqlite3.OperationalError or OSError of the disk.
    """

    records_all: ClassVar[bool] = False
    """Whether answers that cost nothing are recorded too, because they may come in any order."""

    def __init__(self, folder: Path, **values: Any) -> None:
        self.folder = folder
        self.staged = folder / NAMES.staged
        is_new = not (folder / NAMES.work).exists()
        try:
            self.staged.mkdir(parents=True, exist_ok=True)
            with sqlite_os_errors(folder):
                self._db = self._open(values)
        except BaseException:
            if is_new:  # there is nothing to resume
                shutil.rmtree(folder, ignore_errors=True)
            raise
        self._rows_file: NpyAppender | None = None
        self.ids = TakenIds(self._db)

    def _open(self, values: Mapping[str, Any]) -> sqlite3.Connection:
        db = sqlite3.connect(self.folder / NAMES.work)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_JOURNAL_SCHEMA + IDS_SCHEMA + SCHEMA.format(schema=""))
            with db:
                for key, value in values.items():
                    set_value(db, key, value)
        except BaseException as error:
            db.close()
            is_of_disk = (
                isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode != sqlite3.SQLITE_ERROR
            )
            if is_of_disk or not isinstance(error, sqlite3.DatabaseError):
                raise
            raise self.damaged(str(error)) from None
        return db

    def damaged(self, why: str) -> BuildStateError:
        """The error for a journal that cannot be used."""
        return BuildStateError(
            f"the unfinished build in {self.folder} is damaged ({why}): begin again with `restart`"
        )

    def get(self, key: str, default: Any = None) -> Any:
        """A value that was set, as JSON."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row[0])

    def set(self, key: str, value: Any) -> None:
        """Set a JSON value; it is safe when this returns."""
        with self._db:
            set_value(self._db, key, value)

    def _count(self, query: str, *values: object) -> int:
        return int(self._db.execute(query, values).fetchone()[0])

    def receive(self, batch: Batch, stream: Any) -> None:
        """Take documents, leave out those without text, and move the stream's position, all at once."""
        with self._db:
            self._db.executemany(
                "INSERT INTO incoming VALUES (?, ?, ?, ?, ?, ?)",
                ((d.seq, d.id, d.title, d.url, d.metadata, d.text) for d in batch.documents),
            )
            self._leave_out_blank(batch)
            set_value(self._db, "stream", stream)
        failpoint(Failpoint.SPOOLED)

    def _leave_out_blank(self, batch: Batch) -> None:
        reasons = ((d.seq, d.id, batch.reasons.get(d.seq, NO_TEXT)) for d in batch.blank)
        self._db.executemany("INSERT INTO left_out VALUES (?, ?, ?)", reasons)

    def waiting(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Up to `limit` (seq, text) after `after` without an answer, in order."""
        return self._db.execute(
            "SELECT seq, text FROM incoming WHERE seq > ? AND seq NOT IN (SELECT seq FROM journal) "
            "ORDER BY seq LIMIT ?",
            (after, limit),
        ).fetchall()

    def texts(self) -> Generator[str, None, None]:
        """Every text that is not yet a row, in order."""
        with sqlite_os_errors(self.folder):
            reader = sqlite3.connect(self.folder / NAMES.work)
        with closing(reader):
            for (text,) in reader.execute("SELECT text FROM incoming ORDER BY seq"):
                yield text

    def count_incoming(self) -> int:
        """The number of documents that are not yet rows."""
        return self._count("SELECT count(*) FROM incoming")

    def record(self, seqs: Sequence[int], texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Record an answer of the embedder: (n, width) float32 for the texts of these documents."""
        with self._db:
            self._record(
                seqs, [text_key(text) for text in texts], [v.astype("<f4").tobytes() for v in vectors]
            )
        failpoint(Failpoint.JOURNALLED)

    def _record(self, seqs: Sequence[int], keys: Sequence[bytes], vectors: Sequence[bytes]) -> None:
        rows = zip(seqs, keys, vectors, strict=True)
        self._db.executemany("INSERT OR REPLACE INTO journal VALUES (?, ?, ?)", rows)

    def id_of(self, seq: int) -> str:
        """The id of a document that is not yet a row, as the corpus has it."""
        return str(self._db.execute("SELECT id FROM incoming WHERE seq = ?", (seq,)).fetchone()[0])

    def leave_out(self, seq: int, reason: str) -> None:
        """Leave a document out, for a reason that the report tells."""
        with self._db:
            self._db.execute(
                "INSERT INTO left_out SELECT seq, id, ? FROM incoming WHERE seq = ?", (reason, seq)
            )
            self._db.execute("DELETE FROM incoming WHERE seq = ?", (seq,))

    def left_out(self) -> list[dict[str, Any]]:
        """The documents that were left out, in order: seq, id, reason."""
        rows = self._db.execute("SELECT seq, id, reason FROM left_out ORDER BY seq")
        return [{"seq": seq, "id": id_, "reason": reason} for seq, id_, reason in rows]

    def count_left_out(self) -> int:
        """The number of documents that were left out."""
        return self._count("SELECT count(*) FROM left_out")

    @property
    def rows(self) -> int:
        """The number of documents that are embedded, committed and safe."""
        return int(self.get("rows", 0))

    @property
    def safe(self) -> int:
        """The number of documents whose vectors are safe: committed rows and recorded answers."""
        return self.rows + self._count("SELECT count(*) FROM journal")

    @property
    def has_its_rows(self) -> bool:
        """Whether there are as many documents as rows are committed."""
        return self._count("SELECT coalesce(max(row) + 1, 0) FROM documents") == self.rows

    def commit(self, width: int, prepare: Prepare) -> None:
        """Make rows of the recorded answers that have no gap before them."""
        while True:
            waiting = self._db.execute(
                "SELECT seq, text, text_sha256, vector FROM incoming LEFT JOIN journal USING (seq) "
                "ORDER BY seq LIMIT ?",
                (COMMIT_AT_MOST,),
            ).fetchall()
            answered = []
            for seq, text, key, vector in waiting:
                if vector is None:
                    break
                if key != text_key(text) or len(vector) != 4 * width:
                    raise self.damaged(f"an answer is not of the text of document {seq:,}")
                answered.append((seq, vector))
            if not answered:
                return
            raw = np.frombuffer(b"".join(vector for _, vector in answered), "<f4").reshape(-1, width)
            self.commit_rows([seq for seq, _ in answered], prepare(raw), width)

    def commit_rows(self, seqs: Sequence[int], rows: NDArray[np.float32], dim: int) -> None:
        """Make rows of the first documents that wait: (n, dim) float32, prepared."""
        span, ends = "WHERE seq BETWEEN ? AND ?", (seqs[0], seqs[-1])
        with self._committing(rows, dim) as start:
            documents = self._db.execute(
                f"SELECT id, title, url, metadata, text FROM incoming {span} ORDER BY seq", ends
            ).fetchall()
            for row, (id_, title, url, metadata, text) in enumerate(documents, start):
                values = (row, self.ids.unique(id_), title, url, metadata)
                self._db.execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?)", values)
                self._db.execute("INSERT INTO texts VALUES (?, ?)", (row, text))
            self._db.execute(f"DELETE FROM incoming {span}", ends)
            self._db.execute(f"DELETE FROM journal {span}", ends)

    def commit_documents(
        self,
        documents: Sequence[PendingDocument],
        rows: NDArray[np.float32],
        dim: int,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        """Make rows of documents that come with their vectors: (n, dim) float32, prepared.

        Their ids are not changed. If one is taken, raises sqlite3.IntegrityError and commits nothing.
        `values` are set in the same transaction.
        """
        with self._committing(rows, dim) as start:
            if self.ids.earlier and any(self.ids.is_taken(document.id) for document in documents):
                raise sqlite3.IntegrityError("an id of an earlier part")
            numbered = list(enumerate(documents, start))
            fields = ((row, d.id, d.title, d.url, d.metadata) for row, d in numbered)
            self._db.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?)", fields)
            self._db.executemany("INSERT INTO texts VALUES (?, ?)", ((row, d.text) for row, d in numbered))
            for key, value in (values or {}).items():
                set_value(self._db, key, value)

    @contextmanager
    def _committing(self, rows: NDArray[np.float32], dim: int) -> Iterator[int]:
        """Append rows to the file of vectors; yields the first one's number, then counts them."""
        try:
            file = self._vectors(dim)
            start = file.rows
            file.append(rows)
            file.sync()
            failpoint(Failpoint.SYNCED)
            with self._db:
                yield start
                set_value(self._db, "rows", file.rows)
            failpoint(Failpoint.COUNTED)
        except BaseException:
            self.close_vectors()  # opening the file again cuts off rows that were not committed
            raise

    def _vectors(self, dim: int) -> NpyAppender:
        if self._rows_file is None:
            try:
                self._rows_file = NpyAppender(self.staged / NAMES.vectors(dim), dim, self.rows)
            except EOFError as error:
                raise BuildStateError(f"{error}: begin again with `restart`") from None
        return self._rows_file

    def finish_vectors(self, dim: int) -> None:
        """Complete the file of full vectors."""
        self._vectors(dim).finish()
        self.close_vectors()

    def finish_documents(self) -> Path:
        """Write documents.sqlite and return its path. The same rows make the same bytes.

        Rows are copied in order; VACUUM INTO then lays the pages out from the rows alone.
        """
        path = self.staged / NAMES.documents

        def fill(copy: sqlite3.Connection) -> None:
            copy.execute("ATTACH ? AS work", (str(self.folder / NAMES.work),))
            with copy:
                copy.execute("INSERT INTO documents SELECT * FROM work.documents ORDER BY row")
                copy.execute("INSERT INTO texts SELECT * FROM work.texts ORDER BY row")
            copy.execute("DETACH work")

        write_documents(path, self.folder / NAMES.documents_copy, fill)
        return path

    def close_vectors(self) -> None:
        """Close the file of vectors."""
        if self._rows_file is not None:
            self._rows_file.close()
            self._rows_file = None

    def close(self) -> None:
        """Close everything; what is committed is safe."""
        self.close_vectors()
        self._db.close()
