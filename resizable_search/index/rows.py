"""Files of arrays: rows of float32 that grow, arrays written in slices, and rows read back in blocks."""

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
