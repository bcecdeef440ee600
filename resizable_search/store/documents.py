"""The documents of one part, in SQLite: who they are in one table, their texts in another.

A file of documents never changes once it is written, and opening looks whether that is so, as far as
it can at a cost that does not grow: SQLite counts up a number in the header with whatever it writes,
the schema is ours to the word, and the first and last rows are those of the part. What a hit needs is
read in ways that must agree. A character that was changed in place, `verify` finds.

Documents that were read before, in memory: for a process that stays.
"""

import json
import os
import sqlite3
import stat
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resizable_search.errors import IndexFormatError
from resizable_search.system import Failpoint, failpoint, sqlite_os_errors, unreadable
from resizable_search.text import BACK, clipped

SCHEMA = """
CREATE TABLE IF NOT EXISTS {schema}documents (
    row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, url TEXT NOT NULL,
    metadata TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS {schema}texts (row INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
"""

ROWS_AT_ONCE = 300
"""Rows a statement: two parameters for each stay below the least that any SQLite build allows (999)."""

_TABLES = [
    " ".join(statement.replace("IF NOT EXISTS ", "").split())
    for statement in SCHEMA.format(schema="").split(";")
    if statement.strip()
]
_OURS = {
    ("table", "documents", "documents", _TABLES[0]),
    ("index", "sqlite_autoindex_documents_1", "documents", None),
    ("table", "texts", "texts", _TABLES[1]),
}
"""What the schema of a file of documents is, white space apart."""

_ENDS = (
    "SELECT (SELECT min(row) FROM documents), (SELECT max(row) FROM documents), "
    "(SELECT min(row) FROM texts), (SELECT max(row) FROM texts)"
)

_WRITTEN_ONCE = 1
"""The header's count of changes, as VACUUM INTO leaves it."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as it lies in an index, under its row within its part."""

    row: int
    id: str
    title: str
    url: str
    metadata: Mapping[str, Any]
    text: str


def open_documents(path: Path, rows: int) -> sqlite3.Connection:
    """Open the documents of a finished part of so many rows, from any thread; nothing can be written.

    Raises IndexFormatError if the file is missing, not one that was built, or of other rows.
    """
    try:
        return connect(path, rows)
    except FileNotFoundError:
        raise IndexFormatError(f"{path} is missing: {BACK}") from None
    except OSError as error:
        raise unreadable(path, error) from None
    except (sqlite3.Error, ValueError) as error:
        raise _unopened(path, error) from None


def connect(path: Path, rows: int) -> sqlite3.Connection:
    """As `open_documents`, but raises OSError, sqlite3.Error, or ValueError that says what is wrong."""
    _check_header(path)
    # The file never changes once its part is listed in a manifest, so SQLite need not lock it.
    uri = path.resolve().as_uri() + "?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
    try:
        # As https://www.sqlite.org/security.html asks for files that may be damaged; a mapped one could
        # end the process where it is cut short.
        for setting in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
            connection.execute(f"PRAGMA {setting}")
        if _schema(connection) != _OURS:
            raise ValueError("its tables are not those of an index")
        if connection.execute(_ENDS).fetchone() != (0, rows - 1, 0, rows - 1):
            raise ValueError(f"its rows are not the {rows:,} of the vectors")
    except BaseException:
        connection.close()
        raise
    return connection


def write_documents(path: Path, copy: Path, fill: Callable[[sqlite3.Connection], None]) -> None:
    """Write a file of documents anew: the same rows make the same bytes, however they came.

    `fill` brings the rows in order into a database at `copy`, which is thrown away; VACUUM INTO then
    lays the pages out from the rows alone.
    """
    for old in (path, copy):
        old.unlink(missing_ok=True)
    with sqlite_os_errors(copy.parent), closing(sqlite3.connect(copy, isolation_level="DEFERRED")) as db:
        # The copy is lost in a crash, so it need not wait for the disk, nor be undone.
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA journal_mode = OFF")
        db.executescript(SCHEMA.format(schema=""))
        fill(db)
        db.execute("VACUUM INTO ?", (str(path),))
    copy.unlink()
    with path.open("rb") as file:
        os.fsync(file.fileno())
    failpoint(Failpoint.DOCUMENTS)


