"""The rivals of the comparison at their best settings, and what every way of searching is.

A rival gets unit rows (n, d) float32 in memory and answers with the k best of unit queries by inner product.
faiss's indexes are made and set as its documentation advises: the factory's words, and parameters that trade
time for overlap. A quantiser alone loses too much, so the k_factor x k best of one are scored again in
float32; for libraries without such a second stage numpy does it here. Graphs have 32 links and are built with
200 candidates.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Search = Callable[[NDArray[np.float32], int], NDArray[np.int64]]
"""Unit queries (m, d) and a number of threads: the rows of the k best of each, (m, k)."""

THREADS = (1, 2)
GRAPHS = ("HNSW", "hnswlib", "SymphonyQG")  # in names of ways that do not read every row or cell
LINKS = 32
EF_CONSTRUCTION = 200
EF_SEARCH = (64, 128, 256, 512)
CELLS = 1024
NUMPY_BLOCK = 100  # queries of a batch that one product answers
ORACLE_BLOCK = 10_000


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
    """One way to search, and the seconds it took to be ready.

    `prepare` sets the parameters of an index that several ways share; it is called before each block.
    `threads`: the numbers of threads it is measured at. `in_batches`: whether it takes many queries a call.
    """

    name: str
    search: Search
    build_seconds: float
    prepare: Callable[[], object] = lambda: None
    threads: tuple[int, ...] = THREADS
    in_batches: bool = True


def timed(build: Callable[[], object]) -> float:
    """The seconds of a call."""
    begin = time.perf_counter()
    build()
    return time.perf_counter() - begin


def oracle(given: Given) -> NDArray[np.int64]:
    """The k best of each query in float64, ties by lower row: (m, k)."""
    best = [(np.empty(0), np.empty(0, np.int64))] * len(given.queries)
    wide = given.queries.astype(np.float64)
    for start in range(0, len(given.rows), ORACLE_BLOCK):
        block = given.rows[start : start + ORACLE_BLOCK].astype(np.float64)
        scores, least = wide @ block.T, min(given.k, len(block))
        for i, (before, rows) in enumerate(best):
            # Equal rows come out of a GEMM with unequal last bits: a margin, and then a sum in one order.
            kth = np.partition(scores[i], -least)[-least]
            near = np.flatnonzero(scores[i] >= kth - 1e-12)
            exact = (block[near] * wide[i]).sum(axis=1)
            merged, found = np.concatenate([before, exact]), np.concatenate([rows, near + start])
            order = np.lexsort((found, -merged))[: given.k]
            best[i] = merged[order], found[order]
    return np.stack([rows for _, rows in best])


def overlap(found: NDArray[np.int64], wanted: NDArray[np.int64]) -> float:
    """The mean share of the wanted rows (m, k) that were found."""
    shares = [len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, wanted, strict=True)]
    return float(np.mean(shares))


def rescored(given: Given, find: Search) -> Search:
    """The k best by float32 of the rows (m, more than k) that `find` answers with."""

    def search(queries: NDArray[np.float32], threads: int) -> NDArray[np.int64]:
        candidates = find(queries, threads)
        out = np.empty((len(queries), given.k), np.int64)
        for i, (query, rows) in enumerate(zip(queries, candidates, strict=True)):
            out[i] = rows[np.argsort(-(given.rows[rows] @ query))[: given.k]]
        return out

    return search


def numpy_ways(given: Given) -> Iterator[Way]:
    """float32: one product, argpartition, a sort of k; a batch in blocks."""
    k = given.k

    def search(queries: NDArray[np.float32], threads: int) -> NDArray[np.int64]:
        out = np.empty((len(queries), k), np.int64)
        for start in range(0, len(queries), NUMPY_BLOCK):
            block = queries[start : start + NUMPY_BLOCK]
            scores = (given.rows @ block[0])[None] if len(block) == 1 else block @ given.rows.T
            best = np.argpartition(scores, -k, axis=1)[:, -k:]
            order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
            out[start : start + NUMPY_BLOCK] = np.take_along_axis(best, order, 1)
        return out

    yield Way("numpy float32", search, 0.0)


def cookbook_ways(given: Given) -> Iterator[Way]:
    """Nomic's notebook: float64, a slice of the full-width matrix, every score sorted, best last.

    embeddings/00_matryoshka_search_renorm.ipynb, without its bug: it scales the slice in place, which
    spoils the full vectors that it reranks with; here the scaled matrix is another one, made beforehand.
    """
    if given.width <= 256:
        return
    wide = given.rows.astype(np.float64)
    short = wide / np.linalg.norm(wide[:, :256], axis=1)[:, None]

    def whole(queries: NDArray[np.float32], threads: int) -> NDArray[np.int64]:
        return np.argsort(queries[0].astype(np.float64) @ wide.T)[-given.k :][None]

    def reranked(queries: NDArray[np.float32], threads: int) -> NDArray[np.int64]:
        query = queries[0].astype(np.float64)
        cut = query[:256] / np.linalg.norm(query[:256])
        candidates = np.argsort(cut @ short[:, :256].T)[-10 * given.k :]
        return candidates[np.argsort(query @ wide[candidates].T)][-given.k :][None]

    yield Way(f"cookbook {given.width}", whole, 0.0, in_batches=False)
    yield Way("cookbook 256, rerank 100", reranked, 0.0, in_batches=False)


def _faiss_ways(given: Given, name: str, index: Any, settings: Sequence[str]) -> Iterator[Way]:
    """A faiss index at each of its settings; with a k_factor the floats score its candidates again."""
    import faiss

    def build() -> None:
        index.train(given.rows)
        index.add(given.rows)

    seconds = timed(build)
    refined = faiss.IndexRefineFlat(index, faiss.swig_ptr(given.rows))
    space = faiss.ParameterSpace()
    for setting in settings:
        asked = refined if "k_factor" in setting else index
        label = f"faiss {name}, {setting}".removesuffix(", ").replace("_rf=", " ").replace("=", " ")
        yield Way(
            label,
            lambda queries, threads, asked=asked: asked.search(queries, given.k)[1],
            seconds,
            lambda asked=asked, setting=setting: space.set_index_parameters(asked, setting),
        )


def _factory(given: Given, settings: dict[str, Sequence[str]]) -> Iterator[Way]:
    import faiss

    for words, each in settings.items():
        index = faiss.index_factory(given.width, words, faiss.METRIC_INNER_PRODUCT)
        if words.startswith("HNSW"):
            index.hnsw.efConstruction = EF_CONSTRUCTION
        yield from _faiss_ways(given, words, index, each)


def _factors(*factors: int) -> list[str]:
    return [f"k_factor_rf={factor}" for factor in factors]


def flat_ways(given: Given) -> Iterator[Way]:
    """Every float or every byte is read; Panorama leaves a row when its rest cannot matter."""
    import faiss

    yield from _factory(given, {"Flat": [""], "SQ8": ["", "k_factor_rf=2"]})
    rotation = faiss.PCAMatrix(given.width, given.width)
    rotation.train(given.rows)
    rotation.have_bias = False  # a centred row has other inner products
    index = faiss.IndexPreTransform(rotation, faiss.IndexFlatIPPanorama(given.width, 8))
    yield from _faiss_ways(given, "PCA, Panorama of 8 levels", index, [""])


def product_ways(given: Given) -> Iterator[Way]:
    """4 bits for 4 dimensions, and for 2 or 6, scanned in registers."""
    width = given.width
    finer = width // 2 if width < 768 else width // 6
    settings = {
        f"PQ{width // 4}x4fs": _factors(4, 10, 20, 40, 70, 100),
        f"PQ{finer}x4fs": _factors(2, 4, 10, 20, 40),
    }
    yield from _factory(given, settings)


def rabitq_ways(given: Given) -> Iterator[Way]:
    """One and two bits a dimension with a correction a row, scanned in registers."""
    settings = {"RaBitQfs": _factors(20, 40, 80), "RaBitQfs2": _factors(2, 4, 10)}
    yield from _factory(given, settings)


def cell_ways(given: Given) -> Iterator[Way]:
    """The cells that are nearest to the query, scanned by such quantisers."""
    nprobe = [f"nprobe={probes},k_factor_rf={factor}" for probes, factor in ((64, 40), (256, 40), (512, 100))]
    settings = {
        f"IVF{CELLS},PQ{given.width // 4}x4fs": nprobe,
        f"IVF{CELLS},RaBitQfs": nprobe,
        f"IVF{CELLS},SQ8": ["nprobe=64", "nprobe=256", "nprobe=512"],
    }
    yield from _factory(given, settings)


def graph_ways(given: Given) -> Iterator[Way]:
    """HNSW over float32."""
    yield from _factory(given, {f"HNSW{LINKS}": [f"efSearch={ef}" for ef in EF_SEARCH]})


def _int8(rows: NDArray[np.float32]) -> NDArray[np.int8]:
    """Rows (n, d) as int8, each by its own scale, as usearch's documentation has it."""
    return np.rint(rows * (127 / np.abs(rows).max(axis=1, keepdims=True))).astype(np.int8)


