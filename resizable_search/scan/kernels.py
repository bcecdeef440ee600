"""The compiled loops: int8 products and sign bits over ranges of rows, with the best kept as they pass.

They release the GIL and run on our own threads, each over its own range or its own queries. They are
compiled by `warm.compile_kernels` and only loaded by queries. Everything lies in this one file, since
numba's cache notices changes of the file that holds a function, not of what it calls elsewhere. Each
kernel has one signature; arrays of the index are read-only, scratch space is not.

A *pool* is what one thread holds of one query: candidate rows with a key each, and a bound below which
nothing matters any more. Pools of several threads are (threads, queries, capacity) arrays.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 32
"""Numbers that one step of an int8 product takes; queries are padded to a multiple of it."""

AHEAD = 4096
"""How many bytes ahead a single query's scan asks for; 1024 and 8192 were slower or no faster."""

GROUP = 16
"""Rows whose keys are compared with the bound at once."""

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


def _cpu_features() -> str:
    """What the processor that numba compiles for can do, as LLVM names it: '+avx2,-avx512f,…'."""
    from llvmlite.binding import get_host_cpu_features

    return str(config.CPU_FEATURES or get_host_cpu_features().flatten())


def _multiply_add(builder: Any, a: Any, b: Any) -> Any:
    """Sums of neighbouring products of two <32 x i16>: <16 x i32>, by one instruction where there is one."""
    features = _cpu_features()
    if "+avx512bw" in features:
        return _call(builder, "llvm.x86.avx512.pmaddw.d.512", ir.VectorType(_I32, 16), a, b)
    if "+avx2" in features:
        half, parts = ir.VectorType(_I32, 8), []
        for places in (range(16), range(16, 32)):
            mask = ir.Constant(ir.VectorType(_I32, 16), list(places))
            x, y = (builder.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), mask) for v in (a, b))
            parts.append(_call(builder, "llvm.x86.avx2.pmadd.wd", half, x, y))
        return builder.shuffle_vector(*parts, ir.Constant(ir.VectorType(_I32, 16), list(range(16))))
    wide = ir.VectorType(_I32, LANES)
    product = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
    even, odd = (ir.Constant(ir.VectorType(_I32, 16), list(range(i, LANES, 2))) for i in (0, 1))
    nothing = ir.Constant(wide, ir.Undefined)
    return builder.add(
        builder.shuffle_vector(product, nothing, even), builder.shuffle_vector(product, nothing, odd)
    )


def _call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _tile(rows: int, queries: int, *, prefetches: bool = False) -> Any:
    """An intrinsic: integer products of some consecutive rows of codes with some consecutive queries.

    `prefetches`: ask for what lies AHEAD bytes further on, which the processor's own prefetching,
    that stops at the end of each page, does not do: a quarter of the time of a scan.

    Called as tile(codes, row, queries, query, steps, out, place): out[j, place + i] becomes the sum over
    the first LANES x steps numbers of codes[row + i] * queries[query + j].
    """

    @intrinsic
    def tile(
        context: Any, codes: Any, row: Any, asked: Any, query: Any, steps: Any, out: Any, place: Any
    ) -> Any:
        signature = types.void(codes, types.int64, asked, types.int64, types.int64, out, types.int64)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            codes, row, asked, query, steps, out, place = arguments
            kinds = signature.args
            arrays = [
                context.make_array(kind)(context, builder, value)
                for kind, value in ((kinds[0], codes), (kinds[2], asked), (kinds[5], out))
            ]
            strides = [builder.extract_value(array.strides, 0) for array in arrays]
            starts = [builder.bitcast(array.data, _I8.as_pointer()) for array in arrays]

            def line(which: int, first: Any, number: int) -> Any:
                index = builder.add(first, ir.Constant(_I64, number))
                return builder.gep(starts[which], [builder.mul(index, strides[which])])

            def load(pointer: Any, offset: Any, kind: Any) -> Any:
                place = builder.bitcast(builder.gep(pointer, [offset]), kind.as_pointer())
                return builder.load(place, align=1)

            lines = [line(0, row, i) for i in range(rows)]
            asks = [line(1, query, j) for j in range(queries)]
            zero = ir.Constant(ir.VectorType(_I32, 16), [0] * 16)
            sums = [[cgutils.alloca_once_value(builder, zero) for _ in asks] for _ in lines]
            with cgutils.for_range(builder, steps) as loop:
                offset = builder.mul(loop.index, ir.Constant(_I64, LANES))
                double = builder.mul(loop.index, ir.Constant(_I64, 2 * LANES))
                values = [load(pointer, double, ir.VectorType(_I16, LANES)) for pointer in asks]
                for pointer, own in zip(lines, sums, strict=True):
                    if prefetches:
                        ahead = builder.add(offset, ir.Constant(_I64, AHEAD))
                        _prefetch(builder, builder.gep(pointer, [ahead]))
                    narrow = load(pointer, offset, ir.VectorType(_I8, LANES))
                    wide = builder.sext(narrow, ir.VectorType(_I16, LANES))
                    for value, total in zip(values, own, strict=True):
                        more = _multiply_add(builder, wide, value)
                        builder.store(builder.add(builder.load(total), more), total)
            for j in range(queries):
                target = builder.bitcast(line(2, ir.Constant(_I64, 0), j), _I32.as_pointer())
                for i in range(rows):
                    whole = _call(builder, "llvm.vector.reduce.add.v16i32", _I32, builder.load(sums[i][j]))
                    where = builder.add(place, ir.Constant(_I64, i))
                    builder.store(whole, builder.gep(target, [where]))
            return context.get_dummy_value()

        return signature, generate

    return tile


