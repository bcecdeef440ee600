"""Vectors: centre, truncate and normalise float32 rows; rows in fewer bits; queries as integers.

A resizable (Matryoshka) embedding is cut to its first d dimensions and scaled to unit length again:
`truncate(centre(x), d)`. nomic's model card asks for a layer norm before the cut, which is, up to scale,
subtracting each row's mean (`centre`); doing it twice changes nothing.

Sums that decide an answer are float64 sums over `LANES` interleaved lanes, in a fixed order (`lane_sum`). So
a score or a norm has the same bits on every machine, in every engine, for one row or many. Products of two
float32 numbers are exact in float64: it does not matter whether a machine fuses multiply and add.

A row x of (n, d) float32 is also stored as int8 codes c and a step s, so that x̂ = s c is near it, with
e >= |x - x̂|: for any query q, |q·x - q·x̂| <= |q| e. A query becomes int16 numbers z and a power of two u,
q̂ = u z, so that q̂·x̂ = (z·c) s u, where z·c is a sum of integers that fits into 32 bits. Such a sum has one
value in any order: scores in int8 and in bits are the same in every engine and on every machine.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import UsageError

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]  # numbers of rows of an index

LANES = 32  # of a float64 sum: element i goes to lane i mod LANES; then the lanes are added by halves
BLOCK_BYTES = 1 << 20  # of a float64 intermediate: what stays in a core's cache
UNIT_TOLERANCE = 1e-5  # the most that the norm of a stored row may differ from 1, or from 0 for zeros
LEVELS = 127  # the largest code: -127 to 127, so that the negative of a row has the negative codes
PADDED = 32  # a query's integers are padded to a multiple of this: compiled loops take it in one step
MOST_COPIED = 128 << 20  # the most bytes of codes that `Tier.cut` copies into memory
WORD = 64  # bits of a word of signs


def lane_sum(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of each row of (n, d) float64 in the fixed order described above: (n,)."""
    n, d = terms.shape
    whole = d - d % LANES
    # A reduction over an axis other than the last adds one slice after the other.
    lanes: NDArray[np.float64] = np.add.reduce(terms[:, :whole].reshape(n, -1, LANES), axis=1)
    if whole < d:
        lanes[:, : d - whole] += terms[:, whole:]
    width = LANES
    while width > 1:
        width //= 2
        lanes = lanes[:, :width] + lanes[:, width : 2 * width]
    return lanes[:, 0]


def centre(rows: Floats) -> Floats:
    """Subtract the mean from each row of (n, d) float32: layer norm without its scale."""
    out = np.empty_like(rows)
    for start, stop in spans(len(rows), rows.shape[1]):
        block = rows[start:stop].astype(np.float64)
        out[start:stop] = block - (lane_sum(block) / rows.shape[1])[:, None]
    return out


def norms(rows: Floats) -> NDArray[np.float64]:
    """The Euclidean length of each row of (n, d) float32: (n,) float64."""
    out = np.empty(len(rows))
    for start, stop in spans(len(rows), rows.shape[1]):
        terms = rows[start:stop].astype(np.float64)
        terms *= terms
        out[start:stop] = np.sqrt(lane_sum(terms))
    return out


def normalise(rows: Floats) -> Floats:
    """Each row of (n, d) float32 divided by its length in float64; a zero row stays a zero row."""
    length = norms(rows)
    length[length == 0.0] = 1.0
    out = np.empty(rows.shape, np.float32)
    for start, stop in spans(len(rows), rows.shape[1]):
        out[start:stop] = rows[start:stop] / length[start:stop, None]
    return out


def truncate(rows: Floats, dim: int) -> Floats:
    """The first `dim` dimensions of each row of (n, d) float32, renormalised: a new (n, dim) float32."""
    return normalise(rows[:, :dim])


def truncate_queries(queries: Floats, dim: int) -> Floats:
    """As `truncate`. Raises UsageError for NaN or infinity anywhere in (m, width) float32."""
    if not np.isfinite(queries).all():
        raise UsageError("a query vector has NaN or infinity in it")
    return truncate(queries, dim)


def tamed(rows: NDArray[Any]) -> Floats:
    """A float32 copy of (n, d) raw rows; rows near the ends of float32's range are scaled by a power of two.

    The mean of large numbers would overflow, and small float64 numbers would become 0. Infinity and NaN stay.
    """
    largest = np.abs(rows).max(axis=1, initial=0).astype(np.float64)
    if largest.size and largest.min() > 2.0**-60 and largest.max() < 2.0**100:
        return np.array(rows, np.float32, order="C")
    with np.errstate(over="ignore"):
        full = np.array(rows, np.float32, order="C")
    odd = np.isfinite(largest) & ((largest >= 2.0**100) | (largest <= 2.0**-60)) & (largest > 0)
    if odd.any():
        _, exponents = np.frexp(largest[odd])
        full[odd] = np.ldexp(rows[odd].astype(np.float64), -exponents[:, None])
    return full


