"""Queries made ready, and the scores of given rows."""

import math

import numpy as np
from numba import njit

from resizable_search.engine.kernels.basics import (
    codes_of,
    errors_of,
    finish,
    offer,
    offer_lower,
    prefetch_row,
    product,
    span_of,
    steps_of,
    stored_of,
)
from resizable_search.engine.parts import FIRST, ROWS
from resizable_search.engine.vectors import PADDED, UNIT_TOLERANCE

FLOAT32_UNIT = 2.0**-24  # half the distance from 1 to the next float32: the relative error of a rounding
# Rows whose codes, and whose floats, are prefetched at once before they are scored: half the time of a cold
# rescore, as many lines arrive together; one row at a time, some rows ahead, the scores wait for each.
CODES_AHEAD, ROWS_AHEAD = 128, 16
GROUP = 16  # rows whose keys a scan compares with the bound at once


@njit(nogil=True, cache=True)
def truncate(full, dim, out):
    """`vectors.truncate` of rows (m, width) float32 into out (m, dim). Returns whether all is finite."""
    lanes, odd = np.empty(32, np.float64), 0
    for query in range(full.shape[0]):
        row = full[query]
        for i in range(row.shape[0]):
            odd += not abs(row[i]) < np.inf
        length = length_of(row, dim, lanes)
        for i in range(dim):
            out[query, i] = np.float32(np.float64(row[i]) / length)
    return odd == 0


@njit(nogil=True)
def quantise_queries(queries):
    """`vectors.quantise_queries` of (m, d) float32, and the bounds of scores in int8.

    Returns codes (m, padded) int16, and units, factors and bases (m,) float64. A score differs from the
    defined one by the row's error x factor + base at most (`engine.base`).
    """
    m, d = queries.shape
    codes = np.zeros((m, d + -d % PADDED), np.int16)
    units, factors, bases = np.empty(m), np.empty(m), np.empty(m)
    lanes = np.empty(32, np.float64)
    room = (2.0**31 - 1) / (127 * math.sqrt(d)) - math.sqrt(d)
    for query in range(m):
        row = queries[query]
        largest = np.float64(0.0)
        for i in range(d):
            largest = max(largest, abs(np.float64(row[i])))
        length = length_of(row, d, lanes)
        if largest == 0.0:
            length, largest = 0.0, 1.0
        _, exponent = math.frexp(min(32767 / largest, room / max(length, largest)) / 1.001)
        power = math.ldexp(1.0, exponent - 1)
        error = 0.0
        for i in range(d):
            scaled = np.float64(row[i]) * power
            code = np.rint(scaled)
            codes[query, i] = np.int16(code)
            error += (code - scaled) * (code - scaled)
        units[query] = 1 / power
        factors[query], bases[query] = bounds_of_error(length, math.sqrt(error) / power)
    return codes, units, factors, bases


@njit(nogil=True)
def bounds_of_error(length, error):
    """The factor and the base of the bounds for a query's length, and its distance from its integers."""
    length *= 1 + 1e-12
    error = error * (1 + 1e-9) + 1e-300
    factor = (length + error) * (1 + 1e-9)
    return factor, (error + length * FLOAT32_UNIT * 1.01) * (1 + UNIT_TOLERANCE) + 1e-12


@njit(nogil=True)
def fold(lanes):
    """The 32 lanes of `vectors.lane_sum`, added by halves."""
    width = 16
    while width > 0:
        for i in range(width):
            lanes[i] += lanes[i + width]
        width //= 2
    return lanes[0]


@njit(nogil=True)
def length_of(row, dim, lanes):
    """The length of the first `dim` numbers as in `vectors.norms`; 1 for 0. `lanes` is scratch."""
    lanes[:] = 0.0
    whole = dim - dim % 32
    for start in range(0, whole, 32):
        for i in range(32):
            lanes[i] += np.float64(row[start + i]) * np.float64(row[start + i])
    for i in range(dim - whole):
        lanes[i] += np.float64(row[whole + i]) * np.float64(row[whole + i])
    length = math.sqrt(fold(lanes))
    return length if length > 0.0 else 1.0


