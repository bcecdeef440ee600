"""Export to faiss: all float32 (`faiss-flat`), or 4-bit product codes refined by them (`faiss-pq`).

The ids of `index.faiss` are the lines of `documents.parquet`. faiss can only write a flat index that is in
memory, so this module writes that file itself: faiss's header, then the rows. The refined index is made
from that file, mapped; only its codes are in memory, half a byte for four dimensions.
"""

from pathlib import Path
from typing import Any

import numpy as np

from resizable_search.errors import RsearchError
from resizable_search.export.base import ExportJob, ExportSample, ExportSource, Format, SearchCheck, Settings
from resizable_search.export.parquet import DOCUMENTS, ids_at, write_documents
from resizable_search.system import thread_count

INDEX = "index.faiss"
ROWS = "rows.faiss"  # the flat index that a refined one is made from
COUNT_FIELD = slice(8, 16)  # the rows, in the header of a flat index; its last 8 bytes count the floats
CENTROIDS = 16  # of a 4-bit code; with fewer rows it cannot be trained
TRAINING_ROWS = 4096  # 256 for each centroid; faiss uses no more
DIMS_PER_CODE = (4, 3, 2, 1)  # the first that divides the dimension is used
K_FACTORS = (10, 20, 40, 80, 160, 320)  # how many times k candidates are scored again


class FaissFormat(Format):
    """What both formats share."""

    modules = ("faiss", "pyarrow")
    usage = f"""import faiss
import pyarrow.parquet

index = faiss.read_index("{INDEX}")
documents = pyarrow.parquet.read_table("{DOCUMENTS}")
scores, rows = index.search(query[None], 10)
nearest = documents.take(rows[0]).to_pylist()"""

    def require(self) -> None:
        """Import faiss, and let it use as many threads as a scan does."""
        super().require()
        import faiss

        faiss.omp_set_num_threads(thread_count())

    def look(self, path: Path, sample: ExportSample, settings: Settings) -> SearchCheck:
        """Map the index and search it."""
        import faiss

        index = faiss.read_index(str(path / INDEX), faiss.IO_FLAG_MMAP_IFC)
        _, nearest = index.search(sample.queries, sample.k + 1)
        rows = np.stack([index.reconstruct(position) for position in sample.positions.tolist()])
        return SearchCheck(ids_at(path, sample.positions), rows, nearest)


class FaissFlatFormat(FaissFormat):
    """IndexFlatIP: the exact answer."""

    name = "faiss-flat"

    def write(self, job: ExportJob, path: Path) -> Settings:
        """Write the rows as faiss would, then the documents."""
        _write_flat(job, path / INDEX)
        write_documents(job, path)
        return {}


class FaissPQFormat(FaissFormat):
    """IndexRefineFlat over IndexPQFastScan: most of the exact answer, faster."""

    name = "faiss-pq"
    is_exact = False
    most_rows = 2**31 - 1

    def bytes(self, source: ExportSource) -> int:
        """The rows twice, and their codes."""
        return source.count * (2 * 4 * source.dim + source.dim // 8)

    def write(self, job: ExportJob, path: Path) -> Settings:
        """Write the rows, train and fill the codes, choose a k_factor, and write the index."""
        import faiss

        source, sample = job.source, job.sample
        if source.count < CENTROIDS:
            few = f"{self.name} takes {CENTROIDS} documents or more, not {source.count}"
            raise RsearchError(f"{few}: use the format faiss-flat")
        _write_flat(job, path / ROWS)
        rows = faiss.read_index(str(path / ROWS), faiss.IO_FLAG_MMAP_IFC)
        cut = next(cut for cut in DIMS_PER_CODE if source.dim % cut == 0)
        codes = faiss.IndexPQFastScan(source.dim, source.dim // cut, 4, faiss.METRIC_INNER_PRODUCT)
        codes.pq.cp.min_points_per_centroid = 1  # otherwise faiss warns on stderr about few rows
        draw = np.random.default_rng(0).choice(source.count, min(TRAINING_ROWS, source.count), replace=False)
        codes.train(source.rows(np.sort(draw)))
        for _, block in source.blocks():
            codes.add(block)
            job.step(0)
        index = faiss.IndexRefine(codes, rows)

        def search(factor: int) -> Any:
            index.k_factor = factor
            return index.search(sample.queries, sample.k + 1)[1]

        index.k_factor = factor = sample.least_effort(K_FACTORS, search)
        job.step(0)
        faiss.write_index(index, str(path / INDEX))
        (path / ROWS).unlink()
        write_documents(job, path)
        return {"k_factor": factor}


def _write_flat(job: ExportJob, path: Path) -> None:
    """Write the file of an IndexFlatIP: an empty one's header, with the counts, and all rows."""
    import faiss

    count, dim = job.source.count, job.source.dim
    header = bytearray(faiss.serialize_index(faiss.IndexFlatIP(dim)).tobytes())
    header[COUNT_FIELD] = count.to_bytes(8, "little")
    header[-8:] = (count * dim).to_bytes(8, "little")
    with path.open("wb") as file:
        file.write(header)
        for _, block in job.source.blocks():
            file.write(np.ascontiguousarray(block, "<f4").data)
            job.step(len(block))
