"""Files of arrays: rows of float32 that grow, arrays written in slices, and rows read back in blocks.

Rows of floats in a .npy file of somebody else's, checked and read in bounded blocks.

They are read, not mapped: a file that is cut while it is read is an error then, and no dead process.
"""

import io
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import CorpusError

READ_ROWS = 4096
"""Rows that are read at once when a file is gone through."""

READ_BYTES = 16 << 20
"""What they may take: rows that are wider than any model's are read fewer at once."""


@lru_cache(1000)  # numpy takes longer for it than the system for opening a file
def npy_header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    """The first bytes of a .npy file of that shape and dtype in C order, as numpy writes them."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    return header.getvalue()


class RowsFile:
    """A .npy file that rows are appended to.

    numpy pads the header so that the number of rows may grow in place; it is written on opening
    and again on `finish`. Rows beyond `rows` on opening, which no commit knows of, are cut off.
    """

    def __init__(self, path: Path, dim: int, rows: int = 0) -> None:
        self.dim = dim
        self.rows = rows
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("r+b" if path.exists() else "w+b")
        try:
            self._start = self._write_header()
            length = self._start + rows * dim * 4
            if os.fstat(self._file.fileno()).st_size < length:
                raise EOFError(f"{path} holds fewer than the {rows} rows that were committed")
            self._file.truncate(length)
            self._file.seek(length)
        except BaseException:
            self.close()
            raise

    def _write_header(self) -> int:
        self._file.seek(0)
        self._file.write(npy_header((self.rows, self.dim)))
        self._file.flush()
        return self._file.tell()

    def append(self, rows: NDArray[np.float32]) -> None:
        """Add (n, dim) float32 rows at the end; they are not yet sure to survive."""
        self._file.write(np.ascontiguousarray(rows, "<f4").data)
        self.rows += len(rows)

    def sync(self) -> None:
        """Have the disk hold every row so far."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self) -> None:
        """Write the header with the rows that there are now, and have the disk hold it."""
        self._write_header()
        self._file.seek(0, os.SEEK_END)
        self.sync()

    def close(self) -> None:
        """Close the file, finished or not."""
        with suppress(OSError):  # what it could not write before `sync` is nothing that one relies on
            self._file.close()

    def __enter__(self) -> "RowsFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ArrayFile:
    """A .npy file of a known shape whose slices are written in any order, from any thread.

    Plain writes, not a mapping: a full disk is an error then, and not the end of the process.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str) -> None:
        self._dtype = np.dtype(dtype)
        header = npy_header(shape, dtype)
        self._start = len(header)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w+b")
        try:
            self._file.write(header)
            self._file.flush()
            self._file.truncate(self._start + math.prod(shape) * self._dtype.itemsize)
        except BaseException:
            self.close()
            raise

    def write(self, values: NDArray[Any], at: int) -> None:
        """Write these values where the array's number `at`, counted in C order, lies, and on."""
        data = np.ascontiguousarray(values, self._dtype).data.cast("B")
        offset = self._start + at * self._dtype.itemsize
        while data:
            written = os.pwrite(self._file.fileno(), data, offset)
            data, offset = data[written:], offset + written

    def finish(self) -> None:
        """Have the disk hold it."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file, finished or not."""
        with suppress(OSError):  # the header is all that it can lack
            self._file.close()


def read_blocks(path: Path, rows: int = READ_ROWS) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The rows of a finished file in order, some at a time, by plain reads.

    Yields the first row's number and (up to `rows`, d) float32.
    """
    with path.open("rb") as file:
        count, dim = read_shape(file)
        rows = max(1, min(rows, READ_BYTES // (4 * dim)))
        for start in range(0, count, rows):
            n = min(rows, count - start)
            yield start, np.fromfile(file, "<f4", n * dim).reshape(n, dim)


def read_shape(file: BinaryIO) -> tuple[int, int]:
    """Rows and dimension of a file of rows that is open at its beginning; leaves it at the first row."""
    np.lib.format.read_magic(file)
    shape, _, _ = np.lib.format.read_array_header_1_0(file)
    return int(shape[0]), int(shape[1])


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