def read_documents(
    connection: sqlite3.Connection, rows: Sequence[int], path: Path, count: int
) -> dict[int, StoredDocument]:
    """The documents at these rows of a part of `count` rows, by row.

    Raises IndexFormatError if one is not there, or not as it was written as far as that can be seen: its
    id leads back to its row, and the rows beside it are beside it among the texts.
    """
    wanted = sorted(set(rows))
    found: dict[int, StoredDocument] = {}
    try:
        for start in range(0, len(wanted), ROWS_AT_ONCE):
            found |= read_some(connection, wanted[start : start + ROWS_AT_ONCE], count)
    except (sqlite3.DatabaseError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    return found


def read_some(connection: sqlite3.Connection, rows: Sequence[int], count: int) -> dict[int, StoredDocument]:
    """As `read_documents`, of up to ROWS_AT_ONCE different rows.

    Raises sqlite3.DatabaseError, RecursionError, or ValueError that says what is wrong.
    """
    found: dict[int, StoredDocument] = {}
    for row, *texts, metadata, own in connection.execute(
        "SELECT row, id, title, url, text, metadata, (SELECT row FROM documents o WHERE o.id = d.id) "
        f"FROM documents d JOIN texts USING (row) WHERE row IN ({_marks(rows)})",
        rows,
    ):
        if own != row:
            raise ValueError("an id does not lead to its row")
        found[row] = _document(row, texts, metadata)
    # A row number that was changed leads to another row's text, but then not to those beside it.
    near = sorted({r for row in rows for r in (row - 1, row + 1) if 0 <= r < count}.difference(rows))
    query = f"SELECT count(*) FROM texts WHERE row IN ({_marks(near)})"
    if len(found) != len(rows) or connection.execute(query, near).fetchone() != (len(near),):
        raise ValueError("it lacks documents that have vectors")
    return found


def _document(row: int, texts: Sequence[Any], metadata: Any) -> StoredDocument:
    """The document of these values. Raises ValueError for such as were never written."""
    if {type(value) for value in (*texts, metadata)} != {str}:
        raise ValueError("it holds something else than text")
    parsed = {} if metadata == "{}" else json.loads(metadata)
    if not isinstance(parsed, dict):
        raise ValueError("its metadata is no JSON object")
    id_, title, url, text = texts
    return StoredDocument(row, id_, title, url, parsed, text)


def _check_header(path: Path) -> None:
    """Refuse a file that is no database, or was written to since VACUUM INTO made it: OSError, ValueError.

    The header's format: https://www.sqlite.org/fileformat2.html#the_database_header
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no file")
    with path.open("rb") as file:
        head, size = file.read(100), os.fstat(file.fileno()).st_size
    if len(head) < 100 or not head.startswith(b"SQLite format 3\0"):
        raise ValueError("it is no SQLite database")
    page, writing, reading = struct.unpack(">HBB", head[16:20])
    changes, pages = struct.unpack(">II", head[24:32])
    if (page if page > 1 else 65536) * pages != size:
        raise ValueError("its header tells another size")
    if (writing, reading, changes) != (1, 1, _WRITTEN_ONCE) or head[92:96] != head[24:28]:
        raise ValueError("it was written to after it was built")


def _unopened(path: Path, error: Exception) -> Exception:
    """What to raise where a file is damaged, or could not be opened and SQLite does not tell why."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_CANTOPEN:
        return _damaged(path, str(error))
    try:
        with path.open("rb"):
            return IndexFormatError(f"{path} cannot be opened ({error}): check what lies there")
    except OSError as why:
        return unreadable(path, why)


def _schema(connection: sqlite3.Connection) -> set[tuple[Any, ...]]:
    """What `sqlite_schema` holds, white space apart."""
    found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema")
    return {(*names, sql if sql is None else " ".join(str(sql).split())) for *names, sql in found}


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def _damaged(path: Path, why: str) -> IndexFormatError:
    return IndexFormatError(f"{path} is damaged ({clipped(why)}): {BACK}")


class DocumentCache:
    """Documents in memory, up to so many characters of text: those that were asked for last."""

    def __init__(self, characters: int) -> None:
        self._free = characters
        self._documents: OrderedDict[int, StoredDocument] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, rows: Iterable[int]) -> dict[int, StoredDocument]:
        """Those at these rows that are kept, by row."""
        found = {}
        with self._lock:
            for row in rows:
                if (document := self._documents.get(row)) is not None:
                    self._documents.move_to_end(row)
                    found[row] = document
        return found

    def put(self, documents: Iterable[StoredDocument]) -> None:
        """Keep these, in place of those that nobody has asked for longest."""
        with self._lock:
            for document in documents:
                if document.row not in self._documents:
                    self._documents[document.row] = document
                    self._free -= len(document.text)
            while self._free < 0:
                _, oldest = self._documents.popitem(last=False)
                self._free += len(oldest.text)
