"""Embeddings of queries, cached in an SQLite file by fingerprint and text.

Only a hash of the text is stored. A query never fails because the cache cannot be read or written.
"""

import hashlib
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SCHEMA = """
CREATE TABLE IF NOT EXISTS queries (
    fingerprint TEXT NOT NULL, text_sha256 BLOB NOT NULL, vector BLOB NOT NULL,
    PRIMARY KEY (fingerprint, text_sha256)
) STRICT, WITHOUT ROWID
"""


class QueryCache:
    """Raw query vectors by (fingerprint, text), in the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, fingerprint: str, text: str, width: int) -> NDArray[np.float32] | None:
        """The (width,) float32 vector of a text, or None."""
        if not self._path.is_file():
            return None
        with suppress(sqlite3.Error), closing(self._open("ro")) as db:
            query = "SELECT vector FROM queries WHERE fingerprint = ? AND text_sha256 = ?"
            row = db.execute(query, (fingerprint, _key(text))).fetchone()
            if row is not None and len(row[0]) == 4 * width:
                return np.frombuffer(row[0], "<f4").astype(np.float32)
        return None

    def put(self, fingerprint: str, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Store the (width,) vectors of texts: all of them, or none if the disk refuses."""
        rows = [(fingerprint, _key(text), row.astype("<f4").tobytes()) for text, row in vectors.items()]
        with suppress(sqlite3.Error, OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._open("rwc")) as db, db:
                db.execute(_SCHEMA)
                db.executemany("INSERT OR REPLACE INTO queries VALUES (?, ?, ?)", rows)

    def _open(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(f"{self._path.resolve().as_uri()}?mode={mode}", uri=True, timeout=2.0)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
