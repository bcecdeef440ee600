"""The documents of a part in SQLite (ids and titles in one table, texts in another), and a cache.

A file of documents never changes once it is written. Opening checks that at a constant cost: SQLite counts
its writes in the header, the schema must be ours to the word, and the first and last rows those of the part.
A hit is read in ways that must agree. `verify` finds a character that was changed in place.
"""

import json
import os
import sqlite3
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resizable_search.errors import IndexFormatError
from resizable_search.store.layout import Failpoint, failpoint
from resizable_search.store.manifest import Part, damaged
from resizable_search.system import sqlite_os_errors, unreadable
from resizable_search.text import clipped, sound_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SCHEMA = """
CREATE TABLE documents (
    row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, url TEXT NOT NULL,
    metadata TEXT NOT NULL
) STRICT;
CREATE TABLE texts (row INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
"""

ROWS_AT_ONCE = 300  # rows of a statement: two parameters each stay below 999, the least limit of any SQLite

_TABLES = [" ".join(statement.split()) for statement in _SCHEMA.split(";")[:-1]]
"""The schema of a file of documents, white space apart."""

_ENDS = (
    "SELECT (SELECT min(row) FROM documents), (SELECT max(row) FROM documents), "
    "(SELECT min(row) FROM texts), (SELECT max(row) FROM texts)"
)


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document of an index, and its row."""

    row: int
    id: str
    title: str
    url: str
    metadata: Mapping[str, Any]
    text: str


def open_documents(path: Path, rows: int) -> sqlite3.Connection:
    """Open the documents of a part of so many rows read-only, for any thread. Raises IndexFormatError."""
    try:
        return connect(path, rows)
    except OSError as error:
        raise unreadable(path, error) from None
    except (sqlite3.Error, ValueError) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CANTOPEN:
            raise IndexFormatError(f"{path} cannot be opened ({error}): check what lies there") from None
        raise damaged(path, clipped(str(error))) from None


def connect(path: Path, rows: int) -> sqlite3.Connection:
    """`open_documents`, but raises OSError, sqlite3.Error, or ValueError with what is wrong."""
    _check_header(path)
    # The file never changes once its part is listed in a manifest, so SQLite need not lock it.
    uri = path.resolve().as_uri() + "?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
    try:
        # https://www.sqlite.org/security.html asks for this with files that may be damaged; a mapped file
        # that is cut short could end the process.
        for setting in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
            connection.execute(f"PRAGMA {setting}")
        schema = connection.execute("SELECT sql FROM sqlite_schema WHERE sql NOTNULL ORDER BY name")
        if [" ".join(str(sql).split()) for (sql,) in schema] != _TABLES:
            raise ValueError("its tables are not those of an index")
        if connection.execute(_ENDS).fetchone() != (0, rows - 1, 0, rows - 1):
            raise ValueError(f"its rows are not the {rows:,} of the vectors")
    except BaseException:
        connection.close()
        raise
    return connection


def write_documents(path: Path, copy: Path, fill: Callable[[sqlite3.Connection], None]) -> None:
    """Write a file of documents: the same rows make the same bytes, as VACUUM INTO lays the pages out.

    `fill` puts the rows in order into a temporary database at `copy`.
    """
    for old in (path, copy):
        old.unlink(missing_ok=True)
    with sqlite_os_errors(copy.parent), closing(sqlite3.connect(copy, isolation_level="DEFERRED")) as db:
        # A crash loses the copy, so it need not wait for the disk.
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA journal_mode = OFF")
        db.executescript(_SCHEMA)
        fill(db)
        db.execute("VACUUM INTO CAST(? AS TEXT)", (os.fsencode(path),))  # which need not be UTF-8
    copy.unlink()
    with path.open("rb") as file:
        os.fsync(file.fileno())
    failpoint(Failpoint.DOCUMENTS)


def read_documents(
    connection: sqlite3.Connection, rows: Iterable[int], count: int, first: int = 0
) -> dict[int, StoredDocument]:
    """The documents at these rows of a part of `count` rows, by row plus `first`.

    Raises sqlite3.DatabaseError, RecursionError, or ValueError if one is missing or damaged: its id must lead
    back to its row, and its neighbours must be there.
    """
    documents: dict[int, StoredDocument] = {}
    wanted = sorted(set(rows))
    for start in range(0, len(wanted), ROWS_AT_ONCE):
        some = wanted[start : start + ROWS_AT_ONCE]
        for row, *texts, metadata, own in connection.execute(
            "SELECT row, id, title, url, text, metadata, (SELECT row FROM documents o WHERE o.id = d.id) "
            f"FROM documents d JOIN texts USING (row) WHERE row IN ({_marks(some)})",
            some,
        ):
            if own != row:
                raise ValueError("an id does not lead to its row")
            if {type(value) for value in (*texts, metadata)} != {str}:
                raise ValueError("it holds something else than text")
            parsed = {} if metadata == "{}" else json.loads(sound_json(metadata))
            if not isinstance(parsed, dict):
                raise ValueError("its metadata is no JSON object")
            id_, title, url, text = texts
            documents[first + row] = StoredDocument(first + row, id_, title, url, parsed, text)
        # A changed row number leads to the text of another row, but not to that row's neighbours.
        near = sorted({r for row in some for r in (row - 1, row + 1) if 0 <= r < count}.difference(some))
        query = f"SELECT count(*) FROM texts WHERE row IN ({_marks(near)})"
        (neighbours,) = connection.execute(query, near).fetchone()
        if neighbours < len(near) or len(documents) < start + len(some):
            raise ValueError("it lacks documents that have vectors")
    return documents


def _check_header(path: Path) -> None:
    """Raise OSError or ValueError unless the file is a database as VACUUM INTO made it: its first version."""
    # https://www.sqlite.org/fileformat2.html#the_database_header
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is not a file")
    with path.open("rb") as file:
        head = file.read(100)
    if not head.startswith(b"SQLite format 3\0"):
        raise ValueError("it is no SQLite database")
    if head[18:20] != b"\1\1" or (head[24:28], head[92:96]) != (b"\0\0\0\1",) * 2:
        raise ValueError("it was written to after it was built")


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


class DocumentCache:
    """The documents that were used last, in memory, up to so many characters of text."""

    def __init__(self, characters: int) -> None:
        self._free = characters
        self._documents: OrderedDict[int, StoredDocument] = OrderedDict()  # last: those that were used last
        self._lock = threading.Lock()

    def take(self, rows: Iterable[int]) -> dict[int, StoredDocument]:
        """The documents of these rows that are in memory, by row."""
        with self._lock:
            cached = {row: self._documents[row] for row in rows if row in self._documents}
            for row in cached:
                self._documents.move_to_end(row)
        return cached

    def put(self, documents: Iterable[StoredDocument]) -> None:
        """Keep these in place of those that were not used for the longest time."""
        with self._lock:
            new = {document.row: document for document in documents if document.row not in self._documents}
            self._documents |= new
            self._free -= sum(len(document.text) for document in new.values())
            while self._free < 0:
                self._free += len(self._documents.popitem(last=False)[1].text)


def allowed_rows(folder: Path, part: Part) -> "NDArray[np.bool_] | None":
    """(rows,) bool: which rows of a part are not deleted; None: all. Raises IndexFormatError."""
    if not part.bitmap:
        return None
    import numpy as np

    from resizable_search.arrays import map_array

    packed = map_array(folder / part.bitmap, ((part.rows + 7) // 8,), "|u1")
    allowed: NDArray[np.bool_] = np.unpackbits(packed, count=part.rows) == 0
    if part.rows - np.count_nonzero(allowed) != part.deleted:
        raise damaged(folder / part.bitmap, "it has other rows deleted than the manifest counts")
    return allowed
