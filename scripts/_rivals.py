"""The rivals that need numpy alone, and what every rival is: the cookbook's functions, and float32 numpy.

A rival gets unit rows (n, d) float32 in memory, and is asked for the k best of unit queries (m, d).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine import vectors

Search = Callable[[NDArray[np.float32], int], NDArray[np.int64]]
"""Unit queries (m, d) and a number of threads: the rows of the k best of each, (m, k)."""

THREADS = (1, 2)
BLOCKS = (20, 50, 100, 250, 500)
TRIAL = 500


@dataclass(frozen=True, slots=True)
class Given:
    """What is searched: unit rows (n, d) and queries (m, d), float32, for the best k of each."""

    rows: NDArray[np.float32]
    queries: NDArray[np.float32]
    k: int

    @property
    def width(self) -> int:
        """The full dimension."""
        return self.rows.shape[1]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to search, and what it took to be ready: seconds, and bytes on disk (None: not known).

    `threads`: the numbers of threads it is to be measured at. `in_batches`: whether it takes more than
    one query a call.
    """

    name: str
    search: Search
    build_seconds: float | None
    disk_bytes: int | None
    threads: tuple[int, ...] = THREADS
    in_batches: bool = True


def timed(build: Callable[[], object]) -> float:
    """The seconds of a call."""
    begin = time.perf_counter()
    build()
    return time.perf_counter() - begin


def cookbook_ways(given: Given) -> list[Way]:
    """Nomic's notebook: float64, a slice of the full-width matrix, every score sorted, best last.

    embeddings/00_matryoshka_search_renorm.ipynb, without its bug: it scales the slice in place, which
    spoils the full vectors that it reranks with; here each dimension has a scaled matrix of its own,
    made beforehand.
    """
    wide = given.rows.astype(np.float64)
    scaled = {given.width: wide}
    seconds = {given.width: 0.0}

    def scale(dim: int) -> None:
        scaled[dim] = wide / np.linalg.norm(wide[:, :dim], axis=1)[:, None]

    for dim in (512, 256):
        seconds[dim] = timed(lambda dim=dim: scale(dim))

    def scan(query: NDArray[np.float64], dim: int, keep: int) -> NDArray[np.int64]:
        short = query if dim == given.width else query[:dim] / np.linalg.norm(query[:dim])
        return np.argsort(short @ scaled[dim][:, :dim].T)[-keep:]

    def plain(dim: int) -> Search:
        return lambda queries, threads: scan(queries[0].astype(np.float64), dim, given.k)[None]

    def reranked(queries: NDArray[np.float32], threads: int) -> NDArray[np.int64]:
        query = queries[0].astype(np.float64)
        candidates = scan(query, 256, 10 * given.k)
        return candidates[np.argsort(query @ wide[candidates].T)][-given.k :][None]

    whole = wide.nbytes
    return [
        Way(f"cookbook {dim}", plain(dim), seconds[dim], whole, in_batches=False)
        for dim in (given.width, 512, 256)
    ] + [Way("cookbook 256, rerank 100", reranked, seconds[256], whole, in_batches=False)]


def numpy_ways(given: Given) -> list[Way]:
    """float32: one product, argpartition, a sort of k; a batch by GEMM, in blocks of the best size."""
    return [_numpy_way(given, dim) for dim in (given.width, 256)]


def _numpy_way(given: Given, dim: int) -> Way:
    begin = time.perf_counter()
    rows = given.rows if dim == given.width else vectors.truncate(given.rows, dim)
    seconds = time.perf_counter() - begin
    trial = vectors.truncate(given.queries[:TRIAL], dim)
    spent = {block: timed(lambda block=block: _gemm(rows, trial, given.k, block)) for block in BLOCKS}
    block = min(spent, key=lambda size: spent[size])
    search = _numpy_search(rows, dim, given.k, block)
    return Way(f"numpy float32 {dim} (batch: {block} a block)", search, seconds, rows.nbytes)


def _numpy_search(rows: NDArray[np.float32], dim: int, k: int, block: int) -> Search:
    def search(queries: NDArray[np.float32], threads: int) -> NDArray[np.int64]:
        short = queries if dim == queries.shape[1] else vectors.truncate(queries, dim)
        return _gemv(rows, short[0], k)[None] if len(short) == 1 else _gemm(rows, short, k, block)

    return search


def _gemv(rows: NDArray[np.float32], query: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    scores = rows @ query
    best = np.argpartition(scores, -k)[-k:]
    return best[np.argsort(scores[best])[::-1]]


def _gemm(rows: NDArray[np.float32], queries: NDArray[np.float32], k: int, block: int) -> NDArray[np.int64]:
    out = np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), block):
        scores = queries[start : start + block] @ rows.T
        best = np.argpartition(scores, -k, axis=1)[:, -k:]
        order = np.argsort(np.take_along_axis(scores, best, 1), axis=1)[:, ::-1]
        out[start : start + block] = np.take_along_axis(best, order, 1)
    return out


def oracle(given: Given) -> NDArray[np.int64]:
    """The k best of each query in float64, ties by lower row: (m, k)."""
    out = np.empty((len(given.queries), given.k), np.int64)
    best = [(np.empty(0), np.empty(0, np.int64))] * len(given.queries)
    wide = given.queries.astype(np.float64)
    for start in range(0, len(given.rows), 10_000):
        block = given.rows[start : start + 10_000].astype(np.float64)
        scores, least = wide @ block.T, min(given.k, len(block))
        for i, (before, rows) in enumerate(best):
            # Equal rows come out of a GEMM with unequal last bits: a margin, and then a sum in one order.
            kth = np.partition(scores[i], -least)[-least]
            near = np.flatnonzero(scores[i] >= kth - 1e-12)
            exact = (block[near] * wide[i]).sum(axis=1)
            merged, found = np.concatenate([before, exact]), np.concatenate([rows, near + start])
            order = np.lexsort((found, -merged))[: given.k]
            best[i] = merged[order], found[order]
    for i, (_, rows) in enumerate(best):
        out[i] = rows
    return out


def overlap(found: NDArray[np.int64], wanted: NDArray[np.int64]) -> float:
    """The mean share of the wanted rows (m, k) that were found."""
    shares = [len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, wanted, strict=True)]
    return float(np.mean(shares))
