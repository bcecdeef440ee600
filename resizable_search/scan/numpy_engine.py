"""The reference engine: numpy alone, by blocks, in bounded memory.

A block of rows is multiplied by BLAS in float32; rows that reach the running threshold are held as
candidates and scored by the definition at the end. There is no n-long array and no n-long sort. It
reads the floats for `exact` too: BLAS has no int8, and what it would gain is lost in the conversion.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resizable_search import vectors
from resizable_search.plan import Precision
from resizable_search.quantise import IntegerQueries, Tier, prefix_masks, quantise_queries, sign_words
from resizable_search.scan.base import Found, View, margin, need_signs, need_tier, rescored
from resizable_search.topk import Top, gather, select

BLOCK_ROWS = 1 << 16
"""The most rows of a block: enough that BLAS's threads seldom meet, few enough that memory stays bounded."""

BLOCK_SCORES = 1 << 21
"""The most scores (queries x rows) that one block may make: 8 MB."""


@dataclass(slots=True)
class _Pool:
    """The candidates of one query so far, and the fast score below which nothing can matter."""

    k: int
    slack: float
    threshold: np.float32 = np.float32(-np.inf)
    scores: list[NDArray[np.float32]] = field(default_factory=list)
    rows: list[NDArray[np.int64]] = field(default_factory=list)
    size: int = 0

    def add(self, scores: NDArray[np.float32], start: int, allowed: NDArray[np.bool_] | None) -> None:
        """Take from one block's fast scores those that reach the threshold."""
        if allowed is None and not self.rows:
            self.threshold = self.bound(scores)  # so that the first block is not taken whole
        reach = scores >= self.threshold
        if allowed is not None:
            reach &= allowed
        found = reach.nonzero()[0]
        if not len(found):
            return
        self.scores.append(scores[found])
        self.rows.append(found + start)
        self.size += len(found)
        if self.size > 4 * self.k + 256:
            self.shrink()

    def shrink(self) -> None:
        """Raise the threshold to what the k-th best fast score allows, and drop what is below it."""
        scores, rows = np.concatenate(self.scores), np.concatenate(self.rows)
        self.threshold = max(self.threshold, self.bound(scores))
        kept = scores >= self.threshold
        self.scores, self.rows, self.size = [scores[kept]], [rows[kept]], int(kept.sum())

    def bound(self, scores: NDArray[np.float32]) -> np.float32:
        """The fast score below which no row matters, judged by some rows' fast scores alone."""
        if len(scores) <= self.k:
            return np.float32(-np.inf)
        kth = np.partition(scores, len(scores) - self.k)[len(scores) - self.k]
        if self.slack == 0.0:
            return np.float32(kth)
        below: np.float32 = np.nextafter(np.float32(float(kth) - self.slack), np.float32(-np.inf))
        return below

    def candidates(self) -> NDArray[np.int64]:
        """The rows that may belong to the answer, ascending, so that a file is read forwards."""
        if not self.rows:
            return np.empty(0, np.int64)
        self.shrink()
        return self.rows[0]


