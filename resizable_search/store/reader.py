"""A finished index, opened for reading: arrays memory-mapped read-only, documents on demand."""

import shlex
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resizable_search.arrays import file_size, map_array, wrong_size
from resizable_search.engine.vectors import WORD, Tier
from resizable_search.errors import IndexBusyError, IndexFormatError, IndexNotFoundError, OpenFilesError
from resizable_search.store.documents import (
    DocumentCache,
    StoredDocument,
    allowed_rows,
    open_documents,
    read_documents,
)
from resizable_search.store.layout import NAMES, FolderHandle, await_replacement, remaining_names
from resizable_search.store.manifest import Manifest, Part, read_manifest
from resizable_search.system import raise_limit
from resizable_search.text import BACK

MOST_TRIES = 20
"""How often an index is opened anew because it was replaced in the middle of that."""


class PartReader:
    """One part of the index in `index`: its arrays by dimension, and its documents."""

    def __init__(self, index: Path, part: Part, dims: Sequence[int]) -> None:
        folder, full = index / part.path, dims[-1]
        anew = _anew(index)
        self.rows = part.rows
        self.arrays: dict[int, NDArray[np.float32]] = {
            dim: map_array(
                folder / NAMES.vectors(dim), (part.rows, dim), "<f4", BACK if dim == full else anew
            )
            for dim in dims
        }
        self.tiers: dict[int, Tier] = {
            dim: _open_tier(folder, part.rows, dim, anew) for dim in dims if NAMES.codes(dim) in part.files
        }
        """The int8 tiers by dimension; an index from before there were any has none."""
        self.signs: NDArray[np.uint64] | None = None
        """(words, rows) uint64: the full rows' sign bits, word by word."""
        if NAMES.signs(full) in part.files:
            words = -(-full // WORD)
            self.signs = map_array(folder / NAMES.signs(full), (words, part.rows), "<u8", anew)
        self.allowed = allowed_rows(folder, part)
        """(rows,) bool: which rows may be found; None: all."""
        self._documents_path = folder / NAMES.documents
        self._connection = _open_documents(self._documents_path, part)
        self._lock = threading.Lock()

    def documents(self, rows: Sequence[int]) -> dict[int, StoredDocument]:
        """The documents at these rows of the part, by row."""
        with self._lock:
            return read_documents(self._connection, rows, self._documents_path, self.rows)

    def close(self) -> None:
        """Close the documents; arrays that are still referred to stay valid."""
        self._connection.close()


class IndexReader:
    """One generation of an index. Its files never change, so it stays right while the index moves on.

    Attributes: `folder`, `name`, `manifest`, `parts` (in order), `starts` (the first row of each).
    Raises IndexFormatError for a file that is missing, truncated or not what the manifest says,
    IndexNotFoundError for an index that is removed meanwhile, OpenFilesError, and IndexBusyError for one
    that is replaced too often to be read.
    """

    kept: DocumentCache | None = None
    """Documents that were read before, for a process that stays; None: none are kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.resolve().name
        self.manifest = self._open()

    def _open(self) -> Manifest:
        self.parts: list[PartReader] = []
        self._place: FolderHandle | None = None
        for _ in range(MOST_TRIES):
            manifest = None
            try:
                self._place, self.parts = FolderHandle(self.folder), []
                manifest = read_manifest(self.folder)
                for part in manifest.parts:
                    self.parts.append(PartReader(self.folder, part, manifest.dims))
                self._refuse_shared_folders(manifest)
            except IndexFormatError:
                try:
                    if not self._has_moved_on(manifest):
                        raise
                finally:
                    self.close()
                continue
            except OpenFilesError:
                self.close()
                if not raise_limit():
                    raise
                continue
            except BaseException:
                self.close()
                raise
            if self.is_in_place:
                self.starts = [0, *np.cumsum([part.rows for part in self.parts])[:-1].tolist()]
                return manifest
            self.close()  # replaced meanwhile: some of the files may be the old index's, some the new one's
        raise IndexBusyError(f"{self.folder} is replaced again and again: try again later")

    @property
    def is_in_place(self) -> bool:
        """Whether the folder still is the one that was opened: an index is replaced by another folder."""
        return self._place is not None and self._place.is_in_place

    def has_moved_on(self) -> bool:
        """Whether another index or generation is there by now. Raises IndexNotFoundError for none."""
        return self._has_moved_on(self.manifest)

    def _has_moved_on(self, manifest: Manifest | None) -> bool:
        """Whether what could not be opened as `manifest` says is another index or generation by now."""
        if self.is_in_place:
            with suppress(IndexFormatError):
                if manifest is not None and read_manifest(self.folder) != manifest:
                    return True
            left = remaining_names(self.folder)
            if self.is_in_place:  # so that is what is left of it, and not another one
                if NAMES.removed in left:
                    raise IndexNotFoundError(
                        f"{self.folder} is being removed, or that was broken off: `remove` ends it"
                    ) from None
                if left:
                    return False
                raise self._removed() from None
        if not await_replacement(self.folder):
            raise self._removed() from None
        return True

    def _removed(self) -> IndexNotFoundError:
        return IndexNotFoundError(f"{self.folder} has been removed, or is empty: build it again")

    def _refuse_shared_folders(self, manifest: Manifest) -> None:
        """Whatever their paths say: through a link, two parts may be one."""
        places = {_folder_number(self.folder / part.path) for part in manifest.parts}
        if len(places) < len(manifest.parts):
            raise IndexFormatError(f"two parts of {self.folder} are one folder: {BACK}")

    @cached_property
    def dims(self) -> tuple[int, ...]:
        """The stored dimensions, ascending."""
        return self.manifest.dims

    def documents(self, rows: Sequence[int]) -> dict[int, StoredDocument]:
        """The documents at these rows of the index, by row."""
        if self.kept is None:
            return self._read(rows)
        known = self.kept.take(rows)
        if missing := [row for row in rows if row not in known]:
            read = self._read(missing)
            self.kept.put(read.values())
            known |= read
        return known

    def _read(self, rows: Sequence[int]) -> dict[int, StoredDocument]:
        documents: dict[int, StoredDocument] = {}
        for part, start in zip(self.parts, self.starts, strict=True):
            mine = [row - start for row in rows if start <= row < start + part.rows]
            if mine:
                read = part.documents(mine)
                if start:
                    read = {row + start: replace(found, row=row + start) for row, found in read.items()}
                documents |= read
        return documents

    def found_rows(self) -> NDArray[np.int64]:
        """The rows of the index that may be found, ascending: all but those deleted."""
        return np.concatenate(
            [
                start + (np.arange(part.rows) if part.allowed is None else np.flatnonzero(part.allowed))
                for part, start in zip(self.parts, self.starts, strict=True)
            ]
        )

    def may_find(self, row: int) -> bool:
        """Whether there is such a row, and its document was not deleted."""
        for part, start in zip(self.parts, self.starts, strict=True):
            if start <= row < start + part.rows:
                return part.allowed is None or bool(part.allowed[row - start])
        return False

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The full vectors at these rows (n,) of the index, in their order: (n, full) float32."""
        full = self.manifest.full_dim
        out = np.empty((len(rows), full), np.float32)
        for part, start in zip(self.parts, self.starts, strict=True):
            mine = (rows >= start) & (rows < start + part.rows)
            out[mine] = part.arrays[full][rows[mine] - start]
        return out

    def close(self) -> None:
        """Close every part's documents."""
        if self._place is not None:
            self._place.release()
        for part in self.parts:
            part.close()


def _folder_number(folder: Path) -> tuple[int, int] | None:
    """What tells folders that are there at once from one another; None if there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _anew(index: Path) -> str:
    """What to do about a damaged file that follows from the full vectors."""
    return (
        f"`repair {shlex.quote(str(index.absolute()))}` makes it again; if it cannot, build the index again "
        "with `restart`"
    )


def _open_tier(folder: Path, rows: int, dim: int, remedy: str) -> Tier:
    return Tier(
        map_array(folder / NAMES.codes(dim), (rows, dim), "|i1", remedy),
        map_array(folder / NAMES.steps(dim), (rows,), "<f4", remedy),
        map_array(folder / NAMES.errors(dim), (rows,), "<f4", remedy),
        dim,
    )


def _open_documents(path: Path, part: Part) -> sqlite3.Connection:
    """Open a part's documents, if they have the size that the manifest says."""
    size = file_size(path, BACK)
    if size != part.files[NAMES.documents].bytes:
        raise wrong_size(path, size, part.files[NAMES.documents].bytes, BACK)
    return open_documents(path, part.rows)