def prepare(rows: NDArray[Any], dim: int, *, centred: bool) -> Floats:
    """Raw rows of full width as they are stored or searched: centred or not, cut to `dim`, unit length."""
    full = tamed(rows)
    return truncate(centre(full) if centred else full, dim)


def dot(rows: Floats, query: Floats) -> Floats:
    """The defined score of each row of (n, d) float32 against one query (d,) float32: (n,) float32."""
    out = np.empty(len(rows), np.float32)
    wide = query.astype(np.float64)
    for start, stop in spans(len(rows), rows.shape[1]):
        terms = rows[start:stop].astype(np.float64)
        terms *= wide
        out[start:stop] = lane_sum(terms)
    return out


def spans(n: int, d: int) -> list[tuple[int, int]]:
    """Ranges of n rows of d numbers, whose float64 copies stay within BLOCK_BYTES."""
    step = max(1, BLOCK_BYTES // (8 * max(1, d)))
    return [(start, min(start + step, n)) for start in range(0, n, step)]


@dataclass(frozen=True, slots=True)
class Tier:
    """Rows as int8, for a scan at a dimension.

    `codes` (n, width) int8, whose first numbers count; `steps` (n,) float32; `errors` (n,) float32, each at
    least the distance between the row, cut to the dimension and normalised, and its step times its codes.
    """

    codes: NDArray[np.int8]
    steps: Floats
    errors: Floats

    def cut(self, stored: Floats, dim: int) -> "Tier":
        """The same codes for a smaller dimension: new steps and errors, by one pass over `stored`.

        `stored` (n, width) float32: the rows of the codes. Up to MOST_COPIED bytes of codes are copied side
        by side, since memory reads parts of rows no faster than whole rows.
        """
        n = len(stored)
        wide = dim + -dim % PADDED
        copies = wide < self.codes.shape[1] and n * wide <= MOST_COPIED
        copy = np.empty((n, wide), np.int8) if copies else self.codes
        steps, errors = np.empty(n, np.float32), np.empty(n, np.float32)
        for start, stop in spans(n, stored.shape[1]):
            rows, codes = stored[start:stop, :dim], self.codes[start:stop, :dim]
            length = norms(rows)
            length[length == 0.0] = 1.0
            step = self.steps[start:stop] / length
            # A row with only zero codes here may be very short. One other code makes it half a step long.
            step[step > 2.5] = 0.0
            steps[start:stop] = step
            errors[start:stop] = _distances(truncate(rows, dim), codes, steps[start:stop])
            if copies:
                copy[start:stop] = self.codes[start:stop, :wide]
        return Tier(copy, steps, errors)


def quantise(rows: Floats) -> tuple[NDArray[np.int8], Floats, Floats]:
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


def _distances(rows: Floats, codes: NDArray[np.int8], steps: Floats) -> Floats:
    """At least |row - step x codes| of each row of (n, d): (n,) float32."""
    # A code times a step is exact in float64; the rest is right to 15 digits, far below a float32 step.
    terms = codes.astype(np.float64)
    terms *= steps.astype(np.float64)[:, None]
    np.subtract(rows, terms, out=terms)
    terms *= terms
    errors = np.sqrt(lane_sum(terms)).astype(np.float32)
    return np.where(errors > 0, np.nextafter(errors, np.float32(np.inf)), errors)


def quantise_queries(queries: Floats) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Queries (m, d) float32 as int16 with a power of two each, as fine as 32-bit sums allow.

    Codes (m, d), padded with zeros to a multiple of PADDED, and units (m,): a query is about its codes times
    its unit. By Cauchy and Schwarz |z·c| <= |z| |c|, with |c| <= 127 sqrt(d), so |z| stays below 2^31 / that.
    """
    m, d = queries.shape
    wide = queries.astype(np.float64)
    lengths = np.sqrt(lane_sum(wide * wide))
    largest = np.abs(wide).max(axis=1)
    largest[largest == 0.0] = 1.0
    room = (2.0**31 - 1) / (LEVELS * math.sqrt(d)) - math.sqrt(d)
    _, exponents = np.frexp(np.minimum(32767 / largest, room / np.maximum(lengths, largest)) / 1.001)
    codes = np.zeros((m, d + -d % PADDED), np.int16)
    codes[:, :d] = np.rint(np.ldexp(wide, exponents[:, None] - 1))
    return codes, np.ldexp(1.0, 1 - exponents)
