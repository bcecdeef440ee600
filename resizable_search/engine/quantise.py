"""Rows in fewer bits: int8 codes with proven errors, sign bits, and the integers of a query.

A row x of (n, d) float32 is stored as int8 codes c and a step s, so that x̂ = s c is near it, and
with e >= |x - x̂|: for any query q, |q·x - q·x̂| <= |q| e. A query is turned into int16 numbers z and
a power of two u, q̂ = u z, so that q̂·x̂ = (z·c) s u, where z·c is a sum of integers that
fits into 32 bits. Such a sum has one value, in whatever order it is taken: scores in int8 and in bits
are the same in every engine and on every machine.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine.vectors import lane_sum, norms, spans, truncate

LEVELS = 127
"""The largest code: -127 to 127, so that a row and its negative have the same codes but for the sign."""

PADDED = 32
"""A query's integers are padded to a multiple of so many: what compiled loops take in one step."""

COPIED = 128 << 20
"""Bytes of codes that a dimension which is not stored may take in memory."""

WORD = 64
"""Sign bits are kept in words of so many."""

_UNIT = float(2**31 - 1)


@dataclass(frozen=True, slots=True)
class Tier:
    """Rows as int8, as a scan at `dim` sees them.

    `codes` (n, width) int8, of which the first `dim` count; `steps` (n,) float32; `errors` (n,)
    float32, each at least the distance between the row, cut to `dim` and normalised, and its step
    times its codes.
    """

    codes: NDArray[np.int8]
    steps: NDArray[np.float32]
    errors: NDArray[np.float32]
    dim: int

    def cut(self, stored: NDArray[np.float32], dim: int) -> "Tier":
        """The same codes for a smaller dimension: new steps and errors, by one pass over `stored`.

        `stored` (n, width) float32 are the rows that the codes are of. Up to COPIED bytes of codes are
        copied, side by side, since memory gives parts of rows no faster than whole ones.
        """
        n = len(stored)
        wide = dim + -dim % PADDED
        copies = wide < self.codes.shape[1] and n * wide <= COPIED
        kept = np.empty((n, wide), np.int8) if copies else self.codes
        steps, errors = np.empty(n, np.float32), np.empty(n, np.float32)
        for start, stop in spans(n, stored.shape[1]):
            rows, codes = stored[start:stop, :dim], self.codes[start:stop, :dim]
            length = norms(rows)
            length[length == 0.0] = 1.0
            step = self.steps[start:stop] / length
            # A row whose codes are all 0 here may be as short as can be. One other code makes it half a step.
            step[step > 2.5] = 0.0
            steps[start:stop] = step
            errors[start:stop] = _distances(truncate(rows, dim), codes, steps[start:stop])
            if copies:
                kept[start:stop] = self.codes[start:stop, :wide]
        return Tier(kept, steps, errors, dim)


@dataclass(frozen=True, slots=True)
class IntegerQueries:
    """Queries as integers: `codes` (m, d) int16 with zeros behind up to a multiple of PADDED.

    `units` (m,) float64 are powers of two: a query is about its codes times its unit. `lengths` (m,)
    float64 are at least the queries' norms, `errors` (m,) float64 at least what each is off.
    """

    codes: NDArray[np.int16]
    units: NDArray[np.float64]
    lengths: NDArray[np.float64]
    errors: NDArray[np.float64]


def quantise(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]:
    """Each row of (n, d) float32 as int8 codes (n, d), a step (n,) and an error (n,), both float32.

    The step is the row's largest magnitude / 127 in float32, a code the nearest integer to number /
    step in float32 (halves to even), the error the distance in float64, rounded up to float32.
    """
    n, d = rows.shape
    codes = np.empty((n, d), np.int8)
    steps, errors = np.empty(n, np.float32), np.empty(n, np.float32)
    for start, stop in spans(n, d):
        block = rows[start:stop]
        step = np.abs(block).max(axis=1) / np.float32(LEVELS)
        quotients = block / np.where(step > 0, step, np.float32(1))[:, None]
        codes[start:stop] = np.clip(np.rint(quotients), -LEVELS, LEVELS)
        steps[start:stop] = step
        errors[start:stop] = _distances(block, codes[start:stop], steps[start:stop])
    return codes, steps, errors


def _distances(
    rows: NDArray[np.float32], codes: NDArray[np.int8], steps: NDArray[np.float32]
) -> NDArray[np.float32]:
    """At least |row - step x codes| of each row of (n, d): (n,) float32."""
    # A code times a step is exact in float64; the rest is right to 15 digits, far below one float32 step.
    off = codes.astype(np.float64)
    off *= steps.astype(np.float64)[:, None]
    np.subtract(rows, off, out=off)
    off *= off
    errors = np.sqrt(lane_sum(off)).astype(np.float32)
    return np.where(errors > 0, np.nextafter(errors, np.float32(np.inf)), errors)


def quantise_queries(queries: NDArray[np.float32]) -> IntegerQueries:
    """Queries (m, d) float32 as int16 with a power of two each, as fine as 32-bit sums allow.

    By Cauchy and Schwarz |z·c| <= |z| |c|, with |c| <= 127 sqrt(d), so |z| is kept below 2^31 / that.
    """
    m, d = queries.shape
    wide = queries.astype(np.float64)
    lengths = np.sqrt(lane_sum(wide * wide))
    largest = np.abs(wide).max(axis=1)
    largest[largest == 0.0] = 1.0
    room = _UNIT / (LEVELS * math.sqrt(d)) - math.sqrt(d)
    _, exponents = np.frexp(np.minimum(32767 / largest, room / np.maximum(lengths, largest)) / 1.001)
    powers = np.ldexp(1.0, exponents - 1)[:, None]
    scaled = wide * powers
    codes = np.rint(scaled)
    padded = np.zeros((m, d + -d % PADDED), np.int16)
    padded[:, :d] = codes
    codes -= scaled
    codes *= codes
    errors = np.sqrt(lane_sum(codes)) / powers[:, 0]
    return IntegerQueries(padded, 1 / powers[:, 0], lengths * (1 + 1e-12), errors * (1 + 1e-9) + 1e-300)


def sign_words(rows: NDArray[np.float32]) -> NDArray[np.uint64]:
    """The signs of (n, d) float32 rows as words (n, ceil(d / 64)) uint64.

    Bit i of word w is 1 where number 64 w + i is above 0; bits beyond d are 0.
    """
    n, d = rows.shape
    words = -(-d // WORD)
    packed = np.packbits(rows > 0, axis=1, bitorder="little")
    if d % WORD:
        packed = np.pad(packed, ((0, 0), (0, words * 8 - packed.shape[1])))
    return packed.view("<u8").astype(np.uint64, copy=False)


@lru_cache(100)
def prefix_masks(dim: int) -> NDArray[np.uint64]:
    """Which bits of each word belong to the first `dim` dimensions: (ceil(dim / 64),) uint64, kept."""
    masks = np.full(-(-dim // WORD), ~np.uint64(0), np.uint64)
    if dim % WORD:
        masks[-1] = np.uint64((1 << dim % WORD) - 1)
    masks.flags.writeable = False
    return masks
