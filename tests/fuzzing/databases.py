"""Documents that lie: edited by SQLite itself, or byte by byte in the pages of its trees."""

import copy
import sqlite3
import struct
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path, PurePosixPath
from random import Random

from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import manifest_text
from tests.fuzzing.cases import OUTSIDE, Case, Change
from tests.fuzzing.pages import PAGE_EDITS
from tests.fuzzing.sound import Sound, relist, scratch, with_checksum

Edit = Callable[[Random, int], list[str]]
"""Statements for a database of so many documents."""


def mutated(rng: Random, sound: Sound) -> Case:
    """A case whose documents, of one part, are not as they were written."""
    part = rng.choice(sorted(sound.parts))
    file = str(PurePosixPath(part) / NAMES.documents)
    content = sound.files[file]
    changes: dict[str, Change] = {}
    if rng.random() < 0.05:
        link = Change("link", rng.choice((f"{OUTSIDE}/{sound.name}/{file}", "/dev/zero", file, "nowhere")))
        changes[file] = rng.choice((Change("gone"), Change("folder"), Change("fifo"), link))
        return Case("sqlite", sound.name, (f"{file} is no file, or a link",), changes)
    words = []
    if rng.random() < 0.5:
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            what, edit = rng.choice(PAGE_EDITS)
            with suppress(IndexError, ValueError, struct.error):  # an earlier edit has left nothing to it
                content = edit(rng, content)
                words.append(what)
    else:
        what, statements = rng.choice(EDITS)
        rows = len(sound.parts[part].rows)
        finish = rng.random() < 0.6
        content = edited(content, statements(rng, rows), finish=finish)
        words.append(f"{what}{', then vacuumed' if finish else ''}")
    if rng.random() < 0.05:
        name, beside = rng.choice(BESIDE)
        changes[f"{file}{name}"] = Change("bytes", beside)
        words.append(f"with a {name[1:]} beside it")
    changes[file] = Change("bytes", content)
    relisted = rng.random() < 0.6
    if relisted:
        data = copy.deepcopy(sound.manifest)
        relist(data, file, content)
        changes[NAMES.manifest] = Change("bytes", manifest_text(with_checksum(data)))
    return Case("sqlite", sound.name, tuple(words), changes, relisted)


BESIDE = [
    ("-journal", b""),
    ("-journal", bytes.fromhex("d9d505f920a163d7") + b"\xff\xff\xff\xff" + b"\0" * 5000),
    ("-wal", bytes.fromhex("377f0682002de218") + b"\0" * 5000),
    ("-shm", b"\0" * 32768),
]


def edited(content: bytes, statements: list[str], *, finish: bool) -> bytes:
    """A database after these statements, those that fail apart; with `finish`, as VACUUM INTO leaves it."""
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        path, copied = Path(folder) / "edited", Path(folder) / "finished"
        path.write_bytes(content)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = OFF")
            for statement in statements:
                with suppress(sqlite3.Error):
                    db.executescript(statement)
            if finish:
                with suppress(sqlite3.Error):
                    db.execute("VACUUM INTO ?", (str(copied),))
        return (copied if copied.exists() else path).read_bytes()


# -- rows and values


def _text_gone(rng: Random, n: int) -> list[str]:
    return [f"DELETE FROM texts WHERE row = {rng.randrange(n)}"]


def _document_gone(rng: Random, n: int) -> list[str]:
    return [f"DELETE FROM documents WHERE row = {rng.randrange(n)}"]


def _both_gone(rng: Random, n: int) -> list[str]:
    row = rng.choice((0, n - 1, rng.randrange(n)))
    return [f"DELETE FROM {table} WHERE row = {row}" for table in ("documents", "texts")]


def _swapped(rng: Random, n: int) -> list[str]:
    tables = rng.choice((["documents"], ["texts"], ["documents", "texts"]))
    one, other = rng.sample(range(n), 2)
    return [
        f"UPDATE {table} SET row = -9 WHERE row = {one}; UPDATE {table} SET row = {one} WHERE row = {other};"
        f"UPDATE {table} SET row = {other} WHERE row = -9"
        for table in tables
    ]


def _moved(rng: Random, n: int) -> list[str]:
    tables = rng.choice((["documents"], ["texts"], ["documents", "texts"]))
    row, new = rng.randrange(n), rng.choice((n, n + 5, -1, -(2**63), 2**63 - 1, 2**40))
    return [f"UPDATE {table} SET row = {new} WHERE row = {row}" for table in tables]


def _more(rng: Random, n: int) -> list[str]:
    return [
        f"INSERT INTO documents VALUES ({n}, 'more', '', '', '{{}}')",
        *([f"INSERT INTO texts VALUES ({n}, '')"] if rng.random() < 0.5 else []),
    ]


def _metadata(rng: Random, n: int) -> list[str]:
    value = rng.choice(
        ("[1]", "null", "3", '"x"', "{", "", '{"a": NaN}', '{"a": 1e999}', '{"a": 1, "a": 2}', "[" * 100_000,
         '{"a":' * 900 + "1" + "}" * 900, "{} x", "{a: 1}", "1" * 5000, "true")
    )  # fmt: skip
    return [f"UPDATE documents SET metadata = '{value}' WHERE row {_some(rng, n)}"]


def _values(rng: Random, n: int) -> list[str]:
    table, column = rng.choice((("texts", "text"), ("documents", "title"), ("documents", "url")))
    value = rng.choice(
        ("''", "'a' || char(0) || 'b'", "CAST(x'ff80fe' AS TEXT)", "CAST(zeroblob(300000) AS TEXT)",
         "CAST(x'eda080' AS TEXT)", "char(27) || '[31m'", "printf('%.*c', 500000, 'x')", "'another'")
    )  # fmt: skip
    return [f"UPDATE {table} SET {column} = {value} WHERE row {_some(rng, n)}"]


