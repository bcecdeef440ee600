"""The journal of a change: which documents are new or changed, whose vectors they get, and which rows go.

Each run compares again. Answers of a service stay, under the hash of their text: no text is paid for twice,
whichever document has it by then.
"""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.build.journal import (
    CHANGE,
    COMMIT_AT_MOST,
    Batch,
    Journal,
    PendingDocument,
    Prepare,
    set_value,
    text_key,
)
from resizable_search.build.report import Changes
from resizable_search.errors import BuildStateError
from resizable_search.store.documents import PartIds, TakenIds

_SCHEMA = """
DROP TABLE IF EXISTS held;
DROP TABLE IF EXISTS seen;
DROP TABLE IF EXISTS pending;
DROP TABLE IF EXISTS spared;
CREATE TABLE held (
    id TEXT PRIMARY KEY, row INTEGER NOT NULL, content BLOB NOT NULL, text BLOB NOT NULL, path TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE spared (path TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE INDEX held_by_text ON held (text);
CREATE TABLE seen (id TEXT PRIMARY KEY, same INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE pending (
    seq INTEGER PRIMARY KEY, key BLOB NOT NULL, source INTEGER, asks INTEGER NOT NULL
) STRICT;
CREATE INDEX pending_by_key ON pending (key);
CREATE UNIQUE INDEX IF NOT EXISTS journal_by_text ON journal (text_sha256);
"""

_IS_SPARED = (
    "EXISTS (SELECT 1 FROM spared WHERE spared.path IN ('.', held.path) "
    "OR substr(held.path, 1, length(spared.path) + 1) = spared.path || '/')"
)
"""Whether a row of `held` is of a file, or in a folder, that cannot be read now."""

_TO_EMBED = (
    "FROM pending JOIN incoming USING (seq) WHERE asks AND key NOT IN (SELECT text_sha256 FROM journal)"
)
"""The documents whose texts have no vector yet, each text once."""


