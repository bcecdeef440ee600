"""To faiss: every float32 (`faiss-flat`), or 4-bit product codes refined by them (`faiss-pq`).

`index.faiss` is the index, whose ids are the lines of `documents.parquet`. Neither is ever whole in
memory: faiss writes a flat index from memory alone, so its file is written here, a header as faiss
writes it and then the rows; the refined one is made from that file, mapped. Its codes are held: half a
byte for four dimensions, a 32nd of the rows.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resizable_search.errors import RsearchError
from resizable_search.export import tables
from resizable_search.export.base import ExportSample, Format, SearchCheck, Settings, settled
from resizable_search.export.source import ExportSource
from resizable_search.system import thread_count

INDEX = "index.faiss"
DOCUMENTS = "documents.parquet"
ROWS = "rows.faiss"
"""The flat index that a refined one is made from."""

AT_COUNT = slice(8, 16)
"""Where a flat index's header has the number of rows; the number of floats is in the last 8 bytes."""

CENTROIDS = 16
"""Of 4 bits; fewer rows cannot be told apart by so many."""

TRAINING_ROWS = 4096
"""256 for each centroid, of which faiss takes no more."""

CUTS = (4, 3, 2, 1)
"""Dimensions that share a code, if they divide the whole: 4 as docs/benchmarks.md measures it."""

K_FACTORS = (10, 20, 40, 80, 160, 320)
"""How many times k candidates are scored again."""


class FaissFormat(Format):
    """What both have in common."""

    modules = ("faiss", "pyarrow")
    package = "faiss-cpu"

    def require(self) -> None:
        """Import it, and have it run as many threads as a scan does."""
        super().require()
        import faiss

        faiss.omp_set_num_threads(thread_count())

    def look(self, path: Path, sample: ExportSample, settings: Settings) -> SearchCheck:
        """Read the index mapped, so that it need not fit into memory, and search it."""
        import faiss

        index = faiss.read_index(str(path / INDEX), faiss.IO_FLAG_MMAP_IFC)
        _, nearest = index.search(sample.queries, sample.k + 1)
        rows = np.stack([index.reconstruct(place) for place in sample.places.tolist()])
        return SearchCheck(tables.ids_at(path / DOCUMENTS, sample.places), rows, nearest)

    def usage(self, settings: Settings) -> str:
        """As the card says."""
        return (
            "import faiss\nimport pyarrow.parquet\n\n"
            f'index = faiss.read_index("{INDEX}")\n'
            f'documents = pyarrow.parquet.read_table("{DOCUMENTS}")\n'
            "scores, rows = index.search(query[None], 10)\n"
            "nearest = documents.take(rows[0]).to_pylist()\n"
        )


class FaissFlatFormat(FaissFormat):
    """IndexFlatIP: the exact answer."""

    name = "faiss-flat"

    def write(
        self,
        source: ExportSource,
        path: Path,
        facts: Mapping[str, Any],
        sample: ExportSample,
        go_on: Callable[[int], None],
    ) -> Settings:
        """Write the rows as faiss would, then the documents."""
        write_flat(source, path / INDEX, go_on)
        tables.write_documents(source, path / DOCUMENTS, facts, go_on)
        return {}


class FaissPQFormat(FaissFormat):
    """IndexRefineFlat over IndexPQFastScan: most of the exact answer, sooner."""

    name = "faiss-pq"
    is_exact = False
    most_rows = 2**31 - 1

    def bytes(self, source: ExportSource) -> int:
        """The rows twice, and their codes."""
        return source.count * (2 * 4 * source.dim + source.dim // 8)

    def write(
        self,
        source: ExportSource,
        path: Path,
        facts: Mapping[str, Any],
        sample: ExportSample,
        go_on: Callable[[int], None],
    ) -> Settings:
        """Write the rows, train and fill the codes, find a k_factor, and write both."""
        import faiss

        if source.count < CENTROIDS:
            raise RsearchError(
                f"{self.name} takes {CENTROIDS} documents or more, not {source.count}: "
                "use --format faiss-flat"
            )
        write_flat(source, path / ROWS, go_on)
        rows = faiss.read_index(str(path / ROWS), faiss.IO_FLAG_MMAP_IFC)
        cut = next(cut for cut in CUTS if source.dim % cut == 0)
        codes = faiss.IndexPQFastScan(source.dim, source.dim // cut, 4, faiss.METRIC_INNER_PRODUCT)
        codes.pq.cp.min_points_per_centroid = 1  # or few rows are warned of on stderr
        draw = np.random.default_rng(0).choice(source.count, min(TRAINING_ROWS, source.count), replace=False)
        codes.train(source.rows(np.sort(draw)))
        for _, block in source.blocks():
            codes.add(block)
            go_on(0)
        index = faiss.IndexRefine(codes, rows)

        def ask(factor: int) -> Any:
            index.k_factor = factor
            return index.search(sample.queries, sample.k + 1)[1]

        factor = settled(sample, K_FACTORS, ask)
        index.k_factor = factor
        go_on(0)
        faiss.write_index(index, str(path / INDEX))
        (path / ROWS).unlink()
        tables.write_documents(source, path / DOCUMENTS, facts, go_on)
        return {"k_factor": factor}


def write_flat(source: ExportSource, path: Path, go_on: Callable[[int], None]) -> None:
    """Write the file that faiss would write of an IndexFlatIP with all rows."""
    header = flat_header(source.count, source.dim)
    with path.open("wb") as file:
        file.write(header)
        for _, block in source.blocks():
            file.write(np.ascontiguousarray(block, "<f4").data)
            go_on(len(block))


def flat_header(count: int, dim: int) -> bytes:
    """What stands before the rows in the file of an IndexFlatIP of so many, as this faiss writes it.

    It is that of an empty index with the counts put in. Raises RsearchError where an index of one row,
    which faiss writes itself, is not like that.
    """
    import faiss

    index = faiss.IndexFlatIP(dim)
    empty = faiss.serialize_index(index).tobytes()
    index.add(np.ones((1, dim), np.float32))
    if faiss.serialize_index(index).tobytes() != _header(empty, 1, dim) + np.ones(dim, "<f4").tobytes():
        raise RsearchError(
            f"faiss {faiss.__version__} writes its indexes in another way than rsearch knows: "
            "`pip install 'faiss-cpu<2'`, or upgrade rsearch"
        )
    return _header(empty, count, dim)


def _header(empty: bytes, count: int, dim: int) -> bytes:
    made = bytearray(empty)
    made[AT_COUNT] = count.to_bytes(8, "little")
    made[-8:] = (count * dim).to_bytes(8, "little")
    return bytes(made)
