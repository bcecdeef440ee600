"""The first pass of an exact scan: codes of four bits, which leave a few rows to the int8 codes.

One instruction multiplies 64 bytes with signed bytes where the processor has AVX-512, 32 where it has AVX2.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from resizable_search.engine.kernels.basics import (
    AHEAD,
    FEATURES,
    I8,
    I16,
    I32,
    I64,
    by_halves,
    call,
    four_bit_bounds_of,
    four_bit_of,
    multiply_add,
    neighbours_added,
    prefetch,
    splat,
)
from resizable_search.engine.kernels.rows import bounds_of_error, length_of
from resizable_search.engine.kernels.scan import scan_rows_by
from resizable_search.engine.short_codes import FOUR_BIT_LINE

TOGETHER = 4  # rows

_BYTES, _WORDS, _SUMS = ir.VectorType(I8, 64), ir.VectorType(I16, 32), ir.VectorType(I32, 16)


def _pairs(builder, codes, numbers):
    """Sums of neighbouring products of <64 x i8>, codes below 16 with signed numbers: <32 x i16>."""
    if "+avx512bw" in FEATURES:
        return call(builder, "llvm.x86.avx512.pmaddubs.w.512", _WORDS, codes, numbers)
    if "+avx2" in FEATURES:
        return by_halves(builder, "llvm.x86.avx2.pmadd.ub.sw", ir.VectorType(I16, 16), (codes, numbers))
    wide = ir.VectorType(I16, 64)
    return neighbours_added(builder, builder.mul(builder.zext(codes, wide), builder.sext(numbers, wide)))


@intrinsic
def _tile(context, codes, row, query_codes, query, out, column):
    """out[column + i] becomes the sum of the codes of row + i times the query's numbers; TOGETHER rows."""
    signature = types.void(codes, types.int64, query_codes, types.int64, out, types.int64)

    def generate(context, builder, signature, arguments):
        codes, row, query_codes, query, out, column = arguments
        kinds, number = signature.args, lambda value: ir.Constant(I64, value)
        arrays = [
            context.make_array(kind)(context, builder, value)
            for kind, value in ((kinds[0], codes), (kinds[2], query_codes), (kinds[4], out))
        ]
        width, stride = (builder.extract_value(array.strides, 0) for array in arrays[:2])
        starts = [builder.bitcast(array.data, I8.as_pointer()) for array in arrays[:2]]
        lines = [
            builder.gep(starts[0], [builder.mul(width, builder.add(row, number(i)))]) for i in range(TOGETHER)
        ]
        numbers = builder.gep(starts[1], [builder.mul(stride, query)])

        def load(pointer, offset):
            typed = builder.bitcast(builder.gep(pointer, [offset]), _BYTES.as_pointer())
            return builder.load(typed, align=1)

        sums = [cgutils.alloca_once_value(builder, splat(_SUMS, 0)) for _ in lines]
        with cgutils.for_range(builder, builder.udiv(width, number(FOUR_BIT_LINE))) as loop:
            offset = builder.mul(loop.index, number(FOUR_BIT_LINE))
            lower, upper = load(numbers, offset), load(numbers, builder.add(offset, width))
            for line, total in zip(lines, sums, strict=True):
                prefetch(builder, builder.gep(line, [builder.add(offset, number(AHEAD))]))
                both, low = load(line, offset), splat(_BYTES, 15)
                shifted = builder.lshr(builder.bitcast(both, _WORDS), splat(_WORDS, 4))
                halves = builder.and_(both, low), builder.and_(builder.bitcast(shifted, _BYTES), low)
                pairs = builder.add(_pairs(builder, halves[0], lower), _pairs(builder, halves[1], upper))
                more = multiply_add(builder, pairs, splat(_WORDS, 1))
                builder.store(builder.add(builder.load(total), more), total)
        for i, total in enumerate(sums):
            whole = call(builder, "llvm.vector.reduce.add.v16i32", I32, builder.load(total))
            index = builder.add(column, number(i))
            builder.store(whole, builder.gep(arrays[2].data, [index]))
        return context.get_dummy_value()

    return signature, generate


@njit(nogil=True)
def _products(codes, start, stop, query_codes, first, count, dim, sums):
    """As `basics.products`, of levels: sums[j, row - start] = sum of (2 code - 15) x the query's number."""
    width = codes.shape[1]
    for j in range(count):
        query, line = first + j, sums[j]
        offset = 0
        for i in range(dim):
            offset += 15 * np.int32(query_codes[query, i])
        row = start
        while row + TOGETHER <= stop:
            _tile(codes, row, query_codes, query, line, row - start)
            row += TOGETHER
        while row < stop:
            total = 0
            for i in range(width):
                total += np.int32(codes[row, i] & 15) * np.int32(query_codes[query, i])
                total += np.int32(codes[row, i] >> 4) * np.int32(query_codes[query, width + i])
            line[row - start] = total
            row += 1
        for i in range(stop - start):
            line[i] = 2 * line[i] - offset


_scan_rows = scan_rows_by(_products, four_bit_of, four_bit_bounds_of)


@njit(nogil=True)
def quantise_to_bytes(queries, width):
    """As `quantise_queries`, in bytes (m, 2 x width), for codes that are levels around a mean."""
    m, d = queries.shape
    codes = np.zeros((m, 2 * width), np.int8)
    units, factors, bases = np.empty(m), np.empty(m), np.empty(m)
    lanes = np.empty(32, np.float64)
    for query in range(m):
        row, largest, error = queries[query], 0.0, 0.0
        for i in range(d):
            largest = max(largest, abs(np.float64(row[i])))
        unit = largest / 127 if largest > 0.0 else 1.0
        for i in range(d):
            code = np.rint(np.float64(row[i]) / unit)
            codes[query, i] = np.int8(code)
            error += (np.float64(row[i]) - code * unit) ** 2
        units[query] = unit / 2  # products are of twice the levels
        length = length_of(row, d, lanes) if largest > 0.0 else 0.0
        # The mean may add as much to a row as the row is long.
        factors[query], bases[query] = bounds_of_error(length, 2 * np.sqrt(error))
    return codes, units, factors, bases


@njit(nogil=True, cache=True)
def scan_four_bit(
    table, dim, queries, floors, progress, chunk, k, limit, lower, lower_sizes, rows, keys, counts
):
    """As `scan_int8` if exact, by codes of four bits: scores lack what the mean adds to all rows.

    floors (m,) float64: k rows of each query have at least this score, less what the mean adds.
    """
    for query in range(queries.shape[0]):
        if lower_sizes[query] == 0 and floors[query] > -np.inf:
            lower[query, :], lower_sizes[query] = floors[query], k
    integers = quantise_to_bytes(queries, four_bit_of(table, 0).shape[1])
    return _scan_rows(
        table, dim, integers, True, progress, chunk, k, limit, lower, lower_sizes, rows, keys, counts
    )
