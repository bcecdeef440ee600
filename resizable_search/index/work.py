"""An unfinished build: what was read, what was embedded, and how far both are safe.

Documents come in (`spool`) with the stream's position; answers of a service are journalled on
arrival (`journal`); what is answered without a gap is folded (`fold`, `append`) into rows of vectors
and documents, with ids made unique. Each of these is one SQLite transaction. The vectors are written
and synced before the transaction that counts them, so a vector file may be longer than what is
committed, never shorter, and is cut back on opening.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import BuildStateError
from resizable_search.index.documents import SCHEMA
from resizable_search.index.ids import IDS_SCHEMA, TakenIds
from resizable_search.index.layout import NAMES
from resizable_search.index.rows import RowsFile

FOLD_AT_MOST = 1000
"""Documents folded in one transaction."""

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

Prepare = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Raw vectors of the embedder to rows as they are stored."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A document on its way in; `seq` is its place in the corpus."""

    seq: int
    id: str
    title: str
    url: str
    metadata: str
    text: str


def rows_so_far(folder: Path) -> int:
    """How many documents an unfinished build has embedded; it is only looked at (0 if it cannot be)."""
    uri = (folder / NAMES.work).resolve().as_uri() + "?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as db:
            found = db.execute("SELECT value FROM meta WHERE key = 'rows'").fetchone()
            return int(found[0]) if found else 0
    except (sqlite3.Error, ValueError):
        return 0


def text_key(text: str) -> bytes:
    """What an answer is filed under beside its row: the SHA-256 of the text that was embedded."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class Work:
    """The state of an unfinished build, in `folder`. `ids` knows which ids are taken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.staged = folder / NAMES.staged
        self._rows_file: RowsFile | None = None
        self.staged.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(folder / NAMES.work)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(_WORK_SCHEMA + IDS_SCHEMA + SCHEMA.format(schema=""))
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise BuildStateError(
                f"the unfinished build in {folder} is damaged ({error}): begin again with --restart"
            ) from None
        self.ids = TakenIds(self._db)

    def get(self, key: str, default: Any = None) -> Any:
        """A value that was set, as JSON."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row[0])

    def set(self, key: str, value: Any) -> None:
        """Keep a JSON value under a key, safe when this returns."""
        with self._db:
            self._set(key, value)

    def _set(self, key: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    @property
    def rows(self) -> int:
        """Documents that are embedded, folded and safe."""
        return int(self.get("rows", 0))

    @property
    def has_its_rows(self) -> bool:
        """Whether the documents that are filed are as many as the rows that are committed."""
        return bool(
            self._db.execute("SELECT coalesce(max(row) + 1, 0) FROM documents").fetchone()[0] == self.rows
        )

    def spool(
        self,
        documents: Iterable[Incoming],
        blank: Iterable[Incoming],
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

    def waiting(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Up to `limit` (seq, text) behind `after` that have no answer yet, in order."""
        return self._db.execute(
            "SELECT seq, text FROM incoming WHERE seq > ? AND seq NOT IN (SELECT seq FROM journal) "
            "ORDER BY seq LIMIT ?",
            (after, limit),
        ).fetchall()

    def texts(self) -> Iterable[str]:
        """Every text that is waiting, in order."""
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
        file.append(rows)
        file.sync()
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

    def add(
        self, documents: Sequence[Incoming], rows: NDArray[np.float32], dim: int, kept: Mapping[str, Any]
    ) -> None:
        """Make documents that come with their (n, dim) float32 prepared rows into rows of the index.

        Their ids stay as they are: raises sqlite3.IntegrityError, and takes none of them, where one is
        taken (`first_repeat` tells which). `kept` are values to keep with them, as `set` does.
        """
        try:
            file = self._vectors(dim)
            start = file.rows
            file.append(rows)
            file.sync()
            with self._db:
                self._add_documents(documents, start)
                for key, value in kept.items():
                    self._set(key, value)
                self._set("rows", file.rows)
        except BaseException:
            self.close_vectors()  # as for `append`
            raise

    def _add_documents(self, documents: Sequence[Incoming], start: int) -> None:
        if self.ids.earlier and any(self.ids.is_taken(document.id) for document in documents):
            raise sqlite3.IntegrityError("an id of an earlier part")
        self._db.executemany(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?)",
            ((row, d.id, d.title, d.url, d.metadata) for row, d in enumerate(documents, start)),
        )
        self._db.executemany(
            "INSERT INTO texts VALUES (?, ?)", ((row, d.text) for row, d in enumerate(documents, start))
        )

    def first_repeat(self, documents: Sequence[Incoming]) -> tuple[Incoming, int] | None:
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
        copy = self.folder / "documents.copy"
        for old in (path, copy):
            old.unlink(missing_ok=True)
        self._db.execute("ATTACH ? AS copy", (str(copy),))
        try:
            # The copy is thrown away on a crash, so it need not wait for the disk.
            self._db.execute("PRAGMA copy.synchronous = OFF")
            self._db.executescript(SCHEMA.format(schema="copy."))
            with self._db:
                self._db.execute("INSERT INTO copy.documents SELECT * FROM documents ORDER BY row")
                self._db.execute("INSERT INTO copy.texts SELECT * FROM texts ORDER BY row")
            self._db.execute("VACUUM copy INTO ?", (str(path),))
        finally:
            self._db.execute("DETACH copy")
        copy.unlink()
        with path.open("rb") as file:
            os.fsync(file.fileno())
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
