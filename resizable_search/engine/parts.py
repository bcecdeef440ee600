"""The rows of an index for a scan at one dimension: a view of each part, and tables of them for the kernels.

A table names each part's arrays by their addresses, so that one call of a kernel scans the rows of all parts.
Rows are counted through the parts, as in the index.
"""

import mmap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine import vectors
from resizable_search.engine.short_codes import CODE_ROWS, HEAD
from resizable_search.engine.vectors import MOST_COPIED, Floats, Rows, Tier
from resizable_search.errors import UsageError

SHORT = 1e-30  # the length from which products of a cut row are safely above float32's smallest numbers

# Columns of a table: the first row, the number of rows, and addresses; 0 for a missing array.
# WIDTH: numbers of a stored row. CODES_WIDTH: those of its codes, or the lines of a block.
FIRST, ROWS, ALLOWED, WIDTH, STORED, CODES_WIDTH, CODES, STEPS, ERRORS = range(9)


@dataclass(eq=False)
class View:
    """The rows of one part for a scan at `dim`.

    `stored` is the file's (n, width) float32 array, width >= dim, its rows of norm 1 or 0. If dim is below
    width, the rows are `truncate(stored, dim)`, which is never kept. `allowed` (n,) bool: the rows that a
    search may return (None: all). `stored_tier` is the int8 tier of `stored`, `one_bit` and `four_bit` the
    codes of the full rows (`short_codes`; with the mean); each may be missing.
    """

    stored: Floats
    dim: int
    allowed: NDArray[np.bool_] | None = None
    stored_tier: Tier | None = None
    one_bit: NDArray[np.uint8] | None = None
    four_bit: tuple[NDArray[np.uint8], Floats, Floats] | None = None

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self.prepare_seconds = 0.0  # to derive this dimension, in the first search that needs it

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def is_cut(self) -> bool:
        """Whether this dimension is not stored, so that rows are cut from longer ones."""
        return self.dim < int(self.stored.shape[1])

    @cached_property
    def scale_and_short(self) -> tuple[Floats | None, Rows]:
        """What a float32 scan needs; one pass over the rows if the dimension is not stored.

        The scale (n,) float32 is the inverse length of each cut row, near enough for candidates; None if the
        dimension is stored. The other rows (c,) are too short at this dimension for float32.
        """
        if not self.is_cut:
            return None, np.empty(0, np.int64)
        with self._counted():
            cut = self.stored[:, : self.dim]
            lengths = np.sqrt(np.einsum("ij,ij->i", cut, cut))
            small = np.flatnonzero(lengths < 1e-15)  # a sum of squares this small has lost its precision
            exact = vectors.norms(cut[small])
            lengths[small] = np.where(exact < SHORT, np.inf, exact)
            return 1 / lengths, small[(exact > 0) & (exact < SHORT)]

    @property
    def tier(self) -> Tier:
        """The int8 codes at this dimension, made once: tables hold addresses. Raises UsageError if none."""
        with self._lock:
            return self._tier

    @cached_property
    def _tier(self) -> Tier:
        if self.stored_tier is None:
            raise UsageError("this index has no int8 tier: derive it with `warm`, or use exact stages")
        if not self.is_cut:
            return self.stored_tier
        with self._counted():
            return self.stored_tier.cut(self.stored, self.dim)

    @property
    def codes(self) -> NDArray[np.uint8]:
        """The one-bit codes, of which this dimension's come first. Raises UsageError if missing."""
        if self.one_bit is None:
            raise UsageError("this index has no 1bit codes: derive them with `warm`, or use exact stages")
        return self.one_bit

    @property
    def near_codes(self) -> NDArray[np.uint8]:
        """The same, copied once if small: memory reads codes that lie side by side faster."""
        with self._lock:
            return self._near_codes

    @cached_property
    def _near_codes(self) -> NDArray[np.uint8]:
        lines = HEAD + -(-self.dim // 8)
        if lines == self.codes.shape[1] or len(self.codes) * lines * CODE_ROWS > MOST_COPIED:
            return self.codes
        with self._counted():
            return np.ascontiguousarray(self.codes[:, :lines])

    @contextmanager
    def _counted(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.prepare_seconds += time.perf_counter() - begin

    def rows(self, numbers: Rows) -> Floats:
        """The rows of these numbers (c,), as they are defined at this dimension: (c, dim) float32."""
        chosen = self.stored[numbers]
        return vectors.truncate(chosen, self.dim) if self.is_cut else chosen

    def defined_scores(self, query: Floats, numbers: Rows) -> Floats:
        """The defined scores of one query (dim,) and these rows (c,), in bounded memory: (c,) float32."""
        out = np.empty(len(numbers), np.float32)
        for start, stop in vectors.spans(len(numbers), self.stored.shape[1]):
            out[start:stop] = vectors.dot(self.rows(numbers[start:stop]), query)
        return out


class Parts:
    """Views, one a part in order. Rows are counted through them."""

    def __init__(self, views: Sequence[View]) -> None:
        self.views = list(views)
        self.dim = self.views[0].dim
        self.masks = [view.allowed for view in self.views]  # the rows that a search may return (None: all)
        *self.starts, self._rows = accumulate(map(len, self.views), initial=0)
        self._source: Parts | None = None
        self._tables: dict[str, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return self._rows

    def narrowed(self, allowed: Sequence[NDArray[np.bool_]]) -> "Parts":
        """The same rows, of which a search may return only these: a mask a part, of rows allowed here."""
        parts = Parts(self.views)
        parts.masks, parts._source = list(allowed), self
        return parts

    @property
    def prepare_seconds(self) -> float:
        """What deriving this dimension has taken."""
        return sum(view.prepare_seconds for view in self.views)

    @property
    def is_narrowed(self) -> bool:
        """Whether a search may return only some of the rows that are not deleted."""
        return self._source is not None

    @property
    def has_tier(self) -> bool:
        """Whether the int8 codes at this dimension are stored, so that they cost no pass."""
        return self.can_have_tier and not self.views[0].is_cut

    @property
    def can_have_tier(self) -> bool:
        """Whether int8 codes at this dimension are stored or can be derived."""
        return all(view.stored_tier is not None for view in self.views)

    @property
    def mean(self) -> Floats:
        """The mean that the codes of four bits are made with."""
        assert self.views[0].four_bit is not None
        return self.views[0].four_bit[2]

    @property
    def has_four_bit(self) -> bool:
        """Whether there are codes of four bits at this dimension, which is the full one then."""
        return all(view.four_bit is not None for view in self.views)

    def has_table(self, by: str) -> bool:
        """Whether the table of that tier is made, so that it costs nothing."""
        return by in self._tables

    def table(self, by: str) -> NDArray[np.int64]:
        """(parts, 9) int64: the arrays of the parts, with the tier `by` if it is one. Raises UsageError."""
        if by not in self._tables:
            table = self._addresses(by) if self._source is None else self._source.table(by).copy()
            table[:, ALLOWED] = [0 if mask is None else _address(mask, np.bool_) for mask in self.masks]
            self._tables[by] = table
        return self._tables[by]

    def _addresses(self, by: str) -> NDArray[np.int64]:
        table = np.zeros((len(self.views), 9), np.int64)
        for line, view, start in zip(table, self.views, self.starts, strict=True):
            line[FIRST], line[ROWS], line[WIDTH] = start, *view.stored.shape
            line[STORED] = _address(view.stored, np.float32)
            if by == "int8":
                tier = view.tier
                line[CODES_WIDTH], line[CODES] = tier.codes.shape[1], _address(tier.codes, np.int8)
                line[STEPS] = _address(tier.steps, np.float32)
                line[ERRORS] = _address(tier.errors, np.float32)
            elif by == "4bit" and view.four_bit is not None:
                codes, bounds, _ = view.four_bit
                line[CODES_WIDTH], line[CODES] = codes.shape[1], _address(codes, np.uint8)
                line[STEPS] = _address(bounds, np.float32)
            elif by == "1bit":
                codes = view.near_codes
                line[CODES_WIDTH], line[CODES] = codes.shape[1], _address(codes, np.uint8)
        return table

    def each(self, rows: Rows, score: Callable[[int, Rows], Floats]) -> Floats:
        """The scores of ascending rows (c,), by `score(part, rows of the part)`: (c,) float32."""
        bounds = np.searchsorted(rows, [*self.starts, len(self)])
        scores = [
            score(part, rows[begin:end] - self.starts[part])
            for part, (begin, end) in enumerate(pairwise(bounds.tolist()))
            if begin < end
        ]
        return np.concatenate(scores) if scores else np.empty(0, np.float32)

    def defined_scores(self, query: Floats, rows: Rows) -> Floats:
        """The defined scores of one query (dim,) and ascending rows (c,): (c,) float32."""
        return self.each(rows, lambda part, own: self.views[part].defined_scores(query, own))

    def prefetch(self, rows: Rows, *, codes: bool = False) -> None:
        """Have the disk read the rows (c,), or their int8 codes, all at once, without waiting for them."""
        for view, start in zip(self.views, self.starts, strict=True):
            own = rows[(rows >= start) & (rows < start + len(view))] - start
            if len(own):
                prefetch_rows(view.tier.codes if codes else view.stored, own.tolist())


def prefetch_rows(stored: NDArray[Any], rows: Iterable[int]) -> None:
    """Have the disk read these rows of a mapped array, without waiting; no effect on an array in memory.

    A page fault waits for one read after another; a disk is fastest when it is asked for many. Prefetching
    the chunks of a scan was measured and gains nothing: the system's own read-ahead does it.
    """
    base: Any = stored
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, mmap.mmap) or not hasattr(mmap, "MADV_WILLNEED"):
        return
    first = stored.ctypes.data - np.frombuffer(base, np.uint8).ctypes.data
    stride = stored.strides[0]
    for row in rows:
        begin = (first + row * stride) // mmap.PAGESIZE * mmap.PAGESIZE
        end = min(first + (row + 1) * stride, len(base))
        base.madvise(mmap.MADV_WILLNEED, begin, end - begin)


def _address(array: NDArray[Any], dtype: Any) -> int:
    """The address of an array's numbers. A kernel takes them for C order of that dtype."""
    if array.dtype != dtype or not array.flags.c_contiguous:
        raise ValueError(f"a kernel takes {np.dtype(dtype)} in C order, not {array.dtype} {array.strides}")
    return int(array.__array_interface__["data"][0])
