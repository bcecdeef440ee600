"""The two sound indexes that cases are made of, and all that is known of them."""

import hashlib
import json
import os
import random
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from resizable_search.build.build import build, build_vectors
from resizable_search.build.workspace import BuildOptions
from resizable_search.corpora.base import Document
from resizable_search.embedders.lsa import LsaEmbedder
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import _checksum, manifest_text, read_manifest
from resizable_search.store.tuned_plans import Candidate, TunedPlan, store_plan
from tests.support import ListCorpus, delete_rows

GIVEN, FITTED = "given", "fitted"
"""An index of given vectors, of two parts with deleted rows and tuned plans; and one of lsa."""

ROWS, FIRST_PART, WIDTH = 95, 60, 96
DELETED = (3, 17, 70)
WHEN = "2026-01-01T00:00:00+00:00"
WORDS = ("tree", "heap", "queue", "graph", "list", "stack", "leaf", "root", "node", "edge", "path", "sort")


@dataclass(frozen=True)
class SoundPart:
    """One part: its full rows (n, full) float32, and (id, title, url, text) of each."""

    rows: np.ndarray
    documents: list[tuple[str, str, str, str]]


@dataclass
class Sound:
    """A sound index in `folder`: its files by path, and its parts by theirs."""

    name: str
    folder: Path
    files: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, SoundPart] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                self.files[path.relative_to(self.folder).as_posix()] = path.read_bytes()
        for part in read_manifest(self.folder).parts:
            rows = np.load(self.folder / part.path / NAMES.vectors(self.full))
            start = 0 if part.path == "" else FIRST_PART
            known = documents()[start : start + part.rows]
            self.parts[part.path] = SoundPart(rows, [(d.id, d.title, d.url, d.text) for d in known])

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What its manifest says, without the checksum. Not to be changed."""
        data = json.loads(self.files[NAMES.manifest])
        del data["checksum"]
        return data

    @cached_property
    def full(self) -> int:
        """The full dimension."""
        return self.manifest["dims"][-1]

    @cached_property
    def queries(self) -> np.ndarray:
        """Raw query vectors: (3, full) float32."""
        return np.random.default_rng(5).standard_normal((3, self.full)).astype(np.float32)

    @cached_property
    def listed(self) -> dict[str, dict[str, Any]]:
        """Every file that the manifest lists, by path, with its size and checksum."""
        return listed(self.manifest)

    @cached_property
    def arrays(self) -> list[str]:
        """The .npy files by path."""
        return [name for name in self.files if name.endswith(".npy")]

    def is_derived(self, file: str) -> bool:
        """Whether `rsearch repair` can bring a file back."""
        name = PurePosixPath(file).name
        return file in self.arrays and name not in (f"{self.full}.npy",) and not (
            name.startswith("deleted") or file.startswith(NAMES.embedder)
        )  # fmt: skip


def listed(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every file that a manifest's object lists, by path."""
    found = dict(data["files"])
    for part in data["parts"]:
        found |= {str(PurePosixPath(part["path"]) / name): entry for name, entry in part["files"].items()}
    return found


def with_checksum(data: dict[str, Any]) -> dict[str, Any]:
    """A manifest's object with the checksum that fits it."""
    return {**data, "checksum": _checksum(data)}


def relist(data: dict[str, Any], file: str, content: bytes) -> None:
    """Have a manifest's object list a file as if it had been written with that content."""
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if file in data["files"]:
        data["files"][file] = entry
    for part in data["parts"]:
        for name in part["files"]:
            if str(PurePosixPath(part["path"]) / name) == file:
                part["files"][name] = entry


def documents() -> list[Document]:
    """So many made-up documents, no value of which is a few bits from another's."""
    found = []
    for number in range(ROWS):
        mark = hashlib.sha256(str(number).encode()).hexdigest()[:12]
        rng = random.Random(number)
        length = 4000 if number % 40 == 7 else rng.choice((5, 20, 150))
        words = " ".join(rng.choice(WORDS) for _ in range(length))
        found.append(
            Document(
                f"id-{mark}",
                f"Title {mark} é",
                f"https://example.org/{mark}",
                f"{mark} {words} 木",
                {"number": number, "kind": rng.choice(WORDS)},
            )
        )
    return found


def make(folder: Path) -> dict[str, Sound]:
    """Build both indexes in a folder, which is their home; the same bytes each time but for SQLite's own."""
    home = Home(folder)
    _make_given(home)
    options = BuildOptions(FITTED, dims=(16, 24))
    build(ListCorpus(documents()), LsaEmbedder(width=40), home, options)
    _keep(home.index(GIVEN), "96:bits:20,96", 10, 0.9)
    _keep(home.index(GIVEN), "96", 5, 0.99)
    _keep(home.index(FITTED), "24:30,40", 10, 0.9)
    for name in (GIVEN, FITTED):
        path = home.index(name) / NAMES.manifest
        data = json.loads(path.read_bytes())
        del data["checksum"]
        path.write_bytes(manifest_text(with_checksum({**data, "created": WHEN, "changed": WHEN})))
    return load(folder)


def load(folder: Path) -> dict[str, Sound]:
    """The indexes that `make` has built there."""
    return {name: Sound(name, folder / name) for name in (GIVEN, FITTED)}


def _make_given(home: Home) -> None:
    vectors, described = home.path / "rows.npy", home.path / "rows.jsonl"
    np.save(vectors, np.random.default_rng(4).standard_normal((ROWS, WIDTH)).astype(np.float32))
    lines = (
        json.dumps({"id": d.id, "title": d.title, "url": d.url, "text": d.text, **d.metadata})
        for d in documents()
    )
    described.write_text("\n".join(lines), "utf-8")
    for limit in (FIRST_PART, ROWS):
        build_vectors(vectors, home, BuildOptions(GIVEN, limit=limit, dims=(32, 64)), documents=described)
    for path in (vectors, described):
        path.unlink()
    for rows in (DELETED[:1], DELETED):  # so that one bitmap has taken another's place
        delete_rows(home.index(GIVEN), rows)


def _keep(index: Path, plan: str, k: int, recall: float) -> None:
    """Have an index keep a plan as if it had been tuned."""
    tuned = TunedPlan(
        plan, k, recall, 0.97, (0.95, 0.99), 0.5, 100, 50, "own rows", 0, "numpy", 2, WHEN, "1.0",
        (Candidate("40", 1.0, 1.0), Candidate(plan, 0.97, 0.5)),
    )  # fmt: skip
    store_plan(index, read_manifest(index).generation, tuned)


def scratch() -> Path | None:
    """Where temporary folders are best made: in memory, if the system offers that."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else None
