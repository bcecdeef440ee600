"""The scan of one-bit codes, the selection of its candidates, and the scores of given rows.

A candidate is one word of 64 bits: its score in the upper half, so that greater words are better, and its row
below, inverted, so that of equal scores the lower row is better. All words differ, and selecting the best k
is selecting the greatest. An index of 2^32 rows or more is left to numpy.
"""

import numpy as np
from numba import carray, njit, types

from resizable_search.engine.kernels.basics import (
    DONE,
    TAKEN,
    add_rows,
    allowed_of,
    pointer_to,
    rows_of,
    span_of,
)
from resizable_search.engine.kernels.lookup import (
    WIDE,
    bits_of,
    factor_at,
    factors_of,
    float_of,
    look_up_1,
    look_up_4,
    lowest_bit,
    make_tables,
    new_tables,
)
from resizable_search.engine.parts import CODES, CODES_WIDTH, FIRST, ROWS
from resizable_search.engine.short_codes import CODE_ROWS, HEAD

_SIGN, _ALL = np.uint64(1 << 31), np.uint64((1 << 32) - 1)
_HALF = np.uint64(32)

_uint8 = pointer_to(types.uint8)

TILE = 32  # blocks that some queries scan before the next ones do: they and the tables stay in caches


@njit(nogil=True, inline="always")
def candidate(key, row):
    """The word of a score float32 and a row."""
    bits = bits_of(key)
    bits = bits ^ _ALL if bits & _SIGN else bits | _SIGN
    return bits << _HALF | (_ALL - np.uint64(row))


@njit(nogil=True, inline="always")
def key_of(word):
    """The score of a candidate."""
    bits = word >> _HALF
    return float_of(bits ^ _SIGN if bits & _SIGN else bits ^ _ALL)


