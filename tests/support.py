"""A corpus, an embedder and an oracle with known content, for tests of all areas."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.corpora.base import Block, Corpus, Document, gather
from resizable_search.embedders.base import Embedder, Task
from resizable_search.engine.short_codes import small_queries
from resizable_search.engine.vectors import LANES
from resizable_search.search.index import Index, open_index
from resizable_search.specs import CorpusSpec, EmbedderSpec
from resizable_search.store.layout import Home
from resizable_search.store.manifest import Manifest, read_manifest
from resizable_search.store.writer import commit

TEST_DATA = Path(os.environ.get("RSEARCH_TEST_DATA") or "no-test-data")
"""Real articles and recorded answers; tests that need them skip if the folder is missing."""


@dataclass
class ListCorpus(Corpus):
    """Documents from a list; `version` is part of its spec, the stream fails at `break_at`.

    A mutable one may have other documents when it is built again.
    """

    documents: list[Document]
    version: str = "1"
    block_size: int = 10
    break_at: int | None = None
    is_mutable: bool = False
    kind = "list"
    opened: list = field(default_factory=list)

    @property
    def label(self) -> str:
        return "a list"

    def spec(self) -> CorpusSpec:
        return CorpusSpec("list", {"version": self.version})

    def blocks(self, position=None) -> Iterator[Block]:
        self.opened.append(position)
        start = position or 0

        def documents():
            for number, document in enumerate(self.documents[start:], start):
                if number == self.break_at:
                    raise ConnectionError("the stream broke")
                yield document

        steps = (([document], count) for count, document in enumerate(documents(), start + 1))
        yield from gather(steps, self.block_size)


class TableEmbedder(Embedder):
    """Vectors from a table of texts, and a made-up vector for any other text; records what it embeds."""

    kind = "table"

    def __init__(
        self,
        *,
        model: str = "table",
        width: int = 96,
        table: Mapping[str, np.ndarray] | None = None,
        centred: bool = False,
        remote: bool = False,
        concurrency: int = 1,
    ) -> None:
        self._spec = EmbedderSpec("table", model, width, centred=centred)
        self.table = dict(table or {})
        self.asked: list[str] = []
        self.remote = remote
        self.concurrency = concurrency
        self.batch_size = 10
        self.before = lambda texts: None

    def embed(self, texts: Sequence[str], task: Task) -> np.ndarray:
        self.before(texts)
        self.asked.extend(texts)
        return np.stack([self.vector(text) for text in texts])

    def vector(self, text: str) -> np.ndarray:
        if text not in self.table:
            seed = int.from_bytes(text.encode("utf-8", "replace")[:8].ljust(8), "big")
            rng = np.random.default_rng(seed + len(text))
            self.table[text] = rng.standard_normal(self._spec.width).astype(np.float32)
        return self.table[text]


def articles(count: int, prefix: str = "a") -> list[Document]:
    return [
        Document(f"{prefix}{i}", f"Title {i}", f"https://example.org/{prefix}{i}", f"text {i} of {prefix}")
        for i in range(count)
    ]


def index_of(rows: np.ndarray, home: Path, name: str = "made", dims: Sequence[int] | None = None) -> Index:
    """An index with these rows as full vectors, made by the real build; its embedder is `table`."""
    documents = articles(len(rows))
    table = {document.text: row for document, row in zip(documents, rows, strict=True)}
    embedder = TableEmbedder(width=rows.shape[1], table=table)
    options = BuildOptions(name, dims=tuple(dims) if dims else None)
    build(ListCorpus(documents), embedder, Home(home), options)
    return open_index(name, home=home, embedder=TableEmbedder(width=rows.shape[1]))


def one_bit_scores(rows: np.ndarray, mean: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The scores of one-bit codes of full rows (n, full), for a query (dim,), by their definition."""
    centred = rows - mean
    share = np.abs(centred).astype(np.float64).sum(axis=1)
    factors = (centred.astype(np.float64) ** 2).sum(axis=1) / np.where(share > 0, share, 1)
    halves = (factors.astype(np.float32).view(np.uint32) + 0x8000) >> 16
    factors = (halves.astype(np.uint32) << 16).view(np.float32)
    asked = small_queries(query[None])[0].tolist()
    signs = np.where(centred > 0, 1, -1).tolist()
    sums = [sum(sign * z for sign, z in zip(row, asked, strict=False)) for row in signs]
    return np.array(sums, np.float32) * factors


def oracle(rows: np.ndarray, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The defined answer in plain Python: scores (k,) float32 and rows (k,)."""
    scored = []
    for number, row in enumerate(rows.tolist()):
        lanes = [0.0] * LANES
        for i, (x, q) in enumerate(zip(row, query.tolist(), strict=True)):
            lanes[i % LANES] += x * q
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [lanes[i] + lanes[i + half] for i in range(half)]
        scored.append((-float(np.float32(lanes[0])), number))
    scored.sort()
    best = scored[:k]
    return np.array([-score for score, _ in best], np.float32), np.array([row for _, row in best], np.int64)


def float64_unit(row: np.ndarray) -> np.ndarray:
    """A row of norm 1 in float64, by the standard library's exact sum."""
    length = math.sqrt(math.fsum(x * x for x in row.astype(np.float64).tolist()))
    return row.astype(np.float64) / (length or 1.0)


def delete_rows(index: Path, rows: Sequence[int]) -> Manifest:
    """Mark these rows of an index as deleted."""
    return commit(index, read_manifest(index), rows)
