"""faiss as a rival, as its documentation advises: flat, scalar and product quantisers, RaBitQ, HNSW.

Unit rows, inner product. A quantiser alone loses too much, so IndexRefineFlat scores its k_factor x k
best again in float32. One query runs on one thread in most of these, whatever OpenMP may use;
IndexShards, with a thread a shard, is faiss's own remedy.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from _rivals import THREADS, Given, Search, Way, timed
from numpy.typing import NDArray

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
