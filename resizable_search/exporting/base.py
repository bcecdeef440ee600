"""What a format is: it writes an export, and looks into one with the library that is to read it.

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

from resizable_search.errors import RsearchError
from resizable_search.exporting.sample import Sample
from resizable_search.exporting.source import Source

Settings = Mapping[str, int]
"""What a reader of an export sets, by the library's own name for it, such as `expansion_search`."""

GOOD = 0.99
"""The overlap that an approximate index is set for, if its efforts reach it."""

FACTS = "export.json"
"""In each folder that was exported: what the rows are, and which files are the export's."""

CARD = "README.md"


@dataclass(frozen=True, slots=True)
class Found:
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

    def bytes(self, source: Source) -> int:
        """The bytes that it takes on the disk at least, what is deleted again at the end too."""
        return source.count * source.dim * 4

    @abstractmethod
    def write(
        self,
        source: Source,
        path: Path,
        facts: Mapping[str, Any],
        sample: Sample,
        go_on: Callable[[int], None],
    ) -> Settings:
        """Write it at `path`, an empty folder or the file that is to be; `go_on(rows)` after each block.

        Raises RsearchError, OSError, and RuntimeError for what a library could not write.
        """

    @abstractmethod
    def look(self, path: Path, sample: Sample, settings: Settings) -> Found:
        """Open what lies at `path` with the library, and ask it."""

    @abstractmethod
    def usage(self, settings: Settings) -> str:
        """Python that reads an export from within its folder and searches `query`, (dim,) float32."""


def settled(sample: Sample, efforts: Sequence[int], ask: Callable[[int], NDArray[np.int64]]) -> int:
    """The least of these efforts, ascending, at which `ask` finds GOOD of what is nearest; else the last."""
    for effort in efforts:
        if float(sample.shares(ask(effort)).mean()) >= GOOD:
            return effort
    return efforts[-1]
