"""Indexes that change: a home of one, its answers, and what lies on the disk."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from resizable_search.build.build import build
from resizable_search.build.report import BuildReport
from resizable_search.build.workspace import BuildOptions
from resizable_search.corpora.base import Document
from resizable_search.search.index import Index, open_index
from resizable_search.store.layout import NAMES, Home
from tests.support import ListCorpus, TableEmbedder

WIDTH = 96


@dataclass
class Place:
    """A home with the index `made`."""

    home: Home

    @property
    def folder(self) -> Path:
        return self.home.index("made")

    def build(self, documents: list[Document], *, embedder=None, corpus=None, **options) -> BuildReport:
        corpus = corpus or ListCorpus(documents)
        embedder = embedder or TableEmbedder(width=WIDTH)
        return build(corpus, embedder, self.home, BuildOptions(**{"name": "made", "dims": (16,), **options}))

    def parts(self, documents: list[Document], *limits: int) -> None:
        """An index of a part for each limit."""
        for limit in limits:
            self.build(documents, limit=limit)

    def open(self, **options) -> Index:
        return open_index("made", home=self.home.path, embedder=TableEmbedder(width=WIDTH), **options)

    def ids(self) -> list[str]:
        """Ids of the documents that can be found, in order of rows."""
        with self.open() as index:
            return [document.id for document in index.documents(index.live_rows())]

    def answers(self, k: int = 20, **how) -> list[list[tuple[str, float]]]:
        """Ids and scores of some queries' hits."""
        queries = np.random.default_rng(0).standard_normal((3, WIDTH)).astype(np.float32)
        with self.open() as index:
            top = index.scan(queries, k=k, **how)
            return [
                [(d.id, float(score)) for d, score in zip(index.documents(rows), scores, strict=False)]
                for rows, scores in zip(top.rows, top.scores, strict=True)
            ]

    def bytes_hold(self, needle: bytes) -> list[str]:
        """Every file below the home, the query cache apart, that holds these bytes or is named so."""
        return [
            str(path.relative_to(self.home.path))
            for path in self.home.path.rglob("*")
            if path.is_file() and path != self.home.queries and needle in path.read_bytes()
        ]

    def contents(self, *, without: tuple[str, ...] = ()) -> dict[str, bytes]:
        """Every file of the index; of its manifest, without dates and the fields named."""
        return contents(self.folder, without)


def contents(folder: Path, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    manifest = json.loads(found[NAMES.manifest])
    for name in ("created", "changed", "checksum", *without):
        del manifest[name]
    found[NAMES.manifest] = json.dumps(manifest, sort_keys=True).encode()
    return found


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(Home(tmp_path / "home"))