def usearch_ways(given: Given) -> Iterator[Way]:
    """Exact by SIMD kernels, in float32 and int8; its graph over int8."""
    from usearch.index import Index, MetricKind, search

    def exact(rows: NDArray[Any], metric: MetricKind, k: int) -> Search:
        def ask(queries: NDArray[np.float32], threads: int) -> NDArray[np.int64]:
            asked = queries if rows.dtype == np.float32 else _int8(queries)
            found = search(rows, asked, k, metric, exact=True, threads=threads)
            return found.keys.reshape(len(queries), -1).astype(np.int64)

        return ask

    yield Way("usearch exact f32", exact(given.rows, MetricKind.IP, given.k), 0.0)
    begin = time.perf_counter()
    small = _int8(given.rows)
    seconds = time.perf_counter() - begin
    yield Way("usearch exact i8", exact(small, MetricKind.Cos, given.k), seconds)
    twice = exact(small, MetricKind.Cos, 2 * given.k)
    yield Way("usearch exact i8, 20 rescored", rescored(given, twice), seconds)
    index = Index(
        ndim=given.width, metric="cos", dtype="i8", connectivity=LINKS, expansion_add=EF_CONSTRUCTION
    )
    seconds = timed(lambda: index.add(np.arange(len(small)), small, threads=2))

    def ask(queries: NDArray[np.float32], threads: int) -> NDArray[np.int64]:
        found = index.search(_int8(queries), given.k, threads=threads)
        return found.keys.reshape(len(queries), -1).astype(np.int64)

    for ef in EF_SEARCH:
        yield Way(
            f"usearch HNSW{LINKS} i8, ef {ef}",
            ask,
            seconds,
            lambda ef=ef: setattr(index, "expansion_search", ef),
        )


