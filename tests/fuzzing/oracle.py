"""What is right: the answer that a manifest means, and the documents that a database holds.

The answer is computed from the sound full vectors by the pure functions of `vectors`, `quantise` and
`topk` alone, over all rows at once: no engine, no file and no part takes part in it.
"""

import json
import sqlite3
import struct
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from resizable_search.engine import short_codes, vectors
from resizable_search.engine.base import Top, gather, select
from resizable_search.engine.plan import Plan
from resizable_search.engine.vectors import Tier, quantise, quantise_queries
from tests.fuzzing.sound import Sound, SoundPart
from tests.support import one_bit_scores

Document = tuple[str, str, str, str]
"""Its id, title, url and text."""


class Unknown(Exception):
    """A manifest that was believed and means no index that there is."""


@dataclass(frozen=True)
class Meaning:
    """What a manifest that was believed means: its parts in order, and which of their rows may be found."""

    paths: list[str]
    parts: list[SoundPart]
    allowed: np.ndarray
    dims: tuple[int, ...]
    centred: bool
    mean: np.ndarray

    @property
    def starts(self) -> list[int]:
        """The first row of each part."""
        return [0, *np.cumsum([len(part.rows) for part in self.parts])[:-1].tolist()]


def meaning(data: dict[str, Any], sound: Sound, folder: Path) -> Meaning:
    """What a manifest's object means, its parts found by where their folders really lie."""
    paths = []
    for part in data["parts"]:
        real = (folder / part["path"]).resolve()
        tops = [folder.resolve(), *(p for p in real.parents if p.name == sound.name)]
        paths += [str(real.relative_to(top)) for top in tops if real.is_relative_to(top)][:1]
    paths = ["" if path == "." else path for path in paths]
    if len(set(paths)) != len(data["parts"]) or not set(paths) <= set(sound.parts):
        raise Unknown(f"parts {paths}")
    parts = [sound.parts[path] for path in paths]
    allowed = []
    for told, part in zip(data["parts"], parts, strict=True):
        if told["rows"] != len(part.rows):
            raise Unknown(f"rows {told['rows']!r}")
        allowed.append(np.ones(len(part.rows), bool))
        if told["bitmap"]:
            packed = np.load(folder / told["path"] / told["bitmap"])
            allowed[-1] = np.unpackbits(packed, count=len(part.rows)) == 0
        if told["deleted"] != np.count_nonzero(~allowed[-1]):
            raise Unknown(f"deleted {told['deleted']!r}")
    if data["dims"][-1] != sound.full or data["embedder"]["width"] != sound.full:
        raise Unknown(f"dims {data['dims']!r}, width {data['embedder']['width']!r}")
    if type(data["embedder"].get("centred", False)) is not bool:
        raise Unknown(f"centred {data['embedder']['centred']!r}")
    dims = tuple(data["dims"])
    first = sound.parts[""].rows
    mean = short_codes.mean_of(short_codes.sum_of(first), len(first))
    return Meaning(paths, parts, np.concatenate(allowed), dims, data["embedder"].get("centred", False), mean)


def answer(meant: Meaning, plan: Plan, queries: np.ndarray, k: int) -> Top:
    """The rows and scores that a plan is defined to give."""
    full = np.concatenate([part.rows for part in meant.parts])
    asked = vectors.centre(queries) if meant.centred else queries
    found = []
    for query in asked:
        rows = np.flatnonzero(meant.allowed)
        scores = np.empty(0, np.float32)
        for stage, keep in zip(plan.stages, plan.keeps(k), strict=True):
            scores, rows = select(_scores(full, meant, stage, query, rows), rows, keep)
            rows = np.sort(rows) if stage is not plan.stages[-1] else rows
        found.append((scores, rows))
    return gather(found, k)


def _scores(full: np.ndarray, meant: Meaning, stage: Any, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    stored = min(dim for dim in meant.dims if dim >= stage.dim)
    held = full if stored == meant.dims[-1] else vectors.truncate(full, stored)
    cut = vectors.truncate(query[None], stage.dim)
    if stage.precision in ("1bit", "bits"):
        return one_bit_scores(full[rows], meant.mean, cut[0])
    if stage.precision == "int8":
        tier = Tier(*quantise(held))
        tier = tier if stored == stage.dim else tier.cut(held, stage.dim)
        codes, units = quantise_queries(cut)
        sums = tier.codes[rows, : stage.dim].astype(np.int64) @ codes[0, : stage.dim].astype(np.int64)
        return (sums * tier.steps[rows].astype(np.float64) * units[0]).astype(np.float32)
    seen = held[rows] if stored == stage.dim else vectors.truncate(held[rows], stage.dim)
    return vectors.dot(seen, cut[0])


@dataclass(frozen=True)
class Holds:
    """What a database of documents holds.

    `whole`: as one that was built, and `documents` are its rows. `foreign`: another schema, or written to
    since it was built. `broken`: neither, so that what it gives may be noise, but no other row's.
    """

    state: Literal["whole", "foreign", "broken"]
    documents: Sequence[Document] = ()


def held_documents(content: bytes, sound: bytes, rows: int, scratch: Path) -> Holds:
    """Read a database in the plainest way, by one pass over each table."""
    path = scratch / "looked-at.sqlite"
    path.write_bytes(content)
    uri = f"{path.as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as db:
            db.execute("PRAGMA trusted_schema = OFF")
            if _schema(db) != _sound_schema(sound):
                return Holds("foreign")
            if _counted_up(content):
                return Holds("foreign")
            (said,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            found = db.execute(
                "SELECT row, id, title, url, metadata FROM documents NOT INDEXED ORDER BY rowid"
            ).fetchall()
            texts = db.execute("SELECT row, text FROM texts NOT INDEXED ORDER BY rowid").fetchall()
    except (sqlite3.Error, UnicodeError):
        return Holds("broken")
    finally:
        path.unlink()
    numbers = list(range(rows))
    if said != "ok" or [row for row, *_ in found] != numbers or [row for row, _ in texts] != numbers:
        return Holds("broken")
    try:
        sensible = all(isinstance(json.loads(line[4]), dict) for line in found)
    except (ValueError, RecursionError, TypeError):
        return Holds("broken")
    values = [value for line in (*found, *texts) for value in line[1:]]
    if not sensible or not all(isinstance(value, str) for value in values):
        return Holds("broken")
    return Holds("whole", [(*line[1:4], text) for line, (_, text) in zip(found, texts, strict=True)])


def _counted_up(content: bytes) -> bool:
    """Whether SQLite has written to the file since VACUUM INTO made it."""
    return struct.unpack(">I", content[24:28])[0] != 1 or content[18:20] != b"\1\1"


def _schema(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return sorted(map(repr, db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema")))  # type: ignore[arg-type]


def _sound_schema(sound: bytes) -> list[tuple[Any, ...]]:
    db = sqlite3.connect(":memory:")
    with closing(db):
        db.deserialize(sound)
        return _schema(db)


def is_anothers(got: Document, row: int, documents: Sequence[Document]) -> bool:
    """Whether a value of a row's document is that of another row."""
    return any(
        value != documents[row][place] and any(value == other[place] for other in documents)
        for place, value in enumerate(got)
    )
