"""What an unfinished build has read and been answered: documents, answers, the stream's position.

Documents come in (`spool`) with the stream's position; answers of a service are journalled on arrival
(`journal`). Each of these is one SQLite transaction. `Work` makes rows of both.

An unfinished build: what was read and answered (`Spool`), made into rows, and how far all is safe.

What is answered without a gap is folded (`fold`, `append`) into rows of vectors and documents, with ids
made unique, in one SQLite transaction. The vectors are written and synced before the transaction that
counts them, so a vector file may be longer than what is committed, never shorter, and is cut back on
opening.
"""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.arrays import RowsFile
from resizable_search.errors import BuildStateError
from resizable_search.store.documents import SCHEMA, write_documents
from resizable_search.store.ids import IDS_SCHEMA, TakenIds
from resizable_search.store.layout import NAMES
from resizable_search.system import Failpoint, failpoint, sqlite_os_errors

CHANGE = "change"
"""The kind that an unfinished change of an index asks for, where a build names that of its corpus."""
NO_TEXT = "no text"
"""Why a document is left out that has no text, if nothing else is known."""

_WORK_SCHEMA = """
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


@dataclass(frozen=True, slots=True)
class PendingDocument:
    """A document on its way in; `seq` is its place in the corpus."""

    seq: int
    id: str
    title: str
    url: str
    metadata: str
    text: str


def text_key(text: str) -> bytes:
    """What an answer is filed under beside its row: the SHA-256 of the text that was embedded."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _set(db: sqlite3.Connection, key: str, value: Any) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))


class Spool:
    """What has come into an unfinished build, in `folder`; its staged files lie in `staged`.

    `kept` are values that are kept with it from its beginning, as `set` does.
    """

    journals_all: ClassVar[bool] = False
    """Whether even answers that cost nothing are journalled, since they need not come in order."""

    def __init__(self, folder: Path, **kept: Any) -> None:
        self.folder = folder
        self.staged = folder / NAMES.staged
        is_new = not (folder / NAMES.work).exists()
        try:
            self.staged.mkdir(parents=True, exist_ok=True)
            with sqlite_os_errors(folder):
                self._db = self._open(kept)
        except BaseException:
            if is_new:  # what could not be begun is no build to go on with
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def _open(self, kept: Mapping[str, Any]) -> sqlite3.Connection:
        db = sqlite3.connect(self.folder / NAMES.work)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_WORK_SCHEMA + IDS_SCHEMA + SCHEMA.format(schema=""))
            with db:
                for key, value in kept.items():
                    _set(db, key, value)
        except sqlite3.DatabaseError as error:
            db.close()
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise  # the disk's, not the file's
            raise BuildStateError(
                f"the unfinished build in {self.folder} is damaged ({error}): begin again with --restart"
            ) from None
        return db

    def get(self, key: str, default: Any = None) -> Any:
        """A value that was set, as JSON."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row[0])

    def set(self, key: str, value: Any) -> None:
        """Keep a JSON value under a key, safe when this returns."""
        with self._db:
            self._set(key, value)

    def _set(self, key: str, value: Any) -> None:
        _set(self._db, key, value)

    def spool(
        self,
        documents: Iterable[PendingDocument],
        blank: Iterable[PendingDocument],
        stream: Any,
        reasons: Mapping[int, str] | None = None,
    ) -> None:
        """Take documents in, note those without text, and move the stream's position, all at once.

        `reasons` say by `seq` why some have none.
        """
        why = reasons or {}
        with self._db:
            self._db.executemany(
                "INSERT INTO incoming VALUES (?, ?, ?, ?, ?, ?)",
                ((d.seq, d.id, d.title, d.url, d.metadata, d.text) for d in documents),
            )
            self._db.executemany(
                "INSERT INTO left_out VALUES (?, ?, ?)",
                ((d.seq, d.id, why.get(d.seq, NO_TEXT)) for d in blank),
            )
            self._set("stream", stream)
        failpoint(Failpoint.SPOOLED)

    def waiting(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Up to `limit` (seq, text) behind `after` that have no answer yet, in order."""
        return self._db.execute(
            "SELECT seq, text FROM incoming WHERE seq > ? AND seq NOT IN (SELECT seq FROM journal) "
            "ORDER BY seq LIMIT ?",
            (after, limit),
        ).fetchall()

    def texts(self) -> Iterable[str]:
        """Every text that is waiting, in order."""
        with sqlite_os_errors(self.folder):
            reader = sqlite3.connect(self.folder / NAMES.work)
        try:
            for (text,) in reader.execute("SELECT text FROM incoming ORDER BY seq"):
                yield text
        finally:
            reader.close()

    def count_incoming(self) -> int:
        """How many documents wait to be folded."""
        return int(self._db.execute("SELECT count(*) FROM incoming").fetchone()[0])

    def journal(self, seqs: Sequence[int], texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Keep a service's answer at once: (n, width) float32 for the texts of these documents."""
        rows = zip(seqs, texts, vectors, strict=True)
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO journal VALUES (?, ?, ?)",
                ((seq, text_key(text), row.astype("<f4").tobytes()) for seq, text, row in rows),
            )
        failpoint(Failpoint.JOURNALLED)

    def id_of(self, seq: int) -> str:
        """The id of a document that waits, as the corpus has it."""
        return str(self._db.execute("SELECT id FROM incoming WHERE seq = ?", (seq,)).fetchone()[0])

    def leave_out(self, seq: int, reason: str) -> None:
        """Give a document up, for the report to tell."""
        with self._db:
            self._db.execute(
                "INSERT INTO left_out SELECT seq, id, ? FROM incoming WHERE seq = ?", (reason, seq)
            )
            self._db.execute("DELETE FROM incoming WHERE seq = ?", (seq,))

    def left_out(self) -> list[dict[str, Any]]:
        """The documents that did not make it, in order: seq, id, reason."""
        found = self._db.execute("SELECT seq, id, reason FROM left_out ORDER BY seq")
        return [{"seq": seq, "id": id_, "reason": reason} for seq, id_, reason in found]

    def count_left_out(self) -> int:
        """How many documents did not make it."""
        return int(self._db.execute("SELECT count(*) FROM left_out").fetchone()[0])

    def close(self) -> None:
        """Close the database; what is committed is safe."""
        self._db.close()


