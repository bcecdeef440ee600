"""To usearch: a graph over the float32 rows, whose keys are the lines of `documents.parquet`.

The graph is held while it is made, some 300 bytes a row; the rows stay where they are, mapped.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.arrays import NpyWriter
from resizable_search.export import tables
from resizable_search.export.base import ExportSample, Format, SearchCheck, Settings, settled
from resizable_search.export.source import ExportSource
from resizable_search.system import thread_count

INDEX = "index.usearch"
DOCUMENTS = "documents.parquet"
ROWS = "rows.npy"
"""Rows that lie in no one file of the index, put together."""

EXPANSIONS = (64, 128, 256, 512, 1024)
"""How many candidates a search holds: 64 is what usearch takes by itself, and a file does not say."""

ADDED = 1000
"""Rows that are added at once."""


class UsearchFormat(Format):
    """A graph of usearch's usual 16 links, by inner product."""

    name = "usearch"
    modules = ("usearch.index", "pyarrow")
    package = "usearch"
    is_exact = False
    most_rows = 2**31 - 1

    def bytes(self, source: ExportSource) -> int:
        """The rows, and once more where they are put together."""
        return source.count * source.dim * 4 * (1 if source.whole() is not None else 2)

    def write(
        self,
        source: ExportSource,
        path: Path,
        facts: Mapping[str, Any],
        sample: ExportSample,
        go_on: Callable[[int], None],
    ) -> Settings:
        """Make the graph over mapped rows, save both, and find how many candidates a search has to hold."""
        from usearch.index import Index

        rows = source.whole()
        if rows is None:
            rows = _put_together(source, path / ROWS, go_on)
        index: Any = Index(ndim=source.dim, metric="ip", dtype="f32")
        threads = thread_count()
        for start in range(0, source.count, ADDED):
            keys = np.arange(start, min(start + ADDED, source.count), dtype=np.uint64)
            index.add(keys, rows[start : start + ADDED], copy=False, threads=threads)
            go_on(len(keys))
        index.save(str(path / INDEX))

        def ask(expansion: int) -> NDArray[np.int64]:
            index.expansion_search = expansion
            return _nearest(index, sample)

        expansion = settled(sample, EXPANSIONS, ask)
        (path / ROWS).unlink(missing_ok=True)
        tables.write_documents(source, path / DOCUMENTS, facts, go_on)
        return {"expansion_search": expansion}

    def look(self, path: Path, sample: ExportSample, settings: Settings) -> SearchCheck:
        """View the file, which need not fit into memory, and search it."""
        from usearch.index import Index

        index: Any = Index.restore(str(path / INDEX), view=True)
        index.expansion_search = settings["expansion_search"]
        nearest = _nearest(index, sample)
        rows = np.stack([index.get(place) for place in sample.places.tolist()])
        index.reset()
        return SearchCheck(tables.ids_at(path / DOCUMENTS, sample.places), rows, nearest)

    def usage(self, settings: Settings) -> str:
        """As the card says."""
        return (
            "import pyarrow.parquet\nfrom usearch.index import Index\n\n"
            f'index = Index.restore("{INDEX}", view=True)\n'
            f"index.expansion_search = {settings['expansion_search']}\n"
            f'documents = pyarrow.parquet.read_table("{DOCUMENTS}")\n'
            "found = index.search(query, 10)\n"
            "nearest = documents.take(found.keys).to_pylist()\n"
        )


def _put_together(source: ExportSource, path: Path, go_on: Callable[[int], None]) -> NDArray[np.float32]:
    """All rows in one file, mapped: (count, dim)."""
    file = NpyWriter(path, (source.count, source.dim), "<f4")
    try:
        for start, block in source.blocks():
            file.write(block, start * source.dim)
            go_on(0)
    finally:
        file.close()
    mapped: NDArray[np.float32] = np.load(path, mmap_mode="r").view(np.ndarray)
    return mapped


def _nearest(index: Any, sample: ExportSample) -> NDArray[np.int64]:
    """The keys nearest to each of a sample, (m, k + 1); -1 where it found fewer."""
    matches = index.search(sample.queries, sample.k + 1, threads=thread_count())
    keys = np.asarray(matches.keys).reshape(len(sample.places), -1).astype(np.int64)
    counts = np.asarray(getattr(matches, "counts", [keys.shape[1]] * len(keys)))
    return np.where(np.arange(keys.shape[1]) < counts[:, None], keys, -1)
