"""Centre, truncate, normalise: pure functions over arrays of rows.

A resizable (Matryoshka) embedding of full width is cut to its first d dimensions and made unit
length again: `truncate(centre(x), d)`. nomic's model card asks for a layer norm before the cut;
up to scale that is subtracting each row's mean (`centre`), and doing it twice changes nothing.

Sums that decide an answer are taken in float64 over `LANES` interleaved lanes, in a fixed order
(`lane_sum`), so that a score or a norm has the same bits on every machine, in every engine, for one
row or for many. The products of two float32 numbers are exact in float64, so whether a machine
fuses multiply and add makes no difference either.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LANES = 32
"""Lanes of a float64 sum: element i is added to lane i mod LANES, then the lanes are folded by halves."""

BLOCK_BYTES = 1 << 20
"""How much of a float64 intermediate is held at once: what stays in a core's cache."""

UNIT_TOLERANCE = 1e-5
"""How far from 1 the norm of a stored row may lie, and how far from 0 that of a zero row."""


def lane_sum(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of each row of (n, d) float64 in the fixed order that the module's docstring defines: (n,)."""
    n, d = terms.shape
    whole = d - d % LANES
    # A reduction over an axis that is not the last adds one slice after the other.
    lanes: NDArray[np.float64] = np.add.reduce(terms[:, :whole].reshape(n, -1, LANES), axis=1)
    if whole < d:
        lanes[:, : d - whole] += terms[:, whole:]
    width = LANES
    while width > 1:
        width //= 2
        lanes = lanes[:, :width] + lanes[:, width : 2 * width]
    return lanes[:, 0]


def centre(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract from each row of (n, d) float32 its mean: the part of layer norm that is not scale.

    Source: the model card of nomic-embed-text-v1.5 (layer norm, then slice, then normalise).
    """
    out = np.empty_like(rows)
    for start, stop in spans(len(rows), rows.shape[1]):
        block = rows[start:stop].astype(np.float64)
        out[start:stop] = block - (lane_sum(block) / rows.shape[1])[:, None]
    return out


def norms(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """The Euclidean length of each row of (n, d) float32: (n,) float64."""
    out = np.empty(len(rows))
    for start, stop in spans(len(rows), rows.shape[1]):
        terms = rows[start:stop].astype(np.float64)
        terms *= terms
        out[start:stop] = np.sqrt(lane_sum(terms))
    return out


def normalise(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row of (n, d) float32 divided by its length, in float64, rounded to float32.

    A zero row stays a zero row: it is as far from every query as can be said.
    """
    length = norms(rows)
    length[length == 0.0] = 1.0
    out = np.empty(rows.shape, np.float32)
    for start, stop in spans(len(rows), rows.shape[1]):
        out[start:stop] = rows[start:stop] / length[start:stop, None]
    return out


def truncate(rows: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """The first `dim` dimensions of each row of (n, d) float32, renormalised: a new (n, dim) float32.

    Never in place: the rows given stay what they were.
    """
    return normalise(rows[:, :dim])


def tamed(rows: NDArray[Any]) -> NDArray[np.float32]:
    """A float32 copy of (n, d) raw rows, those near the ends of float32's range scaled into it.

    The mean of the largest would overflow, and what is small in float64 is 0 in float32; a power of two
    changes no direction. What is beyond the range of float64, or is none, stays so.
    """
    with np.errstate(over="ignore"):
        full = np.array(rows, np.float32, order="C")
    largest = np.abs(full).max(axis=1, initial=0)
    if rows.dtype == np.float32 and (largest > 2.0**-60).all() and (largest < 2.0**100).all():
        return full
    largest = np.abs(rows).max(axis=1, initial=0).astype(np.float64)
    odd = np.isfinite(largest) & ((largest >= 2.0**100) | (largest <= 2.0**-60)) & (largest > 0)
    if odd.any():
        _, exponents = np.frexp(largest[odd])
        full[odd] = np.ldexp(rows[odd].astype(np.float64), -exponents[:, None])
    return full


def prepare(rows: NDArray[Any], dim: int, *, centred: bool) -> NDArray[np.float32]:
    """Raw rows of full width as they are stored or asked: centred if wanted, cut to `dim`, unit length."""
    full = tamed(rows)
    return truncate(centre(full) if centred else full, dim)


def dot(rows: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """The defined score of each row of (n, d) float32 against one query (d,) float32: (n,) float32.

    The dot product, accumulated in float64 by `lane_sum` and rounded to float32 once.
    """
    out = np.empty(len(rows), np.float32)
    wide = query.astype(np.float64)
    for start, stop in spans(len(rows), rows.shape[1]):
        terms = rows[start:stop].astype(np.float64)
        terms *= wide
        out[start:stop] = lane_sum(terms)
    return out


def spans(n: int, d: int) -> list[tuple[int, int]]:
    """Cut n rows of d numbers into ranges whose float64 copies stay within BLOCK_BYTES."""
    step = max(1, BLOCK_BYTES // (8 * max(1, d)))
    return [(start, min(start + step, n)) for start in range(0, n, step)]
