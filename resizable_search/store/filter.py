"""Which rows of an index an SQL expression over its documents' columns and metadata is true of.

Rows that were chosen before a search: a mask for each part, and the rows themselves where they are few.

Functions of ours that expressions call, in place of SQLite's or beside them.
"""

import json
import re
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import IndexFormatError, RsearchError, UsageError
from resizable_search.store.documents import ROWS_AT_ONCE, open_documents
from resizable_search.store.layout import NAMES
from resizable_search.store.reader import IndexReader
from resizable_search.store.sql_authorizer import (
    KEY_FUNCTION,
    MOST_BYTES,
    MOST_SECONDS,
    SqlAuthorizer,
    columns_named,
    refused,
)
from resizable_search.text import quoted

FEW = 1 / 20
"""Of an index's rows: so many or fewer are searched one by one, more by a scan that passes over the others.

By scripts/benchmarks/where_speed.py a gathered row costs some ten times a scanned one, with numpy twice that.
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows that may be found, deleted ones left out.

    `allowed` has a (rows,) bool for each part; `rows` (count,) int64 are the same rows of the index,
    ascending, where they are FEW, else None.
    """

    allowed: tuple[NDArray[np.bool_], ...]
    count: int
    rows: NDArray[np.int64] | None

    @classmethod
    def of(cls, masks: list[NDArray[np.bool_]]) -> "Selection":
        """The selection of these masks, a (rows,) bool for each part in order."""
        for mask in masks:
            mask.flags.writeable = False
        count = sum(int(np.count_nonzero(mask)) for mask in masks)
        rows = None
        if count <= FEW * sum(map(len, masks)):
            starts = np.cumsum([0, *map(len, masks)])[:-1]
            found = [np.flatnonzero(mask) + start for mask, start in zip(masks, starts, strict=True)]
            rows = np.concatenate(found)
        return cls(tuple(masks), count, rows)


Value = str | int | float | bytes | None
"""What SQLite hands to a function."""

TRIMS = {"trim": (True, True), "ltrim": (True, False), "rtrim": (False, True)}
"""The ends at which each cuts. SQLite's own, of two texts, take the product of their lengths in one call."""


def add_functions(connection: sqlite3.Connection) -> None:
    """Let the statements of this connection call them."""
    connection.create_function(KEY_FUNCTION, 2, _value_of_key, deterministic=True)
    for name, sides in TRIMS.items():
        connection.create_function(name, 2, partial(_trimmed, sides), deterministic=True)


def _value_of_key(metadata: str, key: str) -> str | int | float | None:
    """As json_extract, of a key that no path can name."""
    value = json.loads(metadata).get(key)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value)
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)


def _trimmed(sides: tuple[bool, bool], value: Value, characters: Value) -> str | None:
    """As SQLite's trim(X, Y), ltrim and rtrim do it, in time that grows with the lengths."""
    if value is None or characters is None:
        return None
    text, cut = _text(value), set(_text(characters))
    begin, end = 0, len(text)
    while sides[0] and begin < end and text[begin] in cut:
        begin += 1
    while sides[1] and begin < end and text[end - 1] in cut:
        end -= 1
    return text[begin:end]


def _text(value: Value) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


COLUMNS = ("id", "title", "url")
"""The documents' own columns that an expression may name."""

JSON_COLUMN = "metadata"
"""The metadata as JSON, for keys that no column can be named after."""

ROW = "row of the part"
"""What the view calls the row: no key is made a column of that name."""

VIEW = "found"
"""The view of a part's documents that expressions are about."""

MOST_KEYS = 1_000
"""Metadata keys that one expression may name: SQLite allows some 2,000 columns."""

MOST_KEPT = 8
"""Expressions whose rows are kept."""

MOST_PATTERN = 1_000
"""Characters of a pattern of LIKE and GLOB: SQLite looks at the clock between two calls, not within one."""

MOST_LIKE = 1_000
"""Ids that are compared with one that is not there."""