FOLD_AT_MOST = 1000
"""Documents folded in one transaction."""

Prepare = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Raw vectors of the embedder to rows as they are stored."""


class Work(Spool):
    """The state of an unfinished build, in `folder`. `ids` knows which ids are taken.

    `kept` are values that are kept with it from its beginning, as `set` does.
    """

    def __init__(self, folder: Path, **kept: Any) -> None:
        super().__init__(folder, **kept)
        self._rows_file: RowsFile | None = None
        self.ids = TakenIds(self._db)

    @property
    def rows(self) -> int:
        """Documents that are embedded, folded and safe."""
        return int(self.get("rows", 0))

    @property
    def safe(self) -> int:
        """Documents whose vectors are safe, be they rows already or answers that wait for one before them."""
        return self.rows + int(self._db.execute("SELECT count(*) FROM journal").fetchone()[0])

    @property
    def has_its_rows(self) -> bool:
        """Whether the documents that are filed are as many as the rows that are committed."""
        return bool(
            self._db.execute("SELECT coalesce(max(row) + 1, 0) FROM documents").fetchone()[0] == self.rows
        )

    def fold(self, width: int, prepare: Prepare) -> None:
        """Fold the journalled answers that no gap precedes."""
        while True:
            found = self._db.execute(
                "SELECT seq, text, text_sha256, vector FROM incoming LEFT JOIN journal USING (seq) "
                "ORDER BY seq LIMIT ?",
                (FOLD_AT_MOST,),
            ).fetchall()
            answered = []
            for seq, text, key, vector in found:
                if vector is None:
                    break
                if key != text_key(text) or len(vector) != 4 * width:
                    raise BuildStateError(
                        f"the unfinished build in {self.folder} is damaged (an answer is not of the text of "
                        f"document {seq:,}): begin again with --restart"
                    )
                answered.append((seq, vector))
            if not answered:
                return
            raw = np.frombuffer(b"".join(v for _, v in answered), "<f4").reshape(-1, width)
            self.append([seq for seq, _ in answered], prepare(raw), width)

    def append(self, seqs: Sequence[int], rows: NDArray[np.float32], dim: int) -> None:
        """Make documents, the first ones waiting, into rows of the index: (n, dim) float32, prepared."""
        try:
            self._append(seqs, rows, self._vectors(dim))
        except BaseException:
            # The file may hold rows that no commit knows of: opening it again cuts them off.
            self.close_vectors()
            raise

    def _append(self, seqs: Sequence[int], rows: NDArray[np.float32], file: RowsFile) -> None:
        self._extend(file, rows)
        first, last, start = seqs[0], seqs[-1], file.rows - len(rows)
        with self._db:
            documents = self._db.execute(
                "SELECT id, title, url, metadata, text FROM incoming WHERE seq BETWEEN ? AND ? ORDER BY seq",
                (first, last),
            ).fetchall()
            for row, (id_, title, url, metadata, text) in enumerate(documents, start):
                self._db.execute(
                    "INSERT INTO documents VALUES (?, ?, ?, ?, ?)",
                    (row, self.ids.unique(id_), title, url, metadata),
                )
                self._db.execute("INSERT INTO texts VALUES (?, ?)", (row, text))
            self._db.execute("DELETE FROM incoming WHERE seq BETWEEN ? AND ?", (first, last))
            self._db.execute("DELETE FROM journal WHERE seq BETWEEN ? AND ?", (first, last))
            self._set("rows", file.rows)
        failpoint(Failpoint.COUNTED)

    def _extend(self, file: RowsFile, rows: NDArray[np.float32]) -> None:
        """Have the disk hold further rows, which are not counted yet."""
        file.append(rows)
        file.sync()
        failpoint(Failpoint.SYNCED)

    def add(
        self,
        documents: Sequence[PendingDocument],
        rows: NDArray[np.float32],
        dim: int,
        kept: Mapping[str, Any],
    ) -> None:
        """Make documents that come with their (n, dim) float32 prepared rows into rows of the index.

        Their ids stay as they are: raises sqlite3.IntegrityError, and takes none of them, where one is
        taken (`first_repeat` tells which). `kept` are values to keep with them, as `set` does.
        """
        try:
            file = self._vectors(dim)
            start = file.rows
            self._extend(file, rows)
            with self._db:
                self._add_documents(documents, start)
                for key, value in kept.items():
                    self._set(key, value)
                self._set("rows", file.rows)
            failpoint(Failpoint.COUNTED)
        except BaseException:
            self.close_vectors()  # as for `append`
            raise

    def _add_documents(self, documents: Sequence[PendingDocument], start: int) -> None:
        if self.ids.earlier and any(self.ids.is_taken(document.id) for document in documents):
            raise sqlite3.IntegrityError("an id of an earlier part")
        self._db.executemany(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?)",
            ((row, d.id, d.title, d.url, d.metadata) for row, d in enumerate(documents, start)),
        )
        self._db.executemany(
            "INSERT INTO texts VALUES (?, ?)", ((row, d.text) for row, d in enumerate(documents, start))
        )

    def first_repeat(self, documents: Sequence[PendingDocument]) -> tuple[PendingDocument, int] | None:
        """The first of these documents whose id is taken, and the row of the index (or `seq`) that has it."""
        seen: dict[str, int] = {}
        for document in documents:
            row = self.ids.row_of(document.id)
            if row is not None:
                return document, row
            if document.id in seen:
                return document, seen[document.id]
            seen[document.id] = document.seq
        return None

    def _vectors(self, dim: int) -> RowsFile:
        if self._rows_file is None:
            try:
                self._rows_file = RowsFile(self.staged / NAMES.vectors(dim), dim, self.rows)
            except EOFError as error:
                raise BuildStateError(f"{error}: begin again with --restart") from None
        return self._rows_file

    def finish_vectors(self, dim: int) -> Path:
        """Complete the file of full vectors; its path."""
        file = self._vectors(dim)
        file.finish()
        self.close_vectors()
        return self.staged / NAMES.vectors(dim)

    def finish_documents(self) -> Path:
        """Write documents.sqlite anew: the same rows make the same bytes, however they came.

        The copy brings the rows in order; VACUUM INTO then lays the pages out from the rows alone.
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
        super().close()
