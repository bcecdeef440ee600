"""What is exported: the documents of one generation of an index that can be found, at one dimension.

Places count them from 0 in the order of their rows, deleted ones left out: a place is what other
programs call a row, an id or a key.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine import vectors
from resizable_search.errors import RsearchError, UsageError
from resizable_search.specs import EmbedderSpec
from resizable_search.store.documents import StoredDocument
from resizable_search.store.reader import IndexReader

BLOCK_ROWS = 4096
"""Rows that are read at once."""

BLOCK_BYTES = 16 << 20
"""What they may take: rows that are wider than any model's are read fewer at once."""


class ExportSource:
    """The documents of an index that is open, and their rows cut to `dim` (None: the full dimension).

    Raises UsageError for a dimension that there is not, RsearchError where every document is deleted.
    """

    def __init__(self, reader: IndexReader, dim: int | None = None) -> None:
        full = reader.manifest.full_dim
        self.dim = full if dim is None else dim
        if not 1 <= self.dim <= full:
            raise UsageError(
                f"dimension {self.dim} is not within 1 to {full}, the full dimension of {reader.name}"
            )
        self.reader = reader
        self.found = reader.found_rows()
        """(count,) int64: the row of the index at each place."""
        self.count = len(self.found)
        if not self.count:
            raise RsearchError(f"every document of {reader.name} is deleted: there is nothing to export")
        self._stored = min(d for d in reader.dims if d >= self.dim)

    def rows(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows at these places (n,), in their order: (n, dim) float32 of norm 1."""
        rows = self.found[places]
        out = np.empty((len(rows), self._stored), np.float32)
        for part, start in zip(self.reader.parts, self.reader.starts, strict=True):
            mine = (rows >= start) & (rows < start + part.rows)
            out[mine] = part.arrays[self._stored][rows[mine] - start]
        return out if self._stored == self.dim else vectors.truncate(out, self.dim)

    def spans(self) -> Iterator[tuple[int, int]]:
        """The places in ranges of as many as are read at once."""
        step = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (4 * self._stored)))
        for start in range(0, self.count, step):
            yield start, min(start + step, self.count)

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """All rows in order, some at a time: the first one's place, and (n, dim) float32."""
        for start, stop in self.spans():
            yield start, self.rows(np.arange(start, stop))

    def whole(self) -> NDArray[np.float32] | None:
        """All rows as they lie mapped on the disk, (count, dim); None if they lie in no one file."""
        part = self.reader.parts[0]
        if len(self.reader.parts) > 1 or part.allowed is not None or self._stored != self.dim:
            return None
        return part.arrays[self.dim]

    def documents(self, start: int, stop: int) -> list[StoredDocument]:
        """The documents at these places, in order. Raises IndexFormatError."""
        rows = self.found[start:stop].tolist()
        found = self.reader.documents(rows)
        return [found[row] for row in rows]

    def facts(self) -> dict[str, Any]:
        """What another program must know of the rows, for JSON."""
        manifest = self.reader.manifest
        spec = EmbedderSpec.from_json(manifest.embedder)
        return {
            "written_by": manifest.written_by,
            "index": self.reader.name,
            "corpus": manifest.label,
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
