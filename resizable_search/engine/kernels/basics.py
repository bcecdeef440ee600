"""What the kernels are made of: heaps, the arrays of one part, integer products, prefetching.

The worst entry is at the top of a heap; of equal entries the one in a later row is worse. The arrays of a
part are given by their addresses in a table (`engine.parts`).

Products of int8 codes with queries of int16 are LLVM instructions, chosen by what the processor has: numba
would sum in 64 bits, and no compiler finds the instruction that multiplies and adds pairs.
"""

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import carray, config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from resizable_search.engine import parts as columns

LANES = 32  # numbers that one step of an int8 product takes; the length of queries is a multiple of it
AHEAD = 4096  # bytes that the scan of a single query prefetches; 1024 and 8192 were slower or no faster
CACHE_LINE = 64  # bytes that a processor fetches at once
FEATURES = config.CPU_FEATURES or get_host_cpu_features().flatten()  # as '+avx2,-avx512f,…'
I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


@njit(nogil=True, inline="always")
def worse(key, row, other_key, other_row):
    """Whether an entry is worse than another: a lower key, or the same key in a later row."""
    return key < other_key or (key == other_key and row > other_row)


@njit(nogil=True)
def sink(keys, rows, size, key, row):
    """Replace the top entry, and restore the order of the heap."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        right = child + 1
        if right < size and worse(keys[right], rows[right], keys[child], rows[child]):
            child = right
        if not worse(keys[child], rows[child], key, row):
            break
        keys[at], rows[at] = keys[child], rows[child]
        at = child
    keys[at], rows[at] = key, row


@njit(nogil=True)
def offer(keys, rows, size, k, key, row):
    """Add an entry if it is among the best k so far. Returns the size of the heap."""
    if size == k:
        if worse(keys[0], rows[0], key, row):
            sink(keys, rows, size, key, row)
        return size
    at = size
    while at > 0:
        parent = (at - 1) // 2
        if not worse(key, row, keys[parent], rows[parent]):
            break
        keys[at], rows[at] = keys[parent], rows[parent]
        at = parent
    keys[at], rows[at] = key, row
    return size + 1


@njit(nogil=True)
def finish(keys, rows, size):
    """Turn a heap into a list, best first, with -inf and -1 where no entry is."""
    for last in range(size - 1, 0, -1):
        key, row = keys[last], rows[last]
        keys[last], rows[last] = keys[0], rows[0]
        sink(keys, rows, last, key, row)
    keys[size:] = -np.inf
    rows[size:] = -1


@njit(nogil=True)
def offer_lower(lower, size, k, value):
    """Add a lower bound to the heap of the k highest. Returns the size of the heap."""
    if size == k:
        if value <= lower[0]:
            return size
        at = 0
        while True:
            child = 2 * at + 1
            if child >= size:
                break
            if child + 1 < size and lower[child + 1] < lower[child]:
                child += 1
            if lower[child] >= value:
                break
            lower[at] = lower[child]
            at = child
        lower[at] = value
        return size
    at = size
    while at > 0:
        parent = (at - 1) // 2
        if lower[parent] <= value:
            break
        lower[at] = lower[parent]
        at = parent
    lower[at] = value
    return size + 1


@njit(nogil=True)
def compact(rows, keys, count, bound):
    """Drop the candidates whose key is below the bound. Returns the number left."""
    left = 0
    for i in range(count):
        if keys[i] >= bound:
            rows[left], keys[left] = rows[i], keys[i]
            left += 1
    return left


def pointer_to(kind):
    """An intrinsic that turns an address into a pointer to numbers of a kind."""

    @intrinsic
    def pointer(context, address):
        def generate(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return pointer


_int8, _uint8 = pointer_to(types.int8), pointer_to(types.uint8)
_float32 = pointer_to(types.float32)


def _matrix(pointer, address, lines, width):
    @njit(nogil=True)
    def matrix_of(table, part):
        return carray(pointer(table[part, address]), (table[part, lines], table[part, width]))

    return matrix_of


def _vector(pointer, address):
    @njit(nogil=True)
    def vector_of(table, part):
        return carray(pointer(table[part, address]), (table[part, columns.ROWS],))

    return vector_of


# Of a part: its stored rows (n, width), their codes in int8 and in four bits (n, width), what int8 codes are
# multiplied by (n,), and the distance of the rows from these (n,).
stored_of = _matrix(_float32, columns.STORED, columns.ROWS, columns.WIDTH)
codes_of = _matrix(_int8, columns.CODES, columns.ROWS, columns.CODES_WIDTH)
four_bit_of = _matrix(_uint8, columns.CODES, columns.ROWS, columns.CODES_WIDTH)
steps_of = _vector(_float32, columns.STEPS)
errors_of = _vector(_float32, columns.ERRORS)


@njit(nogil=True)
def allowed_of(table, part):
    """(n,) uint8: which of its rows a search may return; (0,) if all."""
    count = table[part, columns.ROWS] if table[part, columns.ALLOWED] != 0 else 0
    return carray(_uint8(table[part, columns.ALLOWED]), (count,))


@njit(nogil=True)
def bounds_of(table, part):
    """The steps and errors of the int8 codes: (n,) float32 each."""
    return steps_of(table, part), errors_of(table, part)


@njit(nogil=True)
def four_bit_bounds_of(table, part):
    """The steps and errors of the codes in four bits: (n,) float32 each."""
    bounds = carray(_float32(table[part, columns.STEPS]), (2, table[part, columns.ROWS]))
    return bounds[0], bounds[1]


@njit(nogil=True)
def span_of(rows, count, at, first, stop):
    """The range, from `at` on, of those of `count` ascending rows that are within first … stop - 1."""
    while at < count and rows[at] < first:
        at += 1
    end = at
    while end < count and rows[end] < stop:
        end += 1
    return at, end


def splat(kind, value):
    """A constant vector with the same number everywhere."""
    return ir.Constant(kind, [value] * kind.count)


def shuffle(builder, a, places, b=None):
    """The numbers at these places of a vector, or of two behind each other."""
    mask = ir.Constant(ir.VectorType(I32, len(places)), list(places))
    return builder.shuffle_vector(a, ir.Constant(a.type, ir.Undefined) if b is None else b, mask)


def by_halves(builder, name, result, vectors):
    """The vector <n> that an intrinsic makes of vectors, half by half: `result` is of half the size."""
    count, halves = vectors[0].type.count // 2, []
    for places in (range(count), range(count, 2 * count)):
        halves.append(call(builder, name, result, *(shuffle(builder, each, places) for each in vectors)))
    return shuffle(builder, halves[0], range(2 * result.count), halves[1])


def multiply_add(builder, a, b):
    """Sums of neighbouring products of two <32 x i16>: <16 x i32>, by one instruction if there is one."""
    if "+avx512bw" in FEATURES:
        return call(builder, "llvm.x86.avx512.pmaddw.d.512", ir.VectorType(I32, 16), a, b)
    if "+avx2" in FEATURES:
        return by_halves(builder, "llvm.x86.avx2.pmadd.wd", ir.VectorType(I32, 8), (a, b))
    wide = ir.VectorType(I32, LANES)
    return neighbours_added(builder, builder.mul(builder.sext(a, wide), builder.sext(b, wide)))


def neighbours_added(builder, vector):
    """The sums of neighbouring numbers."""
    return builder.add(*(shuffle(builder, vector, range(i, vector.type.count, 2)) for i in (0, 1)))


def call(builder, name: str, result, *arguments):
    """Call an LLVM intrinsic."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


