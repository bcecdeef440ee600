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

from resizable_search.engine import vectors
from resizable_search.engine.base import ScanResult, margin, rescored
from resizable_search.engine.parts import Parts, need_signs, need_tier
from resizable_search.engine.plan import Precision
from resizable_search.engine.quantise import IntegerQueries, Tier, prefix_masks, quantise_queries, sign_words
from resizable_search.engine.topk import Top, gather, select

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
    """Blocks of products with proven margins; see `engine.base` for the contract."""

    name = "numpy"

    def scan(self, parts: Parts, precision: Precision, queries: NDArray[np.float32], k: int) -> ScanResult:
        """The k best rows for each of the queries (m, dim) float32."""
        if precision == "bits":
            return self._scan_bits(parts, queries, k)
        if precision == "int8":
            return self._scan_int8(parts, queries, k)
        return self._scan_float32(parts, queries, k)

    def rescore(
        self,
        parts: Parts,
        precision: Precision,
        queries: NDArray[np.float32],
        rows: NDArray[np.int64],
        k: int,
    ) -> ScanResult:
        """The k best of each query's own rows (m, c) int64, ascending."""
        scores = self._scorer(parts, precision, queries)
        found = []
        for i, own in enumerate(rows):
            here = own[(own >= parts.starts[0]) & (own < parts.stop)]
            found.append(select(scores(i, here), here, k))
        return rescored(parts, precision, rows, gather(found, k))

    def scan_and_rescore(
        self, bits: Parts, keep: int, exact: Parts, queries: NDArray[np.float32], k: int
    ) -> None:
        """Nothing is gained here by doing both as one."""
        return

    def truncate(self, rows: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
        """`vectors.truncate` of queries (m, width) float32."""
        return vectors.truncate(rows, dim)

    def _scorer(
        self, parts: Parts, precision: Precision, queries: NDArray[np.float32]
    ) -> Callable[[int, NDArray[np.int64]], NDArray[np.float32]]:
        """What scores ascending rows for the query of that number."""
        if precision == "bits":
            words, masks = sign_words(queries), prefix_masks(parts.dim)
            signs = [need_signs(view)[: len(masks)] for view in parts.views]
            return lambda i, rows: parts.each(
                rows, lambda part, own: _agreement(signs[part][:, own], words[i], masks, parts.dim)
            )
        if precision == "int8":
            tiers, asked = [need_tier(view) for view in parts.views], quantise_queries(queries)
            return lambda i, rows: parts.each(
                rows, lambda part, own: _int8_scores(tiers[part], asked, i, own)
            )
        return lambda i, rows: parts.defined_scores(queries[i], rows)

    def _scan_float32(self, parts: Parts, queries: NDArray[np.float32], k: int) -> ScanResult:
        near = [view.reciprocals for view in parts.views]
        cut = [view.stored[:, : view.dim] for view in parts.views]

        def products(part: int, start: int, stop: int, scores: NDArray[np.float32]) -> None:
            if len(queries) > 1:
                np.matmul(queries, cut[part][start:stop].T, out=scores)
            else:
                np.matmul(cut[part][start:stop], queries[0], out=scores[0])
            scale = near[part].scale
            if scale is not None:
                scores *= scale[start:stop]

        allowed = [part.allowed for part in near]
        pools = _pool_blocks(parts, allowed, len(queries), k, 2 * margin(parts.views[0]), products)
        doubtful = np.concatenate([n.doubtful + s for n, s in zip(near, parts.starts, strict=True)])
        found, looked = [], 0
        for pool, query in zip(pools, queries, strict=True):
            rows = np.union1d(pool.candidates(), doubtful)
            looked += len(rows)
            found.append(select(parts.defined_scores(query, rows), rows, k))
        return ScanResult(gather(found, k), looked, len(parts) * 4 * parts.dim, "float32")

    def _scan_int8(self, parts: Parts, queries: NDArray[np.float32], k: int) -> ScanResult:
        tiers, asked = [need_tier(view) for view in parts.views], quantise_queries(queries)
        # Sums of integers below 2^53 are exact in float64, in whatever order BLAS takes them.
        wide = asked.codes[:, : parts.dim].astype(np.float64)

        def products(part: int, start: int, stop: int, scores: NDArray[np.float32]) -> None:
            tier = tiers[part]
            sums = wide @ tier.codes[start:stop, : parts.dim].astype(np.float64).T
            sums *= tier.steps[start:stop].astype(np.float64)
            np.multiply(sums, asked.units[:, None], out=scores, casting="same_kind")

        top = _best(_pool_blocks(parts, _allowed(parts), len(queries), k, 0.0, products), k)
        return ScanResult(top, 0, len(parts) * (parts.dim + 4), "int8")

    def _scan_bits(self, parts: Parts, queries: NDArray[np.float32], k: int) -> ScanResult:
        words, masks = sign_words(queries), prefix_masks(parts.dim)
        signs = [need_signs(view)[: len(masks)] for view in parts.views]

        def products(part: int, start: int, stop: int, scores: NDArray[np.float32]) -> None:
            block = signs[part][:, start:stop]
            for i, asked in enumerate(words):
                scores[i] = _agreement(block, asked, masks, parts.dim)

        top = _best(_pool_blocks(parts, _allowed(parts), len(queries), k, 0.0, products), k)
        return ScanResult(top, 0, len(parts) * 8 * len(masks), "bits")


def _allowed(parts: Parts) -> list[NDArray[np.bool_] | None]:
    return [view.allowed for view in parts.views]


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
    parts: Parts,
    allowed: Sequence[NDArray[np.bool_] | None],
    m: int,
    k: int,
    slack: float,
    products: Callable[[int, int, int, NDArray[np.float32]], None],
) -> list[_Pool]:
    """Have `products` score all rows for m queries block by block, and keep each query's candidates.

    It is called with the number of a part, and where a block of its rows starts and stops. All parts go
    into the same pools: a threshold that was found in one part holds in the others.
    """
    pools = [_Pool(k, slack) for _ in range(m)]
    most = max(256, min(BLOCK_ROWS, BLOCK_SCORES // max(1, m)))
    # Of one size: a short last block would cost nearly as much.
    steps = [max(1, math.ceil(len(view) / max(1, math.ceil(len(view) / most)))) for view in parts.views]
    held = np.empty(m * max(steps), np.float32)
    for part, (view, first, step) in enumerate(zip(parts.views, parts.starts, steps, strict=True)):
        mask = allowed[part]
        for start in range(0, len(view), step):
            stop = min(start + step, len(view))
            scores = held[: m * (stop - start)].reshape(m, stop - start)
            products(part, start, stop, scores)
            some = None if mask is None else mask[start:stop]
            for pool, row in zip(pools, scores, strict=True):
                pool.add(row, first + start, some)
    return pools
