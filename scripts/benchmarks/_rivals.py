"""The rivals that need numpy alone, and what every rival is: the cookbook's functions, and float32 numpy.

A rival gets unit rows (n, d) float32 in memory, and is asked for the k best of unit queries (m, d).

faiss as a rival, as its documentation advises: flat, scalar and product quantisers, RaBitQ, HNSW.

Unit rows, inner product. A quantiser alone loses too much, so IndexRefineFlat scores its k_factor x k
best again in float32. One query runs on one thread in most of these, whatever OpenMP may use;
IndexShards, with a thread a shard, is faiss's own remedy.

usearch and hnswlib as rivals: exact search by SIMD kernels, and graphs.

As usearch's documentation has it, int8 comes from each row scaled to its own largest number, with the
cosine as metric. Graphs have 32 links and are built with 200 candidates, as hnswlib's advice for wide
vectors goes, and like faiss's here.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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


EF_SEARCH = (64, 128, 256, 512)
EF_CONSTRUCTION = 200
PANORAMA_LEVELS = 8


def file_bytes(save: Callable[[str], object]) -> int:
    """How large the file is that `save` writes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        save(str(path))
        return path.stat().st_size


def flat_ways(given: Given) -> list[Way]:
    """The exact answer: every float32 read, or as many as a bound on the rest asks for."""
    import faiss

    flat = faiss.IndexFlatIP(given.width)
    seconds = timed(lambda: flat.add(given.rows))
    ways = [Way("faiss Flat", _search(flat, given.k), seconds, _size(flat))]
    # Panorama leaves a row when what is left of it cannot matter: best where the first dimensions say most.
    rotation = faiss.PCAMatrix(given.width, given.width)
    panorama = faiss.IndexFlatIPPanorama(given.width, PANORAMA_LEVELS)
    index = faiss.IndexPreTransform(rotation, panorama)

    def build() -> None:
        rotation.train(given.rows)
        rotation.have_bias = False  # a centred row has other inner products
        index.is_trained = True
        index.add(given.rows)

    seconds = timed(build)
    size = _size(panorama) + given.width**2 * 4
    return [
        *ways,
        Way(f"faiss PCA, Panorama of {PANORAMA_LEVELS} levels", _search(index, given.k), seconds, size),
    ]


def scalar_ways(given: Given) -> list[Way]:
    """A byte a dimension; whole, and halved between two threads."""
    import faiss

    def make(kind: int) -> Any:
        return faiss.IndexScalarQuantizer(given.width, kind, faiss.METRIC_INNER_PRODUCT)

    kinds = faiss.ScalarQuantizer
    index = make(kinds.QT_8bit)
    seconds = _fill(index, given.rows)
    ways = [Way("faiss SQ8", _search(index, given.k), seconds, _size(index))]
    ways += _refined("faiss SQ8", index, given, given.rows, seconds, (2,))
    ways.append(_halved("faiss SQ8 in two shards", lambda: make(kinds.QT_8bit), given, _size(index)))
    # Integer kernels, for rows that are int8 numbers already: one scale for all makes them so.
    scale = np.float32(127 / np.abs(given.rows).max())
    direct, scaled = make(kinds.QT_8bit_direct_signed), np.rint(given.rows * scale)
    seconds = _fill(direct, scaled)
    search = _search(direct, given.k, full_scale=True)
    return [*ways, Way("faiss SQ8 direct signed", search, seconds, _size(direct))]


def product_ways(given: Given) -> list[Way]:
    """4 bits for each 4 dimensions (192 x 4), or for each 6 (128 x 4), scanned in registers."""
    import faiss

    ways = []
    for parts, factors in ((192, (2, 4, 6, 10, 14, 20, 40)), (128, (10, 20, 40, 80))):
        name = f"faiss PQ{parts}x4fs"
        index = faiss.IndexPQFastScan(given.width, parts, 4, faiss.METRIC_INNER_PRODUCT)
        seconds = _fill(index, given.rows)
        if parts == 192:
            ways.append(Way(name, _search(index, given.k), seconds, _size(index)))
        ways += _refined(name, index, given, given.rows, seconds, factors)
    return ways


def rabitq_ways(given: Given) -> list[Way]:
    """One bit a dimension and two floats a row, scanned in registers."""
    import faiss

    index = faiss.IndexRaBitQFastScan(given.width, faiss.METRIC_INNER_PRODUCT)
    seconds = _fill(index, given.rows)
    return _refined("faiss RaBitQfs", index, given, given.rows, seconds, (4, 10, 20, 40))


