"""Rows in one bit and in four bits a number, around the mean of the index's rows.

A code of one bit a number is the sign of r = x - m, where m is the mean, with a factor f = |r|² / Σ|r_i|: the
row that f times the signs (1 and -1) makes lies on r's own side at r's own length along it. A query becomes
small integers z, and the score (Σ sign × z) f ranks rows nearly as q·r does, and so as q·x does: q·m is the
same for all rows.

A code of four bits is one of 16 levels around the mean, (c - 7.5) s, with e >= |r - r̂|. So |q·r - q·r̂| <=
|q| e tells which rows cannot be among the best, from half the bytes of int8.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine.vectors import Floats, lane_sum, spans

CODE_ROWS = 64  # rows of a block of one-bit codes: a processor looks up a byte of each at once
HEAD = 2  # lines of a block before its signs: the factors of its rows, two bytes each
TABLE_LIMIT = 63  # of a look-up's share of a query's small integers: four such sums fit into a byte
FEW = 4  # queries for which bytes are looked up one by one
FOUR_BIT_STEP = 0.335  # between levels, in root mean squares of a row: the least error for normal numbers
FOUR_BIT_LINE = 64  # bytes that a compiled loop takes at once: a row's codes are padded to a multiple of it


def sum_of(rows: Floats) -> NDArray[np.int64]:
    """The sum (d,) of up to 2^22 rows (n, d), each number rounded to an integer after x 2^30.

    Such sums are below 2^53, so that no order changes them.
    """
    whole = rows * np.float32(2.0**30)
    np.rint(whole, out=whole)
    total: NDArray[np.float64] = np.add.reduce(whole, axis=0, dtype=np.float64)
    return total.astype(np.int64)


def mean_of(total: Any, count: int) -> Floats:
    """The mean (d,) float32 of so many rows, from the `sum_of` them."""
    return np.asarray(total / (count * 2.0**30), np.float32)


def one_bit(rows: Floats, mean: Floats) -> NDArray[np.uint8]:
    """The one-bit codes of rows (n, d) float32: (ceil(n / 64), 2 + ceil(d / 8), 64) uint8.

    A block has 64 rows. Its first two lines are their factors, 64 numbers of 16 bits, each the upper half of
    a float32. Line 2 + j has 8 signs of each row: bit i is 1 where number 8 j + i of the row is above the
    mean. What is beyond the last row or number is 0.
    """
    n, d = rows.shape
    blocks, lines = -(-n // CODE_ROWS), -(-d // 8)
    packed = np.zeros((blocks * CODE_ROWS, lines), np.uint8)
    factors = np.zeros(blocks * CODE_ROWS, np.float32)
    for start, stop in spans(n, d):
        centred = rows[start:stop] - mean
        packed[start:stop] = np.packbits(centred > 0, axis=1, bitorder="little")
        wide = centred.astype(np.float64)
        share = lane_sum(np.abs(wide))
        share[share == 0.0] = 1.0
        wide *= wide
        factors[start:stop] = lane_sum(wide) / share
    codes = np.empty((blocks, HEAD + lines, CODE_ROWS), np.uint8)
    halves = ((factors.view(np.uint32) + np.uint32(1 << 15)) >> np.uint32(16)).astype("<u2")
    codes[:, :HEAD] = halves.view(np.uint8).reshape(blocks, HEAD, CODE_ROWS)
    codes[:, HEAD:] = packed.reshape(blocks, CODE_ROWS, lines).transpose(0, 2, 1)
    return codes


def one_bit_scores(small: Floats, codes: NDArray[np.uint8], rows: Any) -> Floats:
    """The scores (m, c) of rows, a slice or numbers (c,), for small queries (m, 8 x lines).

    Sums are integers below 2^24, which float32 adds exactly in any order.
    """
    lines = small.shape[1] // 8
    if isinstance(rows, slice):
        first = rows.start // CODE_ROWS
        some = codes[first : -(-rows.stop // CODE_ROWS)]
        inside = slice(rows.start - first * CODE_ROWS, rows.stop - first * CODE_ROWS)
        packed = some[:, HEAD : HEAD + lines].transpose(1, 0, 2).reshape(lines, -1)[:, inside]
        halves = np.ascontiguousarray(some[:, :HEAD]).view("<u2").reshape(-1)[inside]
    else:
        block, at = rows // CODE_ROWS, rows % CODE_ROWS
        packed = codes[block, HEAD : HEAD + lines, at].T
        pairs = codes[:, :HEAD].reshape(len(codes), -1)
        halves = pairs[block, 2 * at] | (pairs[block, 2 * at + 1].astype(np.uint16) << 8)
    if len(small) > FEW:
        scores: Floats = small @ _signs(packed.T).T
    else:  # one look-up a byte costs a quarter of its eight signs
        tables = small.reshape(-1, 8) @ _signs(np.arange(256, dtype=np.uint8)[:, None]).T
        scores = np.zeros((len(small), packed.shape[1]), np.float32)
        for own, table in zip(scores, tables.reshape(len(small), lines, 256), strict=True):
            for line in range(lines):
                own += table[line][packed[line]]
    scores *= (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return scores


def _signs(packed: NDArray[np.uint8]) -> Floats:
    """Bytes (n, lines) as signs (n, 8 x lines), 1 and -1."""
    return np.unpackbits(packed, axis=1, bitorder="little").astype(np.float32) * 2 - 1


def small_queries(queries: Floats) -> NDArray[np.int8]:
    """Queries (m, d) float32 as small integers (m, d padded to 8), each by a scale of its own.

    The magnitudes that one look-up adds come to TABLE_LIMIT at most, and to less where there are so many that
    all would not fit into 16 bits. A look-up takes half a byte of signs, or six bits of it, or the other
    two bits of three bytes (`kernels.lookup`): the integers are the same for all.
    """
    m, d = queries.shape
    wide = np.zeros((m, d + -d % 8))
    wide[:, :d] = queries
    a, b, c, e, f, g, h, i = np.moveaxis(np.abs(wide).reshape(m, -1, 8), 2, 0)
    twos = np.zeros((m, a.shape[1] + -a.shape[1] % 3))
    twos[:, : a.shape[1]] = h + i
    threes = twos[:, ::3] + twos[:, 1::3] + twos[:, 2::3]
    largest = np.concatenate([a + b + c + e + f + g, f + g + h + i, threes], axis=1).max(axis=1)
    largest[largest == 0.0] = 1.0
    wide *= ((table_limit(d) - 3) / largest)[:, None]
    small: NDArray[np.int8] = np.rint(wide).astype(np.int8)
    return small


def table_limit(dim: int) -> int:
    """The most that a look-up's share of a query of so many numbers may add up to."""
    return max(16, min(TABLE_LIMIT, 65535 // (2 * -(-dim // 8))))


def four_bit_width(dim: int) -> int:
    """The bytes of a row's codes in four bits."""
    return -(-dim // (2 * FOUR_BIT_LINE)) * FOUR_BIT_LINE


def four_bit(rows: Floats, mean: Floats) -> tuple[NDArray[np.uint8], Floats]:
    """Rows (n, d) float32 in four bits: codes (n, width) uint8, and steps and errors (2, n) float32.

    Byte j has number j in its lower half and number width + j in its upper half. What is beyond d is 0.
    """
    n, d = rows.shape
    width = four_bit_width(d)
    codes, bounds = np.empty((n, width), np.uint8), np.empty((2, n), np.float32)
    for start, stop in spans(n, d):
        block = rows[start:stop]
        centred = block - mean
        wide = centred.astype(np.float64)
        wide *= wide
        step = (np.sqrt(lane_sum(wide) / d) * FOUR_BIT_STEP).astype(np.float32)
        levels = np.floor(centred / np.where(step > 0, step, np.float32(1))[:, None])
        np.clip(levels, -8, 7, out=levels)
        halves = np.zeros((stop - start, 2 * width), np.uint8)
        halves[:, :d] = levels + 8
        codes[start:stop] = halves[:, :width] | (halves[:, width:] << 4)
        off = levels.astype(np.float64)
        off += 0.5
        off *= step.astype(np.float64)[:, None]
        off -= block.astype(np.float64) - mean
        off *= off
        errors = np.sqrt(lane_sum(off)).astype(np.float32)
        bounds[0, start:stop] = step
        bounds[1, start:stop] = np.nextafter(errors, np.float32(np.inf))
    return codes, bounds
