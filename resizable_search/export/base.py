"""What an export is made of, and the contract of a format.

A position counts the exported documents from 0, in the order of their rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine import vectors
from resizable_search.engine.kernel_cache import Chooser
from resizable_search.engine.plan import Plan
from resizable_search.environment import needs
from resizable_search.errors import RsearchError, UsageError
from resizable_search.specs import EmbedderSpec
from resizable_search.store.documents import StoredDocument
from resizable_search.store.executor import Executor
from resizable_search.store.reader import IndexReader
from resizable_search.text import without_surrogates

Settings = Mapping[str, int]  # what a reader of an export sets, by the library's own name

BLOCK_ROWS = 4096  # rows that are read at once
BLOCK_BYTES = 16 << 20  # the most bytes of such rows
SAMPLE_ROWS = 100  # rows that search the export
NEIGHBOURS = 10  # how many neighbours each of them wants
TIE = 5e-6  # scores closer than this are ties: libraries add float32 products in their own order
TARGET_OVERLAP = 0.99  # the overlap that an approximate index is set for, if its settings reach it


class ExportSource:
    """The documents of an open index that are not deleted, with rows cut to `dim` (None: the full dimension).

    Raises UsageError for a dimension out of range, RsearchError if every document is deleted.
    """

    def __init__(self, reader: IndexReader, dim: int | None = None) -> None:
        full = reader.manifest.full_dim
        self.dim = full if dim is None else dim
        if not 1 <= self.dim <= full:
            raise UsageError(f"dimension {self.dim} is not within 1 to {full}, the most of {reader.name}")
        self.reader = reader
        self.rows_at = reader.live_rows()  # (count,) int64: the row of the index at each position
        self.count = len(self.rows_at)
        if not self.count:
            raise RsearchError(f"every document of {reader.name} is deleted: nothing to export")
        self._stored = min(d for d in reader.dims if d >= self.dim)

    def rows(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows at these positions, in their order: (n, dim) float32 of norm 1."""
        out = self.reader.vectors(self.rows_at[positions], self._stored)
        return out if self._stored == self.dim else vectors.truncate(out, self.dim)

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """All rows in order, some at a time: the position of the first, and (n, dim) float32."""
        step = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (4 * self._stored)))
        for start in range(0, self.count, step):
            yield start, self.rows(np.arange(start, min(start + step, self.count)))

    def documents(self, start: int, stop: int) -> list[StoredDocument]:
        """The documents at these positions, in order. Raises IndexFormatError."""
        rows = self.rows_at[start:stop].tolist()
        documents = self.reader.documents(rows)
        return [documents[row] for row in rows]

    def facts(self) -> dict[str, Any]:
        """What another program must know about the rows, for JSON."""
        manifest = self.reader.manifest
        spec = EmbedderSpec.from_json(manifest.embedder)
        return {
            "written_by": manifest.written_by,
            "index": self.reader.name,
            "corpus": without_surrogates(manifest.label),  # of a path, which may not be UTF-8
            "generation": manifest.generation,
            "documents": self.count,
            "dim": self.dim,
            "full_dim": manifest.full_dim,
            "normalised": True,
            "centred": spec.centred,
            "embedder": spec.kind,
            "model": spec.model,
            "document_prefix": spec.document_task,
            "query_prefix": spec.query_task,
        }


@dataclass(frozen=True, slots=True)
class ExportSample:
    """Rows that search the export."""

    source: ExportSource
    positions: NDArray[np.int64]  # (m,)
    queries: NDArray[np.float32]  # (m, dim)
    ids: list[str]
    k: int  # how many neighbours each wants besides itself
    least: NDArray[np.float32]  # (m,): the exact score of the last of them

    @classmethod
    def of(cls, source: ExportSource) -> "ExportSample":
        """Draw rows and search for them exactly. Raises IndexFormatError."""
        rng = np.random.default_rng(0)
        positions = np.sort(rng.choice(source.count, min(SAMPLE_ROWS, source.count), replace=False))
        rows = source.rows_at[positions]
        k = min(NEIGHBOURS, source.count - 1)
        least = np.full(len(positions), -np.inf, np.float32)
        if k:
            # Stored rows are centred already if the index is.
            executor = Executor(source.reader, Chooser().pick, centred=False)
            plan = Plan.of(source.dim, 0, k, source.reader.manifest.full_dim)
            top, _ = executor.run(source.reader.vectors(rows), plan, k, skip=rows)
            least = top.scores[:, -1]
        documents = source.reader.documents(rows.tolist())
        ids = [documents[row].id for row in rows.tolist()]
        return cls(source, positions.astype(np.int64), source.rows(positions), ids, k, least)

    def shares(self, nearest: NDArray[np.int64]) -> NDArray[np.float64]:
        """The share of the k nearest, or of their equals, among these `nearest` (m, c) positions."""
        shares = np.ones(len(self.positions))
        if not self.k:
            return shares
        for i, (own, query) in enumerate(zip(self.positions, self.queries, strict=True)):
            unique = dict.fromkeys(nearest[i].tolist())
            others = [p for p in unique if 0 <= p < self.source.count and p != own][: self.k]
            scores = vectors.dot(self.source.rows(np.array(others, np.int64)), query)
            shares[i] = np.count_nonzero(scores >= self.least[i] - TIE) / self.k
        return shares

    def least_effort(self, efforts: Sequence[int], search: Callable[[int], NDArray[np.int64]]) -> int:
        """The first of these efforts, ascending, that reaches TARGET_OVERLAP; else the last."""
        for effort in efforts:
            if float(self.shares(search(effort)).mean()) >= TARGET_OVERLAP:
                return effort
        return efforts[-1]


@dataclass(frozen=True, slots=True)
class ExportJob:
    """What a format writes. `step(rows)` reports progress after each block, and raises if the user stops."""

    source: ExportSource
    sample: ExportSample
    facts: Mapping[str, Any]
    step: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class SearchCheck:
    """What a library returns for m rows: `ids`, `rows` (m, dim), and `nearest` positions (m, k + 1)."""

    ids: Sequence[str]
    rows: NDArray[np.float32]
    nearest: NDArray[np.int64]


class Format(ABC):
    """One format: it writes an export in bounded memory, and searches it with the library that reads it."""

    name: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]  # the libraries, imported before any work; the first one checks it
    is_folder: ClassVar[bool] = True
    is_exact: ClassVar[bool] = True  # whether the library answers as the exact scan does, up to ties
    most_rows: ClassVar[int] = 2**63 - 1
    usage: ClassVar[str] = ""
    """Python code that reads a folder and searches `query`, (dim,) float32; `{name}` stands for a setting."""

    @property
    def library(self) -> str:
        """The library that checks the export."""
        return self.modules[0].partition(".")[0]

    def require(self) -> None:
        """Import the libraries. Raises RsearchError that says how to install a missing one."""
        for module in self.modules:
            with needs("export"):
                import_module(module)

    def bytes(self, source: ExportSource) -> int:
        """The bytes needed on disk at least, with temporary files."""
        return source.count * source.dim * 4

    @abstractmethod
    def write(self, job: ExportJob, path: Path) -> Settings:
        """Write to `path`, an empty folder or a new file; returns a reader's settings. Raises any error."""

    @abstractmethod
    def look(self, path: Path, sample: ExportSample, settings: Settings) -> SearchCheck:
        """Open `path` with the library, as its users do, and search it."""
