"""Scores of 64 rows at once from one-bit codes, by look-ups in registers.

Four signs of a row are an index into a table of 16 sums of four of the query's integers. An instruction
looks up 16 to 64 such indexes. Each table has what agrees: S is the sum of |z| where the signs of row and
query are equal, at most 127 for four numbers; with T, the sum of all |z|, the score is (2 S - T) x the row's
factor. Sums of two tables fit into bytes, and all of them into 16 bits (`short_codes.small_queries`).

Processors without AVX2 take plain loops, with the same results.
"""

import math

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from resizable_search.engine.kernels.basics import (
    FEATURES,
    I8,
    I16,
    I32,
    I64,
    by_halves,
    call,
    pointer_to,
    prefetch,
    shuffle,
    splat,
)
from resizable_search.engine.short_codes import CODE_ROWS, HEAD

BLOCKS_AHEAD = 2
"""Blocks that a scan prefetches ahead; 1 to 8 make no difference, 0 takes a third longer."""

_F32 = ir.FloatType()
_BYTES, _WORDS, _FLOATS = ir.VectorType(I8, 64), ir.VectorType(I16, 32), ir.VectorType(_F32, 16)

_uint8 = pointer_to(types.uint8)


def _look_up(builder, table, indexes):
    """The bytes of a table <16 x i8> at indexes <64 x i8>, each below 16."""
    everywhere = shuffle(builder, table, list(range(16)) * 4)
    if "+avx512bw" in FEATURES:
        return call(builder, "llvm.x86.avx512.pshuf.b.512", _BYTES, everywhere, indexes)
    half = ir.VectorType(I8, 32)
    return by_halves(builder, "llvm.x86.avx2.pshuf.b", half, (everywhere, indexes))


def _in_registers(count):
    """An intrinsic as `_plain`, for AVX2 and AVX-512."""

    @intrinsic
    def look_up(context, address, step, lines, tables, first, totals, bounds, keys, masks):
        signature = types.void(
            types.int64, types.int64, types.int64, tables, types.int64, totals, bounds, keys, masks
        )

        def generate(context, builder, signature, arguments):
            address, step, lines, _, first, *_ = arguments
            kinds, number = signature.args, lambda value: ir.Constant(I64, value)

            def array_of(which):
                return context.make_array(kinds[which])(context, builder, arguments[which])

            def start_of(which, kind):
                return builder.bitcast(array_of(which).data, kind.as_pointer())

            def load(pointer, offset, kind):
                typed = builder.bitcast(builder.gep(pointer, [offset]), kind.as_pointer())
                return builder.load(typed, align=1)

            stride = builder.extract_value(array_of(3).strides, 0)
            own_tables = builder.gep(start_of(3, I8), [builder.mul(first, stride)])
            block = builder.inttoptr(address, I8.as_pointer())
            codes = builder.gep(block, [number(HEAD * CODE_ROWS)])
            later = builder.gep(block, [builder.mul(step, number(BLOCKS_AHEAD))])
            for line in range(HEAD):
                prefetch(builder, builder.gep(later, [number(line * CODE_ROWS)]))
            later = builder.gep(later, [number(HEAD * CODE_ROWS)])
            sums = [
                [cgutils.alloca_once_value(builder, splat(_WORDS, 0)) for _ in range(2)] for _ in range(count)
            ]
            with cgutils.for_range(builder, lines) as loop:
                offset = builder.mul(loop.index, number(CODE_ROWS))
                prefetch(builder, builder.gep(later, [offset]))
                signs, low = load(codes, offset, _BYTES), splat(_BYTES, 15)
                shifted = builder.lshr(builder.bitcast(signs, _WORDS), splat(_WORDS, 4))
                indexes = builder.and_(signs, low), builder.and_(builder.bitcast(shifted, _BYTES), low)
                for query, (both, upper) in enumerate(sums):
                    place = builder.add(
                        builder.mul(loop.index, number(32)), builder.mul(stride, number(query))
                    )
                    found = [
                        _look_up(
                            builder,
                            load(own_tables, builder.add(place, number(16 * i)), ir.VectorType(I8, 16)),
                            indexes[i],
                        )
                        for i in range(2)
                    ]
                    pair = builder.bitcast(builder.add(*found), _WORDS)
                    builder.store(builder.add(builder.load(both), pair), both)
                    odd = builder.lshr(pair, splat(_WORDS, 8))
                    builder.store(builder.add(builder.load(upper), odd), upper)
            wide = ir.VectorType(I32, 16)
            factors = []
            for group in range(4):
                half = load(block, number(32 * group), ir.VectorType(I16, 16))
                factors.append(
                    builder.bitcast(builder.shl(builder.zext(half, wide), splat(wide, 16)), _FLOATS)
                )

            def everywhere(which, query):
                pointer = builder.gep(start_of(which, _F32), [builder.add(first, number(query))])
                one = ir.Constant(_FLOATS, ir.Undefined)
                one = builder.insert_element(one, builder.load(pointer), ir.Constant(I32, 0))
                return shuffle(builder, one, [0] * 16)

            for query, (both, upper) in enumerate(sums):
                odd = builder.load(upper)
                even = builder.sub(builder.load(both), builder.shl(odd, splat(_WORDS, 8)))
                total, bound = everywhere(5, query), everywhere(6, query)
                mask = number(0)
                for group in range(4):
                    places = [place for i in range(8 * group, 8 * group + 8) for place in (i, 32 + i)]
                    agree = builder.zext(shuffle(builder, even, places, odd), wide)
                    agree = builder.sitofp(agree, _FLOATS)
                    key = builder.fsub(builder.fadd(agree, agree), total)
                    key = builder.fmul(key, factors[group])
                    out = builder.gep(start_of(7, _F32), [number(CODE_ROWS * query + 16 * group)])
                    builder.store(key, builder.bitcast(out, _FLOATS.as_pointer()), align=4)
                    reaches = builder.bitcast(builder.fcmp_ordered(">=", key, bound), I16)
                    placed = builder.shl(builder.zext(reaches, I64), number(16 * group))
                    mask = builder.or_(mask, placed)
                builder.store(mask, builder.gep(start_of(8, I64), [number(query)]))
            return context.get_dummy_value()

        return signature, generate

    return look_up


