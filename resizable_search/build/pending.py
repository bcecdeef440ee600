"""What a change of an index is about to do: which documents come, with whose vectors, and which rows go.

It lies in the database of an unfinished build. What is compared is found out anew in each run; the
answers of a service are kept under the hash of their text, whatever the document is by then, so that no
text is paid for twice.
"""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.build.journal import (
    CHANGE,
    FOLD_AT_MOST,
    NO_TEXT,
    PendingDocument,
    Prepare,
    Work,
    text_key,
)
from resizable_search.build.report import Changes
from resizable_search.errors import BuildStateError
from resizable_search.store.ids import PartIds, TakenIds
from resizable_search.system import Failpoint, failpoint

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
"""Whether a row of `held` is of a file, or in a folder, that cannot be looked at."""


class Pending(Work):
    """The unfinished change in `folder`, whose texts `Embedding` embeds as those of a build."""

    journals_all: ClassVar[bool] = True

    def begin(self, fingerprint: str) -> None:
        """Forget what an earlier run compared, and keep what it was answered. Raises BuildStateError.

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
            self._set("rows", 0)
        self._seen = TakenIds(self._db, "seen")

    def know_answers(self, work: Path) -> None:
        """Pass over the texts that another unfinished change, whose database is `work`, was answered."""
        if not work.exists():
            return
        with closing(sqlite3.connect(f"{work.resolve().as_uri()}?mode=ro", uri=True)) as other, self._db:
            known = other.execute("SELECT text_sha256 FROM journal")
            self._db.executemany("INSERT OR IGNORE INTO journal (text_sha256, vector) VALUES (?, x'')", known)

    # -- comparing

    def hold(self, parts: Sequence[PartIds]) -> None:
        """Learn what the index holds: of each document that can be found, its id, row and hashes."""
        with self._db:
            self._db.executemany("INSERT INTO held VALUES (?, ?, ?, ?, ?)", _held(parts))

    def take_in(
        self,
        documents: Sequence[PendingDocument],
        left_out: Sequence[PendingDocument],
        reasons: Mapping[int, str],
    ) -> None:
        """Compare further documents of the corpus with what the index holds, and keep what is to be done.

        `reasons` says why some are left out, by row.
        """
        with self._db:
            self._leave_out(left_out, reasons)
            for document in documents:
                id_ = self._seen.unique(document.id)
                held = self._db.execute("SELECT row, content, text FROM held WHERE id = ?", (id_,)).fetchone()
                same = held is not None and held[1] == _content(document)
                self._db.execute("INSERT INTO seen VALUES (?, ?)", (id_, same))
                if not same:
                    key = text_key(document.text)
                    source = held[0] if held and held[2] == key else self._row_with(key)
                    self._put(document, id_, key, source)

    def put(self, documents: Sequence[PendingDocument], sources: Sequence[int | None]) -> None:
        """Have documents come, with the row whose vector each has, None where it must be embedded."""
        with self._db:
            for document, source in zip(documents, sources, strict=True):
                self._put(document, document.id, text_key(document.text), source)

    def _leave_out(self, documents: Sequence[PendingDocument], reasons: Mapping[int, str]) -> None:
        self._db.executemany(
            "INSERT INTO left_out VALUES (?, ?, ?)",
            ((d.seq, d.id, reasons.get(d.seq, NO_TEXT)) for d in documents),
        )

    def spare(self, paths: Iterable[str]) -> None:
        """Leave alone what the index has of these files and folders, which cannot be looked at."""
        with self._db:
            self._db.executemany("INSERT OR IGNORE INTO spared VALUES (?)", ((path,) for path in paths))

    def leave_out_blank(self, documents: Sequence[PendingDocument], reasons: Mapping[int, str]) -> None:
        """Note documents without text, for the report to tell; `reasons` says of some why, by row."""
        with self._db:
            self._leave_out(documents, reasons)

    def _row_with(self, key: bytes) -> int | None:
        found = self._db.execute("SELECT row FROM held WHERE text = ? LIMIT 1", (key,)).fetchone()
        return None if found is None else int(found[0])

    def _put(self, document: PendingDocument, id_: str, key: bytes, source: int | None) -> None:
        d = document
        self._db.execute(
            "INSERT INTO incoming VALUES (?, ?, ?, ?, ?, ?)", (d.seq, id_, d.title, d.url, d.metadata, d.text)
        )
        asks = source is None and not self._one("SELECT count(*) FROM pending WHERE key = ? AND asks", key)
        self._db.execute("INSERT INTO pending VALUES (?, ?, ?, ?)", (d.seq, key, source, asks))

    def gone(self, *, vanished: bool) -> list[int]:
        """The rows that a sync deletes: of documents with another content now, and of those that vanished."""
        rows = "SELECT row FROM held JOIN seen USING (id) WHERE NOT same"
        if vanished:
            rows += f" UNION SELECT row FROM held WHERE id NOT IN (SELECT id FROM seen) AND NOT {_IS_SPARED}"
        return [int(row) for (row,) in self._db.execute(f"{rows} ORDER BY row")]

    def changes(self, gone: int) -> Changes:
        """What is to be done, in figures; `gone` rows are to be deleted."""
        coming = self._one("SELECT count(*) FROM pending")
        changed = self._one("SELECT count(*) FROM incoming JOIN held USING (id)")
        renamed = self._one(
            "SELECT coalesce(sum(min(new, old)), 0) FROM "
            "(SELECT key, count(*) AS new FROM pending JOIN incoming USING (seq) "
            " WHERE id NOT IN (SELECT id FROM held) GROUP BY key) JOIN "
            "(SELECT text AS key, count(*) AS old FROM held "
            f" WHERE id NOT IN (SELECT id FROM seen) AND NOT {_IS_SPARED} GROUP BY text) USING (key)"
        )
        renamed = min(renamed, gone - changed)
        return Changes(
            added=coming - changed - renamed,
            changed=changed,
            removed=gone - changed - renamed,
            renamed=renamed,
            unchanged=self._one(
                "SELECT (SELECT count(*) FROM seen WHERE same) + "
                f"(SELECT count(*) FROM held WHERE id NOT IN (SELECT id FROM seen) AND {_IS_SPARED})"
            ),
        )

    def _one(self, query: str, *values: object) -> int:
        return int(self._db.execute(query, values).fetchone()[0])

    # -- embedding

    @property
    def to_ask(self) -> int:
        """How many texts have no vector yet."""
        return self._one(
            "SELECT count(*) FROM pending WHERE asks AND key NOT IN (SELECT text_sha256 FROM journal)"
        )

    @property
    def chars_to_ask(self) -> int:
        """How many characters those have."""
        return self._one(
            "SELECT coalesce(sum(length(text)), 0) FROM pending JOIN incoming USING (seq) "
            "WHERE asks AND key NOT IN (SELECT text_sha256 FROM journal)"
        )

    @property
    def bytes_coming(self) -> int:
        """How many bytes the documents that come have, ids twice, as they are indexed."""
        fields = " + ".join(
            f"coalesce(length(CAST({name} AS BLOB)), 0)"
            for name in ("id", "id", "title", "url", "metadata", "text")
        )
        return self._one(f"SELECT coalesce(sum({fields}), 0) FROM incoming")

    @property
    def coming(self) -> int:
        """How many documents come."""
        return self._one("SELECT count(*) FROM pending")

    def coming_ids(self) -> list[str]:
        """The ids of the documents that come."""
        return [id_ for (id_,) in self._db.execute("SELECT id FROM pending JOIN incoming USING (seq)")]

    def waiting(self, after: int, limit: int) -> list[tuple[int, str]]:
        """As for a build, each text once."""
        return self._db.execute(
            "SELECT seq, text FROM pending JOIN incoming USING (seq) WHERE seq > ? AND asks "
            "AND key NOT IN (SELECT text_sha256 FROM journal) ORDER BY seq LIMIT ?",
            (after, limit),
        ).fetchall()

    def journal(self, seqs: Sequence[int], texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Keep a service's answer at once, under the hashes of its texts."""
        with self._db:
            self._db.executemany(
                "INSERT OR IGNORE INTO journal (text_sha256, vector) VALUES (?, ?)",
                ((text_key(t), row.astype("<f4").tobytes()) for t, row in zip(texts, vectors, strict=True)),
            )
        failpoint(Failpoint.JOURNALLED)

    def fold(self, width: int, prepare: Prepare) -> None:
        """Nothing is folded before all is there: `gather` brings it in order."""

    def leave_out(self, seq: int, reason: str) -> None:
        """Give up a text, and each document that has it."""
        with self._db:
            same = "seq IN (SELECT seq FROM pending WHERE key = (SELECT key FROM pending WHERE seq = ?))"
            self._db.execute(
                f"INSERT INTO left_out SELECT seq, id, ? FROM incoming WHERE {same}", (reason, seq)
            )
            self._db.execute(f"DELETE FROM incoming WHERE {same}", (seq,))
            self._db.execute("DELETE FROM pending WHERE seq NOT IN (SELECT seq FROM incoming)")

    # -- gathering

    def gather(
        self, dim: int, prepare: Prepare, stored: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    ) -> None:
        """Make rows of the documents that come, in order: their vectors answered, or copied from `stored`."""
        for documents, sources, answers in self._in_order():
            rows = np.empty((len(documents), dim), np.float32)
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
            self.add(documents, rows, dim, {})

    def _in_order(self) -> Iterator[tuple[list[PendingDocument], list[int | None], list[bytes | None]]]:
        after = -1
        while True:
            found = self._db.execute(
                "SELECT seq, id, title, url, metadata, text, source, iif(source IS NULL, vector, NULL) "
                "FROM pending JOIN incoming USING (seq) LEFT JOIN "
                "(SELECT text_sha256 AS key, vector FROM journal) USING (key) "
                "WHERE seq > ? ORDER BY seq LIMIT ?",
                (after, FOLD_AT_MOST),
            ).fetchall()
            if not found:
                return
            after = found[-1][0]
            yield (
                [PendingDocument(*row[:6]) for row in found],
                [row[6] for row in found],
                [row[7] for row in found],
            )


def _content(document: PendingDocument) -> bytes:
    """The hash of all that an index shows of a document, its id apart."""
    return _hash(document.title, document.url, document.metadata, document.text)


def _hash(*fields: str) -> bytes:
    # No field holds a NUL: cleaning has replaced it.
    return hashlib.sha256("\0".join(fields).encode("utf-8", "surrogatepass")).digest()


def _held(parts: Sequence[PartIds]) -> Iterator[tuple[str, int, bytes, bytes, str]]:
    for part in parts:
        found = part.db.execute(
            "SELECT row, id, title, url, metadata, text FROM documents JOIN texts USING (row) ORDER BY row"
        )
        for row, id_, title, url, metadata, text in found:
            if part.allowed is None or part.allowed[row]:
                path = json.loads(metadata).get("path", id_)
                yield id_, part.start + row, _hash(title, url, metadata, text), text_key(text), str(path)
