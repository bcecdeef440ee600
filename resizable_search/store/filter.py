"""Rows chosen before a search, by an SQL expression over the columns and metadata of the documents."""

import json
import re
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import RsearchError, UsageError
from resizable_search.store.documents import open_documents
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import damaged
from resizable_search.store.reader import IndexReader
from resizable_search.store.sql_authorizer import (
    KEY_FUNCTION,
    MOST_BYTES,
    MOST_SECONDS,
    SqlAuthorizer,
    columns_named,
    refused,
)
from resizable_search.text import quoted, sound_json, without_surrogates

FEW = 1 / 20
"""Of an index's rows: so many or fewer are searched one by one, more by a scan that passes over the others.

By scripts/benchmarks/where_speed.py a gathered row costs some ten times a scanned one, with numpy twice that.
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows that may be found: a (rows,) bool for each part, and `rows` (count,), ascending, if FEW."""

    allowed: tuple[NDArray[np.bool_], ...]
    count: int
    rows: NDArray[np.int64] | None


def _value_of_key(metadata: str, key: str) -> str | int | float | None:
    """json_extract for a key that no path can name."""
    value = json.loads(sound_json(metadata)).get(key)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value)
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)


def _trimmed(trim: Callable[[str, str], str], *values: str | int | float | bytes | None) -> str | None:
    """trim(X, Y), ltrim or rtrim. SQLite's own take the product of the lengths of both texts."""
    if None in values:
        return None
    text, cut = (v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values)
    return trim(text, cut)


COLUMNS = ("id", "title", "url")
JSON_COLUMN = "metadata"  # for keys that are no column
ROW = "row of the part"  # a column of the view; no metadata key becomes a column of that name
VIEW = "found"  # of a part's documents, which an expression reads
MOST_KEYS = 1_000  # that one expression may name: SQLite allows some 2,000 columns
MOST_KEPT = 8  # expressions whose selections are cached
MOST_SHOWN = 40  # columns in a message
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_ .-]+")  # found by a quoted JSON path in any SQLite

LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: MOST_BYTES,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,  # SQLite cannot be interrupted within a call
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}


