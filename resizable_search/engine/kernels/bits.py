"""The scan of sign bits, selection by counting, and the scores of given rows.

A finer query (2 to 4 bits a number against the rows' one) was tried and does not earn its cost while the
bits are in a cache: on 100,000 stand-in rows of 768 dimensions, 256 bits of rows with 2 bits of query find
0.990 of the ten best among 200 candidates, 384 bits with plain signs 0.993, for 8 popcounts a row
against 6. Asking memory ahead, which int8 gains by, made this scan slower.

Two stages in one call: after a scan has emptied the caches of all else, each step in Python is dear.
"""

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from resizable_search.engine.kernels.heaps import allowed_of, compact, offer, signs_of, span_of, unload
from resizable_search.engine.kernels.rows import rescore_narrowed
from resizable_search.engine.parts import FIRST, ROWS

GROUP = 16
"""Rows whose keys are compared with the bound at once."""


@intrinsic
def popcount(context: Any, word: Any) -> Any:
    """How many bits of a word are 1."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@njit(nogil=True, cache=True)
def scan_bits(
    parts: Any,
    dim: int,
    masks: Any,
    asked: Any,
    start: int,
    stop: int,
    k: int,
    tallies: Any,
    rows: Any,
    keys: Any,
    counts: Any,
) -> None:
    """Look through rows start … stop - 1 for every query, and keep what may be among its best k.

    parts is a table of them with their signs (`engine.parts`), of which the first len(masks) words count;
    asked (m, words) uint64. Selection is by counting: tallies (m, dim + 3) int64, zeros at first, counts
    the candidates by how many signs differ; behind that stand how far the limit has come down from
    dim + 1, and how many candidates differ in fewer signs than the limit says. Candidates: rows
    (m, capacity) int64, keys (m, capacity) float64, the score, and counts (m,) int64.
    """
    for part in range(parts.shape[0]):
        first = parts[part, FIRST]
        begin, end = max(start, first), min(stop, first + parts[part, ROWS])
        if begin < end:
            _scan_part(
                signs_of(parts, part), allowed_of(parts, part), first, dim, masks, asked, begin - first,
                end - first, k, tallies, rows, keys, counts,
            )  # fmt: skip


@njit(nogil=True)
def _scan_part(
    signs: Any,
    allowed: Any,
    first_row: int,
    dim: int,
    masks: Any,
    asked: Any,
    start: int,
    stop: int,
    k: int,
    tallies: Any,
    rows: Any,
    keys: Any,
    counts: Any,
) -> None:
    """As `scan_bits`, of one part whose first row is `first_row`: signs (words, n), allowed (n,) or (0,)."""
    m = asked.shape[0]
    words = masks.shape[0]
    capacity = rows.shape[1]
    block = 2048
    differing = np.empty(block + GROUP, np.uint64)
    last = words - 1
    for begin in range(start, stop, block):
        end = min(begin + block, stop)
        size = end - begin
        whole = (size + GROUP - 1) // GROUP * GROUP
        for query in range(m):
            # The last word may be cut; the others are taken four at a time.
            line, mask, word = signs[last, begin:end], masks[last], asked[query, last]
            for i in range(size):
                differing[i] = popcount((line[i] ^ word) & mask)
            w = 0
            while w + 4 <= last:
                line0, line1 = signs[w, begin:end], signs[w + 1, begin:end]
                line2, line3 = signs[w + 2, begin:end], signs[w + 3, begin:end]
                a, b, c, d = asked[query, w], asked[query, w + 1], asked[query, w + 2], asked[query, w + 3]
                for i in range(size):
                    differing[i] += (
                        popcount(line0[i] ^ a)
                        + popcount(line1[i] ^ b)
                        + popcount(line2[i] ^ c)
                        + popcount(line3[i] ^ d)
                    )
                w += 4
            while w < last:
                line, word = signs[w, begin:end], asked[query, w]
                for i in range(size):
                    differing[i] += popcount(line[i] ^ word)
                w += 1
            for i in range(size, whole):
                differing[i] = np.uint64(dim + 1)
            limit, below = dim + 1 - tallies[query, dim + 1], tallies[query, dim + 2]
            tally, candidates, agreed = tallies[query], rows[query], keys[query]
            # Once there are k, a later row that differs in as many signs as the worst is worse.
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
                        counts[query] = compact(candidates, agreed, capacity, least)
                    at = counts[query]
                    candidates[at], agreed[at] = first_row + row, np.float64(dim - 2 * count)
                    counts[query] = at + 1
                    tally[count] += 1
                    below += 1
                    while below - tally[limit - 1] >= k:
                        limit -= 1
                        below -= tally[limit]
                    bound = np.uint64(limit - 1 if below >= k else limit)
            tally[dim + 1], tally[dim + 2] = dim + 1 - limit, below


@njit(nogil=True, cache=True)
def best_by_count(
    rows: Any, keys: Any, counts: Any, tallies: Any, dim: int, out_keys: Any, out_rows: Any, sizes: Any
) -> None:
    """As `best_of_pools`, for the pools of `scan_bits`: by counting, since scores are few integers.

    tallies (threads, m, dim + 3) int64. Each thread's candidates are in order of row, so taking always
    the lowest row next, and filing it behind those with as many differing signs, sorts them.
    """
    threads = rows.shape[0]
    k = out_keys.shape[1]
    places = np.empty(dim + 1, np.int64)
    next_one = np.empty(threads, np.int64)
    for query in range(rows.shape[1]):
        before = 0
        for differing in range(dim + 1):
            places[differing] = before
            for thread in range(threads):
                before += tallies[thread, query, differing]
        best_keys, best_rows = out_keys[query], out_rows[query]
        # Beyond this many differing signs there is no place left.
        limit = dim
        while limit > 0 and places[limit] >= k:
            limit -= 1
        least = np.float64(dim - 2 * limit)
        next_one[:] = 0
        for thread in range(threads):
            next_one[thread] = _next_above(keys, thread, query, counts[thread, query], -1, least)
        size = 0
        while True:
            chosen = -1
            for thread in range(threads):
                at = next_one[thread]
                if at < counts[thread, query] and (
                    chosen < 0 or rows[thread, query, at] < rows[chosen, query, next_one[chosen]]
                ):
                    chosen = thread
            if chosen < 0:
                break
            at = next_one[chosen]
            key = keys[chosen, query, at]
            differing = (dim - np.int64(key)) // 2
            place = places[differing]
            places[differing] = place + 1
            if place < k:
                best_keys[place], best_rows[place] = key, rows[chosen, query, at]
                size += 1
            next_one[chosen] = _next_above(keys, chosen, query, counts[chosen, query], at, least)
        sizes[query] = size


@njit(nogil=True)
def _next_above(keys: Any, thread: int, query: int, count: int, at: int, least: float) -> int:
    """The next candidate behind `at` whose key is `least` or more; `count` if there is none."""
    at += 1
    while at < count and keys[thread, query, at] < least:
        at += 1
    return at


@njit(nogil=True, cache=True)
def rescore_bits(
    parts: Any, dim: int, masks: Any, asked: Any, rows: Any, out_keys: Any, out_rows: Any, sizes: Any
) -> None:
    """As `rows.rescore_exact`, by how many signs agree less how many do not."""
    k = out_keys.shape[1]
    for query in range(rows.shape[0]):
        size = at = 0
        best_keys, best_rows, given = out_keys[query], out_rows[query], rows[query]
        for part in range(parts.shape[0]):
            signs, first = signs_of(parts, part), parts[part, FIRST]
            at, stop = span_of(given, given.shape[0], at, first, first + parts[part, ROWS])
            for i in range(at, stop):
                row = given[i] - first
                differing = np.uint64(0)
                for word in range(masks.shape[0]):
                    differing += popcount((signs[word, row] ^ asked[query, word]) & masks[word])
                key = np.float64(dim - 2 * np.int64(differing))
                size = offer(best_keys, best_rows, size, k, key, row + first)
            at = stop
        unload(best_keys, best_rows, size)
        sizes[query] = size


@njit(nogil=True, cache=True)
def rescore_best_by_count(
    rows: Any,
    keys: Any,
    counts: Any,
    tallies: Any,
    bits_dim: int,
    kept_keys: Any,
    kept_rows: Any,
    kept_sizes: Any,
    parts: Any,
    dim: int,
    queries: Any,
    asked: Any,
    units: Any,
    factors: Any,
    bases: Any,
    out_keys: Any,
    out_rows: Any,
    sizes: Any,
) -> int:
    """`bits.best_by_count` into kept_… (m, keep), and `rows.rescore_narrowed` of those, in row order."""
    best_by_count(rows, keys, counts, tallies, bits_dim, kept_keys, kept_rows, kept_sizes)
    for query in range(kept_rows.shape[0]):
        kept_rows[query, kept_sizes[query] :] = -1
        kept_rows[query].sort()
    return rescore_narrowed(
        parts, dim, queries, asked, units, factors, bases, kept_rows, out_keys, out_rows, sizes
    )  # fmt: skip
