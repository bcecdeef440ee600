"""The journal of an update: what was read, asked and answered, in one SQLite database.

Each block of documents arrives with the corpus's position, in one transaction. An answer is recorded on
arrival, under the SHA-256 of what was embedded: nothing is paid for twice. Rows are made from both at the
end. So an update that dies at any moment resumes, and makes the same bytes.
"""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import BuildStateError
from resizable_search.store.layout import NAMES, Failpoint, failpoint
from resizable_search.store.writer import discard
from resizable_search.system import sqlite_os_errors

VERSION = 2  # the `user_version` of the database. Another one is refused
NO_TEXT = "no text"  # why a document without text is left out, if nothing else is known
ROWS_AT_ONCE = 1000

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS documents (
    seq INTEGER PRIMARY KEY, source INTEGER, replaces INTEGER, text_sha256 BLOB NOT NULL,
    id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, url TEXT NOT NULL, metadata TEXT NOT NULL,
    context TEXT NOT NULL, text TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS unchanged (id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unread (path TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS left_out (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, reason TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS repeats (id TEXT PRIMARY KEY, last INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS stored (
    id TEXT PRIMARY KEY, row INTEGER NOT NULL, content BLOB NOT NULL, text_sha256 BLOB NOT NULL,
    path TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS stored_by_text ON stored (text_sha256);
CREATE TABLE IF NOT EXISTS answers (text_sha256 BLOB NOT NULL UNIQUE, vector BLOB NOT NULL) STRICT;
PRAGMA user_version = {VERSION};
"""

_READ = ("documents", "unchanged", "unread", "left_out", "repeats", "stored")
"""The tables of what was read, of the corpus and of the index that is compared with it."""

_ANSWERED = "text_sha256 IN (SELECT text_sha256 FROM answers)"


@dataclass(frozen=True, slots=True)
class PendingDocument:
    """A document that is not yet a row."""

    seq: int  # its row in the corpus
    id: str
    title: str
    url: str
    metadata: str  # JSON
    text: str
    source: int | None = None  # the row whose vector it gets; None: it is to be embedded
    replaces: int | None = None  # the row of the index that has its id
    unchanged: bool = False  # the index has it as it is
    context: str = ""  # is embedded before the text

    @property
    def embedded(self) -> str:
        """What is embedded."""
        return self.context + self.text


def sha256(*texts: str) -> bytes:
    """The SHA-256 of a text, or of several that hold no NUL."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).digest()


class Journal:
    """What an update that works in `folder` has read and been answered. Its new files lie in `staged`.

    Raises BuildStateError for one of another version, and sqlite3.DatabaseError or OSError.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.staged = folder / NAMES.staged
        is_new = not (folder / NAMES.work).exists()
        try:
            self.staged.mkdir(parents=True, exist_ok=True)
            with sqlite_os_errors(folder):
                self.db = self._open()
        except BaseException:
            if is_new:  # there is nothing to resume
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.folder / NAMES.work)
        try:
            (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if tables and db.execute("PRAGMA user_version").fetchone() != (VERSION,):
                other = f"the unfinished build in {self.folder} is of another version of rsearch"
                raise BuildStateError(f"{other}: finish it there, or `restart`, which embeds all of it again")
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript("BEGIN;" + _SCHEMA + "COMMIT;")
        except BaseException:
            db.close()
            raise
        return db

    def get(self, key: str) -> Any:
        """A value that was set, as JSON; None if it was not."""
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set(self, **values: Any) -> None:
        """Set JSON values; they are safe when this returns."""
        with self.db:
            self._set(values)

    def _set(self, values: Mapping[str, Any]) -> None:
        rows = ((key, json.dumps(value)) for key, value in values.items())
        self.db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def count(self, query: str) -> int:
        """The number of rows of a table, or of what follows FROM in a query."""
        return int(self.db.execute(f"SELECT count(*) FROM {query}").fetchone()[0])

    def read_anew(self, *, keeps_answers: bool = True, **values: Any) -> None:
        """Forget what was read, keep what was answered unless told, and set these values, in one step."""
        with self.db:
            for table in _READ if keeps_answers else (*_READ, "answers"):
                self.db.execute(f"DELETE FROM {table}")
            self._set({"stream": None, **values})

    def receive(
        self,
        documents: Sequence[PendingDocument],
        match: Callable[[PendingDocument], PendingDocument],
        stream: Any,
        left_out: Sequence[tuple[int, str, str]] = (),  # `seq` and id of documents without text, and why
        unread: Sequence[str] = (),  # what cannot be read now: the index keeps what it has of it
    ) -> None:
        """Take documents, and move the stream's position, in one step."""
        with self.db:
            for d in map(match, documents):
                if d.unchanged:
                    self.db.execute("INSERT INTO unchanged VALUES (?)", (d.id,))
                else:
                    fields = (d.id, d.title, d.url, d.metadata, d.context, d.text)
                    values = (d.seq, d.source, d.replaces, sha256(d.embedded), *fields)
                    self.db.execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            self.db.executemany("INSERT INTO left_out VALUES (?, ?, ?)", left_out)
            self.db.executemany("INSERT OR IGNORE INTO unread VALUES (?)", ((path,) for path in unread))
            self._set({"stream": stream})
        failpoint(Failpoint.READ)

    def waiting(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Up to `limit` (seq, text to embed) after `after` that have no vector yet, in order."""
        return self.db.execute(
            "SELECT seq, context || text FROM documents "
            f"WHERE seq > ? AND source IS NULL AND NOT {_ANSWERED} ORDER BY seq LIMIT ?",
            (after, limit),
        ).fetchall()

    def texts(self) -> Iterator[str]:
        """The text of every document as it is embedded, in order."""
        return (text for (text,) in self.db.execute("SELECT context || text FROM documents ORDER BY seq"))

    def record(self, texts: Sequence[str], vectors: NDArray[np.float32], **values: Any) -> None:
        """Record an answer, (n, width) float32 for these texts, and set values, in one step."""
        blobs = (vector.astype("<f4").tobytes() for vector in vectors)
        with self.db:
            self.db.executemany(
                "INSERT OR IGNORE INTO answers VALUES (?, ?)", zip(map(sha256, texts), blobs, strict=True)
            )
            self._set(values)
        failpoint(Failpoint.ANSWERED)

    def id_of(self, seq: int) -> str:
        """The id of a document."""
        return str(self.db.execute("SELECT id FROM documents WHERE seq = ?", (seq,)).fetchone()[0])

    def leave_out(self, text: str, reason: str) -> None:
        """Leave out the documents that are embedded as this text, for a reason that the report gives."""
        key = (sha256(text),)
        with self.db:
            self.db.execute(
                "INSERT INTO left_out SELECT seq, id, ? FROM documents WHERE text_sha256 = ?", (reason, *key)
            )
            self.db.execute("DELETE FROM documents WHERE text_sha256 = ?", key)

    def left_out(self) -> list[dict[str, Any]]:
        """The documents that were left out, in order: seq, id, reason."""
        rows = self.db.execute("SELECT seq, id, reason FROM left_out ORDER BY seq")
        return [{"seq": seq, "id": id_, "reason": reason} for seq, id_, reason in rows]

    @property
    def rows(self) -> int:
        """The number of documents that become rows."""
        return self.count("documents")

    @property
    def safe(self) -> int:
        """The number of them whose vectors need not be asked for again."""
        return self.count(f"documents WHERE source IS NOT NULL OR {_ANSWERED}")

    def blocks(self, width: int) -> Iterator[tuple[list[tuple[int, int | None]], NDArray[np.float32]]]:
        """The `seq` and `source` of documents, in order, and (m, width) float32 for those without a source.

        Up to ROWS_AT_ONCE at a time. Raises BuildStateError if an answer is missing or of another width.
        """
        records = self.db.execute(
            "SELECT seq, source, iif(source IS NULL, vector, NULL) "
            "FROM documents LEFT JOIN answers USING (text_sha256) ORDER BY seq"
        )
        while block := records.fetchmany(ROWS_AT_ONCE):
            for seq, source, vector in block:
                if source is None and len(vector or b"") != 4 * width:
                    damage = f"damaged (it has no answer for document {seq:,}): begin again with `restart`"
                    raise BuildStateError(f"the unfinished build in {self.folder} is {damage}")
            answers = b"".join(vector for _, _, vector in block if vector is not None)
            documents = [(seq, source) for seq, source, _ in block]
            yield documents, np.frombuffer(answers, "<f4").reshape(-1, width)

    def sizes(self) -> tuple[int, int, int, int]:
        """The different texts without a vector, and their characters; the documents, and their bytes."""
        texts, chars = self.db.execute(
            "SELECT count(*), coalesce(sum(length(context) + length(text)), 0) FROM (SELECT context, text "
            f"FROM documents WHERE source IS NULL AND NOT {_ANSWERED} GROUP BY text_sha256)"
        ).fetchone()
        # Ids are indexed, so they count twice.
        all_fields = "CAST(id || id || title || url || metadata || text AS BLOB)"
        documents, size = self.db.execute(
            f"SELECT count(*), coalesce(sum(length({all_fields})), 0) FROM documents"
        ).fetchone()
        return texts, chars, documents, size

    def clear_staged(self) -> None:
        """Delete the new files of a run that died, but not the state of a fitted embedder."""
        for path in self.staged.iterdir():
            if path.name != NAMES.embedder:
                path.unlink() if path.is_file() else shutil.rmtree(path)

    def copy_documents(self, db: sqlite3.Connection) -> None:
        """Insert every document into the tables of `documents.sqlite`, numbered from 0 in order."""
        db.execute("ATTACH CAST(? AS TEXT) AS work", (os.fsencode(self.folder / NAMES.work),))
        number = "row_number() OVER (ORDER BY seq) - 1"
        with db:
            db.execute(f"INSERT INTO documents SELECT {number}, id, title, url, metadata FROM work.documents")
            db.execute(f"INSERT INTO texts SELECT {number}, text FROM work.documents")
        db.execute("DETACH work")

    def copy_answered(self, other: Path) -> None:
        """Count texts as embedded that the journal in the folder `other` has answers for, without vectors."""
        if (other / NAMES.work).exists():
            address = f"{(other / NAMES.work).resolve().as_uri()}?mode=ro"
            with closing(sqlite3.connect(address, uri=True)) as db, self.db:
                known = db.execute("SELECT text_sha256 FROM answers")
                self.db.executemany("INSERT OR IGNORE INTO answers VALUES (?, x'')", known)

    def drop_used(self) -> int:
        """Delete what was read and the answers that were used. Returns the number of other answers."""
        with self.db:
            self.db.execute("DELETE FROM answers WHERE text_sha256 IN (SELECT text_sha256 FROM documents)")
        self.read_anew(request=None, spent=None, placing=None, is_shared=None)
        return self.count("answers")

    def close(self) -> None:
        """Close it; what was received and recorded is safe."""
        self.db.close()

    def discard(self) -> None:
        """Close it, and delete the unfinished update."""
        self.close()
        discard(self.folder)
