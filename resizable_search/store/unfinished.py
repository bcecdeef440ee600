"""Look at an unfinished build without touching it: how far it is, and what was asked for."""

import json
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resizable_search.store.layout import NAMES


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An unfinished build: documents `read` from the corpus, and those of them whose vectors are `safe`.

    `request` is what was asked for, None if it had not come so far; `replaces`: it is to take the place
    of the index that is there.
    """

    read: int
    safe: int
    request: dict[str, Any] | None
    replaces: bool


def look(folder: Path) -> Unfinished | None:
    """The unfinished build in a folder; None where there is none that can be read."""
    path = (folder / NAMES.work).resolve()
    # SQLite makes files of its own to read a log of transactions. Where there is no log it need not, and
    # where it cannot, the build is read without what only the log holds.
    still = not path.with_name(f"{path.name}-wal").exists()
    for how in ("&immutable=1",) if still else ("", "&immutable=1"):
        with suppress(sqlite3.Error, ValueError, AttributeError):
            return _read(f"{path.as_uri()}?mode=ro{how}")
    return None


def _read(uri: str) -> Unfinished:
    with closing(sqlite3.connect(uri, uri=True)) as db:
        kept = {key: json.loads(value) for key, value in db.execute("SELECT key, value FROM meta")}
        (answers,) = db.execute("SELECT count(*) FROM journal").fetchone()
        stream = kept.get("stream") or {}
        return Unfinished(
            int(stream.get("read", 0)),
            int(kept.get("rows", 0)) + answers,
            kept.get("request"),
            bool(kept.get("replaces", False)),
        )