def plain_look_up(count):
    """A function: the scores of a block's rows for `count` queries.

    Called as look_up(address, step, lines, tables, first, totals, bounds, keys, masks). A block of `lines`
    lines of signs is at `address`, the next one `step` bytes further on. tables (m, 2 x lines, 16) uint8,
    totals and bounds (m,) float32 are those of all queries, of which `first` and the next ones are meant.
    keys (count, 64) float32 become the scores, masks (count,) uint64 which of them reach the bound.
    """

    @njit(nogil=True)
    def look_up(address, step, lines, tables, first, totals, bounds, keys, masks):
        codes = carray(_uint8(address), (HEAD + lines, CODE_ROWS))
        factors = factors_of(address)
        for query in range(first, first + count):
            mask = np.uint64(0)
            for i in range(CODE_ROWS):
                agree = np.int64(0)
                for line in range(lines):
                    signs = codes[HEAD + line, i]
                    agree += tables[query, 2 * line, signs & 15] + tables[query, 2 * line + 1, signs >> 4]
                key = (np.float32(2 * agree) - totals[query]) * factor_at(factors, i)
                keys[query - first, i] = key
                mask |= np.uint64(key >= bounds[query]) << np.uint64(i)
            masks[query - first] = mask

    return look_up


_uint16 = pointer_to(types.uint16)


@njit(nogil=True, inline="always")
def factors_of(address):
    """The factors of a block's rows: (64,) uint16, the upper halves of float32 numbers."""
    return carray(_uint16(address), (CODE_ROWS,))


@njit(nogil=True, inline="always")
def factor_at(factors, i):
    """A factor as float32."""
    return float_of(np.uint64(factors[i]) << np.uint64(16))


@intrinsic
def bits_of(context, number):
    """The 32 bits of a float32, as uint64."""

    def generate(context, builder, signature, arguments):
        return builder.zext(builder.bitcast(arguments[0], I32), I64)

    return types.uint64(types.float32), generate


@intrinsic
def float_of(context, bits):
    """The float32 of these 32 bits."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(builder.trunc(arguments[0], I32), _F32)

    return types.float32(types.uint64), generate


@intrinsic
def lowest_bit(context, word):
    """The number of the lowest bit of a word that is 1."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


_make = _in_registers if "+avx2" in FEATURES else plain_look_up
look_up_1, look_up_4 = _make(1), _make(4)


@njit(nogil=True)
def make_tables(queries, limit, tables, totals):
    """The tables (m, groups, 16) uint8 of queries (m, d) float32, and their sums of all |z| (m,) float32.

    The integers z are those of `short_codes.small_queries`; groups is d / 4, padded to an even number.
    """
    m, d = queries.shape
    groups = tables.shape[1]
    z = np.zeros(4 * groups, np.int64)
    for query in range(m):
        row = queries[query]
        largest = 0.0
        for group in range(groups):
            four = 0.0
            for i in range(4 * group, min(4 * group + 4, d)):
                four += abs(np.float64(row[i]))
            largest = max(largest, four)
        _, exponent = math.frexp((limit - 2) / (largest if largest > 0.0 else 1.0))
        total = 0
        for i in range(d):
            z[i] = np.int64(np.rint(math.ldexp(np.float64(row[i]), exponent - 1)))
            total += abs(z[i])
        totals[query] = np.float32(total)
        for group in range(groups):
            for index in range(16):
                agree = 0
                for i in range(4):
                    number = z[4 * group + i]
                    if (number > 0) == (index >> i & 1):
                        agree += abs(number)
                tables[query, group, index] = agree