def graph_ways(given: Given) -> list[Way]:
    """HNSW with 32 links."""
    import faiss

    index = faiss.IndexHNSWFlat(given.width, 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EF_CONSTRUCTION
    seconds, size = _fill(index, given.rows), _size(index)
    ways = []
    for ef in EF_SEARCH:
        search = _search(index, given.k, faiss.SearchParametersHNSW(efSearch=ef))
        ways.append(Way(f"faiss HNSW32, ef {ef}", search, seconds, size))
    return ways


def _fill(index: Any, rows: NDArray[np.float32]) -> float:
    def work() -> None:
        index.train(rows)
        index.add(rows)

    return timed(work)


def _size(index: Any) -> int:
    import faiss

    return file_bytes(lambda path: faiss.write_index(index, path))


def _search(index: Any, k: int, parameters: Any = None, *, full_scale: bool = False) -> Search:
    def search(queries: NDArray[np.float32], threads: int) -> NDArray[np.int64]:
        if full_scale:
            queries = queries * (127 / np.abs(queries).max(axis=1, keepdims=True))
        return index.search(queries, k, params=parameters)[1]

    return search


def _refined(
    name: str, base: Any, given: Given, rows: NDArray[np.float32], seconds: float, factors: tuple[int, ...]
) -> Iterator[Way]:
    """The ways to score a base's candidates again."""
    import faiss

    index = faiss.IndexRefineFlat(base, faiss.swig_ptr(rows))
    size = _size(index)
    for factor in factors:
        parameters = faiss.IndexRefineSearchParameters(k_factor=factor)
        label = f"{name} + refine, k_factor {factor}"
        yield Way(label, _search(index, given.k, parameters), seconds, size)


def _halved(name: str, make: Callable[[], Any], given: Given, size: int) -> Way:
    """The same index in two halves, which two threads search at once."""
    import faiss

    shards = faiss.IndexShards(given.width, True, True)  # threaded, successive ids
    for _ in THREADS:
        shards.add_shard(make())
    seconds = _fill(shards, given.rows)
    return Way(name, _search(shards, given.k), seconds, size, threads=(2,))


LINKS = 32


def int8(rows: NDArray[np.float32]) -> NDArray[np.int8]:
    """Rows (n, d) as int8, each by its own scale."""
    return np.rint(rows * (127 / np.abs(rows).max(axis=1, keepdims=True))).astype(np.int8)


def usearch_exact_ways(given: Given) -> list[Way]:
    """Every row compared, in float32 and in int8."""
    from usearch.index import MetricKind, search

    def exact(rows: NDArray[np.float32] | NDArray[np.int8], metric: MetricKind) -> Search:
        def ask(queries: NDArray[np.float32], threads: int) -> NDArray[np.int64]:
            asked = queries if rows.dtype == np.float32 else int8(queries)
            found = search(rows, asked, given.k, metric, exact=True, threads=threads)
            return found.keys.reshape(len(queries), -1).astype(np.int64)

        return ask

    small: list[NDArray[np.int8]] = []
    seconds = timed(lambda: small.append(int8(given.rows)))
    return [
        Way("usearch exact f32", exact(given.rows, MetricKind.IP), 0.0, given.rows.nbytes),
        Way("usearch exact i8", exact(small[0], MetricKind.Cos), seconds, small[0].nbytes),
    ]


def usearch_graph_ways(given: Given) -> list[Way]:
    """Its graph over int8; over float32 it takes minutes to build, and faiss and hnswlib are such."""
    from usearch.index import Index

    # Given float32, it would scale by 127 for all: most numbers of a wide unit row would be 0 to 5.
    small = int8(given.rows)
    index = Index(
        ndim=given.width, metric="cos", dtype="i8", connectivity=LINKS, expansion_add=EF_CONSTRUCTION
    )
    seconds = timed(lambda: index.add(np.arange(len(small)), small, threads=2))
    size = file_bytes(index.save)

    def at(ef: int) -> Search:
        def ask(queries: NDArray[np.float32], threads: int) -> NDArray[np.int64]:
            index.expansion_search = ef
            found = index.search(int8(queries), given.k, threads=threads)
            return found.keys.reshape(len(queries), -1).astype(np.int64)

        return ask

    return [Way(f"usearch HNSW32 i8, ef {ef}", at(ef), seconds, size) for ef in EF_SEARCH]


def hnswlib_ways(given: Given) -> list[Way]:
    """The graph's reference implementation."""
    import hnswlib

    index = hnswlib.Index("ip", given.width)
    index.init_index(len(given.rows), M=LINKS, ef_construction=EF_CONSTRUCTION)
    seconds = timed(lambda: index.add_items(given.rows, num_threads=2))
    size = file_bytes(index.save_index)

    def at(ef: int) -> Search:
        def ask(queries: NDArray[np.float32], threads: int) -> NDArray[np.int64]:
            index.set_ef(ef)
            return index.knn_query(queries, given.k, num_threads=threads)[0].astype(np.int64)

        return ask

    return [Way(f"hnswlib 32, ef {ef}", at(ef), seconds, size) for ef in EF_SEARCH]