class NumpyEngine:
    """Blocks of products with proven margins; see `scan.base` for the contract."""

    name = "numpy"

    def scan(self, view: View, precision: Precision, queries: NDArray[np.float32], k: int) -> Found:
        """The k best rows of `view` for each of the queries (m, dim) float32."""
        if precision == "bits":
            return self._scan_bits(view, queries, k)
        if precision == "int8":
            return self._scan_int8(view, queries, k)
        return self._scan_float32(view, queries, k)

    def scan_parts(
        self, views: Sequence[View], precision: Precision, queries: NDArray[np.float32], k: int
    ) -> list[Found]:
        """`scan` of each view."""
        return [self.scan(view, precision, queries, min(k, len(view))) for view in views]

    def rescore(
        self,
        view: View,
        precision: Precision,
        queries: NDArray[np.float32],
        rows: NDArray[np.int64],
        first: int,
        k: int,
    ) -> Found:
        """The k best of each query's own rows (m, c) int64 that lie in this view."""
        scores = self._scorer(view, precision, queries)
        found = []
        for i, own in enumerate(rows):
            here = own[(own >= first) & (own < first + len(view))]
            found.append(select(scores(i, here - first), here, k))
        return rescored(view, precision, rows, first, gather(found, k))

    def scan_and_rescore(
        self, bits: View, keep: int, exact: View, queries: NDArray[np.float32], k: int
    ) -> None:
        """Nothing is gained here by doing both as one."""
        return

    def truncate(self, rows: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
        """`vectors.truncate` of queries (m, width) float32."""
        return vectors.truncate(rows, dim)

    def _scorer(
        self, view: View, precision: Precision, queries: NDArray[np.float32]
    ) -> Callable[[int, NDArray[np.int64]], NDArray[np.float32]]:
        if precision == "bits":
            signs, words, masks = _sign_parts(view, queries)
            return lambda i, rows: _agreement(signs[: len(masks), rows], words[i], masks, view.dim)
        if precision == "int8":
            tier, asked = need_tier(view), quantise_queries(queries)
            return lambda i, rows: _int8_scores(tier, asked, i, rows)
        return lambda i, rows: view.defined_scores(queries[i], rows)

    def _scan_float32(self, view: View, queries: NDArray[np.float32], k: int) -> Found:
        cut = view.stored[:, : view.dim]
        near = view.reciprocals

        def products(start: int, stop: int, scores: NDArray[np.float32]) -> None:
            if len(queries) > 1:
                np.matmul(queries, cut[start:stop].T, out=scores)
            else:
                np.matmul(cut[start:stop], queries[0], out=scores[0])
            if near.scale is not None:
                scores *= near.scale[start:stop]

        pools = _pool_blocks(len(view), len(queries), k, 2 * margin(view), near.allowed, products)
        found, looked = [], 0
        for pool, query in zip(pools, queries, strict=True):
            rows = np.union1d(pool.candidates(), near.doubtful)
            looked += len(rows)
            found.append(select(view.defined_scores(query, rows), rows, k))
        return Found(gather(found, k), looked, len(view) * 4 * view.dim, "float32")

    def _scan_int8(self, view: View, queries: NDArray[np.float32], k: int) -> Found:
        tier, asked = need_tier(view), quantise_queries(queries)
        # Sums of integers below 2^53 are exact in float64, in whatever order BLAS takes them.
        wide = asked.codes[:, : view.dim].astype(np.float64)

        def products(start: int, stop: int, scores: NDArray[np.float32]) -> None:
            sums = wide @ tier.codes[start:stop, : view.dim].astype(np.float64).T
            sums *= tier.steps[start:stop].astype(np.float64)
            np.multiply(sums, asked.units[:, None], out=scores, casting="same_kind")

        top = _best(_pool_blocks(len(view), len(queries), k, 0.0, view.allowed, products), k)
        return Found(top, 0, len(view) * (view.dim + 4), "int8")

    def _scan_bits(self, view: View, queries: NDArray[np.float32], k: int) -> Found:
        signs, words, masks = _sign_parts(view, queries)

        def products(start: int, stop: int, scores: NDArray[np.float32]) -> None:
            block = signs[: len(masks), start:stop]
            for i, asked in enumerate(words):
                scores[i] = _agreement(block, asked, masks, view.dim)

        top = _best(_pool_blocks(len(view), len(queries), k, 0.0, view.allowed, products), k)
        return Found(top, 0, len(view) * 8 * len(masks), "bits")


def _sign_parts(
    view: View, queries: NDArray[np.float32]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    return need_signs(view), sign_words(queries), prefix_masks(view.dim)


def _agreement(
    signs: NDArray[np.uint64], asked: NDArray[np.uint64], masks: NDArray[np.uint64], dim: int
) -> NDArray[np.float32]:
    """How many signs agree less how many differ, of (words, c) against one query's words: (c,) float32."""
    differing = np.bitwise_count((signs ^ asked[:, None]) & masks[:, None]).sum(axis=0, dtype=np.int64)
    scores: NDArray[np.float32] = (dim - 2 * differing).astype(np.float32)
    return scores


def _int8_scores(tier: Tier, asked: IntegerQueries, i: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    sums = tier.codes[rows, : tier.dim].astype(np.float64) @ asked.codes[i, : tier.dim].astype(np.float64)
    sums *= tier.steps[rows].astype(np.float64)
    sums *= asked.units[i]
    return sums.astype(np.float32)


def _best(pools: list[_Pool], k: int) -> Top:
    """The k best of what each pool holds, by scores that are already the precision's own."""
    found = []
    for pool in pools:
        if pool.rows:
            found.append(select(np.concatenate(pool.scores), np.concatenate(pool.rows), k))
        else:
            found.append((np.empty(0, np.float32), np.empty(0, np.int64)))
    return gather(found, k)


def _pool_blocks(
    n: int,
    m: int,
    k: int,
    slack: float,
    allowed: NDArray[np.bool_] | None,
    products: Callable[[int, int, NDArray[np.float32]], None],
) -> list[_Pool]:
    """Have `products` score n rows for m queries block by block, and keep each query's candidates."""
    pools = [_Pool(k, slack) for _ in range(m)]
    most = max(256, min(BLOCK_ROWS, BLOCK_SCORES // max(1, m)))
    blocks = max(1, math.ceil(n / most))
    step = max(1, math.ceil(n / blocks))  # of one size: a short last block would cost nearly as much
    held = np.empty(m * step, np.float32)
    for start in range(0, n, step):
        stop = min(start + step, n)
        scores = held[: m * (stop - start)].reshape(m, stop - start)
        products(start, stop, scores)
        some = None if allowed is None else allowed[start:stop]
        for pool, row in zip(pools, scores, strict=True):
            pool.add(row, start, some)
    return pools