class ChangeJournal(Journal):
    """The journal of a change of an index. Its rows are made at the end, all at once (`gather`)."""

    records_all: ClassVar[bool] = True

    def begin(self, fingerprint: str) -> None:
        """Forget what an earlier run compared, and keep its answers. Raises BuildStateError.

        `fingerprint` is that of the index's embedder.
        """
        begun, asked = self.get("request"), {"kind": CHANGE, "embedder": fingerprint}
        if begun is None:
            self.set("request", asked)
        elif begun != asked:
            raise BuildStateError(
                f"the unfinished build in {self.folder} is another one's: give its command again first"
            )
        for path in self.staged.iterdir():
            path.unlink() if path.is_file() else shutil.rmtree(path)
        with self._db:
            self._db.executescript(_SCHEMA)
            for table in ("incoming", "documents", "texts", "left_out", "repeats"):
                self._db.execute(f"DELETE FROM {table}")
            set_value(self._db, "rows", 0)
        self._seen = TakenIds(self._db, "seen")

    def copy_answered(self, other: Path) -> None:
        """Count texts as embedded that the unfinished change with the database `other` has answers for."""
        if not other.exists():
            return
        with closing(sqlite3.connect(f"{other.resolve().as_uri()}?mode=ro", uri=True)) as db, self._db:
            known = db.execute("SELECT text_sha256 FROM journal")
            self._db.executemany("INSERT OR IGNORE INTO journal (text_sha256, vector) VALUES (?, x'')", known)

    def hold(self, parts: Sequence[PartIds]) -> None:
        """Read what the index holds: the id, row and hashes of each document that is not deleted."""
        with self._db:
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
                        self._db.execute("INSERT INTO held VALUES (?, ?, ?, ?, ?)", values)

    def compare(self, batch: Batch) -> None:
        """Compare documents of the corpus with the index, and keep those that are to be written."""
        with self._db:
            self._leave_out_blank(batch)
            for document in batch.documents:
                id_ = self._seen.unique(document.id)
                stored = self._db.execute(
                    "SELECT row, content, text FROM held WHERE id = ?", (id_,)
                ).fetchone()
                d = document
                same = stored is not None and stored[1] == _hash(d.title, d.url, d.metadata, d.text)
                self._db.execute("INSERT INTO seen VALUES (?, ?)", (id_, same))
                if not same:
                    key = text_key(document.text)
                    if stored is None or stored[2] != key:
                        same_text = "SELECT row FROM held WHERE text = ? LIMIT 1"
                        stored = self._db.execute(same_text, (key,)).fetchone()
                    self._put(document, id_, key, stored and stored[0])

    def put(self, batch: Batch, sources: Mapping[int, int | None]) -> None:
        """Keep documents that are to be written: `sources` has the row by `seq` whose vector each gets.

        None: it is to be embedded. Documents that are not in `sources` are unchanged.
        """
        with self._db:
            self._leave_out_blank(batch)
            for document in batch.documents:
                if document.seq in sources:
                    self._put(document, document.id, text_key(document.text), sources[document.seq])

    def spare(self, paths: Iterable[str]) -> None:
        """Keep what the index has of these files and folders, because they cannot be read now."""
        with self._db:
            self._db.executemany("INSERT OR IGNORE INTO spared VALUES (?)", ((path,) for path in paths))

    def _put(self, document: PendingDocument, id_: str, key: bytes, source: int | None) -> None:
        d = document
        self._db.execute(
            "INSERT INTO incoming VALUES (?, ?, ?, ?, ?, ?)", (d.seq, id_, d.title, d.url, d.metadata, d.text)
        )
        asks = source is None and not self._count("SELECT count(*) FROM pending WHERE key = ? AND asks", key)
        self._db.execute("INSERT INTO pending VALUES (?, ?, ?, ?)", (d.seq, key, source, asks))

    @property
    def has_seen_text(self) -> bool:
        """Whether a document with text was compared."""
        return bool(self._count("SELECT count(*) FROM seen"))

    def gone(self, *, vanished: bool) -> list[int]:
        """The rows to delete: of documents whose content has changed, and of those that `vanished`."""
        rows = "SELECT row FROM held JOIN seen USING (id) WHERE NOT same"
        if vanished:
            rows += f" UNION SELECT row FROM held WHERE id NOT IN (SELECT id FROM seen) AND NOT {_IS_SPARED}"
        return [int(row) for (row,) in self._db.execute(f"{rows} ORDER BY row")]

    def changes(self, gone: int) -> Changes:
        """What is to be done, in figures; `gone` rows are to be deleted."""
        changed = self._count("SELECT count(*) FROM incoming JOIN held USING (id)")
        renamed = self._count(
            "SELECT coalesce(sum(min(new, old)), 0) FROM "
            "(SELECT key, count(*) AS new FROM pending JOIN incoming USING (seq) "
            " WHERE id NOT IN (SELECT id FROM held) GROUP BY key) JOIN "
            "(SELECT text AS key, count(*) AS old FROM held "
            f" WHERE id NOT IN (SELECT id FROM seen) AND NOT {_IS_SPARED} GROUP BY text) USING (key)"
        )
        renamed = min(renamed, gone - changed)
        return Changes(
            added=self.count_incoming() - changed - renamed,
            changed=changed,
            removed=gone - changed - renamed,
            renamed=renamed,
            unchanged=self._count(
                "SELECT (SELECT count(*) FROM seen WHERE same) + "
                f"(SELECT count(*) FROM held WHERE id NOT IN (SELECT id FROM seen) AND {_IS_SPARED})"
            ),
        )

    @property
    def to_embed(self) -> tuple[int, int]:
        """The number of texts without a vector, and their characters."""
        texts, chars = self._db.execute(
            f"SELECT count(*), coalesce(sum(length(text)), 0) {_TO_EMBED}"
        ).fetchone()
        return int(texts), int(chars)

    @property
    def incoming_bytes(self) -> int:
        """The bytes of the documents that are to be written; ids count twice, as they are indexed."""
        names = ("id", "id", "title", "url", "metadata", "text")
        fields = " + ".join(f"length(CAST({name} AS BLOB))" for name in names)
        return self._count(f"SELECT coalesce(sum({fields}), 0) FROM incoming")

    def incoming_ids(self) -> list[str]:
        """The ids of the documents that are to be written."""
        return [id_ for (id_,) in self._db.execute("SELECT id FROM incoming")]

    def waiting(self, after: int, limit: int) -> list[tuple[int, str]]:
        """As for a build, each text once."""
        return self._db.execute(
            f"SELECT seq, text {_TO_EMBED} AND seq > ? ORDER BY seq LIMIT ?", (after, limit)
        ).fetchall()

    def _record(self, seqs: Sequence[int], keys: Sequence[bytes], vectors: Sequence[bytes]) -> None:
        self._db.executemany(
            "INSERT OR IGNORE INTO journal (text_sha256, vector) VALUES (?, ?)",
            zip(keys, vectors, strict=True),
        )

    def commit(self, width: int, prepare: Prepare) -> None:
        """Commit nothing: `gather` makes all rows at the end."""

    def leave_out(self, seq: int, reason: str) -> None:
        """Leave out a text, and each document that has it."""
        with self._db:
            same = "seq IN (SELECT seq FROM pending WHERE key = (SELECT key FROM pending WHERE seq = ?))"
            self._db.execute(
                f"INSERT INTO left_out SELECT seq, id, ? FROM incoming WHERE {same}", (reason, seq)
            )
            self._db.execute(f"DELETE FROM incoming WHERE {same}", (seq,))
            self._db.execute("DELETE FROM pending WHERE seq NOT IN (SELECT seq FROM incoming)")

    def gather(
        self, dim: int, prepare: Prepare, stored: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    ) -> None:
        """Make rows of the documents, in order: their vectors are answers, or copied from `stored` rows."""
        after = -1
        while records := self._db.execute(
            "SELECT seq, id, title, url, metadata, text, source, iif(source IS NULL, vector, NULL) "
            "FROM pending JOIN incoming USING (seq) LEFT JOIN "
            "(SELECT text_sha256 AS key, vector FROM journal) USING (key) "
            "WHERE seq > ? ORDER BY seq LIMIT ?",
            (after, COMMIT_AT_MOST),
        ).fetchall():
            after = records[-1][0]
            sources, answers = [row[6] for row in records], [row[7] for row in records]
            rows = np.empty((len(records), dim), np.float32)
            copied = np.array([source is not None for source in sources])
            if copied.any():
                rows[copied] = stored(np.array([s for s in sources if s is not None], np.int64))
            if not copied.all():
                raw = b"".join(answer for answer in answers if answer is not None)
                if len(raw) != 4 * dim * int((~copied).sum()):
                    raise BuildStateError(
                        f"the unfinished change in {self.folder} is damaged (an answer is missing): delete it"
                    )
                rows[~copied] = prepare(np.frombuffer(raw, "<f4").reshape(-1, dim))
            self.commit_documents([PendingDocument(*row[:6]) for row in records], rows, dim)


def _hash(*fields: str) -> bytes:
    """The hash of all that an index shows of a document, without its id."""
    # No field holds a NUL: cleaning has replaced it.
    return hashlib.sha256("\0".join(fields).encode("utf-8", "surrogatepass")).digest()