def _some(rng: Random, n: int) -> str:
    return rng.choice((f"= {rng.randrange(n)}", ">= 0"))


# -- another schema


def _views(rng: Random, n: int) -> list[str]:
    body = rng.choice(
        ("SELECT row, text FROM t2",
         "SELECT row, (SELECT text FROM t2 u WHERE u.row = (t2.row + 1) % 30) AS text FROM t2",
         "WITH RECURSIVE c(row) AS (SELECT 0 UNION ALL SELECT row + 1 FROM c) SELECT row, 'x' AS text FROM c",
         "SELECT row, CAST(randomblob(100000000) AS TEXT) AS text FROM t2",
         "SELECT * FROM texts")
    )  # fmt: skip
    return [f"ALTER TABLE texts RENAME TO t2; CREATE VIEW texts AS {body}"]


def _rebuilt(rng: Random, n: int) -> list[str]:
    """The texts in a table of another kind, with the same rows or values of another type."""
    columns, tail = rng.choice(
        (("row INTEGER PRIMARY KEY, text TEXT NOT NULL", ""), ("row INTEGER, text TEXT", ""),
         ("row INTEGER PRIMARY KEY, text", ""), ("row INTEGER PRIMARY KEY, text ANY", "STRICT"),
         ("row INTEGER PRIMARY KEY, text TEXT NOT NULL", "WITHOUT ROWID"),
         ("row TEXT PRIMARY KEY, text TEXT", ""), ("text TEXT, row INTEGER PRIMARY KEY", ""),
         ("row INTEGER PRIMARY KEY, text TEXT, more TEXT", ""),
         ("row INTEGER PRIMARY KEY DESC, text TEXT", ""),
         ("row INT PRIMARY KEY, text TEXT NOT NULL", "STRICT"),
         ("row INTEGER PRIMARY KEY, text TEXT CHECK (length(text) >= 0)", ""))
    )  # fmt: skip
    value = rng.choice(("text", "text", "NULL", "CAST(text AS BLOB)", "row", "1.5", "zeroblob(500000)"))
    shift = rng.choice(("row", "row", "row + 1", "row / 2"))
    return [
        f"ALTER TABLE texts RENAME TO t2; CREATE TABLE texts ({columns}) {tail};"
        f"INSERT OR IGNORE INTO texts (row, text) SELECT {shift}, {value} FROM t2; DROP TABLE t2"
    ]


def _schema(rng: Random, n: int) -> list[str]:
    return [rng.choice(SCHEMAS)]


GENERATED = (
    "ALTER TABLE texts RENAME TO t2; CREATE TABLE texts (row INTEGER PRIMARY KEY, raw TEXT, "
    "text TEXT AS ({})); INSERT INTO texts (row, raw) SELECT row, text FROM t2; DROP TABLE t2"
)
SCHEMAS = (
    "DROP TABLE texts",
    "DROP TABLE documents",
    "CREATE TABLE more (x)",
    "CREATE INDEX more ON texts (text)",
    "CREATE INDEX more ON documents (title)",
    "CREATE TRIGGER more AFTER INSERT ON texts BEGIN DELETE FROM texts; END",
    "CREATE VIEW more AS SELECT 1",
    "ALTER TABLE documents ADD COLUMN more TEXT",
    "ALTER TABLE texts RENAME COLUMN text TO words",
    "ALTER TABLE documents DROP COLUMN url",
    "ALTER TABLE documents RENAME TO papers",
    "ANALYZE",
    GENERATED.format("raw || 'x'"),
    GENERATED.format("printf('%.*c', 100000000, 'x')"),
    "CREATE VIRTUAL TABLE more USING fts5(x)",
    "ALTER TABLE texts RENAME TO t2; CREATE VIRTUAL TABLE texts USING fts5(row, text)",
    "CREATE TABLE t2 AS SELECT * FROM texts; DROP TABLE texts; ALTER TABLE t2 RENAME TO texts",
    "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 7 - rootpage WHERE type = 'table'",
    "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'nonsense' WHERE name = 'texts'",
    "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'TEXT', 'BLOB')",
    "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 99999 WHERE name = 'texts'",
    "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 1 WHERE name = 'documents'",
    "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE type = 'index'",
    "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = rootpage + 1 WHERE type = 'index'",
    "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET type = 'view' WHERE name = 'texts'",
    "PRAGMA user_version = 7",
    "PRAGMA application_id = 7",
    "PRAGMA journal_mode = WAL",
    "PRAGMA page_size = 512; VACUUM",
    "PRAGMA page_size = 65536; VACUUM",
    "PRAGMA auto_vacuum = FULL; VACUUM",
    "VACUUM",
    "REINDEX",
)


def _huge(rng: Random, n: int) -> list[str]:
    return [f"UPDATE texts SET text = printf('%.*c', 50000000, 'x') WHERE row = {rng.randrange(n)}"]


EDITS: list[tuple[str, Edit]] = [
    ("a text gone", _text_gone),
    ("a document gone", _document_gone),
    ("a row gone", _both_gone),
    ("rows swapped", _swapped),
    ("a row moved", _moved),
    ("a row more", _more),
    ("other metadata", _metadata),
    ("other values", _values),
    ("a huge text", _huge),
    ("a view for a table", _views),
    ("another table", _rebuilt),
    ("another schema", _schema),
    ("another schema", _schema),
]