@njit(nogil=True)
def defined_score(row, dim, query):
    """The defined score of a stored row (width,) float32, cut to `dim`, and a query (dim,) float32."""
    lanes = np.zeros(32, np.float64)
    whole = dim - dim % 32
    if dim == row.shape[0]:
        for start in range(0, whole, 32):
            for i in range(32):
                lanes[i] += np.float64(row[start + i]) * np.float64(query[start + i])
        for i in range(dim - whole):
            lanes[i] += np.float64(row[whole + i]) * np.float64(query[whole + i])
        return np.float32(fold(lanes))
    length = length_of(row, dim, lanes)
    lanes[:] = 0.0
    for start in range(0, whole, 32):
        for i in range(32):
            short = np.float32(np.float64(row[start + i]) / length)
            lanes[i] += np.float64(short) * np.float64(query[start + i])
    for i in range(dim - whole):
        short = np.float32(np.float64(row[whole + i]) / length)
        lanes[i] += np.float64(short) * np.float64(query[whole + i])
    return np.float32(fold(lanes))


@njit(nogil=True, cache=True)
def rescore_exact(table, dim, queries, rows, best_scores, best_rows):
    """The best of each query's rows (m, c) int64, ascending, by the defined score.

    Rows of no part, such as -1, are skipped. Results: best_scores (m, k) float32 and best_rows (m, k) int64,
    best first, padded with -inf and -1. Returns how many rows were scored, and how many so.
    """
    scored = 0
    for query in range(rows.shape[0]):
        own = rows[query]
        scored += _best_defined(
            table, dim, queries[query], own, own.shape[0], best_scores[query], best_rows[query]
        )
    return scored, scored


@njit(nogil=True)
def _best_defined(table, dim, query, rows, count, out_scores, out_rows):
    """The best of `count` ascending rows by their defined scores. Returns how many it scored."""
    k = out_scores.shape[0]
    size = at = scored = 0
    for part in range(table.shape[0]):
        stored, first = stored_of(table, part), table[part, FIRST]
        at, stop = span_of(rows, count, at, first, first + table[part, ROWS])
        for i in range(at, stop):
            if (i - at) % ROWS_AHEAD == 0:
                for ahead in range(i, min(i + ROWS_AHEAD, stop)):
                    prefetch_row(stored, rows[ahead] - first, 4 * stored.shape[1], 4 * dim)
            row = rows[i] - first
            score = defined_score(stored[row], dim, query)
            size = offer(out_scores, out_rows, size, k, score, row + first)
        scored += stop - at
        at = stop
    finish(out_scores, out_rows, size)
    return scored


@njit(nogil=True, inline="always")
def _prefetch_codes(codes, steps, errors, row, dim):
    """Prefetch what the int8 score of a row reads."""
    prefetch_row(codes, row, codes.shape[1], dim)
    prefetch_row(steps, row, 4, 1)
    prefetch_row(errors, row, 4, 1)


@njit(nogil=True, cache=True)
def rescore_int8(table, dim, is_exact, queries, rows, best_scores, best_rows):
    """As `rescore_exact`, after int8 codes ruled out rows; by the int8 score alone if not `is_exact`."""
    query_codes, units, factors, bases = quantise_queries(queries)
    k, width = best_scores.shape[1], rows.shape[1]
    left = np.empty(width, np.int64)
    upper = np.empty(width, np.float64)
    lower = np.empty(k, np.float64)
    sums = np.empty((1, 1), np.int32)
    scored = rescored = 0
    for query in range(rows.shape[0]):
        lower_size = count = size = at = 0
        unit, factor, base = units[query], factors[query], bases[query]
        out_scores, out_rows, own = best_scores[query], best_rows[query], rows[query]
        for part in range(table.shape[0]):
            codes, first = codes_of(table, part), table[part, FIRST]
            steps, errors = steps_of(table, part), errors_of(table, part)
            at, stop = span_of(own, width, at, first, first + table[part, ROWS])
            for i in range(at, stop):
                if (i - at) % CODES_AHEAD == 0:
                    for ahead in range(i, min(i + CODES_AHEAD, stop)):
                        _prefetch_codes(codes, steps, errors, own[ahead] - first, dim)
                row = own[i] - first
                total = product(codes, row, query_codes, query, dim, sums)
                score = np.float64(total) * np.float64(steps[row]) * unit
                if not is_exact:
                    size = offer(out_scores, out_rows, size, k, np.float32(score), own[i])
                    continue
                error = factor * np.float64(errors[row]) + base
                left[count], upper[count] = own[i], score + error
                count += 1
                lower_size = offer_lower(lower, lower_size, k, score - error)
            scored += stop - at
            at = stop
        if is_exact:
            bound = lower[0] if lower_size == k else -np.inf
            rest = 0
            for i in range(count):
                if upper[i] >= bound:
                    left[rest] = left[i]
                    rest += 1
            rescored += _best_defined(table, dim, queries[query], left, rest, out_scores, out_rows)
        else:
            finish(out_scores, out_rows, size)
    return scored, rescored
