"""usearch and hnswlib as rivals: exact search by SIMD kernels, and graphs.

As usearch's documentation has it, int8 comes from each row scaled to its own largest number, with the
cosine as metric. Graphs have 32 links and are built with 200 candidates, as hnswlib's advice for wide
vectors goes, and like faiss's here.
"""

import numpy as np
from _rivals import Given, Search, Way, timed
from _rivals_faiss import EF_CONSTRUCTION, EF_SEARCH, file_bytes
from numpy.typing import NDArray

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
