"""Export to usearch: a graph over the float32 rows, whose keys are the lines of `documents.parquet`.

The graph is in memory while it is built, some 300 bytes a row. The rows stay mapped.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.arrays import NpyWriter
from resizable_search.export.base import ExportJob, ExportSample, ExportSource, Format, SearchCheck, Settings
from resizable_search.export.parquet import DOCUMENTS, ids_at, write_documents
from resizable_search.system import thread_count

INDEX = "index.usearch"
ROWS = "rows.npy"  # all rows in one file, while the graph is built
EXPANSIONS = (64, 128, 256, 512, 1024)  # candidates of a search; the file stores none, and 64 is the default

ROWS_PER_CALL = 1000


class UsearchFormat(Format):
    """A graph with usearch's default of 16 links, by inner product."""

    name = "usearch"
    modules = ("usearch.index", "pyarrow")
    is_exact = False
    most_rows = 2**31 - 1
    usage = f"""import pyarrow.parquet
from usearch.index import Index

index = Index.restore("{INDEX}", view=True)
index.expansion_search = {{expansion_search}}
documents = pyarrow.parquet.read_table("{DOCUMENTS}")
found = index.search(query, 10)
nearest = documents.take(found.keys).to_pylist()"""

    def bytes(self, source: ExportSource) -> int:
        """The rows twice: once in a file of their own while the graph is built."""
        return 2 * super().bytes(source)

    def write(self, job: ExportJob, path: Path) -> Settings:
        """Build the graph over mapped rows, save it, and choose how many candidates a search holds."""
        from usearch.index import Index

        source = job.source
        with NpyWriter(path / ROWS, (source.count, source.dim)) as file:
            for start, block in source.blocks():
                file.write(block, start * source.dim)
                job.step(0)
        rows = np.load(path / ROWS, mmap_mode="r").view(np.ndarray)
        index: Any = Index(ndim=source.dim, metric="ip", dtype="f32")
        threads = thread_count()
        for start in range(0, source.count, ROWS_PER_CALL):
            keys = np.arange(start, min(start + ROWS_PER_CALL, source.count), dtype=np.uint64)
            index.add(keys, rows[start : start + ROWS_PER_CALL], copy=False, threads=threads)
            job.step(len(keys))
        index.save(str(path / INDEX))

        def search(expansion: int) -> NDArray[np.int64]:
            index.expansion_search = expansion
            return _nearest(index, job.sample)

        expansion = job.sample.least_effort(EXPANSIONS, search)
        (path / ROWS).unlink()
        write_documents(job, path)
        return {"expansion_search": expansion}

    def look(self, path: Path, sample: ExportSample, settings: Settings) -> SearchCheck:
        """Map the file and search it."""
        from usearch.index import Index

        index: Any = Index.restore(str(path / INDEX), view=True)
        index.expansion_search = settings["expansion_search"]
        nearest = _nearest(index, sample)
        rows = np.stack([index.get(position) for position in sample.positions.tolist()])
        index.reset()
        return SearchCheck(ids_at(path, sample.positions), rows, nearest)


def _nearest(index: Any, sample: ExportSample) -> NDArray[np.int64]:
    """The keys nearest to each row of a sample, (m, k + 1); -1 if the graph returned fewer."""
    matches = index.search(sample.queries, sample.k + 1, threads=thread_count())
    keys = np.asarray(matches.keys).reshape(len(sample.positions), -1).astype(np.int64)
    counts = np.asarray(getattr(matches, "counts", [keys.shape[1]] * len(keys)))
    return np.where(np.arange(keys.shape[1]) < counts[:, None], keys, -1)
