"""Ids that are taken in an index that is being built: each document gets one of its own."""

import sqlite3
from collections.abc import Sequence

IDS_SCHEMA = """
CREATE TABLE IF NOT EXISTS repeats (id TEXT PRIMARY KEY, last INTEGER NOT NULL) STRICT;
"""


class TakenIds:
    """The ids of the documents in `db`, and in the databases of the `earlier` parts of the index."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.earlier: Sequence[sqlite3.Connection] = ()
        self._db = db

    def is_taken(self, id_: str) -> bool:
        """Whether a document has this id."""
        query = "SELECT 1 FROM documents WHERE id = ?"
        return any(db.execute(query, (id_,)).fetchone() for db in (self._db, *self.earlier))

    def row_of(self, id_: str) -> int | None:
        """The row, counted through the parts, of the document with this id; None if there is none."""
        start = 0
        for db in (*self.earlier, self._db):
            found = db.execute("SELECT row FROM documents WHERE id = ?", (id_,)).fetchone()
            if found:
                return start + int(found[0])
            start += int(db.execute("SELECT count(*) FROM documents").fetchone()[0])
        return None

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