class Filter:
    """Evaluates expressions over the documents of `reader`, for up to so many `seconds`, from any thread."""

    def __init__(self, reader: IndexReader, seconds: float = MOST_SECONDS) -> None:
        self._reader = reader
        self._seconds = seconds
        self._lock = threading.RLock()
        """Held around every statement: the authorizer of an expression would refuse any other."""
        self._cached: OrderedDict[str, Selection] = OrderedDict()
        self._connections: list[tuple[sqlite3.Connection, Path]] = []
        try:
            for part in reader.manifest.parts:
                path = reader.folder / part.path / NAMES.documents
                connection = open_documents(path, part.rows)
                self._connections.append((connection, path))
                # A lone surrogate in JSON is no UTF-8 for SQLite; indexes of earlier versions may have one.
                connection.text_factory = partial(str, encoding="utf-8", errors="replace")
                connection.create_function(KEY_FUNCTION, 2, _value_of_key, deterministic=True)
                for name, trim in {"trim": str.strip, "ltrim": str.lstrip, "rtrim": str.rstrip}.items():
                    connection.create_function(name, 2, partial(_trimmed, trim), deterministic=True)
                for limit, most in LIMITS.items():
                    connection.setlimit(limit, most)
        except BaseException:
            self.close()
            raise

    def select(self, expression: str) -> Selection:
        """The rows for which the expression is true. Raises UsageError, IndexFormatError and RsearchError."""
        with self._lock:
            if expression in self._cached:
                self._cached.move_to_end(expression)
                return self._cached[expression]
            known = {column.lower() for column in self.columns}
            for name in columns_named(expression):
                if name.lower() not in known:
                    raise self._no_column(expression, name)
            masks, chosen, is_timely = [], [], False
            ends = time.monotonic() + self._seconds
            for (connection, path), part in zip(self._connections, self._reader.parts, strict=True):
                guard = SqlAuthorizer(VIEW, ends)
                rows = self._rows(connection, path, expression, guard)
                mask = np.zeros(part.rows, bool)
                mask[rows[(rows >= 0) & (rows < part.rows)]] = True
                if part.allowed is not None:
                    mask &= part.allowed
                mask.flags.writeable = False
                masks.append(mask)
                chosen.append(np.flatnonzero(mask) + part.start)
                is_timely = is_timely or guard.is_timely
            count = sum(map(len, chosen))
            is_few = count <= FEW * self._reader.manifest.rows
            selection = Selection(tuple(masks), count, np.concatenate(chosen) if is_few else None)
            if not is_timely:
                self._cached[expression] = selection
                if len(self._cached) > MOST_KEPT:
                    self._cached.popitem(last=False)
            return selection

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that an expression may name: those of every document, then the sorted metadata keys."""
        statement = "SELECT DISTINCT key FROM documents, json_each(documents.metadata)"
        named = {name.lower(): name for name in (*COLUMNS, JSON_COLUMN, ROW)}
        for key in sorted(set(self._ask(statement))):
            if "\0" not in key:
                named.setdefault(key.lower(), key)  # `metadata` has others that differ by case alone
        return (*COLUMNS, *sorted(set(named.values()) - {*COLUMNS, JSON_COLUMN, ROW}), JSON_COLUMN)

    def document_names(self) -> list[str]:
        """The document of each row, in order: the one that a chunk names, else its own id."""
        statement = "SELECT coalesce(json_extract(metadata, '$.document'), id) FROM documents ORDER BY row"
        return list(self._ask(statement))

    @cached_property
    def document_numbers(self) -> NDArray[np.int64]:
        """The document of each row as a number: (rows,)."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(name, len(numbers)) for name in self.document_names()])

    def close(self) -> None:
        """Close the documents."""
        for connection, _ in self._connections:
            connection.close()

    def _ask(self, statement: str) -> Iterator[str]:
        """What a statement about one column gives, part by part. Raises IndexFormatError."""
        for connection, path in self._connections:
            try:
                with self._lock:
                    yield from [str(value) for (value,) in connection.execute(statement)]
            except sqlite3.DatabaseError as error:
                raise damaged(path, error) from None

    def _rows(
        self, connection: sqlite3.Connection, path: Path, expression: str, guard: SqlAuthorizer
    ) -> NDArray[np.int64]:
        """The rows of one part for which the expression is true, unordered: (count,) int64."""
        sound = without_surrogates(expression)
        try:
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute(f"DROP VIEW IF EXISTS temp.{VIEW}")
            connection.execute(f"CREATE TEMP VIEW {VIEW} AS {self._documents_with_keys(sound)}")
        except sqlite3.DatabaseError as error:
            raise damaged(path, error) from None
        try:
            with guard.watch(connection):
                cursor = connection.execute(f'SELECT "{ROW}" FROM {VIEW} WHERE ({sound}\n)')
                return np.fromiter((row for (row,) in cursor), np.int64)
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise self._reason(expression, path, guard, error) from None

    def _documents_with_keys(self, expression: str) -> str:
        """The query that makes a column of each key that the expression may name."""
        text = expression.replace('""', '"').replace("``", "`").lower()
        keys = [name for name in self.columns if name.lower() in text and name not in (*COLUMNS, JSON_COLUMN)]
        if len(keys) > MOST_KEYS:
            raise refused(expression, f"may name {len(keys):,} metadata keys: {MOST_KEYS:,} are allowed")
        columns = [f'row AS "{ROW}"', *COLUMNS, JSON_COLUMN]
        for key in keys:
            name, text = key.replace('"', '""'), key.replace("'", "''")
            if _PLAIN_KEY.fullmatch(key):
                columns.append(f'json_extract(metadata, \'$."{text}"\') AS "{name}"')
            else:  # a path cannot name it, or does not find it where JSON escapes it
                columns.append(f"{KEY_FUNCTION}(metadata, '{text}') AS \"{name}\"")
        return f"SELECT {', '.join(columns)} FROM documents"

    def _reason(self, expression: str, path: Path, guard: SqlAuthorizer, error: Exception) -> BaseException:
        message = str(error)
        if guard.ran_out:
            return RsearchError(
                f"`where` {quoted(expression)} took longer than {self._seconds:g} s and was ended"
            )
        if guard.refusal:
            return refused(expression, guard.refusal)
        if "interrupted" in message:  # Python lets Ctrl-C end a statement, and says no more
            return KeyboardInterrupt()
        if "no such column: " in message:
            return self._no_column(expression, message.partition("no such column: ")[2])
        if getattr(error, "sqlite_errorname", "") in ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR"):
            return damaged(path, error)
        return refused(expression, f"is not understood ({message}): write an SQL expression over the columns")

    def _no_column(self, expression: str, name: str) -> UsageError:
        near = get_close_matches(name, self.columns, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        shown = ", ".join(self.columns[:MOST_SHOWN]) + (" …" if len(self.columns) > MOST_SHOWN else "")
        return refused(expression, f"names no column {quoted(name)}: {hint}there are {shown}")
