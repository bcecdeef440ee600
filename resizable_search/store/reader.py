"""A finished index, open for reading: arrays are mapped read-only, documents read on demand."""

import os
import shlex
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.arrays import check_size, map_array
from resizable_search.engine.vectors import Tier
from resizable_search.errors import IndexBusyError, IndexFormatError, IndexNotFoundError, OpenFilesError
from resizable_search.store.documents import (
    ROWS_AT_ONCE,
    DocumentCache,
    StoredDocument,
    allowed_rows,
    open_documents,
    read_documents,
)
from resizable_search.store.layout import NAMES, await_replacement, entries
from resizable_search.store.lexical import map_postings
from resizable_search.store.manifest import Manifest, Part, damaged, read_manifest
from resizable_search.store.writer import derived_files
from resizable_search.system import raise_limit
from resizable_search.text import BACK, clipped, without_surrogates

MOST_TRIES = 20  # how often an index is opened again because it was replaced meanwhile


class PartReader:
    """One part of the index in `index`: its arrays by dimension, and its documents, from row `start` on."""

    def __init__(self, index: Path, part: Part, dims: Sequence[int], start: int) -> None:
        folder, full = index / part.path, dims[-1]
        repair = f"`repair {shlex.quote(str(index.absolute()))}` rebuilds it"
        remedy = f"{repair}; if it cannot, build the index again with `restart`"
        self.start = start
        self.rows = part.rows
        arrays: dict[str, NDArray[Any]] = {
            name: map_array(folder / name, shape, dtype, BACK if name == NAMES.vectors(full) else remedy)
            for name, (shape, dtype) in derived_files(part.rows, dims).items()
            if name in part.files
        }
        self.arrays: dict[int, NDArray[np.float32]] = {dim: arrays[NAMES.vectors(dim)] for dim in dims}
        self.tiers = {
            dim: Tier(*(arrays[name] for name in NAMES.tier(dim)))
            for dim in dims
            if NAMES.tier(dim)[0] in arrays
        }
        """The int8 tiers by dimension; a very old index has none."""
        self.one_bit: NDArray[np.uint8] | None = arrays.get(NAMES.one_bit(full))
        """The full rows' one-bit codes (`short_codes.one_bit`); an older index has none."""
        self.postings = map_postings(folder, part, remedy)  # the lexical tier; None if there is none
        codes, bounds = NAMES.four_bit(full)
        four_bit = [arrays[name] for name in (codes, bounds, NAMES.mean(full)) if name in arrays]
        self.four_bit = (four_bit[0], four_bit[1], four_bit[2]) if len(four_bit) == 3 else None
        """Their codes in four bits, with steps and errors (`short_codes.four_bit`), and the mean."""
        self.allowed = allowed_rows(folder, part)  # (rows,) bool: which rows are not deleted; None: all
        self._documents_path = folder / NAMES.documents
        check_size(self._documents_path, part.files[NAMES.documents].bytes)
        self.connection = open_documents(self._documents_path, part.rows)
        self._lock = threading.Lock()

    def documents(self, rows: Sequence[int]) -> dict[int, StoredDocument]:
        """The documents of the part at these rows of the index, by row. Raises IndexFormatError."""
        own = [row - self.start for row in rows if 0 <= row - self.start < self.rows]
        try:
            with self._lock:
                return read_documents(self.connection, own, self.rows, self.start)
        except (sqlite3.DatabaseError, ValueError, RecursionError) as error:
            raise damaged(self._documents_path, clipped(str(error))) from None

    def row_of(self, id_: str) -> int | None:
        """The row of the index that has the document with this id; None if it is not here, or deleted."""
        query = "SELECT row FROM documents WHERE id = ?"
        try:
            with self._lock:
                record = self.connection.execute(query, (without_surrogates(id_),)).fetchone()
        except sqlite3.DatabaseError as error:
            raise damaged(self._documents_path, error) from None
        if record is None or (self.allowed is not None and not self.allowed[record[0]]):
            return None
        return self.start + int(record[0])

    def close(self) -> None:
        """Close the documents; arrays stay valid while they are referenced."""
        self.connection.close()