MOST_SHOWN = 40
"""Columns that a message lists."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_ .-]+")
"""Keys that a JSON path finds, in quotation marks, in any SQLite."""

LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: MOST_BYTES,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: MOST_PATTERN,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}


class Filter:
    """Evaluates expressions over the documents of one generation; safe from several threads at once.

    It opens the documents of `reader` a second time, at once, so that they stay those of the reader while
    the index moves on; `seconds` is how long an expression may run.
    """

    def __init__(self, reader: IndexReader, seconds: float = MOST_SECONDS) -> None:
        self._reader = reader
        self._seconds = seconds
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Selection] = OrderedDict()
        self._connections: list[tuple[sqlite3.Connection, Path]] = []
        for part in reader.manifest.parts:
            path = reader.folder / part.path / NAMES.documents
            connection = open_documents(path, part.rows)
            self._connections.append((connection, path))
            add_functions(connection)
            for limit, most in LIMITS.items():
                connection.setlimit(limit, most)

    def select(self, expression: str) -> Selection:
        """The rows that the expression is true of. Raises UsageError, IndexFormatError and RsearchError.

        NULL, as anything compared with a key that a document does not have, is not true.
        """
        with self._lock:
            if expression in self._kept:
                self._kept.move_to_end(expression)
                return self._kept[expression]
            for name in columns_named(expression):
                if name.lower() not in {column.lower() for column in self.columns}:
                    raise self._no_column(expression, name)
            masks, is_timely = [], False
            ends = time.monotonic() + self._seconds
            for (connection, path), part in zip(self._connections, self._reader.parts, strict=True):
                guard = SqlAuthorizer(VIEW, ends)
                rows = self._rows(connection, path, expression, guard)
                mask = np.zeros(part.rows, bool)
                mask[rows[(rows >= 0) & (rows < part.rows)]] = True
                if part.allowed is not None:
                    mask &= part.allowed
                masks.append(mask)
                is_timely = is_timely or guard.is_timely
            selection = Selection.of(masks)
            if not is_timely:
                self._kept[expression] = selection
                if len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
            return selection

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that an expression may name: the documents' own, then the metadata's keys, sorted.

        A key that is written like another but for its case, or like a column, is reached through `metadata`.
        """
        keys: set[str] = set()
        for connection, path in self._connections:
            try:
                keys.update(
                    key
                    for (key,) in connection.execute(
                        "SELECT DISTINCT key FROM documents, json_each(documents.metadata)"
                    )
                )
            except sqlite3.DatabaseError as error:
                raise _damaged(path, error) from None
        named = {name.lower(): name for name in (*COLUMNS, JSON_COLUMN, ROW)}
        for key in sorted(map(str, keys)):
            if "\0" not in key:
                named.setdefault(key.lower(), key)
        return (*COLUMNS, *sorted(set(named.values()) - {*COLUMNS, JSON_COLUMN, ROW}), JSON_COLUMN)

    def row_of(self, id_: str) -> int:
        """The row of the document of that id. Raises UsageError, which suggests ids like it."""
        with self._lock:
            start = 0
            for (connection, path), part in zip(self._connections, self._reader.parts, strict=True):
                found = _asked(connection, path, "SELECT row FROM documents WHERE id = ?", _sound(id_))
                if found and (part.allowed is None or part.allowed[found[0]]):
                    return found[0] + start
                start += part.rows
            near = self._ids_like(id_)
        hint = f"did you mean {' or '.join(near)}?" if near else "`rsearch query … --format tsv` shows ids"
        raise UsageError(f"{self._reader.name} has no document with the id {quoted(id_)}: {hint}")

    def rows_of(self, ids: Iterable[str]) -> dict[str, int]:
        """The rows of the documents of these ids, by id; an id that there is not has none."""
        sound = {_sound(id_): id_ for id_ in ids}
        wanted = list(sound)
        found: dict[str, int] = {}
        with self._lock:
            start = 0
            for (connection, path), part in zip(self._connections, self._reader.parts, strict=True):
                for first in range(0, len(wanted), ROWS_AT_ONCE):
                    some = wanted[first : first + ROWS_AT_ONCE]
                    query = f"SELECT id, row FROM documents WHERE id IN ({','.join('?' * len(some))})"
                    try:
                        rows = connection.execute(query, some).fetchall()
                    except sqlite3.DatabaseError as error:
                        raise _damaged(path, error) from None
                    for id_, row in rows:
                        if part.allowed is None or part.allowed[row]:
                            found[sound[id_]] = row + start
                start += part.rows
        return found

    def document_names(self) -> list[str]:
        """For each row, in order, which document it is of: the one that a chunk names, else its own id."""
        found: list[str] = []
        with self._lock:
            for connection, path in self._connections:
                try:
                    found += [
                        str(name)
                        for (name,) in connection.execute(
                            "SELECT coalesce(json_extract(metadata, '$.document'), id) FROM documents "
                            "ORDER BY row"
                        )
                    ]
                except sqlite3.DatabaseError as error:
                    raise _damaged(path, error) from None
        return found

    def close(self) -> None:
        """Close the documents."""
        for connection, _ in self._connections:
            connection.close()

    def _rows(
        self, connection: sqlite3.Connection, path: Path, expression: str, guard: SqlAuthorizer
    ) -> NDArray[np.int64]:
        """The rows of one part that the expression is true of, in no order: (count,) int64."""
        sound = _sound(expression)
        try:
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute(f"DROP VIEW IF EXISTS temp.{VIEW}")
            connection.execute(f"CREATE TEMP VIEW {VIEW} AS {self._documents_with_keys(sound)}")
        except sqlite3.DatabaseError as error:
            raise _damaged(path, error) from None
        guard.watch(connection)
        try:
            found = connection.execute(f'SELECT "{ROW}" FROM {VIEW} WHERE ({sound}\n)')
            return np.fromiter((row for (row,) in found), np.int64)
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise self._reason(expression, path, guard, error) from None
        finally:
            guard.release(connection)

    def _documents_with_keys(self, expression: str) -> str:
        """The query that makes a column of each key which the expression may name."""
        said = expression.replace('""', '"').replace("``", "`").lower()
        keys = [name for name in self.columns if name.lower() in said and name not in (*COLUMNS, JSON_COLUMN)]
        if len(keys) > MOST_KEYS:
            raise refused(expression, f"may name {len(keys):,} metadata keys: {MOST_KEYS:,} are allowed")
        columns = [f'row AS "{ROW}"', *COLUMNS, JSON_COLUMN]
        for key in keys:
            name, text = key.replace('"', '""'), key.replace("'", "''")
            if _PLAIN_KEY.fullmatch(key):
                columns.append(f'json_extract(metadata, \'$."{text}"\') AS "{name}"')
            else:  # what a path cannot say, or does not find where JSON has it as an escape
                columns.append(f"{KEY_FUNCTION}(metadata, '{text}') AS \"{name}\"")
        return f"SELECT {', '.join(columns)} FROM documents"

    def _reason(self, expression: str, path: Path, guard: SqlAuthorizer, error: Exception) -> BaseException:
        """What is raised where SQLite did not run an expression to its end."""
        said = str(error)
        if guard.ran_out:
            return RsearchError(
                f"`where` {quoted(expression)} took longer than {self._seconds:g} s and was ended"
            )
        if guard.refusal:
            return refused(expression, guard.refusal)
        if "interrupted" in said:  # Python lets Ctrl-C end a statement, and says no more
            return KeyboardInterrupt()
        if "no such column: " in said:
            return self._no_column(expression, said.partition("no such column: ")[2])
        if getattr(error, "sqlite_errorname", "") in ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR"):
            return _damaged(path, error)
        return refused(expression, f"is not understood ({said}): write an SQL expression over the columns")

    def _no_column(self, expression: str, name: str) -> UsageError:
        near = get_close_matches(name, self.columns, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        shown = ", ".join(self.columns[:MOST_SHOWN]) + (" …" if len(self.columns) > MOST_SHOWN else "")
        return refused(expression, f"names no column {quoted(name)}: {hint}there are {shown}")

    def _ids_like(self, id_: str) -> list[str]:
        """A few ids that may have been meant: like this one, or of a document of that title."""
        sound = _sound(id_)
        half = sound[: max(1, len(sound) // 2)]
        titled: list[str] = []
        like: list[str] = []
        for (connection, path), part in zip(self._connections, self._reader.parts, strict=True):
            for found, statement, value in (
                (titled, "title = ? COLLATE NOCASE", sound),
                (like, "instr(lower(id), lower(?))", half),
            ):
                query = f"SELECT row, id FROM documents WHERE {statement} LIMIT {MOST_LIKE}"
                try:
                    rows = connection.execute(query, (value,)).fetchall()
                except sqlite3.DatabaseError as error:
                    raise _damaged(path, error) from None
                found.extend(name for row, name in rows if part.allowed is None or part.allowed[row])
        return list(dict.fromkeys([*titled[:2], *get_close_matches(sound, like, 3)]))[:3]


def _asked(connection: sqlite3.Connection, path: Path, query: str, value: str) -> tuple[int, ...] | None:
    """The first row of a query's answer, None if it has none. Raises IndexFormatError."""
    try:
        found: tuple[int, ...] | None = connection.execute(query, (value,)).fetchone()
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from None
    return found


def _sound(text: str) -> str:
    """The text as SQLite can take it: bytes of the command line that are no text are not found anywhere."""
    return text.encode("utf-8", "replace").decode()


def _damaged(path: Path, error: Exception) -> IndexFormatError:
    return IndexFormatError(f"{path} is damaged ({error}): build the index again with `restart`")
