"""Vectors that there are already, in a .npy file, and the documents that they belong to.

What identifies the corpus is the content of its files, by SHA-256, and not where they lie: a manifest
does not name them, and whoever extends the index names them again.
"""

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.arrays import NpyReader, open_regular
from resizable_search.corpora.base import Block, Corpus, Document
from resizable_search.corpora.sidecar import Records, open_records
from resizable_search.errors import CorpusError
from resizable_search.progress import SILENT, Progress
from resizable_search.specs import CorpusSpec, Json

BLOCK_BYTES = 8 << 20
"""Of vectors, or about so many characters of documents, that are taken at once."""
MOST_ROWS = 4096
_PIECE = 1 << 20


class VectorsCorpus(Corpus):
    """The rows of a .npy file as documents; row i of `documents` (JSON lines or Parquet) describes row i.

    Without `documents` a row's number is its id. `stop`, once set, ends the check of the files with
    KeyboardInterrupt. Close it after use. Raises CorpusError for files that are not as they should be.
    """

    kind = "vectors"

    def __init__(
        self,
        path: Path,
        documents: Path | None = None,
        *,
        progress: Progress = SILENT,
        stop: threading.Event | None = None,
    ) -> None:
        self._progress = progress
        self._stop = stop or threading.Event()
        self._spec: CorpusSpec | None = None
        self._records = None if documents is None else open_records(documents)
        self._paths = [path, *([] if documents is None else [documents])]
        self._states = self._look()
        self.npy = NpyReader(path)
        self.block_rows = max(1, min(MOST_ROWS, BLOCK_BYTES // self.npy.row_bytes))

    def spec(self) -> CorpusSpec:
        """Size, shape, type and checksum of the vectors, and the checksum of the documents.

        Reads both files through, once. Raises CorpusError where their numbers of rows differ.
        """
        if self._spec is None:
            npy = self.npy
            size = sum(path.stat().st_size for path in self._paths)
            self._progress.stage("checking", -(-size // 1_000_000), "MB")
            options: dict[str, Json] = {
                "rows": npy.rows,
                "width": npy.width,
                "dtype": npy.dtype.str,
                "bytes": npy.path.stat().st_size,
                "sha256": self._checksum(npy.path),
                "documents": "none" if self._records is None else self._checked(self._records),
            }
            if npy.surplus:
                self._progress.note(f"{npy.path} has {npy.surplus:,} bytes behind its array: not read")
            self._spec = CorpusSpec(self.kind, options)
        return self._spec

    @property
    def label(self) -> str:
        """The name of the file."""
        return self._paths[0].name

    def size_hint(self) -> int:
        """The number of rows."""
        return self.npy.rows

    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """The documents, as many at once as bounded memory allows. Raises CorpusError."""
        row, inside = position or (0, None)
        held: list[Document] = []
        held_chars = 0
        behind = inside
        for document, behind in self._documents(row, inside):
            held.append(document)
            held_chars += len(document.text)
            if len(held) == self.block_rows or held_chars >= BLOCK_BYTES:
                row += len(held)
                yield Block(held, [row, behind])
                held, held_chars = [], 0
        if held:
            yield Block(held, [row + len(held), behind])

    def _documents(self, first: int, behind: Json | None) -> Iterator[tuple[Document, Json]]:
        if self._records is not None:
            yield from self._records.read(first, behind)
            return
        for row in range(first, self.npy.rows):
            yield Document(str(row), f"row {row}", "", ""), None

    def vectors(self, start: int, stop: int) -> NDArray[np.floating[Any]]:
        """The vectors of these rows: (stop - start, width) floats, finite. Raises CorpusError."""
        return self.npy.read(start, stop)

    def make_sure_unchanged(self) -> None:
        """Raise CorpusError if a file was written to since it was opened."""
        for path, before, now in zip(self._paths, self._states, self._look(), strict=True):
            if before != now:
                raise CorpusError(f"{path} was changed while it was read: give the same command again")

    def close(self) -> None:
        """Close the file of vectors."""
        self.npy.close()

    def _look(self) -> list[tuple[int, int, int]]:
        found = []
        for path in self._paths:
            with open_regular(path) as file:
                state = os.fstat(file.fileno())
            found.append((state.st_ino, state.st_size, state.st_mtime_ns))
        return found

    def _checksum(self, path: Path) -> str:
        meter = _Meter(self._progress, self._stop)
        with open_regular(path) as file:
            while piece := file.read(_PIECE):
                meter.look(piece)
        return meter.sum.hexdigest()

    def _checked(self, records: Records) -> str:
        meter = _Meter(self._progress, self._stop)
        found = records.count(meter.look)
        if found != self.npy.rows:
            raise CorpusError(
                f"{records.path} has {found:,} documents, and {self.npy.path} has {self.npy.rows:,} vectors: "
                "give one document for each vector, in their order"
            )
        return meter.sum.hexdigest()


class _Meter:
    """Sums a file up as it goes by, tells how far it is, and stops if it shall."""

    def __init__(self, progress: Progress, stop: threading.Event) -> None:
        self.sum = hashlib.sha256()
        self._progress = progress
        self._stop = stop
        self._untold = 0

    def look(self, piece: bytes) -> None:
        """Take the next bytes."""
        self.sum.update(piece)
        self._untold += len(piece)
        if self._untold >= 1_000_000:
            self._progress.advance(self._untold // 1_000_000)
            self._untold %= 1_000_000
            if self._stop.is_set():
                raise KeyboardInterrupt
