"""Ids that are taken in an index, and the rows that have them: each document has one of its own."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from resizable_search.store.documents import open_documents
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import Manifest, Part
from resizable_search.store.reader import allowed_rows

IDS_SCHEMA = """
CREATE TABLE IF NOT EXISTS repeats (id TEXT PRIMARY KEY, last INTEGER NOT NULL) STRICT;
"""


class PartIds:
    """The ids of one finished part; those of deleted documents are nobody's.

    `start` is the first row of the part, `db` its documents. Raises IndexFormatError.
    """

    def __init__(self, folder: Path, part: Part, start: int) -> None:
        self.start = start
        self.allowed = allowed_rows(folder, part)
        self.rows = part.rows
        self.path = folder / NAMES.documents
        self.db = open_documents(self.path, part.rows)

    def row_of(self, id_: str) -> int | None:
        """The row, counted through the parts, of the document with this id; None if there is none."""
        found = self.db.execute("SELECT row FROM documents WHERE id = ?", (id_,)).fetchone()
        if found is None or (self.allowed is not None and not self.allowed[found[0]]):
            return None
        return self.start + int(found[0])

    def close(self) -> None:
        """Close its documents."""
        self.db.close()


@contextmanager
def ids_of(index: Path, manifest: Manifest) -> Iterator[list[PartIds]]:
    """The ids of every part of an index, in order."""
    with ExitStack() as stack:
        parts, start = [], 0
        for part in manifest.parts:
            parts.append(stack.enter_context(closing(PartIds(index / part.path, part, start))))
            start += part.rows
        yield parts


def row_of(parts: Sequence[PartIds], id_: str) -> int | None:
    """The row of the document with this id, counted through the parts; None if there is none."""
    return next((row for part in parts if (row := part.row_of(id_)) is not None), None)


class TakenIds:
    """The ids in a `table` of `db`, and those of the `earlier` parts of the index, of `rows` rows in all."""

    def __init__(self, db: sqlite3.Connection, table: str = "documents") -> None:
        self.earlier: Sequence[PartIds] = ()
        self.rows = 0
        self._db = db
        self._taken = f"SELECT 1 FROM {table} WHERE id = ?"

    def is_taken(self, id_: str) -> bool:
        """Whether a document has this id."""
        return (
            self._db.execute(self._taken, (id_,)).fetchone() is not None
            or row_of(self.earlier, id_) is not None
        )

    def row_of(self, id_: str) -> int | None:
        """The row, counted through the parts, of the document with this id; None if there is none."""
        row = row_of(self.earlier, id_)
        if row is not None:
            return row
        found = self._db.execute("SELECT row FROM documents WHERE id = ?", (id_,)).fetchone()
        return None if found is None else self.rows + int(found[0])

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
