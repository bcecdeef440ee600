"""A finished index, opened for reading: arrays memory-mapped read-only, documents on demand."""

import math
import stat
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import IndexFormatError
from resizable_search.index.documents import StoredDocument, open_documents, read_documents
from resizable_search.index.layout import NAMES
from resizable_search.index.locate import await_replacement
from resizable_search.index.manifest import Manifest, Part, read_manifest
from resizable_search.index.rows import npy_header
from resizable_search.quantise import WORD, Tier

MOST_TRIES = 20
"""How often an index is opened anew because it was replaced in the middle of that."""


class PartReader:
    """One part: its arrays by dimension, and its documents."""

    def __init__(self, folder: Path, part: Part, dims: Sequence[int]) -> None:
        self.rows = part.rows
        self.arrays: dict[int, NDArray[np.float32]] = {
            dim: open_array(folder / NAMES.vectors(dim), (part.rows, dim), "<f4") for dim in dims
        }
        self.tiers: dict[int, Tier] = {
            dim: _open_tier(folder, part.rows, dim) for dim in dims if NAMES.codes(dim) in part.files
        }
        """The int8 tiers by dimension; an index from before there were any has none."""
        self.signs: NDArray[np.uint64] | None = None
        """(words, rows) uint64: the full rows' sign bits, word by word."""
        if NAMES.signs(dims[-1]) in part.files:
            words = -(-dims[-1] // WORD)
            self.signs = open_array(folder / NAMES.signs(dims[-1]), (words, part.rows), "<u8")
        self.allowed = allowed_rows(folder, part)
        """(rows,) bool: which rows may be found; None: all."""
        self._documents_path = folder / NAMES.documents
        size = _size(self._documents_path)
        if size != part.files[NAMES.documents].bytes:
            raise _wrong_size(self._documents_path, size, part.files[NAMES.documents].bytes)
        self._connection = open_documents(self._documents_path)
        self._lock = threading.Lock()

    def documents(self, rows: Sequence[int]) -> dict[int, StoredDocument]:
        """The documents at these rows of the part, by row."""
        with self._lock:
            return read_documents(self._connection, rows, self._documents_path)

    def close(self) -> None:
        """Close the documents; arrays that are still referred to stay valid."""
        self._connection.close()


class IndexReader:
    """One generation of an index. Its files never change, so it stays right while the index moves on.

    Attributes: `folder`, `name`, `manifest`, `parts` (in order), `starts` (the first row of each).
    Raises IndexFormatError for a file that is missing, truncated or not what the manifest says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.resolve().name
        self.manifest = self._open()

    def _open(self) -> Manifest:
        tries = 0
        while True:
            tries += 1
            self._place = _place(self.folder)
            self.parts: list[PartReader] = []
            manifest = None
            try:
                manifest = read_manifest(self.folder)
                for part in manifest.parts:
                    self.parts.append(PartReader(self.folder / part.path, part, manifest.dims))
            except IndexFormatError:
                self.close()
                if tries == MOST_TRIES or not self._has_moved_on(manifest):
                    raise
                continue
            if self.is_in_place or tries == MOST_TRIES:
                break
            self.close()  # replaced meanwhile: some of the files may be the old index's, some the new one's
        self.starts = [0, *np.cumsum([part.rows for part in self.parts])[:-1].tolist()]
        return manifest

    @property
    def is_in_place(self) -> bool:
        """Whether the folder still is the one that was opened: an index is replaced by another folder."""
        return self._place is not None and self._place == _place(self.folder)

    def _has_moved_on(self, manifest: Manifest | None) -> bool:
        """Whether the index that could not be opened as `manifest` says is another one by now."""
        if not self.is_in_place:
            return await_replacement(self.folder)
        return manifest is not None and read_manifest(self.folder) != manifest

    @cached_property
    def dims(self) -> tuple[int, ...]:
        """The stored dimensions, ascending."""
        return self.manifest.dims

    def documents(self, rows: Sequence[int]) -> dict[int, StoredDocument]:
        """The documents at these rows of the index, by row."""
        found: dict[int, StoredDocument] = {}
        for part, start in zip(self.parts, self.starts, strict=True):
            mine = [row - start for row in rows if start <= row < start + part.rows]
            if mine:
                for row, document in part.documents(mine).items():
                    found[row + start] = replace(document, row=row + start)
        return found

    def found_rows(self) -> NDArray[np.int64]:
        """The rows of the index that may be found, ascending: all but those deleted."""
        return np.concatenate(
            [
                start + (np.arange(part.rows) if part.allowed is None else np.flatnonzero(part.allowed))
                for part, start in zip(self.parts, self.starts, strict=True)
            ]
        )

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
        for part in self.parts:
            part.close()


def allowed_rows(folder: Path, part: Part) -> NDArray[np.bool_] | None:
    """(rows,) bool: which rows of a part, which lies in `folder`, may be found; None: all."""
    if not part.bitmap:
        return None
    packed = open_array(folder / part.bitmap, ((part.rows + 7) // 8,), "|u1")
    found: NDArray[np.bool_] = np.unpackbits(packed, count=part.rows) == 0
    return found


def _place(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another of the same name; None if there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _open_tier(folder: Path, rows: int, dim: int) -> Tier:
    return Tier(
        open_array(folder / NAMES.codes(dim), (rows, dim), "|i1"),
        open_array(folder / NAMES.steps(dim), (rows,), "<f4"),
        open_array(folder / NAMES.errors(dim), (rows,), "<f4"),
        dim,
    )


def open_array(path: Path, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Map a .npy file of that shape and dtype read-only, C order. Raises IndexFormatError.

    The header must be, byte for byte, the one that numpy writes for such an array: parsing a damaged
    one would be a guess.
    """
    header = npy_header(shape, dtype)
    size = _size(path)
    try:
        with path.open("rb") as file:
            found = file.read(len(header))
    except OSError as error:
        raise IndexFormatError(f"{path} cannot be read ({error.strerror}): check its permissions") from None
    if found != header:
        raise IndexFormatError(
            f"{path} is no .npy file of {np.dtype(dtype)} {shape}, so it is damaged or not this index's: "
            "put the right one back, or build again with --restart"
        )
    expected = len(header) + math.prod(shape) * np.dtype(dtype).itemsize
    if size != expected:
        raise _wrong_size(path, size, expected)
    return np.memmap(path, dtype, "r", len(header), shape).view(np.ndarray)


def _size(path: Path) -> int:
    try:
        found = path.stat()
    except FileNotFoundError:
        raise IndexFormatError(f"{path} is missing: build the index again with --restart") from None
    except OSError as error:
        raise IndexFormatError(f"{path} cannot be read ({error.strerror}): check what lies there") from None
    if not stat.S_ISREG(found.st_mode):
        raise IndexFormatError(f"{path} is no file: put the right one back, or build again with --restart")
    return found.st_size


def _wrong_size(path: Path, size: int, expected: int) -> IndexFormatError:
    return IndexFormatError(
        f"{path} has {size:,} bytes where {expected:,} belong: it was cut or changed; "
        "build the index again with --restart"
    )
