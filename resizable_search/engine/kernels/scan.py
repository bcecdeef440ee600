"""The scan of int8 codes, and its candidates."""

import numpy as np
from numba import njit

from resizable_search.engine.kernels.basics import (
    DONE,
    TAKEN,
    add_rows,
    allowed_of,
    bounds_of,
    codes_of,
    compact,
    offer_lower,
    products,
    rows_of,
)
from resizable_search.engine.kernels.rows import GROUP, quantise_queries
from resizable_search.engine.parts import FIRST, ROWS


def scan_rows_by(products, codes_of, bounds_of):
    """A function that scans rows by products of their codes; a part's steps and errors are its bounds."""

    @njit(nogil=True)
    def scan_part(
        codes, all_steps, all_errors, allowed, first_row, dim, query_codes, units, factors, bases, is_exact,
        start, stop, k, limit, lower, lower_sizes, rows, keys, counts,
    ):  # fmt: skip
        """Rows start … stop - 1 of one part whose first row is `first_row`: codes (n, width), and so on."""
        m = query_codes.shape[0]
        capacity = rows.shape[1]
        width = codes.shape[1]
        block = 256 if m == 1 else max(16, min(1024, (1 << 18) // max(1, width)) // 4 * 4)
        sums = np.empty((4, block), np.int32)
        upper = np.empty(block + GROUP, np.float64)
        for begin in range(start, stop, block):
            end = min(begin + block, stop)
            size = end - begin
            whole = (size + GROUP - 1) // GROUP * GROUP
            steps, errors = all_steps[begin:end], all_errors[begin:end]
            for first in range(0, m, 4):
                count = min(4, m - first)
                products(codes, begin, end, query_codes, first, count, dim, sums)
                for j in range(count):
                    query = first + j
                    unit, factor, base = units[query], factors[query], bases[query]
                    own, own_rows, own_keys, own_lower = sums[j], rows[query], keys[query], lower[query]
                    if is_exact:
                        for i in range(size):
                            score = np.float64(own[i]) * np.float64(steps[i]) * unit
                            upper[i] = score + (factor * np.float64(errors[i]) + base)
                    else:
                        for i in range(size):
                            score = np.float64(own[i]) * np.float64(steps[i]) * unit
                            upper[i] = np.float64(np.float32(score))
                    for i in range(size, whole):
                        upper[i] = -np.inf
                    lower_size = lower_sizes[query]
                    bound = own_lower[0] if lower_size == k else -np.inf
                    for group in range(0, whole, GROUP):
                        reaches = 0
                        for i in range(group, group + GROUP):
                            reaches |= np.int64(upper[i] >= bound)
                        if reaches == 0:
                            continue
                        for i in range(group, min(group + GROUP, size)):
                            key = upper[i]
                            row = begin + i
                            # An equal score in a later row is worse; an equal bound is not.
                            if key < bound or (not is_exact and lower_size == k and key == bound):
                                continue
                            if allowed.size > 0 and allowed[row] == 0:
                                continue
                            low = key
                            if is_exact:
                                low -= 2 * (factor * np.float64(errors[i]) + base)
                            if counts[query] == capacity:
                                counts[query] = compact(own_rows, own_keys, capacity, bound)
                                if counts[query] > limit:
                                    return False
                            at = counts[query]
                            own_rows[at], own_keys[at] = first_row + row, key
                            counts[query] = at + 1
                            lower_size = offer_lower(own_lower, lower_size, k, low)
                            if lower_size == k:
                                bound = own_lower[0]
                    lower_sizes[query] = lower_size
        return True

    @njit(nogil=True)
    def scan_rows(
        table, dim, integers, is_exact, progress, chunk, k, limit, lower, lower_sizes, rows, keys, counts
    ):
        """As `scan_int8`, for queries as integers with their units, factors and bases."""
        query_codes, units, factors, bases = integers
        total = rows_of(table)
        start = add_rows(progress, TAKEN, chunk)
        while start < total:
            stop = min(start + chunk, total)
            for part in range(table.shape[0]):
                first = table[part, FIRST]
                begin, end = max(start, first), min(stop, first + table[part, ROWS])
                if begin >= end:
                    continue
                steps, errors = bounds_of(table, part)
                if not scan_part(
                    codes_of(table, part), steps, errors, allowed_of(table, part), first, dim, query_codes,
                    units, factors, bases, is_exact, begin - first, end - first, k, limit, lower,
                    lower_sizes, rows, keys, counts,
                ):  # fmt: skip
                    add_rows(progress, TAKEN, total)  # so that the other threads end
                    return False
            add_rows(progress, DONE, stop - start)
            start = add_rows(progress, TAKEN, chunk)
        return True

    return scan_rows


_scan_rows = scan_rows_by(products, codes_of, bounds_of)


@njit(nogil=True, cache=True)
def scan_int8(
    table, dim, is_exact, queries, progress, chunk, k, limit, lower, lower_sizes, rows, keys, counts
):
    """Scan chunks of rows for every query, and collect the candidates.

    `table` has codes; queries (m, dim) float32; `progress`: see `basics`. Buffers: lower (m, k) float64,
    heaps of the k best lower bounds, with lower_sizes (m,) int64; rows (m, capacity) int64 and keys
    (m, capacity) float64, the candidates with their upper bounds, and counts (m,) int64. If not `is_exact`,
    both bounds are the int8 score, rounded to float32. Returns False, and stops, if a query has more than
    `limit` candidates.
    """
    integers = quantise_queries(queries)
    return _scan_rows(
        table, dim, integers, is_exact, progress, chunk, k, limit, lower, lower_sizes, rows, keys, counts
    )


@njit(nogil=True, cache=True)
def survivors(lower, lower_sizes, rows, keys, counts):
    """The candidates of all threads that may be among the best: (m, most) int64, unordered, -1 for none.

    Buffers as for `scan_int8` with a first axis of threads: rows (threads, m, capacity), and so on.
    """
    threads, m = counts.shape
    k = lower.shape[2]
    bounds, heap = np.empty(m), np.empty(k)
    most = 0
    for query in range(m):
        size = count = 0
        for thread in range(threads):
            for i in range(lower_sizes[thread, query]):
                size = offer_lower(heap, size, k, lower[thread, query, i])
        bounds[query] = heap[0] if size == k else -np.inf
        for thread in range(threads):
            for i in range(counts[thread, query]):
                count += keys[thread, query, i] >= bounds[query]
        most = max(most, count)
    out = np.full((m, most), -1)
    for query in range(m):
        at = 0
        for thread in range(threads):
            for i in range(counts[thread, query]):
                if keys[thread, query, i] >= bounds[query]:
                    out[query, at] = rows[thread, query, i]
                    at += 1
    return out