def _prefetch(builder: Any, pointer: Any) -> None:
    read, keep, data = (ir.Constant(_I32, number) for number in (0, 3, 1))
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, *[_I32] * 3])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [pointer, read, keep, data])


_tile_1x1 = _tile(1, 1)
_tile_1x1_ahead = _tile(1, 1, prefetches=True)
_tile_4x4 = _tile(4, 4)


@intrinsic
def _popcount(context: Any, word: Any) -> Any:
    """How many bits of a word are 1."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


# -- heaps: the worst entry is at the top, a lower row is better among equals


@njit(nogil=True, inline="always")
def _worse(key: float, row: int, other_key: float, other_row: int) -> bool:
    return key < other_key or (key == other_key and row > other_row)


@njit(nogil=True)
def _sink(keys: Any, rows: Any, size: int, key: float, row: int) -> None:
    """Put an entry in the place of the top one, and the heap in order again."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        right = child + 1
        if right < size and _worse(keys[right], rows[right], keys[child], rows[child]):
            child = right
        if not _worse(keys[child], rows[child], key, row):
            break
        keys[at], rows[at] = keys[child], rows[child]
        at = child
    keys[at], rows[at] = key, row


@njit(nogil=True)
def _offer(keys: Any, rows: Any, size: int, k: int, key: float, row: int) -> int:
    """Keep an entry if it is among the best k so far; returns how many there are now."""
    if size == k:
        if _worse(keys[0], rows[0], key, row):
            _sink(keys, rows, size, key, row)
        return size
    at = size
    while at > 0:
        parent = (at - 1) // 2
        if not _worse(key, row, keys[parent], rows[parent]):
            break
        keys[at], rows[at] = keys[parent], rows[parent]
        at = parent
    keys[at], rows[at] = key, row
    return size + 1


@njit(nogil=True)
def _unload(keys: Any, rows: Any, size: int) -> None:
    """Turn the heap into a list, best first."""
    for last in range(size - 1, 0, -1):
        key, row = keys[last], rows[last]
        keys[last], rows[last] = keys[0], rows[0]
        _sink(keys, rows, last, key, row)


# -- int8


