"""The scan of one-bit codes, the selection of its candidates, and the scores of given rows.

A candidate is one word of 64 bits: its score in the upper half, so that greater words are better, and its row
below, inverted, so that of equal scores the lower row is better. All words differ, and selecting the best k
is selecting the greatest. An index of 2^32 rows or more is left to numpy.
"""

import time

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from resizable_search.engine.kernels.basics import (
    DONE,
    I32,
    I64,
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
from resizable_search.engine.kernels.rows import rescore_int8, truncate
from resizable_search.engine.parts import CODES, CODES_WIDTH, FIRST, ROWS
from resizable_search.engine.short_codes import CODE_ROWS, HEAD

EVERYTHING = np.uint64(2**64 - 1)  # a bound that no candidate reaches
_SIGN, _ALL = np.uint64(1 << 31), np.uint64((1 << 32) - 1)
_HALF = np.uint64(32)

_uint8 = pointer_to(types.uint8)

BOUND, COUNT = -2, -1  # places in a buffer of words: the least that is collected, and how many there are
SAMPLED = 32  # one block in so many is scanned first, for a bound that leaves few candidates
WORTH_A_SAMPLE = 100  # candidates from which it saves more than it takes
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


@njit(nogil=True, inline="always")
def row_of(word):
    """The row of a candidate."""
    return np.int64(_ALL - (word & _ALL))


@njit(nogil=True)
def select_best(words, count, k):
    """Move the greatest k of words[:count], all different, to the front. Returns a word below all of these.

    The word is found by halving the range that it is in: to count is many words an instruction.
    """
    low = high = words[0]
    for i in range(count):
        low, high = min(low, words[i]), max(high, words[i])
    low -= np.uint64(1)
    while True:
        middle = low + (high - low) // np.uint64(2)
        above = 0
        for i in range(count):
            above += np.int64(words[i] > middle)
        if above == k:
            break
        if above > k:
            low = middle
        else:
            high = middle
    at = 0
    for i in range(count):
        word = words[i]
        words[at] = word
        at += np.int64(word > middle)
    return middle


@njit(nogil=True, cache=True)
def scan_one_bit(table, dim, queries, progress, chunk, k, words):
    """Scan chunks of rows for every query (m, dim or more) float32, and collect what may be among its best k.

    `table` has one-bit codes; `progress`: see `basics`. words (m, capacity + 2) uint64, 0 at first: room for
    more than k candidates, the least word that is collected, and how many there are. Returns True: it never
    gives up.
    """
    m, lines = queries.shape[0], (dim + 7) // 8
    tables, totals = new_tables(m, lines, WIDE), np.empty(m, np.float32)
    make_tables(queries, dim, tables, totals)
    rows = rows_of(table)
    start = add_rows(progress, TAKEN, chunk)
    if chunk >= rows and k >= WORTH_A_SAMPLE:
        _bound_by_sample(table, lines, tables, totals, k, words)
    while start < rows:
        stop = min(start + chunk, rows)
        _collect(table, lines, tables, totals, start, stop, 1, k, words)
        if chunk >= rows and _bound_was_wrong(words, k):
            _collect(table, lines, tables, totals, start, stop, 1, k, words)
        done = stop - start
        start = add_rows(progress, TAKEN, chunk)
        if start >= rows:  # each thread drops what cannot be among the best before it is done
            for query in range(m):
                if words[query, COUNT] > k:
                    select_best(words[query], np.int64(words[query, COUNT]), k)
                    words[query, COUNT] = k
        add_rows(progress, DONE, done)
    return True


@njit(nogil=True)
def _bound_by_sample(table, lines, tables, totals, k, words):
    """Collect from here on only what the best k can have, as far as a sample tells.

    The bound is the score of a row of the sample with about 2 k better ones in all.
    """
    least = 2 * k // SAMPLED + 8
    _collect(table, lines, tables, totals, 0, rows_of(table), SAMPLED, least, words)
    for query in range(words.shape[0]):
        if words[query, COUNT] > least:
            words[query, BOUND] = select_best(words[query], np.int64(words[query, COUNT]), least)
        words[query, COUNT] = 0


@njit(nogil=True)
def _bound_was_wrong(words, k):
    """Whether a query has too few candidates because of its bound: for these, forget it."""
    is_wrong = False
    for query in range(words.shape[0]):
        if words[query, COUNT] < k and words[query, BOUND] > 0:
            words[query, BOUND] = words[query, COUNT] = 0
            is_wrong = True
    if is_wrong:
        for query in range(words.shape[0]):
            if words[query, COUNT] > 0:
                words[query, BOUND] = EVERYTHING
    return is_wrong


@njit(nogil=True)
def _collect(table, lines, tables, totals, start, stop, every, k, words):
    """Scan rows start … stop - 1: one block in `every`."""
    m, capacity = words.shape[0], words.shape[1] - 2
    keys, masks = np.empty((4, CODE_ROWS), np.float32), np.empty(4, np.uint64)
    least = np.empty(m, np.float32)
    for query in range(m):
        bound = words[query, BOUND]
        least[query] = key_of(bound) if bound > 0 else np.float32(-np.inf)
    for part in range(table.shape[0]):
        first_row = table[part, FIRST]
        begin, end = max(start, first_row) - first_row, min(stop - first_row, table[part, ROWS])
        if begin >= end:
            continue
        allowed, step = allowed_of(table, part), table[part, CODES_WIDTH] * CODE_ROWS
        blocks = begin // CODE_ROWS, (end + CODE_ROWS - 1) // CODE_ROWS
        for tile in range(blocks[0], blocks[1], TILE * every):
            first = 0
            while first < m:
                together = 4 if first + 4 <= m else 1
                for block in range(tile, min(tile + TILE * every, blocks[1]), every):
                    address, ahead = table[part, CODES] + block * step, every * step
                    if together == 4:
                        look_up_4(address, ahead, lines, tables, first, totals, least, keys, masks)
                    else:
                        look_up_1(address, ahead, lines, tables, first, totals, least, keys, masks)
                    for j in range(together):
                        query, mask = first + j, masks[j]
                        while mask != 0:
                            i = lowest_bit(mask)
                            mask &= mask - np.uint64(1)
                            row = block * CODE_ROWS + i
                            if row < begin or row >= end or (allowed.size > 0 and allowed[row] == 0):
                                continue
                            word = candidate(keys[j, i], first_row + row)
                            if word <= words[query, BOUND]:
                                continue
                            count = np.int64(words[query, COUNT])
                            words[query, count] = word
                            words[query, COUNT] = count + 1
                            if count + 1 == capacity:
                                words[query, BOUND] = select_best(words[query], capacity, k)
                                words[query, COUNT] = k
                                least[query] = key_of(words[query, BOUND])
                first += together


@njit(nogil=True, cache=True)
def best_words(words, scores, rows):
    """The best k of all threads, in no order: scores (m, k) float32 and rows (m, k) int64.

    Buffers as for `scan_one_bit` with a first axis of threads.
    """
    for query in range(words.shape[1]):
        together, total = words[0, query], np.int64(words[0, query, COUNT])
        if words.shape[0] > 1:
            together, total = np.empty(words.shape[0] * words.shape[2], np.uint64), 0
            for thread in range(words.shape[0]):
                for i in range(np.int64(words[thread, query, COUNT])):
                    together[total] = words[thread, query, i]
                    total += 1
        _unpack_best(together, total, scores[query], rows[query])


@njit(nogil=True)
def _unpack_best(words, count, scores, rows):
    """The best k of `count` words as scores and rows, in no order; then -inf and -1 where there are fewer."""
    k = scores.shape[0]
    if count > k:
        select_best(words, count, k)
        count = k
    for i in range(count):
        scores[i] = key_of(words[i])
        rows[i] = row_of(words[i])
    scores[count:] = -np.inf
    rows[count:] = -1


@intrinsic
def nanoseconds(context):
    """The clock of `time.perf_counter`, in nanoseconds."""

    def generate(context, builder, signature, arguments):
        kind = ir.LiteralStructType([I64, I64])  # timespec
        place = cgutils.alloca_once(builder, kind)
        clock = ir.FunctionType(I32, [I32, kind.as_pointer()])
        function = cgutils.get_or_insert_function(builder.module, clock, "clock_gettime")
        builder.call(function, [ir.Constant(I32, time.CLOCK_MONOTONIC), place])
        seconds, rest = (builder.load(cgutils.gep_inbounds(builder, place, 0, i)) for i in (0, 1))
        return builder.add(builder.mul(seconds, ir.Constant(I64, 10**9)), rest)

    return types.int64(), generate


@njit(nogil=True, cache=True)
def search_one_bit(codes, dim, keep, room, later, later_dim, full, best_scores, best_rows):
    """The plan `dim:1bit:keep,later_dim` for a raw query (1, width) float32, on this thread.

    `codes` has one-bit codes, and `later` those in int8; `room` is for candidates. Does what `truncate`,
    `scan_one_bit`, `best_words` and `rescore_int8` do. Returns the rows scored by int8 and by the definition,
    -1 if the query is not finite, and the nanoseconds of both stages.
    """
    begin = nanoseconds()
    cut = np.empty((1, dim), np.float32)
    if not truncate(full, dim, cut):
        return -1, 0, 0, 0
    words = np.zeros((1, room + 2), np.uint64)
    scan_one_bit(codes, dim, cut, np.zeros(2, np.int64), rows_of(codes), keep, words)
    rows = np.empty((1, np.int64(words[0, COUNT])), np.int64)
    for i in range(rows.shape[1]):  # one thread leaves them in order
        rows[0, i] = row_of(words[0, i])
    middle = nanoseconds()
    if later_dim != dim:
        cut = np.empty((1, later_dim), np.float32)
        truncate(full, later_dim, cut)
    scored, rescored = rescore_int8(later, later_dim, True, cut, rows, best_scores, best_rows)
    return scored, rescored, middle - begin, nanoseconds() - middle


@njit(nogil=True, cache=True)
def rescore_one_bit(table, dim, queries, rows, best_scores, best_rows):
    """As `rescore_exact`, by one-bit codes and in no order."""
    scored = 0
    m, lines = queries.shape[0], (dim + 7) // 8
    tables, totals = new_tables(m, lines, False), np.empty(m, np.float32)
    make_tables(queries, dim, tables, totals)
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
        _unpack_best(words, count, best_scores[query], best_rows[query])
    return scored, 0
