"""Rows of an index that ask an export for their neighbours, and what rsearch answers exactly.

What a format is: it writes an export, and looks into one with the library that is to read it.

- `write` puts all that the library reads into a folder that is empty; in bounded memory, however many
  rows there are, and calling `go_on` for each block. It returns what a reader must set, if anything.
- `look` opens what was written with that library, as its users do, and asks it. It is how an export
  proves itself: nothing that `write` still holds may help.
- Libraries are imported where they are used; `modules` names them, so that one that is missing is told
  before anything is read.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine import vectors
from resizable_search.engine.kernel_cache import Chooser
from resizable_search.engine.plan import Plan
from resizable_search.errors import RsearchError
from resizable_search.export.source import ExportSource
from resizable_search.store.executor import Executor

ASKED = 100
"""Rows that ask."""

K = 10
"""Neighbours that each asks for."""

SEED = 0

TIE = 5e-6
"""Scores nearer than that are tied for a library that adds up float32 numbers in an order of its own.

They are sums of products of unit rows: on 768 dimensions faiss is off by some 3e-7.
"""


@dataclass(frozen=True, slots=True)
class ExportSample:
    """`places` (m,) that ask, their own rows `queries` (m, dim), and their ids.

    `k` neighbours are wanted, themselves left out; `least` (m,) float32 is the score that the last of
    these has by the exact scan.
    """

    source: ExportSource
    places: NDArray[np.int64]
    queries: NDArray[np.float32]
    ids: list[str]
    k: int
    least: NDArray[np.float32]

    @classmethod
    def of(cls, source: ExportSource) -> "ExportSample":
        """Draw some rows and answer them. Raises IndexFormatError."""
        draw = np.random.default_rng(SEED).choice(source.count, min(ASKED, source.count), replace=False)
        places = np.sort(draw).astype(np.int64)
        rows = source.found[places]
        k = min(K, source.count - 1)
        least = np.full(len(places), -np.inf, np.float32)
        if k:
            # Stored rows are centred already, if they are.
            executor = Executor(source.reader, Chooser().pick, centred=False)
            plan = Plan.of(source.dim, 0, k, source.reader.manifest.full_dim)
            top, _ = executor.run(source.reader.vectors(rows), plan, k, skip=rows)
            least = top.scores[:, -1]
        found = source.reader.documents(rows.tolist())
        ids = [found[row].id for row in rows.tolist()]
        return cls(source, places, source.rows(places), ids, k, least)

    def shares(self, nearest: NDArray[np.int64]) -> NDArray[np.float64]:
        """The share of each one's k nearest that an export found, (m,): 1 is all of them, up to ties.

        `nearest` (m, c) are places, best first, one's own among them perhaps; -1 is none.
        """
        shares = np.ones(len(self.places))
        if not self.k:
            return shares
        for i, (own, query) in enumerate(zip(self.places, self.queries, strict=True)):
            others = nearest[i][(nearest[i] != own) & (nearest[i] >= 0) & (nearest[i] < self.source.count)]
            _, first = np.unique(others, return_index=True)
            others = others[np.sort(first)][: self.k]
            scores = vectors.dot(self.source.rows(others), query)
            shares[i] = np.count_nonzero(scores >= self.least[i] - TIE) / self.k
        return shares


Settings = Mapping[str, int]
"""What a reader of an export sets, by the library's own name for it, such as `expansion_search`."""

GOOD = 0.99
"""The overlap that an approximate index is set for, if its efforts reach it."""

FACTS = "export.json"
"""In each folder that was exported: what the rows are, and which files are the export's."""

CARD = "README.md"


@dataclass(frozen=True, slots=True)
class SearchCheck:
    """What a library says of an export to a sample of m rows.

    The `ids` of their documents, their `rows` (m, dim) as stored, and the places of those nearest to each,
    (m, k + 1) best first, itself among them.
    """

    ids: Sequence[str]
    rows: NDArray[np.float32]
    nearest: NDArray[np.int64]


class Format(ABC):
    """One form of an export. See the module's docstring for the contract."""

    name: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]
    """The libraries; the first is the one that the export is checked with."""
    package: ClassVar[str] = ""
    """What `pip install` brings them, where rsearch itself does not."""
    is_folder: ClassVar[bool] = True
    is_exact: ClassVar[bool] = True
    """Whether the library answers as the exact scan does, up to ties; else it comes near."""
    most_rows: ClassVar[int] = 2**63 - 1

    def require(self) -> None:
        """Import what it needs. Raises RsearchError that says how to get it."""
        for module in self.modules:
            try:
                import_module(module)
            except ImportError as error:
                raise RsearchError(
                    f"exporting to {self.name} needs {module}, which cannot be imported ({error}): "
                    f"`pip install {self.package or module}`"
                ) from None

    def bytes(self, source: ExportSource) -> int:
        """The bytes that it takes on the disk at least, what is deleted again at the end too."""
        return source.count * source.dim * 4

    @abstractmethod
    def write(
        self,
        source: ExportSource,
        path: Path,
        facts: Mapping[str, Any],
        sample: ExportSample,
        go_on: Callable[[int], None],
    ) -> Settings:
        """Write it at `path`, an empty folder or the file that is to be; `go_on(rows)` after each block.

        Raises RsearchError, OSError, and RuntimeError for what a library could not write.
        """

    @abstractmethod
    def look(self, path: Path, sample: ExportSample, settings: Settings) -> SearchCheck:
        """Open what lies at `path` with the library, and ask it."""

    @abstractmethod
    def usage(self, settings: Settings) -> str:
        """Python that reads an export from within its folder and searches `query`, (dim,) float32."""


def settled(sample: ExportSample, efforts: Sequence[int], ask: Callable[[int], NDArray[np.int64]]) -> int:
    """The least of these efforts, ascending, at which `ask` finds GOOD of what is nearest; else the last."""
    for effort in efforts:
        if float(sample.shares(ask(effort)).mean()) >= GOOD:
            return effort
    return efforts[-1]