TAKEN, DONE = 0, 1  # places of the rows that were taken and scanned, in a scan's progress (2,) int64


@intrinsic
def add_rows(context, progress, place, count):
    """Add rows to a place of the progress, which other threads share. Returns what it had before."""

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.atomic_rmw("add", builder.gep(array.data, [arguments[1]]), arguments[2], "seq_cst")

    return types.int64(progress, types.int64, types.int64), generate


@njit(nogil=True)
def rows_of(table):
    """The number of rows of all parts."""
    return table[-1, columns.FIRST] + table[-1, columns.ROWS]


def _tile(rows, queries, *, prefetches=False):
    """An intrinsic: integer products of some consecutive rows of codes with some consecutive queries.

    `prefetches`: prefetch what lies AHEAD bytes further on. The processor's own prefetching stops at the
    end of each page; this one saves a quarter of the time of a scan.

    Called as tile(codes, row, query_codes, query, steps, out, column): out[j, column + i] becomes the sum
    over the first LANES x steps numbers of codes[row + i] * query_codes[query + j].
    """

    @intrinsic
    def tile(context, codes, row, query_codes, query, steps, out, column):
        signature = types.void(codes, types.int64, query_codes, types.int64, types.int64, out, types.int64)

        def generate(context, builder, signature, arguments):
            codes, row, query_codes, query, steps, out, column = arguments
            kinds = signature.args
            arrays = [
                context.make_array(kind)(context, builder, value)
                for kind, value in ((kinds[0], codes), (kinds[2], query_codes), (kinds[5], out))
            ]
            strides = [builder.extract_value(array.strides, 0) for array in arrays]
            starts = [builder.bitcast(array.data, I8.as_pointer()) for array in arrays]

            def line(which: int, first, number: int):
                index = builder.add(first, ir.Constant(I64, number))
                return builder.gep(starts[which], [builder.mul(index, strides[which])])

            def load(pointer, offset, kind):
                typed = builder.bitcast(builder.gep(pointer, [offset]), kind.as_pointer())
                return builder.load(typed, align=1)

            lines = [line(0, row, i) for i in range(rows)]
            query_lines = [line(1, query, j) for j in range(queries)]
            zero = ir.Constant(ir.VectorType(I32, 16), [0] * 16)
            sums = [[cgutils.alloca_once_value(builder, zero) for _ in query_lines] for _ in lines]
            with cgutils.for_range(builder, steps) as loop:
                offset = builder.mul(loop.index, ir.Constant(I64, LANES))
                double = builder.mul(loop.index, ir.Constant(I64, 2 * LANES))
                values = [load(pointer, double, ir.VectorType(I16, LANES)) for pointer in query_lines]
                for pointer, own in zip(lines, sums, strict=True):
                    if prefetches:
                        ahead = builder.add(offset, ir.Constant(I64, AHEAD))
                        prefetch(builder, builder.gep(pointer, [ahead]))
                    narrow = load(pointer, offset, ir.VectorType(I8, LANES))
                    wide = builder.sext(narrow, ir.VectorType(I16, LANES))
                    for value, total in zip(values, own, strict=True):
                        more = multiply_add(builder, wide, value)
                        builder.store(builder.add(builder.load(total), more), total)
            for j in range(queries):
                target = builder.bitcast(line(2, ir.Constant(I64, 0), j), I32.as_pointer())
                for i in range(rows):
                    whole = call(builder, "llvm.vector.reduce.add.v16i32", I32, builder.load(sums[i][j]))
                    index = builder.add(column, ir.Constant(I64, i))
                    builder.store(whole, builder.gep(target, [index]))
            return context.get_dummy_value()

        return signature, generate

    return tile


