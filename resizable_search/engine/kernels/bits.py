"""The scan of sign bits, selection by counting, and the scores of given rows.

A finer query (2 to 4 bits a number, against 1 bit of the rows) does not earn its cost while the bits are
in a cache. Measured on 100,000 stand-in rows of 768 dimensions: 256 bits of rows with 2 bits of query find
0.990 of the ten best among 200 candidates; 384 bits with plain signs find 0.993, with 6 popcounts a row
in place of 8. Prefetching, which makes the int8 scan faster, made this scan slower.
"""

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from resizable_search.engine.kernels.basics import allowed_of, compact, offer, signs_of, sort_heap, span_of
from resizable_search.engine.kernels.rows import GROUP
from resizable_search.engine.parts import FIRST, ROWS


@intrinsic
def popcount(context, word):
    """The number of bits of a word that are 1."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@njit(nogil=True, cache=True)
def scan_bits(table, dim, masks, query_words, start, stop, k, tallies, rows, keys, counts):
    """Scan rows start … stop - 1 for every query, and collect what may be among its best k.

    `table` has signs, of which the first len(masks) words count; query_words (m, words) uint64. Selection
    is by counting: tallies (m, dim + 3) int64, zeros at first, counts the candidates by the number of
    differing signs. Its last two columns hold how far the limit has come down from dim + 1, and how many
    candidates differ in fewer signs than the limit. Candidates: rows (m, capacity) int64, keys
    (m, capacity) float64, the score, and counts (m,) int64. Returns True, as a scan that did not give up.
    """
    for part in range(table.shape[0]):
        first = table[part, FIRST]
        begin, end = max(start, first), min(stop, first + table[part, ROWS])
        if begin < end:
            _scan_part(
                signs_of(table, part), allowed_of(table, part), first, dim, masks, query_words, begin - first,
                end - first, k, tallies, rows, keys, counts,
            )  # fmt: skip
    return True


@njit(nogil=True)
def _scan_part(
    signs, allowed, first_row, dim, masks, query_words, start, stop, k, tallies, rows, keys, counts
):
    """As `scan_bits`, of one part whose first row is `first_row`: signs (words, n), allowed (n,) or (0,)."""
    m = query_words.shape[0]
    capacity = rows.shape[1]
    block = 2048
    differing = np.empty(block + GROUP, np.uint64)
    last = masks.shape[0] - 1
    for begin in range(start, stop, block):
        end = min(begin + block, stop)
        size = end - begin
        whole = (size + GROUP - 1) // GROUP * GROUP
        for query in range(m):
            # The last word may be cut; the others are taken four at a time.
            line, mask, word = signs[last, begin:end], masks[last], query_words[query, last]
            for i in range(size):
                differing[i] = popcount((line[i] ^ word) & mask)
            w = 0
            while w + 4 <= last:
                line0, line1 = signs[w, begin:end], signs[w + 1, begin:end]
                line2, line3 = signs[w + 2, begin:end], signs[w + 3, begin:end]
                a, b = query_words[query, w], query_words[query, w + 1]
                c, d = query_words[query, w + 2], query_words[query, w + 3]
                for i in range(size):
                    differing[i] += (
                        popcount(line0[i] ^ a)
                        + popcount(line1[i] ^ b)
                        + popcount(line2[i] ^ c)
                        + popcount(line3[i] ^ d)
                    )
                w += 4
            while w < last:
                line, word = signs[w, begin:end], query_words[query, w]
                for i in range(size):
                    differing[i] += popcount(line[i] ^ word)
                w += 1
            for i in range(size, whole):
                differing[i] = np.uint64(dim + 1)
            limit, below = dim + 1 - tallies[query, dim + 1], tallies[query, dim + 2]
            tally, own_rows, own_keys = tallies[query], rows[query], keys[query]
            # Once there are k, a later row with as many differing signs as the worst is worse.
            bound = np.uint64(limit - 1 if below >= k else limit)
            for group in range(0, whole, GROUP):
                reaches = 0
                for i in range(group, group + GROUP):
                    reaches |= np.int64(differing[i] < bound)
                if reaches == 0:
                    continue
                for i in range(group, min(group + GROUP, size)):
                    if differing[i] >= bound:
                        continue
                    row = begin + i
                    if allowed.size > 0 and allowed[row] == 0:
                        continue
                    count = np.int64(differing[i])
                    if counts[query] == capacity:
                        least = np.float64(dim - 2 * (limit - 1))
                        counts[query] = compact(own_rows, own_keys, capacity, least)
                    at = counts[query]
                    own_rows[at], own_keys[at] = first_row + row, np.float64(dim - 2 * count)
                    counts[query] = at + 1
                    tally[count] += 1
                    below += 1
                    while below - tally[limit - 1] >= k:
                        limit -= 1
                        below -= tally[limit]
                    bound = np.uint64(limit - 1 if below >= k else limit)
            tally[dim + 1], tally[dim + 2] = dim + 1 - limit, below


@njit(nogil=True, cache=True)
def best_by_count(rows, keys, counts, tallies, dim, best_keys, best_rows, best_sizes):
    """As `best_candidates`, for the buffers of `scan_bits`: by counting, since scores are few integers.

    tallies (threads, m, dim + 3) int64. Each thread's candidates are in row order. So the next lowest row
    goes behind those with as many differing signs, and all are sorted.
    """
    threads = rows.shape[0]
    k = best_keys.shape[1]
    slots = np.empty(dim + 1, np.int64)
    positions = np.empty(threads, np.int64)
    for query in range(rows.shape[1]):
        before = 0
        for differing in range(dim + 1):
            slots[differing] = before
            for thread in range(threads):
                before += tallies[thread, query, differing]
        out_keys, out_rows = best_keys[query], best_rows[query]
        # Rows with more differing signs than this have no slot left.
        limit = dim
        while limit > 0 and slots[limit] >= k:
            limit -= 1
        least = np.float64(dim - 2 * limit)
        positions[:] = 0
        for thread in range(threads):
            positions[thread] = _next_above(keys, thread, query, counts[thread, query], -1, least)
        size = 0
        while True:
            chosen = -1
            for thread in range(threads):
                at = positions[thread]
                if at < counts[thread, query] and (
                    chosen < 0 or rows[thread, query, at] < rows[chosen, query, positions[chosen]]
                ):
                    chosen = thread
            if chosen < 0:
                break
            at = positions[chosen]
            key = keys[chosen, query, at]
            differing = (dim - np.int64(key)) // 2
            slot = slots[differing]
            slots[differing] = slot + 1
            if slot < k:
                out_keys[slot], out_rows[slot] = key, rows[chosen, query, at]
                size += 1
            positions[chosen] = _next_above(keys, chosen, query, counts[chosen, query], at, least)
        best_sizes[query] = size


@njit(nogil=True)
def _next_above(keys, thread, query, count, at, least):
    """The next candidate after `at` with a key of `least` or more; `count` if there is none."""
    at += 1
    while at < count and keys[thread, query, at] < least:
        at += 1
    return at


@njit(nogil=True, cache=True)
def rescore_bits(table, dim, masks, query_words, rows, best_keys, best_rows, best_sizes):
    """As `rescore_exact`, by the number of signs that agree less those that differ; `table` has signs."""
    k = best_keys.shape[1]
    for query in range(rows.shape[0]):
        size = at = 0
        out_keys, out_rows, own = best_keys[query], best_rows[query], rows[query]
        for part in range(table.shape[0]):
            signs, first = signs_of(table, part), table[part, FIRST]
            at, stop = span_of(own, own.shape[0], at, first, first + table[part, ROWS])
            for i in range(at, stop):
                row = own[i] - first
                differing = np.uint64(0)
                for word in range(masks.shape[0]):
                    differing += popcount((signs[word, row] ^ query_words[query, word]) & masks[word])
                key = np.float64(dim - 2 * np.int64(differing))
                size = offer(out_keys, out_rows, size, k, key, row + first)
            at = stop
        sort_heap(out_keys, out_rows, size)
        best_sizes[query] = size
