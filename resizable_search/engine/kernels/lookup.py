"""Scores of 64 rows at once from one-bit codes, by look-ups in registers.

Four signs of a row are an index into a table of 16 sums of four of the query's integers; six, where the
processor looks up 64 bytes, into one of 64. An instruction looks up 16 to 64 such indexes. Each table has
what agrees: S is the sum of |z| where the signs of row and query are equal, at most 63 in a table; with T,
the sum of all |z|, the score is (2 S - T) x the row's factor. Sums of four tables fit into bytes, and all of
them into 16 bits (`short_codes.small_queries`).

Processors without AVX2 take plain loops, with the same results.
"""

from functools import reduce

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
from resizable_search.engine.short_codes import CODE_ROWS, HEAD, table_limit

BLOCKS_AHEAD = 4  # that a scan prefetches: as fast as memory is read; 2 or 6 take a sixth longer

_F32 = ir.FloatType()
_BYTES, _WORDS, _FLOATS = ir.VectorType(I8, 64), ir.VectorType(I16, 32), ir.VectorType(_F32, 16)

_uint8 = pointer_to(types.uint8)
_table_limit = njit(nogil=True)(table_limit)


def _tables_of_64():
    """Whether an instruction looks up 64 bytes of a table of 64."""
    return "+avx512vbmi" in FEATURES


def _look_up(builder, table, indexes):
    """The bytes of a table <n x i8> at the lower four or six bits of indexes <64 x i8>."""
    if table.type.count == 64:
        return call(builder, "llvm.x86.avx512.permvar.qi.512", _BYTES, table, indexes)
    everywhere = shuffle(builder, table, list(range(16)) * 4)
    if "+avx512bw" in FEATURES:
        return call(builder, "llvm.x86.avx512.pshuf.b.512", _BYTES, everywhere, indexes)
    half = ir.VectorType(I8, 32)
    return by_halves(builder, "llvm.x86.avx2.pshuf.b", half, (everywhere, indexes))


def _indexes(builder, signs):
    """The indexes <64 x i8> into the tables of one to three lines of signs, as `number_of` orders them."""

    def shifted(line, bits):
        moved = builder.lshr(builder.bitcast(line, _WORDS), splat(_WORDS, bits))
        return builder.bitcast(moved, _BYTES)

    def mixed(low, high, bits):
        mask = (1 << bits) - 1
        return builder.or_(
            builder.and_(low, splat(_BYTES, mask)), builder.and_(high, splat(_BYTES, 255 - mask))
        )

    if not _tables_of_64():
        halves = [half for line in signs for half in (line, shifted(line, 4))]
        return [builder.and_(each, splat(_BYTES, 15)) for each in halves]
    if len(signs) == 1:
        return [signs[0], shifted(signs[0], 6)]
    rest = [shifted(line, bits) for line, bits in zip(signs, (6, 4, 2), strict=True)]
    return [*signs, mixed(mixed(rest[0], rest[1], 2), rest[2], 4)]


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
            table, line, place = ir.VectorType(I8, 64 if _tables_of_64() else 16), number(0), number(0)
            for together in (3 if _tables_of_64() else 2, 1):
                turns = builder.sdiv(builder.sub(lines, line), number(together))
                with cgutils.for_range(builder, turns) as loop:
                    here = builder.add(line, builder.mul(loop.index, number(together)))
                    offset, signs = builder.mul(here, number(CODE_ROWS)), []
                    for i in range(together):
                        prefetch(builder, builder.gep(later, [builder.add(offset, number(i * CODE_ROWS))]))
                        signs.append(load(codes, builder.add(offset, number(i * CODE_ROWS)), _BYTES))
                    indexes = _indexes(builder, signs)
                    bytes_of_turn = number(len(indexes) * table.count)
                    at = builder.add(place, builder.mul(loop.index, bytes_of_turn))
                    for query, (both, upper) in enumerate(sums):
                        own = builder.add(at, builder.mul(stride, number(query)))
                        found = [
                            _look_up(
                                builder,
                                load(own_tables, builder.add(own, number(i * table.count)), table),
                                each,
                            )
                            for i, each in enumerate(indexes)
                        ]
                        pairs = builder.bitcast(reduce(builder.add, found), _WORDS)
                        builder.store(builder.add(builder.load(both), pairs), both)
                        odd = builder.lshr(pairs, splat(_WORDS, 8))
                        builder.store(builder.add(builder.load(upper), odd), upper)
                line = builder.add(line, builder.mul(turns, number(together)))
                place = builder.add(place, builder.mul(turns, bytes_of_turn))
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
    lines of signs is at `address`, the next one `step` bytes further on. tables (`new_tables`), totals and
    bounds (m,) float32 are those of all queries, of which `first` and the next ones are meant.
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
WIDE = _tables_of_64()


@njit(nogil=True)
def new_tables(m, lines, wide):
    """Room for the tables of m queries: (m, tables, 64 or 16) uint8, aligned, as loads of 64 bytes prefer."""
    tables, size = (4 * (lines // 3) + 2 * (lines % 3), 64) if wide else (2 * lines, 16)
    room = np.empty(m * tables * size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + m * tables * size].reshape(m, tables, size)


@njit(nogil=True, inline="always")
def number_of(table, bit, lines, wide):
    """The number of a query that a bit of an index into a table stands for; 8 x lines for none.

    Of three lines the first three tables have the lower six bits each, the fourth the upper two of each. Of
    a line that is left over, one table has six bits, and one has two.
    """
    if not wide:
        return 4 * table + bit
    threes = lines // 3
    if table < 4 * threes:
        line, kind = 3 * (table // 4), table % 4
        return 8 * (line + kind) + bit if kind < 3 else 8 * (line + bit // 2) + 6 + bit % 2
    line, is_upper = 3 * threes + (table - 4 * threes) // 2, table % 2
    if is_upper and bit > 1:
        return 8 * lines
    return 8 * line + 6 * is_upper + bit


@njit(nogil=True)
def make_tables(queries, d, tables, totals):
    """Fill the tables of the first d numbers of queries (m, d or more) float32, and their sums of |z| (m,).

    z is as in `small_queries`.
    """
    m = queries.shape[0]
    lines, wide = (d + 7) // 8, tables.shape[2] == 64
    z, size = np.zeros(8 * lines + 1, np.int64), np.zeros(8 * lines)
    for query in range(m):
        largest = three = 0.0
        for i in range(d):
            size[i] = abs(np.float64(queries[query, i]))
        for line in range(lines):
            a, b, c, e, f, g, h, i = size[8 * line : 8 * line + 8]
            four, two = a + b + c + e, h + i
            three = two if line % 3 == 0 else three + two
            largest = max(largest, four + f + g, f + g + h + i, three)
        scale = (_table_limit(d) - 3) / (largest if largest > 0.0 else 1.0)
        total = 0
        for i in range(d):
            z[i] = np.int64(np.rint(np.float64(queries[query, i]) * scale))
            total += abs(z[i])
        totals[query] = np.float32(total)
        for table in range(tables.shape[1]):
            own = tables[query, table]
            agree = 0  # with a row that is below the mean everywhere
            for bit in range(6 if wide else 4):
                agree -= min(z[number_of(table, bit, lines, wide)], 0)
            own[0] = agree
            for bit in range(6 if wide else 4):
                more = z[number_of(table, bit, lines, wide)]
                for index in range(1 << bit):
                    own[index + (1 << bit)] = own[index] + more
