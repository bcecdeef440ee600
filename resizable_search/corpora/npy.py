"""Rows of floats in a .npy file of somebody else's, checked and read in bounded blocks.

They are read, not mapped: a file that is cut while it is read is an error then, and no dead process.
"""

import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import CorpusError

_AS_FLOAT32 = "save the rows as float32: numpy.save(FILE, rows.astype('float32'))"
_LARGE, _SMALL = 2.0**100, 2.0**-100
"""Between these a row's numbers may be made float32 as they are."""


class NpyRows:
    """The rows of a .npy file: (rows, width) float16, float32 or float64, of either byte and memory order.

    Raises CorpusError for any other file, by name and with what to do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_regular(path)
        try:
            shape, self._by_column, self.dtype = self._header()
            self.rows, self.width = self._checked(shape)
        except BaseException:
            self.close()
            raise

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in the file."""
        return self.width * int(self.dtype.itemsize)

    @property
    def surplus(self) -> int:
        """Bytes behind the array, which are not read."""
        return os.fstat(self._file.fileno()).st_size - self._start - self.rows * self.row_bytes

    def read(self, start: int, stop: int) -> NDArray[np.floating[Any]]:
        """The rows from `start` to `stop` as they are in the file: (stop - start, width) floats, finite.

        float64 rows beyond the range of float32 are scaled by a power of two, which changes no direction.
        Raises CorpusError for NaN or infinity, and for a file that has been cut.
        """
        count = stop - start
        size = self.dtype.itemsize
        if self._by_column:
            columns = np.empty((self.width, count), self.dtype)
            for i, column in enumerate(columns):
                self._fill(column, self._start + (i * self.rows + start) * size)
            rows = columns.T
        else:
            rows = np.empty((count, self.width), self.dtype)
            self._fill(rows, self._start + start * self.row_bytes)
        rows = rows.astype(self.dtype.newbyteorder("="), copy=False)
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            raise CorpusError(
                f"{self.path} has NaN or infinity in row {start + int(np.argmin(finite)):,}: "
                "a vector must be finite; leave such rows out of the file, or put zeros there"
            )
        return _in_range(rows) if size == 8 else rows

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _header(self) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        if not os.fstat(self._file.fileno()).st_size:
            raise CorpusError(f"{self.path} is empty: write it with numpy.save(FILE, rows)")
        try:
            version = np.lib.format.read_magic(self._file)
            if version == (1, 0):
                found = np.lib.format.read_array_header_1_0(self._file)
            elif version == (2, 0):
                found = np.lib.format.read_array_header_2_0(self._file)
            else:
                raise ValueError(f"version {version}")
        except ValueError:
            raise CorpusError(
                f"{self.path} is no .npy file of floats: write it with numpy.save(FILE, rows)"
            ) from None
        self._start = self._file.tell()
        return found

    def _checked(self, shape: tuple[int, ...]) -> tuple[int, int]:
        if self.dtype.hasobject:
            raise CorpusError(f"{self.path} holds pickled objects, which are not read: {_AS_FLOAT32}")
        if self.dtype.kind != "f" or self.dtype.itemsize not in (2, 4, 8):
            raise CorpusError(
                f"{self.path} holds {self.dtype}, not floats of 16, 32 or 64 bits: {_AS_FLOAT32}"
            )
        if len(shape) != 2:
            raise CorpusError(
                f"{self.path} holds an array of {len(shape)} dimensions {shape}, not of 2: "
                "save it as (rows, width), a vector a row"
            )
        if not min(shape):
            raise CorpusError(f"{self.path} holds no vector (its shape is {shape}): save at least one row")
        size = os.fstat(self._file.fileno()).st_size
        expected = self._start + math.prod(shape) * self.dtype.itemsize
        if size < expected:
            raise CorpusError(
                f"{self.path} is truncated: it has {size:,} bytes where {expected:,} belong; "
                "copy or write it again"
            )
        return shape[0], shape[1]

    def _fill(self, into: NDArray[Any], offset: int) -> None:
        """Read exactly what `into` (contiguous) holds."""
        rest = into.reshape(-1).view(np.uint8).data
        while rest:
            count = os.preadv(self._file.fileno(), [rest], offset)
            if not count:
                raise CorpusError(f"{self.path} was cut while it was read: give the same command again")
            rest, offset = rest[count:], offset + count


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read bytes. Raises CorpusError where there is none, or none that can be read twice."""
    try:
        if path.exists() and not path.is_file():
            raise CorpusError(f"{path} is no file: name one")
        return path.open("rb")
    except OSError as error:
        raise CorpusError(f"cannot read {path} ({error.strerror}): name a file that is there") from None


def _in_range(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    most = np.abs(rows).max(axis=1)
    outside = (most > 0) & ((most > _LARGE) | (most < _SMALL))
    if outside.any():
        rows[outside] = np.ldexp(rows[outside], -np.frexp(most[outside])[1][:, None])
    return rows
