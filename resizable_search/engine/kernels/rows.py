"""Queries made ready, and the scores of given rows."""

import math
from typing import Any

import numpy as np
from numba import njit

from resizable_search.engine.kernels.heaps import (
    codes_of,
    errors_of,
    offer,
    raise_lows,
    span_of,
    steps_of,
    stored_of,
    unload,
)
from resizable_search.engine.kernels.products import ask_for_row, product
from resizable_search.engine.parts import FIRST, ROWS


@njit(nogil=True, cache=True)
def truncate(full: Any, dim: int, out: Any) -> None:
    """`vectors.truncate` of a few rows (m, width) float32 into out (m, dim) float32."""
    lanes = np.empty(32, np.float64)
    for query in range(full.shape[0]):
        row = full[query]
        length = length_of(row, dim, lanes)
        for i in range(dim):
            out[query, i] = np.float32(np.float64(row[i]) / length)


@njit(nogil=True, cache=True)
def quantise_queries(queries: Any, codes: Any, units: Any, lengths: Any, errors: Any) -> None:
    """`quantise.quantise_queries` of (m, d) float32: codes (m, padded) int16, the others (m,) float64."""
    d = queries.shape[1]
    lanes = np.empty(32, np.float64)
    room = (2.0**31 - 1) / (127 * math.sqrt(d)) - math.sqrt(d)
    for query in range(queries.shape[0]):
        row = queries[query]
        largest = np.float64(0.0)
        for i in range(d):
            largest = max(largest, abs(np.float64(row[i])))
        length = length_of(row, d, lanes)
        if largest == 0.0:
            length, largest = 0.0, 1.0
        _, exponent = math.frexp(min(32767 / largest, room / max(length, largest)) / 1.001)
        power = math.ldexp(1.0, exponent - 1)
        off = 0.0
        for i in range(d):
            scaled = np.float64(row[i]) * power
            code = np.rint(scaled)
            codes[query, i] = np.int16(code)
            off += (code - scaled) * (code - scaled)
        codes[query, d:] = 0
        units[query] = 1 / power
        lengths[query] = length * (1 + 1e-12)
        errors[query] = math.sqrt(off) / power * (1 + 1e-9) + 1e-300


@njit(nogil=True)
def fold(lanes: Any) -> float:
    """The 32 lanes of `vectors.lane_sum`, added by halves."""
    width = 16
    while width > 0:
        for i in range(width):
            lanes[i] += lanes[i + width]
        width //= 2
    return lanes[0]


@njit(nogil=True)
def length_of(row: Any, dim: int, lanes: Any) -> float:
    """The length of the first `dim` numbers as `vectors.norms` takes it; 1 for 0. `lanes` is scratch."""
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
def defined_score(row: Any, dim: int, query: Any) -> np.float32:
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
def rescore_exact(
    parts: Any, dim: int, queries: Any, rows: Any, out_keys: Any, out_rows: Any, sizes: Any
) -> None:
    """The best of each query's rows (m, c) int64, ascending, by the defined score.

    parts is a table (`engine.parts`); rows of no part, such as -1, are passed over. The answer as of
    `best_of_pools`.
    """
    k = out_keys.shape[1]
    for query in range(rows.shape[0]):
        size = _offer_defined(
            parts, dim, queries[query], rows[query], rows.shape[1], out_keys[query], out_rows[query], k
        )
        unload(out_keys[query], out_rows[query], size)
        sizes[query] = size


@njit(nogil=True)
def _offer_defined(
    parts: Any, dim: int, asked: Any, rows: Any, count: int, best_keys: Any, best_rows: Any, k: int
) -> int:
    """Offer `count` ascending rows by their defined scores; returns how many are held."""
    size = at = 0
    for part in range(parts.shape[0]):
        stored, first = stored_of(parts, part), parts[part, FIRST]
        at, stop = span_of(rows, count, at, first, first + parts[part, ROWS])
        for i in range(at, stop):
            row = rows[i] - first
            if i + 1 < stop:
                ask_for_row(stored, rows[i + 1] - first, 4 * stored.shape[1], 4 * dim)
            score = np.float64(defined_score(stored[row], dim, asked))
            size = offer(best_keys, best_rows, size, k, score, row + first)
        at = stop
    return size


@njit(nogil=True, cache=True)
def rescore_narrowed(
    parts: Any,
    dim: int,
    queries: Any,
    asked: Any,
    units: Any,
    factors: Any,
    bases: Any,
    rows: Any,
    out_keys: Any,
    out_rows: Any,
    sizes: Any,
) -> int:
    """As `rescore_exact`, scoring only rows that their int8 codes do not rule out; returns how many.

    parts is a table with codes; asked (m, padded) int16, units, factors and bases (m,) float64 as for
    `scan_int8`.
    """
    k, given = out_keys.shape[1], rows.shape[1]
    left = np.empty(given, np.int64)
    tops = np.empty(given, np.float64)
    lows = np.empty(k, np.float64)
    sums = np.empty((1, 1), np.int32)
    looked = 0
    for query in range(rows.shape[0]):
        held = count = at = 0
        unit, factor, base = units[query], factors[query], bases[query]
        own = rows[query]
        for part in range(parts.shape[0]):
            codes, first = codes_of(parts, part), parts[part, FIRST]
            scales, errors = steps_of(parts, part), errors_of(parts, part)
            at, stop = span_of(own, given, at, first, first + parts[part, ROWS])
            for i in range(at, stop):
                if i + 4 < stop:
                    ask_for_row(codes, own[i + 4] - first, codes.shape[1], dim)
                row = own[i] - first
                total = product(codes, row, asked, query, dim, sums)
                score = np.float64(total) * np.float64(scales[row]) * unit
                slack = factor * np.float64(errors[row]) + base
                left[count], tops[count] = own[i], score + slack
                count += 1
                held = raise_lows(lows, held, k, score - slack)
            at = stop
        bound = lows[0] if held == k else -np.inf
        kept = 0
        for i in range(count):
            if tops[i] >= bound:
                left[kept] = left[i]
                kept += 1
        size = _offer_defined(parts, dim, queries[query], left, kept, out_keys[query], out_rows[query], k)
        unload(out_keys[query], out_rows[query], size)
        sizes[query] = size
        looked += kept
    return looked


@njit(nogil=True, cache=True)
def rescore_int8(
    parts: Any, dim: int, asked: Any, units: Any, rows: Any, out_keys: Any, out_rows: Any, sizes: Any
) -> None:
    """As `rescore_exact`, by the int8 score; parts is a table with codes."""
    k = out_keys.shape[1]
    sums = np.empty((1, 1), np.int32)
    for query in range(rows.shape[0]):
        size = at = 0
        best_keys, best_rows, given = out_keys[query], out_rows[query], rows[query]
        for part in range(parts.shape[0]):
            codes, scales, first = codes_of(parts, part), steps_of(parts, part), parts[part, FIRST]
            at, stop = span_of(given, given.shape[0], at, first, first + parts[part, ROWS])
            for i in range(at, stop):
                if i + 1 < stop:
                    ask_for_row(codes, given[i + 1] - first, codes.shape[1], dim)
                row = given[i] - first
                total = product(codes, row, asked, query, dim, sums)
                score = np.float64(total) * np.float64(scales[row]) * units[query]
                key = np.float64(np.float32(score))
                size = offer(best_keys, best_rows, size, k, key, row + first)
            at = stop
        unload(best_keys, best_rows, size)
        sizes[query] = size