@njit(nogil=True)
def select_best(words, count, k):
    """Move the greatest k of words[:count] to the front, and the least of them to place k - 1."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        a, b, c = words[low], words[middle], words[high - 1]
        at = high - 1
        if (a < b) != (a < c):
            at = low
        elif (b < a) != (b < c):
            at = middle
        pivot = words[at]
        words[at] = words[high - 1]
        # No branch depends on the words, since a processor would guess half of them wrong.
        left = low
        for i in range(low, high - 1):
            word = words[i]
            words[i] = words[left]
            words[left] = word
            left += np.int64(word > pivot)
        words[high - 1] = words[left]
        words[left] = pivot
        if left == k - 1:
            return
        if left < k - 1:
            low = left + 1
        else:
            high = left


@njit(nogil=True, cache=True)
def scan_one_bit(table, dim, limit, queries, progress, chunk, k, bounds, words, counts):
    """Scan chunks of rows for every query (m, dim) float32, and collect what may be among its best k.

    `table` has one-bit codes; `progress`: see `basics`. Buffers: words (m, capacity) uint64, more than k,
    with counts (m,) int64; bounds (m,) uint64, the least words that are collected, 0 at first. Returns True,
    since this scan never gives up.
    """
    m, lines = queries.shape[0], (dim + 7) // 8
    tables, totals = new_tables(m, lines, WIDE), np.empty(m, np.float32)
    make_tables(queries, limit, tables, totals)
    rows = rows_of(table)
    start = add_rows(progress, TAKEN, chunk)
    while start < rows:
        stop = min(start + chunk, rows)
        _collect(table, lines, tables, totals, start, stop, k, bounds, words, counts)
        done = stop - start
        start = add_rows(progress, TAKEN, chunk)
        if start >= rows:  # each thread drops what cannot be among the best before it is done
            for query in range(m):
                if counts[query] > k:
                    select_best(words[query], counts[query], k)
                    counts[query] = k
        add_rows(progress, DONE, done)
    return True


@njit(nogil=True)
def _collect(table, lines, tables, totals, start, stop, k, bounds, words, counts):
    """Scan rows start … stop - 1."""
    m, capacity = words.shape
    keys, masks = np.empty((4, CODE_ROWS), np.float32), np.empty(4, np.uint64)
    least = np.empty(m, np.float32)
    for query in range(m):
        least[query] = key_of(bounds[query]) if bounds[query] > 0 else np.float32(-np.inf)
    for part in range(table.shape[0]):
        first_row = table[part, FIRST]
        begin, end = max(start, first_row) - first_row, min(stop - first_row, table[part, ROWS])
        if begin >= end:
            continue
        allowed, step = allowed_of(table, part), table[part, CODES_WIDTH] * CODE_ROWS
        blocks = begin // CODE_ROWS, (end + CODE_ROWS - 1) // CODE_ROWS
        for tile in range(blocks[0], blocks[1], TILE):
            first = 0
            while first < m:
                together = 4 if first + 4 <= m else 1
                for block in range(tile, min(tile + TILE, blocks[1])):
                    address = table[part, CODES] + block * step
                    if together == 4:
                        look_up_4(address, step, lines, tables, first, totals, least, keys, masks)
                    else:
                        look_up_1(address, step, lines, tables, first, totals, least, keys, masks)
                    for j in range(together):
                        query, mask = first + j, masks[j]
                        while mask != 0:
                            i = lowest_bit(mask)
                            mask &= mask - np.uint64(1)
                            row = block * CODE_ROWS + i
                            if row < begin or row >= end or (allowed.size > 0 and allowed[row] == 0):
                                continue
                            word = candidate(keys[j, i], first_row + row)
                            if word <= bounds[query]:
                                continue
                            count = counts[query]
                            words[query, count] = word
                            counts[query] = count + 1
                            if count + 1 == capacity:
                                select_best(words[query], capacity, k)
                                counts[query] = k
                                bounds[query] = words[query, k - 1]
                                least[query] = key_of(bounds[query])
                first += together


@njit(nogil=True, cache=True)
def best_words(words, counts, best):
    """The best k of all threads, unordered: best (m, k) uint64, 0 where there are fewer.

    Buffers as for `scan_one_bit` with a first axis of threads.
    """
    k = best.shape[1]
    for query in range(best.shape[0]):
        total = counts[:, query].sum()
        together, at = words[0, query], counts[0, query]
        if words.shape[0] > 1:
            together, at = np.empty(total, np.uint64), 0
            for thread in range(words.shape[0]):
                count = counts[thread, query]
                together[at : at + count] = words[thread, query, :count]
                at += count
        if total > k:
            select_best(together, total, k)
        count = min(total, k)
        best[query, :count] = together[:count]
        best[query, count:] = 0


@njit(nogil=True, cache=True)
def unpack(words, scores, rows):
    """Words (m, k) uint64, ascending, as scores float32 and rows int64, best first; 0 is no row."""
    m, k = words.shape
    for query in range(m):
        for i in range(k):
            word = words[query, k - 1 - i]
            scores[query, i] = key_of(word) if word > 0 else -np.inf
            rows[query, i] = np.int64(_ALL - (word & _ALL)) if word > 0 else -1


@njit(nogil=True, cache=True)
def rescore_one_bit(table, dim, limit, queries, rows, best):
    """As `best_words`, of each query's own rows (m, c) int64, ascending. Returns how many it scored."""
    scored = 0
    m, lines, k = queries.shape[0], (dim + 7) // 8, best.shape[1]
    tables, totals = new_tables(m, lines, False), np.empty(m, np.float32)
    make_tables(queries, limit, tables, totals)
    words = np.empty(rows.shape[1], np.uint64)
    for query in range(rows.shape[0]):
        own, count, at = rows[query], 0, 0
        for part in range(table.shape[0]):
            first, step = table[part, FIRST], table[part, CODES_WIDTH] * CODE_ROWS
            at, stop = span_of(own, own.shape[0], at, first, first + table[part, ROWS])
            for place in range(at, stop):
                row = own[place] - first
                address, i = table[part, CODES] + row // CODE_ROWS * step, row % CODE_ROWS
                codes = carray(_uint8(address), (HEAD + lines, CODE_ROWS))
                agree = np.int64(0)
                for line in range(lines):
                    signs = codes[HEAD + line, i]
                    agree += tables[query, 2 * line, signs & 15] + tables[query, 2 * line + 1, signs >> 4]
                key = (np.float32(2 * agree) - totals[query]) * factor_at(factors_of(address), i)
                words[count] = candidate(key, own[place])
                count += 1
            at = stop
        scored += count
        if count > k:
            select_best(words, count, k)
        count = min(count, k)
        best[query, :count] = words[:count]
        best[query, count:] = 0
    return scored
