"""The scan of float32 rows by few queries, on threads of our own: BLAS would meet at the end of each part."""

from typing import Any

import numpy as np
from numba import njit

from resizable_search.engine.kernels.heaps import allowed_of, compact, raise_lows, stored_of
from resizable_search.engine.kernels.products import ask_for_row
from resizable_search.engine.parts import FIRST, ROWS

ROWS_AHEAD = 2
"""How many rows ahead memory is asked for."""


@njit(nogil=True, cache=True)
def scan_floats(
    parts: Any,
    dim: int,
    queries: Any,
    margin: float,
    start: int,
    stop: int,
    k: int,
    limit: int,
    lows: Any,
    sizes: Any,
    rows: Any,
    keys: Any,
    counts: Any,
) -> bool:
    """As `int8.scan_int8` of exact, by float32 products, each within `margin` of the defined score.

    parts is a table (`engine.parts`) of rows that are stored at this dimension, queries (m, dim) float32.
    """
    capacity = rows.shape[1]
    for part in range(parts.shape[0]):
        first = parts[part, FIRST]
        begin, end = max(start, first) - first, min(stop, first + parts[part, ROWS]) - first
        if begin >= end:
            continue
        stored, allowed = stored_of(parts, part), allowed_of(parts, part)
        for row in range(begin, end):
            if row + ROWS_AHEAD < end:
                ask_for_row(stored, row + ROWS_AHEAD, 4 * dim, 4 * dim)
            if allowed.size > 0 and allowed[row] == 0:
                continue
            for query in range(queries.shape[0]):
                score = np.float64(_product(stored[row], queries[query], dim))
                held, low_heap = sizes[query], lows[query]
                bound = low_heap[0] if held == k else -np.inf
                if score + margin < bound:
                    continue
                if counts[query] == capacity:
                    counts[query] = compact(rows[query], keys[query], capacity, bound)
                    if counts[query] > limit:
                        return False
                at = counts[query]
                rows[query, at], keys[query, at] = first + row, score + margin
                counts[query] = at + 1
                sizes[query] = raise_lows(low_heap, held, k, score - margin)
    return True


@njit(nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _product(row: Any, query: Any, dim: int) -> Any:
    """A float32 product, summed in whatever order is fastest."""
    total = np.float32(0.0)
    for i in range(dim):
        total += row[i] * query[i]
    return total
