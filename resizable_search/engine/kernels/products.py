"""Integer products of rows of int8 codes with queries of int16: tiles in LLVM's own language.

numba makes sums of 64 bits of them, and no compiler finds the instruction that multiplies and adds
pairs; so the innermost loops are written as LLVM instructions, with what the processor has.
"""

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

CACHE_LINE = 64
"""Bytes that a processor fetches at once."""

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


@intrinsic
def _ask(context: Any, array: Any, offset: Any) -> Any:
    """Have the processor fetch what lies at this byte of an array; nothing comes of one outside it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(signature.args[0])(context, builder, arguments[0])
        _prefetch(builder, builder.gep(builder.bitcast(made.data, _I8.as_pointer()), [arguments[1]]))
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@njit(nogil=True)
def ask_for_row(array: Any, row: int, row_bytes: int, wanted: int) -> None:
    """Have the processor fetch the first `wanted` bytes of a row that is about to be read."""
    for offset in range(0, wanted, CACHE_LINE):
        _ask(array, row * row_bytes + offset)


_tile_1x1 = _tile(1, 1)
_tile_1x1_ahead = _tile(1, 1, prefetches=True)
_tile_4x4 = _tile(4, 4)


@njit(nogil=True)
def products(
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
def product(codes: Any, row: int, asked: Any, query: int, dim: int, sums: Any) -> Any:
    """The integer product of one row with one query; sums (1, 1) int32 is scratch."""
    n, width = codes.shape
    padded = asked.shape[1]
    if (n - row) * width >= padded:  # a step may reach beyond the row, but never beyond the file
        _tile_1x1(codes, row, asked, query, padded // LANES, sums, 0)
        return np.int64(sums[0, 0])
    total = 0
    for i in range(dim):
        total += np.int64(codes[row, i]) * np.int64(asked[query, i])
    return total
