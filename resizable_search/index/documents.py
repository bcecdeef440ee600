"""The documents of one part, in SQLite: who they are in one table, their texts in another."""

import json
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resizable_search.errors import IndexFormatError
from resizable_search.index.steps import Step, reached

SCHEMA = """
CREATE TABLE IF NOT EXISTS {schema}documents (
    row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, url TEXT NOT NULL,
    metadata TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS {schema}texts (row INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
"""

IDS_AT_ONCE = 500
"""Parameters a statement: below the least that any SQLite build allows (999)."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as it lies in an index, under its row within its part."""

    row: int
    id: str
    title: str
    url: str
    metadata: Mapping[str, Any]
    text: str


def open_documents(path: Path) -> sqlite3.Connection:
    """Open the documents of a finished part for reading, from any thread; nothing can be written.

    Raises IndexFormatError if the file is missing or not a database.
    """
    if not path.is_file():
        raise IndexFormatError(f"{path} is missing: build the index again with --restart")
    # The file never changes once its part is listed in a manifest, so SQLite need not lock it.
    uri = path.resolve().as_uri() + "?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
    connection.text_factory = bytes_to_text
    return connection


def write_documents(path: Path, copy: Path, fill: Callable[[sqlite3.Connection], None]) -> None:
    """Write a file of documents anew: the same rows make the same bytes, however they came.

    `fill` brings the rows in order into a database at `copy`, which is thrown away; VACUUM INTO then
    lays the pages out from the rows alone.
    """
    for old in (path, copy):
        old.unlink(missing_ok=True)
    with closing(sqlite3.connect(copy, isolation_level="DEFERRED")) as db:
        # The copy is lost in a crash, so it need not wait for the disk, nor be undone.
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA journal_mode = OFF")
        db.executescript(SCHEMA.format(schema=""))
        fill(db)
        reached(Step.COPIED)
        db.execute("VACUUM INTO ?", (str(path),))
    copy.unlink()
    with path.open("rb") as file:
        os.fsync(file.fileno())
    reached(Step.DOCUMENTS)


def bytes_to_text(data: bytes) -> str:
    """Decode text that a damaged page may have broken: a wrong character beats a traceback."""
    return data.decode("utf-8", "replace")


def read_documents(
    connection: sqlite3.Connection, rows: Sequence[int], path: Path
) -> dict[int, StoredDocument]:
    """The documents at these rows of one part, by row. Raises IndexFormatError if one is not there."""
    found: dict[int, StoredDocument] = {}
    try:
        for start in range(0, len(rows), IDS_AT_ONCE):
            some = rows[start : start + IDS_AT_ONCE]
            marks = ",".join("?" * len(some))
            for row, id_, title, url, metadata, text in connection.execute(
                "SELECT row, id, title, url, metadata, text FROM documents JOIN texts USING (row) "
                f"WHERE row IN ({marks})",
                some,
            ):
                if not all(isinstance(value, str) for value in (id_, title, url, text)):
                    raise ValueError("it holds something else than text")
                found[row] = StoredDocument(row, id_, title, url, json.loads(metadata), text)
    except (sqlite3.DatabaseError, ValueError, TypeError) as error:
        raise IndexFormatError(f"{path} is damaged ({error}): build the index again with --restart") from None
    if len(found) != len(set(rows)):
        raise IndexFormatError(
            f"{path} lacks documents that have vectors: build the index again with --restart"
        )
    return found
