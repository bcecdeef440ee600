"""All reading and writing of .npy files: arrays written in slices, mapped or read in blocks.

Plain calls write them, and read those of users: through a mapping, a full disk or a cut would end a process.
"""

import io
import math
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import CorpusError, IndexFormatError
from resizable_search.system import unreadable
from resizable_search.text import BACK

READ_ROWS = 2048  # that are read at once
TOGETHER = 64  # rows that are never read apart
READ_BYTES = 16 << 20  # at most: very wide rows are read fewer at once


@lru_cache(1000)  # numpy takes longer for it than the system for opening a file
def npy_header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    """The first bytes of a .npy file of that shape and dtype in C order, as numpy writes them."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    return header.getvalue()


def npy_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """The size of such a file."""
    return len(npy_header(shape, dtype)) + math.prod(shape) * np.dtype(dtype).itemsize


class NpyWriter:
    """A .npy file of a known shape whose slices are written in any order, from any thread, and synced."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str = "<f4") -> None:
        self._dtype = np.dtype(dtype)
        header = npy_header(shape, dtype)
        self._start = len(header)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it may be a hard link to a file of another index
        self._file = path.open("w+b")
        try:
            self._file.write(header)
            self._file.flush()
            self._file.truncate(npy_bytes(shape, dtype))
        except BaseException:
            self._close()
            raise

    def write(self, values: NDArray[Any], at: int) -> None:
        """Write these values from the array's number `at` on, counted in C order."""
        data = np.ascontiguousarray(values, self._dtype).data.cast("B")
        offset = self._start + at * self._dtype.itemsize
        while data:
            written = os.pwrite(self._file.fileno(), data, offset)
            data, offset = data[written:], offset + written

    def __enter__(self) -> "NpyWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                os.fsync(self._file.fileno())
        finally:
            self._close()

    def _close(self) -> None:
        with suppress(OSError):  # the header is all that it can lack
            self._file.close()


def read_blocks(path: Path, rows: int = READ_ROWS) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The first row's number and (up to `rows`, d) float32 of each block of a finished file of ours."""
    count, dim = read_shape(path)
    rows = max(1, min(rows, READ_BYTES // (4 * dim)))
    rows += -rows % TOGETHER
    for start in range(0, count, rows):
        n = min(rows, count - start)
        yield start, read_slice(path, (count, dim), "<f4", start * dim, n * dim).reshape(n, dim)


def read_slice(path: Path, shape: tuple[int, ...], dtype: str, at: int, count: int) -> NDArray[Any]:
    """The `count` numbers of a file of ours from number `at` on, in C order."""
    offset = len(npy_header(shape, dtype)) + at * np.dtype(dtype).itemsize
    return np.fromfile(path, dtype, count, offset=offset)


def read_shape(path: Path) -> tuple[int, int]:
    """Rows and dimension of a finished file of ours."""
    rows, dim = np.load(path, mmap_mode="r").shape
    return rows, dim


def map_array(path: Path, shape: tuple[int, ...], dtype: str, remedy: str = BACK) -> NDArray[Any]:
    """Map a file of ours, whose header must be numpy's for shape and dtype. Raises IndexFormatError."""
    check_size(path, npy_bytes(shape, dtype), remedy)
    header = npy_header(shape, dtype)
    try:
        with path.open("rb") as file:
            if file.read(len(header)) == header:
                return np.memmap(file, dtype, "r", len(header), shape).view(np.ndarray)
    except OSError as error:
        raise unreadable(path, error, remedy) from None
    raise IndexFormatError(f"{path} is no .npy file of {np.dtype(dtype)} {shape}: {remedy}")


def check_size(path: Path, expected: int, remedy: str = BACK) -> None:
    """Raise IndexFormatError with the remedy unless this is a regular file of so many bytes."""
    size = file_size(path, remedy)
    if size != expected:
        raise IndexFormatError(f"{path} has {size:,} bytes where {expected:,} belong: {remedy}")


def file_size(path: Path, remedy: str = BACK) -> int:
    """The bytes of a regular file, which is not opened (a pipe would wait). Raises IndexFormatError."""
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error, remedy) from None
    if not stat.S_ISREG(status.st_mode):
        raise IndexFormatError(f"{path} is not a file: {remedy}")
    return status.st_size


_AS_FLOAT32 = "save the rows as float32: numpy.save(FILE, rows.astype('float32'))"


class NpyReader:
    """The rows of a user's .npy file: (rows, width) floats of 16, 32 or 64 bits in any byte and memory order.

    `surplus` bytes after the array are not read. Raises CorpusError for any other file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_regular(path)
        try:
            self.rows, self.width = self._read_header()
        except BaseException:
            self.close()
            raise
        self.row_bytes = self.width * int(self.dtype.itemsize)

    def read(self, start: int, stop: int) -> NDArray[np.floating[Any]]:
        """(stop - start, width) finite floats of the file's dtype. Raises CorpusError."""
        count = stop - start
        if self._by_column:
            columns = [self._numbers(i * self.rows + start, count) for i in range(self.width)]
            rows = np.stack(columns, axis=1)
        else:
            rows = self._numbers(start * self.width, count * self.width).reshape(count, self.width)
        rows = rows.astype(self.dtype.newbyteorder("="), copy=False)
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            remedy = "leave such rows out of the file, or put zeros there"
            raise CorpusError(f"{self.path} has NaN or infinity in row {row:,}: {remedy}")
        return rows

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read_header(self) -> tuple[int, int]:
        """Rows and width. Raises CorpusError for anything else than an array of vectors."""
        size, wrong = os.fstat(self._file.fileno()).st_size, ""
        try:
            version = np.lib.format.read_magic(self._file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            with warnings.catch_warnings(action="ignore"):  # of a header as Python 2 wrote it, which is read
                shape, self._by_column, self.dtype = read[version](self._file)
        except (ValueError, KeyError):
            what = "no .npy file of floats" if size else "empty"
            raise CorpusError(f"{self.path} is {what}: write it with numpy.save(FILE, rows)") from None
        self._start = self._file.tell()
        expected = self._start + math.prod(shape) * self.dtype.itemsize
        if self.dtype.hasobject:
            wrong = f"holds pickled objects, which are not read: {_AS_FLOAT32}"
        elif self.dtype.kind != "f" or self.dtype.itemsize not in (2, 4, 8):
            wrong = f"holds {self.dtype}, not floats of 16, 32 or 64 bits: {_AS_FLOAT32}"
        elif len(shape) != 2:
            wrong = f"holds an array of {len(shape)} dimensions {shape}, not of 2: save one vector a row"
        elif not min(shape):
            wrong = f"holds no vector (its shape is {shape}): save at least one row"
        elif size < expected:
            wrong = f"is truncated: it has {size:,} bytes where {expected:,} belong; write it again"
        if wrong:
            raise CorpusError(f"{self.path} {wrong}")
        self.surplus = size - expected
        return shape[0], shape[1]

    def _numbers(self, at: int, count: int) -> NDArray[Any]:
        """The `count` numbers of the file from number `at` on."""
        self._file.seek(self._start + at * self.dtype.itemsize)
        data = self._file.read(count * self.dtype.itemsize)
        if len(data) < count * self.dtype.itemsize:
            raise CorpusError(f"{self.path} was cut while it was read: run the same command again")
        return np.frombuffer(data, self.dtype)


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file, which can be read twice. Raises CorpusError."""
    try:
        if path.exists() and not path.is_file():
            raise CorpusError(f"{path} is not a file: name one")
        return path.open("rb")
    except OSError as error:
        raise CorpusError(f"cannot read {path} ({error.strerror}): name an existing file") from None