def hnswlib_ways(given: Given) -> Iterator[Way]:
    """The graph's reference implementation."""
    import hnswlib

    index = hnswlib.Index("ip", given.width)
    index.init_index(len(given.rows), M=LINKS, ef_construction=EF_CONSTRUCTION)
    seconds = timed(lambda: index.add_items(given.rows, num_threads=2))

    def ask(queries: NDArray[np.float32], threads: int) -> NDArray[np.int64]:
        return index.knn_query(queries, given.k, num_threads=threads)[0].astype(np.int64)

    for ef in EF_SEARCH:
        yield Way(f"hnswlib {LINKS}, ef {ef}", ask, seconds, lambda ef=ef: index.set_ef(ef))


def turbovec_ways(given: Given) -> Iterator[Way]:
    """TurboQuant of 2 and 4 bits, calibrated as its documentation advises; it chooses its threads itself."""
    from turbovec import TurboQuantIndex

    sample = given.rows[np.random.default_rng(0).permutation(len(given.rows))[:4096]]
    for bits, candidates in ((2, (50, 100, 200)), (4, (10, 20, 50))):
        index = TurboQuantIndex(given.width, bits)

        def build(index: Any = index) -> None:
            index.calibrate(sample)
            index.add(given.rows)
            index.prepare()

        seconds = timed(build)
        for count in candidates:

            def find(
                queries: NDArray[np.float32], threads: int, index: Any = index, count: int = count
            ) -> NDArray[np.int64]:
                return index.search(queries, count)[1]

            search = find if count == given.k else rescored(given, find)
            yield Way(f"turbovec {bits} bits, {count} rescored", search, seconds, threads=(2,))


def rabitqlib_ways(given: Given) -> Iterator[Way]:
    """Its authors' library: cells whose candidates the floats score again, and a graph over the codes."""
    from rabitqlib import IvfIndex, RaBitQKMeans, SymqgIndex

    rows = given.rows
    clusters = RaBitQKMeans(given.width, CELLS, num_threads=2)
    begin = time.perf_counter()
    clusters.train(rows)
    for bits in (5, 32):
        cells = IvfIndex(given.width, len(rows), CELLS, bits, "ip")
        cells.build(rows, clusters.centroids, clusters.assignments, num_threads=2)
        seconds = time.perf_counter() - begin
        for probes in (64, 256, 512):

            def probe(
                queries: NDArray[np.float32], threads: int, cells: Any = cells, probes: int = probes
            ) -> NDArray[np.int64]:
                found = cells.search(queries, given.k, probes, num_threads=threads)[0]
                return found.astype(np.int64)

            yield Way(f"rabitqlib IVF{CELLS} {bits} bits, nprobe {probes}", probe, seconds)
    graph = SymqgIndex(given.width, LINKS, "ip")
    seconds = timed(lambda: graph.build(rows, EF_CONSTRUCTION, num_threads=2))
    for ef in EF_SEARCH:

        def walk(queries: NDArray[np.float32], threads: int, ef: int = ef) -> NDArray[np.int64]:
            return graph.search(queries, given.k, ef, num_threads=threads)[0].astype(np.int64)

        yield Way(f"rabitqlib SymphonyQG {LINKS}, ef {ef}", walk, seconds)


GROUPS: dict[str, Callable[[Given], Iterator[Way]]] = {
    "numpy": numpy_ways,
    "cookbook": cookbook_ways,
    "flat": flat_ways,
    "product": product_ways,
    "rabitq": rabitq_ways,
    "cells": cell_ways,
    "graph": graph_ways,
    "usearch": usearch_ways,
    "hnswlib": hnswlib_ways,
    "turbovec": turbovec_ways,
    "rabitqlib": rabitqlib_ways,
}
"""Rivals by the names that --only takes."""
