"""The scan of int8 codes, and its candidates made into answers."""

from typing import Any

import numpy as np
from numba import njit

from resizable_search.engine.kernels.heaps import (
    allowed_of,
    codes_of,
    compact,
    errors_of,
    offer,
    part_of,
    raise_lows,
    steps_of,
    stored_of,
    unload,
)
from resizable_search.engine.kernels.products import products
from resizable_search.engine.kernels.rows import defined_score
from resizable_search.engine.parts import FIRST, ROWS

GROUP = 16
"""Rows whose keys are compared with the bound at once."""


@njit(nogil=True, cache=True)
def scan_int8(
    parts: Any,
    dim: int,
    asked: Any,
    units: Any,
    factors: Any,
    bases: Any,
    is_exact: bool,
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
    """Look through rows start … stop - 1 for every query, and keep in the pools what may matter.

    parts is a table of them with their codes (`engine.parts`); asked (m, padded) int16, units, factors and
    bases (m,) float64: the powers of two and slacks of the queries. Pools: lows (m, k) float64, heaps of
    the k best lower bounds, with sizes (m,) int64; rows (m, capacity) int64 and keys (m, capacity)
    float64, the candidates with their upper bounds, and counts (m,) int64.
    Not `is_exact`: bounds are the int8 score itself, rounded to float32.
    Returns False, and gives up, where more than `limit` candidates of a query survive.
    """
    for part in range(parts.shape[0]):
        first = parts[part, FIRST]
        begin, end = max(start, first), min(stop, first + parts[part, ROWS])
        if begin < end and not _scan_part(
            codes_of(parts, part), steps_of(parts, part), errors_of(parts, part), allowed_of(parts, part),
            first, dim, asked, units, factors, bases, is_exact, begin - first, end - first, k, limit, lows,
            sizes, rows, keys, counts,
        ):  # fmt: skip
            return False
    return True


@njit(nogil=True)
def _scan_part(
    codes: Any,
    scales: Any,
    errors: Any,
    allowed: Any,
    first_row: int,
    dim: int,
    asked: Any,
    units: Any,
    factors: Any,
    bases: Any,
    is_exact: bool,
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
    """As `scan_int8`, of one part whose first row is `first_row`: codes (n, width), and so on."""
    m = asked.shape[0]
    capacity = rows.shape[1]
    width = codes.shape[1]
    block = 256 if m == 1 else max(16, min(1024, (1 << 18) // max(1, width)) // 4 * 4)
    sums = np.empty((4, block), np.int32)
    tops = np.empty(block + GROUP, np.float64)
    for begin in range(start, stop, block):
        end = min(begin + block, stop)
        size = end - begin
        whole = (size + GROUP - 1) // GROUP * GROUP
        steps, off = scales[begin:end], errors[begin:end]
        for first in range(0, m, 4):
            count = min(4, m - first)
            products(codes, begin, end, asked, first, count, dim, sums)
            for j in range(count):
                query = first + j
                unit, factor, base = units[query], factors[query], bases[query]
                own, candidates, tall, low_heap = sums[j], rows[query], keys[query], lows[query]
                if is_exact:
                    for i in range(size):
                        score = np.float64(own[i]) * np.float64(steps[i]) * unit
                        tops[i] = score + (factor * np.float64(off[i]) + base)
                else:
                    for i in range(size):
                        score = np.float64(own[i]) * np.float64(steps[i]) * unit
                        tops[i] = np.float64(np.float32(score))
                for i in range(size, whole):
                    tops[i] = -np.inf
                held = sizes[query]
                bound = low_heap[0] if held == k else -np.inf
                for group in range(0, whole, GROUP):
                    reaches = 0
                    for i in range(group, group + GROUP):
                        reaches |= np.int64(tops[i] >= bound)
                    if reaches == 0:
                        continue
                    for i in range(group, min(group + GROUP, size)):
                        top = tops[i]
                        row = begin + i
                        # An equal score of a later row is worse; an equal bound is not.
                        if top < bound or (not is_exact and held == k and top == bound):
                            continue
                        if allowed.size > 0 and allowed[row] == 0:
                            continue
                        low = top
                        if is_exact:
                            low -= 2 * (factor * np.float64(off[i]) + base)
                        if counts[query] == capacity:
                            counts[query] = compact(candidates, tall, capacity, bound)
                            if counts[query] > limit:
                                return False
                        at = counts[query]
                        candidates[at], tall[at] = first_row + row, top
                        counts[query] = at + 1
                        held = raise_lows(low_heap, held, k, low)
                        if held == k:
                            bound = low_heap[0]
                sizes[query] = held
    return True


@njit(nogil=True, cache=True)
def best_of_pools(
    rows: Any, keys: Any, counts: Any, lows: Any, held: Any, out_keys: Any, out_rows: Any, sizes: Any
) -> None:
    """The best of the candidates of all threads, by key and row.

    Pools as of `scan_int8` with a first axis of threads: lows (threads, m, k), held (threads, m), and so
    on; out_keys (m, k) float64, out_rows (m, k) int64, of which sizes (m,) int64 are filled, best first.
    """
    k = out_keys.shape[1]
    for query in range(rows.shape[1]):
        size = 0
        best_keys, best_rows = out_keys[query], out_rows[query]
        bound = -np.inf
        for thread in range(rows.shape[0]):
            if held[thread, query] == k:
                bound = max(bound, lows[thread, query, 0])
        for thread in range(rows.shape[0]):
            some_keys, some_rows = keys[thread, query], rows[thread, query]
            for i in range(counts[thread, query]):
                if some_keys[i] >= bound:
                    size = offer(best_keys, best_rows, size, k, some_keys[i], some_rows[i])
        unload(best_keys, best_rows, size)
        sizes[query] = size


@njit(nogil=True, cache=True)
def rescore(
    parts: Any,
    dim: int,
    queries: Any,
    rows: Any,
    keys: Any,
    counts: Any,
    lows: Any,
    held: Any,
    out_keys: Any,
    out_rows: Any,
    sizes: Any,
) -> int:
    """Score by the definition every candidate that may belong to the answer; returns how many there were.

    Pools as of `scan_int8` with a first axis of threads: lows (threads, m, k), held (threads, m); parts is
    a table (`engine.parts`), queries (m, dim) float32; the answer as of `best_of_pools`.
    """
    k = out_keys.shape[1]
    looked = part = 0
    bounds = np.empty(k, np.float64)
    for query in range(rows.shape[1]):
        size = 0
        for thread in range(rows.shape[0]):
            for i in range(held[thread, query]):
                size = raise_lows(bounds, size, k, lows[thread, query, i])
        bound = bounds[0] if size == k else -np.inf
        size = 0
        asked, best_keys, best_rows = queries[query], out_keys[query], out_rows[query]
        for thread in range(rows.shape[0]):
            some_keys, some_rows = keys[thread, query], rows[thread, query]
            for i in range(counts[thread, query]):
                if some_keys[i] >= bound:
                    row = some_rows[i]
                    part = part_of(parts, row, part)
                    stored = stored_of(parts, part)
                    score = np.float64(defined_score(stored[row - parts[part, FIRST]], dim, asked))
                    size = offer(best_keys, best_rows, size, k, score, row)
                    looked += 1
        unload(best_keys, best_rows, size)
        sizes[query] = size
    return looked