@njit(nogil=True)
def _products(
    codes: Any, start: int, stop: int, asked: Any, first: int, count: int, dim: int, sums: Any
) -> None:
    """The integer products of rows start … stop - 1 with `count` queries: sums[j, row - start]."""
    n, width = codes.shape
    padded = asked.shape[1]
    steps = padded // LANES
    # A step may reach beyond the row, where the query is zero, but never beyond the file.
    safe = n if padded <= width else max(0, n - (padded - width + width - 1) // width)
    safe = min(max(safe, start), stop)
    row = start
    if count == 4:
        while row + 4 <= safe:
            _tile_4x4(codes, row, asked, first, steps, sums, row - start)
            row += 4
    for j in range(count):
        line = sums[j : j + 1]
        if j == 0:
            for r in range(row, safe):
                _tile_1x1_ahead(codes, r, asked, first, steps, line, r - start)
        else:
            for r in range(row, safe):
                _tile_1x1(codes, r, asked, first + j, steps, line, r - start)
        for r in range(safe, stop):
            total = 0
            for i in range(dim):
                total += np.int64(codes[r, i]) * np.int64(asked[first + j, i])
            sums[j, r - start] = total


@njit(nogil=True)
def _compact(rows: Any, keys: Any, count: int, bound: float) -> int:
    """Drop the candidates whose key is below the bound; returns how many are left."""
    left = 0
    for i in range(count):
        if keys[i] >= bound:
            rows[left], keys[left] = rows[i], keys[i]
            left += 1
    return left


@njit(nogil=True, cache=True)
def scan_int8(
    codes: Any,
    scales: Any,
    errors: Any,
    allowed: Any,
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

    codes (n, width) int8, scales and errors (n,) float32, allowed (n,) uint8 or (0,); asked (m, padded)
    int16, units, factors and bases (m,) float64: the powers of two and slacks of the queries. Pools:
    lows (m, k) float64, heaps of the k best lower bounds, with sizes (m,) int64; rows (m, capacity)
    int64 and keys (m, capacity) float64, the candidates with their upper bounds, and counts (m,) int64.
    Not `is_exact`: bounds are the int8 score itself, rounded to float32.
    Returns False, and gives up, where more than `limit` candidates of a query survive.
    """
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
            _products(codes, begin, end, asked, first, count, dim, sums)
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
                            counts[query] = _compact(candidates, tall, capacity, bound)
                            if counts[query] > limit:
                                return False
                        at = counts[query]
                        candidates[at], tall[at] = row, top
                        counts[query] = at + 1
                        held = _raise(low_heap, held, k, low)
                        if held == k:
                            bound = low_heap[0]
                sizes[query] = held
    return True


@njit(nogil=True)
def _raise(lows: Any, size: int, k: int, low: float) -> int:
    """Keep `low` in the heap of the k highest; returns the heap's size."""
    if size == k:
        if low <= lows[0]:
            return size
        at = 0
        while True:
            child = 2 * at + 1
            if child >= size:
                break
            if child + 1 < size and lows[child + 1] < lows[child]:
                child += 1
            if lows[child] >= low:
                break
            lows[at] = lows[child]
            at = child
        lows[at] = low
        return size
    at = size
    while at > 0:
        parent = (at - 1) // 2
        if lows[parent] <= low:
            break
        lows[at] = lows[parent]
        at = parent
    lows[at] = low
    return size + 1


# -- sign bits


@njit(nogil=True, cache=True)
def scan_bits(
    signs: Any,
    allowed: Any,
    dim: int,
    masks: Any,
    asked: Any,
    start: int,
    stop: int,
    k: int,
    tallies: Any,
    limits: Any,
    belows: Any,
    rows: Any,
    keys: Any,
    counts: Any,
) -> None:
    """Look through rows start … stop - 1 for every query, and keep what may be among its best k.

    signs (words, n) uint64, of which the first len(masks) count; asked (m, words) uint64; allowed as for
    `scan_int8`. Selection is by counting: tallies (m, dim + 1) int64 counts the candidates by how many
    signs differ, belows (m,) int64 how many of them differ in fewer than limits (m,) int64. Candidates:
    rows (m, capacity) int64, keys (m, capacity) float64, the score, and counts (m,) int64.
    """
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
                differing[i] = _popcount((line[i] ^ word) & mask)
            w = 0
            while w + 4 <= last:
                line0, line1 = signs[w, begin:end], signs[w + 1, begin:end]
                line2, line3 = signs[w + 2, begin:end], signs[w + 3, begin:end]
                a, b, c, d = asked[query, w], asked[query, w + 1], asked[query, w + 2], asked[query, w + 3]
                for i in range(size):
                    differing[i] += (
                        _popcount(line0[i] ^ a)
                        + _popcount(line1[i] ^ b)
                        + _popcount(line2[i] ^ c)
                        + _popcount(line3[i] ^ d)
                    )
                w += 4
            while w < last:
                line, word = signs[w, begin:end], asked[query, w]
                for i in range(size):
                    differing[i] += _popcount(line[i] ^ word)
                w += 1
            for i in range(size, whole):
                differing[i] = np.uint64(dim + 1)
            limit, below = limits[query], belows[query]
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
                        counts[query] = _compact(candidates, agreed, capacity, least)
                    at = counts[query]
                    candidates[at], agreed[at] = row, np.float64(dim - 2 * count)
                    counts[query] = at + 1
                    tally[count] += 1
                    below += 1
                    while below - tally[limit - 1] >= k:
                        limit -= 1
                        below -= tally[limit]
                    bound = np.uint64(limit - 1 if below >= k else limit)
            limits[query], belows[query] = limit, below


# -- from pools to answers


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
                    size = _offer(best_keys, best_rows, size, k, some_keys[i], some_rows[i])
        _unload(best_keys, best_rows, size)
        sizes[query] = size


@njit(nogil=True, cache=True)
def best_by_count(
    rows: Any, keys: Any, counts: Any, tallies: Any, dim: int, out_keys: Any, out_rows: Any, sizes: Any
) -> None:
    """As `best_of_pools`, for the pools of `scan_bits`: by counting, since scores are few integers.

    tallies (threads, m, dim + 1) int64. Each thread's candidates are in order of row, so taking always
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
def settle(
    stored: Any,
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

    Pools as of `scan_int8` with a first axis of threads: lows (threads, m, k), held (threads, m). stored
    (n, width) float32, queries (m, dim) float32; the answer as of `best_of_pools`.
    """
    k = out_keys.shape[1]
    looked = 0
    bounds = np.empty(k, np.float64)
    for query in range(rows.shape[1]):
        size = 0
        for thread in range(rows.shape[0]):
            for i in range(held[thread, query]):
                size = _raise(bounds, size, k, lows[thread, query, i])
        bound = bounds[0] if size == k else -np.inf
        size = 0
        asked, best_keys, best_rows = queries[query], out_keys[query], out_rows[query]
        for thread in range(rows.shape[0]):
            some_keys, some_rows = keys[thread, query], rows[thread, query]
            for i in range(counts[thread, query]):
                if some_keys[i] >= bound:
                    row = some_rows[i]
                    score = np.float64(_defined(stored[row], dim, asked))
                    size = _offer(best_keys, best_rows, size, k, score, row)
                    looked += 1
        _unload(best_keys, best_rows, size)
        sizes[query] = size
    return looked


# -- queries


@njit(nogil=True, cache=True)
def truncate(full: Any, dim: int, out: Any) -> None:
    """`vectors.truncate` of a few rows (m, width) float32 into out (m, dim) float32."""
    lanes = np.empty(32, np.float64)
    for query in range(full.shape[0]):
        row = full[query]
        length = _length(row, dim, lanes)
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
        length = _length(row, d, lanes)
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


# -- scores of given rows


@njit(nogil=True)
def _fold(lanes: Any) -> float:
    """The 32 lanes of `vectors.lane_sum`, added by halves."""
    width = 16
    while width > 0:
        for i in range(width):
            lanes[i] += lanes[i + width]
        width //= 2
    return lanes[0]


@njit(nogil=True)
def _length(row: Any, dim: int, lanes: Any) -> float:
    """The length of the first `dim` numbers as `vectors.norms` takes it; 1 for 0. `lanes` is scratch."""
    lanes[:] = 0.0
    whole = dim - dim % 32
    for start in range(0, whole, 32):
        for i in range(32):
            lanes[i] += np.float64(row[start + i]) * np.float64(row[start + i])
    for i in range(dim - whole):
        lanes[i] += np.float64(row[whole + i]) * np.float64(row[whole + i])
    length = math.sqrt(_fold(lanes))
    return length if length > 0.0 else 1.0


@njit(nogil=True)
def _defined(row: Any, dim: int, query: Any) -> np.float32:
    """The defined score of a stored row (width,) float32, cut to `dim`, and a query (dim,) float32."""
    lanes = np.zeros(32, np.float64)
    whole = dim - dim % 32
    if dim == row.shape[0]:
        for start in range(0, whole, 32):
            for i in range(32):
                lanes[i] += np.float64(row[start + i]) * np.float64(query[start + i])
        for i in range(dim - whole):
            lanes[i] += np.float64(row[whole + i]) * np.float64(query[whole + i])
        return np.float32(_fold(lanes))
    length = _length(row, dim, lanes)
    lanes[:] = 0.0
    for start in range(0, whole, 32):
        for i in range(32):
            short = np.float32(np.float64(row[start + i]) / length)
            lanes[i] += np.float64(short) * np.float64(query[start + i])
    for i in range(dim - whole):
        short = np.float32(np.float64(row[whole + i]) / length)
        lanes[i] += np.float64(short) * np.float64(query[whole + i])
    return np.float32(_fold(lanes))


@njit(nogil=True, cache=True)
def score_exact(stored: Any, dim: int, queries: Any, rows: Any, out: Any) -> None:
    """The defined scores of each query's rows (m, c) int64 into out (m, c) float32; -inf for no row."""
    for query in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            row = rows[query, i]
            if row < 0 or row >= stored.shape[0]:
                out[query, i] = -np.inf
            else:
                out[query, i] = _defined(stored[row], dim, queries[query])


@njit(nogil=True, cache=True)
def score_int8(codes: Any, scales: Any, dim: int, asked: Any, units: Any, rows: Any, out: Any) -> None:
    """The int8 scores of each query's rows (m, c) int64 into out (m, c) float32; -inf for no row."""
    sums = np.empty((4, 1), np.int32)
    for query in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            row = rows[query, i]
            if row < 0 or row >= codes.shape[0]:
                out[query, i] = -np.inf
                continue
            _products(codes, row, row + 1, asked, query, 1, dim, sums)
            score = np.float64(sums[0, 0]) * np.float64(scales[row]) * units[query]
            out[query, i] = np.float32(score)


@njit(nogil=True, cache=True)
def score_bits(signs: Any, dim: int, masks: Any, asked: Any, rows: Any, out: Any) -> None:
    """The sign scores of each query's rows (m, c) int64 into out (m, c) float32; -inf for no row."""
    for query in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            row = rows[query, i]
            if row < 0 or row >= signs.shape[1]:
                out[query, i] = -np.inf
                continue
            differing = np.uint64(0)
            for word in range(masks.shape[0]):
                differing += _popcount((signs[word, row] ^ asked[query, word]) & masks[word])
            out[query, i] = np.float32(dim - 2 * np.int64(differing))


@njit(nogil=True, cache=True)
def best_of_rows(scores: Any, rows: Any, out_keys: Any, out_rows: Any, sizes: Any) -> None:
    """The best of each query's rows (m, c) int64 by scores (m, c) float32; row -1 is no row.

    The answer as of `best_of_pools`.
    """
    k = out_keys.shape[1]
    for query in range(rows.shape[0]):
        size = 0
        best_keys, best_rows = out_keys[query], out_rows[query]
        for i in range(rows.shape[1]):
            if rows[query, i] >= 0:
                size = _offer(best_keys, best_rows, size, k, np.float64(scores[query, i]), rows[query, i])
        _unload(best_keys, best_rows, size)
        sizes[query] = size


def _signatures() -> dict[Any, Any]:
    """Each kernel, and the one signature that it is compiled and called with."""

    def given(kind: Any, axes: int) -> Any:
        return types.Array(kind, axes, "C", readonly=True)

    def scratch(kind: Any, axes: int) -> Any:
        return types.Array(kind, axes, "C")

    i8, i16, i64, u8, u64 = types.int8, types.int16, types.int64, types.uint8, types.uint64
    f32, f64, flag = types.float32, types.float64, types.boolean
    stored, scales, allowed = given(f32, 2), given(f32, 1), given(u8, 1)
    integers = scratch(i16, 2)
    per_query, counts = scratch(f64, 1), scratch(i64, 1)
    answer = (scratch(f64, 2), scratch(i64, 2), scratch(i64, 1))
    pools = (scratch(i64, 3), scratch(f64, 3), scratch(i64, 2))
    one_pool = (scratch(i64, 2), scratch(f64, 2), counts)
    words = (scratch(u64, 1), scratch(u64, 2))
    return {
        scan_int8: (
            given(i8, 2), scales, scales, allowed, i64, integers, per_query, per_query, per_query, flag,
            i64, i64, i64, i64, scratch(f64, 2), counts, *one_pool,
        ),
        scan_bits: (
            given(u64, 2), allowed, i64, *words, i64, i64, i64, scratch(i64, 2), counts, counts, *one_pool,
        ),
        best_of_pools: (*pools, scratch(f64, 3), scratch(i64, 2), *answer),
        best_by_count: (*pools, scratch(i64, 3), i64, *answer),
        settle: (stored, i64, scratch(f32, 2), *pools, scratch(f64, 3), scratch(i64, 2), *answer),
        truncate: (scratch(f32, 2), i64, scratch(f32, 2)),
        quantise_queries: (scratch(f32, 2), integers, per_query, per_query, per_query),
        score_exact: (stored, i64, scratch(f32, 2), scratch(i64, 2), scratch(f32, 2)),
        score_int8: (given(i8, 2), scales, i64, integers, per_query, scratch(i64, 2), scratch(f32, 2)),
        score_bits: (given(u64, 2), i64, *words, scratch(i64, 2), scratch(f32, 2)),
        best_of_rows: (scratch(f32, 2), scratch(i64, 2), *answer),
    }  # fmt: skip


SIGNATURES = _signatures()