def prefetch(builder, pointer):
    """Prefetch into the second cache, as the first waits for few lines at once; any address is harmless."""
    read, keep, data = (ir.Constant(I32, number) for number in (0, 2, 1))
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, *[I32] * 3])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [pointer, read, keep, data])


@intrinsic
def _prefetch_byte(context, array, offset):
    """Prefetch the memory at this byte of an array; an address outside of it is harmless."""

    def generate(context, builder, signature, arguments):
        made = context.make_array(signature.args[0])(context, builder, arguments[0])
        prefetch(builder, builder.gep(builder.bitcast(made.data, I8.as_pointer()), [arguments[1]]))
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@njit(nogil=True)
def prefetch_row(array, row, row_bytes, wanted):
    """Prefetch the first `wanted` bytes of a row."""
    for offset in range(0, wanted, CACHE_LINE):
        _prefetch_byte(array, row * row_bytes + offset)


_tile_1x1 = _tile(1, 1)
_tile_1x1_ahead = _tile(1, 1, prefetches=True)
_tile_4x4 = _tile(4, 4)


@njit(nogil=True)
def products(codes, start, stop, query_codes, first, count, dim, sums):
    """The integer products of rows start … stop - 1 with `count` queries, as sums[j, row - start]."""
    n, width = codes.shape
    padded = query_codes.shape[1]
    steps = padded // LANES
    # A step may read beyond the row, where the query is zero, but never beyond the file.
    safe = n if padded <= width else max(0, n - (padded - width + width - 1) // width)
    safe = min(max(safe, start), stop)
    row = start
    if count == 4:
        while row + 4 <= safe:
            _tile_4x4(codes, row, query_codes, first, steps, sums, row - start)
            row += 4
    for j in range(count):
        line = sums[j : j + 1]
        if j == 0:
            for r in range(row, safe):
                _tile_1x1_ahead(codes, r, query_codes, first, steps, line, r - start)
        else:
            for r in range(row, safe):
                _tile_1x1(codes, r, query_codes, first + j, steps, line, r - start)
        for r in range(safe, stop):
            total = 0
            for i in range(dim):
                total += np.int64(codes[r, i]) * np.int64(query_codes[first + j, i])
            sums[j, r - start] = total


@njit(nogil=True)
def product(codes, row, query_codes, query, dim, sums):
    """The integer product of one row with one query; sums (1, 1) int32 is scratch."""
    n, width = codes.shape
    padded = query_codes.shape[1]
    if (n - row) * width >= padded:  # a step may read beyond the row, but never beyond the file
        _tile_1x1(codes, row, query_codes, query, padded // LANES, sums, 0)
        return np.int64(sums[0, 0])
    total = 0
    for i in range(dim):
        total += np.int64(codes[row, i]) * np.int64(query_codes[query, i])
    return total