class IndexReader:
    """One generation of an index. Its files never change, so it stays valid while the index changes.

    Raises IndexFormatError for a file that is missing or damaged, IndexNotFoundError if the index is removed
    meanwhile, IndexBusyError if it is replaced again and again, and OpenFilesError.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.resolve().name
        self.cache = DocumentCache(0)
        for _ in range(MOST_TRIES):
            self.parts: list[PartReader] = []
            manifest = None
            try:
                manifest = read_manifest(folder)
                for part, start in zip(manifest.parts, manifest.starts, strict=True):
                    self.parts.append(PartReader(folder, part, manifest.dims, start))
                # Through a link, two parts may be one folder, whatever their paths.
                if len({os.path.realpath(folder / part.path) for part in manifest.parts}) < len(self.parts):
                    raise IndexFormatError(f"two parts of {folder} are one folder: {BACK}")
                if not self._has_moved_on(manifest):  # else the files may be of two indexes
                    self.manifest, self.dims = manifest, manifest.dims
                    return
                self.close()
            except (IndexFormatError, OpenFilesError) as error:
                self.close()
                is_limit = isinstance(error, OpenFilesError)
                if not (raise_limit() if is_limit else self._has_moved_on(manifest)):
                    raise
            except BaseException:
                self.close()
                raise
        raise IndexBusyError(f"{folder} is replaced again and again: try later")

    def has_moved_on(self) -> bool:
        """Whether another index or generation is there now. Raises IndexNotFoundError if there is none."""
        return self._has_moved_on(self.manifest)

    def _has_moved_on(self, manifest: Manifest | None) -> bool:
        with suppress(IndexFormatError):
            return read_manifest(self.folder) != manifest
        is_empty = not entries(self.folder)
        if (self.folder / NAMES.removed).exists():
            raise IndexNotFoundError(f"{self.folder} is being removed: `remove` finishes it") from None
        if is_empty and not await_replacement(self.folder):
            raise IndexNotFoundError(f"{self.folder} has been removed, or is empty: build it again") from None
        return is_empty

    def documents(self, rows: Sequence[int]) -> dict[int, StoredDocument]:
        """The documents at these rows of the index, by row."""
        known = self.cache.take(rows)
        missing = [row for row in rows if row not in known]
        read: dict[int, StoredDocument] = {}
        for part in self.parts:
            read |= part.documents(missing)
        self.cache.put(read.values())
        return known | read

    def live_documents(self) -> Iterator[StoredDocument]:
        """The documents that are not deleted, in order."""
        rows = self.live_rows().tolist()
        for start in range(0, len(rows), ROWS_AT_ONCE):
            yield from self.documents(rows[start : start + ROWS_AT_ONCE]).values()

    def row_of(self, id_: str) -> int | None:
        """The row of the document with this id; None if there is none."""
        return next((row for part in self.parts if (row := part.row_of(id_)) is not None), None)

    def rows_of(self, ids: Iterable[str]) -> dict[str, int]:
        """The rows of the documents with these ids, by id. Unknown ids are left out."""
        rows = ((id_, self.row_of(id_)) for id_ in ids)
        return {id_: row for id_, row in rows if row is not None}

    def live_rows(self) -> NDArray[np.int64]:
        """The rows of the index that are not deleted, ascending."""
        return np.concatenate(
            [
                part.start + (np.arange(part.rows) if part.allowed is None else np.flatnonzero(part.allowed))
                for part in self.parts
            ]
        )

    def is_live(self, row: int) -> bool:
        """Whether the row exists and is not deleted."""
        for part in self.parts:
            if part.start <= row < part.start + part.rows:
                return part.allowed is None or bool(part.allowed[row - part.start])
        return False

    def vectors(self, rows: NDArray[np.int64], dim: int | None = None) -> NDArray[np.float32]:
        """The vectors at these rows (n,), in their order: (n, dim) float32; `dim` None: the full one."""
        dim = dim or self.manifest.full_dim
        out = np.empty((len(rows), dim), np.float32)
        for part in self.parts:
            own = (rows >= part.start) & (rows < part.start + part.rows)
            out[own] = part.arrays[dim][rows[own] - part.start]
        return out

    def close(self) -> None:
        """Close every part's documents."""
        for part in self.parts:
            part.close()
