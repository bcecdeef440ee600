"""What an unfinished build has read and been answered: documents, answers, the stream's position.

Documents come in (`spool`) with the stream's position; answers of a service are journalled on arrival
(`journal`). Each of these is one SQLite transaction. `Work` makes rows of both.
"""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import BuildStateError
from resizable_search.index.documents import SCHEMA
from resizable_search.index.ids import IDS_SCHEMA
from resizable_search.index.layout import NAMES
from resizable_search.index.steps import Step, reached
from resizable_search.index.storage import as_the_system_says

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
class Incoming:
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
            with as_the_system_says(folder):
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
        documents: Iterable[Incoming],
        blank: Iterable[Incoming],
        stream: Any,
        reasons: Mapping[int, str] | None = None,
    ) -> None:
        """Take documents in, note those without text, and move the stream's position, all at once.

        `reasons` say by `seq` why some have none.
        """
        reached(Step.READ)
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
        reached(Step.SPOOLED)

    def waiting(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Up to `limit` (seq, text) behind `after` that have no answer yet, in order."""
        return self._db.execute(
            "SELECT seq, text FROM incoming WHERE seq > ? AND seq NOT IN (SELECT seq FROM journal) "
            "ORDER BY seq LIMIT ?",
            (after, limit),
        ).fetchall()

    def texts(self) -> Iterable[str]:
        """Every text that is waiting, in order."""
        with as_the_system_says(self.folder):
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
        reached(Step.ANSWERED)
        rows = zip(seqs, texts, vectors, strict=True)
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO journal VALUES (?, ?, ?)",
                ((seq, text_key(text), row.astype("<f4").tobytes()) for seq, text, row in rows),
            )
        reached(Step.JOURNALLED)

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
