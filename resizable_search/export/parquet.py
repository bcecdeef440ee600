"""Export to Parquet: one file, or shards in a folder; and the Arrow tables that other formats share.

Columns: id, title, url, text, metadata (a JSON object as text), embedding (a list of `dim` float32). The
schema's metadata holds the facts of the export as JSON, under `rsearch`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.corpora.tables import open_parquet
from resizable_search.export.base import ExportJob, ExportSample, ExportSource, Format, SearchCheck, Settings
from resizable_search.store.documents import ROWS_AT_ONCE

KEY = "rsearch"
TEXTS = ("id", "title", "url", "text", "metadata")
EMBEDDING = "embedding"
ELEMENT = "element"  # Parquet's name for the numbers of a list
DOCUMENTS = "documents.parquet"  # the documents beside an index file of another format
GROUP_ROWS = 8192  # the most rows of a row group, which is held in memory
GROUP_BYTES = 32 << 20  # its most characters of texts, or bytes of vectors
SCANNED_ROWS = 2048  # rows compared at once
SHARD_BYTES = 500_000_000  # of a shard; what the hub recommends


class ParquetFormat(Format):
    """`DEST` is the file."""

    name = "parquet"
    modules = ("pyarrow",)
    is_folder = False

    def write(self, job: ExportJob, path: Path) -> Settings:
        """Write the file, one row group at a time."""
        form = schema(job.source.dim, job.facts)
        with writer(path, form) as file:
            for table in tables(job.source, form):
                file.write_table(table)
                job.step(table.num_rows)
        return {}

    def look(self, path: Path, sample: ExportSample, settings: Settings) -> SearchCheck:
        """Read it from beginning to end."""
        with open_parquet(path) as file:
            return scan(file.iter_batches(SCANNED_ROWS, columns=["id", EMBEDDING]), sample)


class DatasetsFormat(Format):
    """A folder for `datasets.load_dataset` and the hub: README.md, data/train-00000-of-00001.parquet.

    `datasets.load_from_disk` reads the library's own Arrow files instead, which `save_to_disk` of a loaded
    dataset writes.
    """

    name = "datasets"
    modules = ("datasets", "pyarrow")
    usage = """import os

import datasets

folder = os.getcwd()  # the folder of this file
documents = datasets.load_dataset(folder, split="train").with_format("numpy")
scores = documents["embedding"][:] @ query
nearest = documents.select((-scores).argsort()[:10]).to_list()"""

    def write(self, job: ExportJob, path: Path) -> Settings:
        """Write the shards, then give them their final names."""
        form = schema(job.source.dim, job.facts)
        data = path / "data"
        data.mkdir()
        shards: list[Path] = []
        with ExitStack() as stack:
            file = None
            for table in tables(job.source, form):
                if file is None or shards[-1].stat().st_size >= SHARD_BYTES:
                    stack.close()
                    shards.append(data / f"{len(shards)}.parquet")
                    file = stack.enter_context(writer(shards[-1], form))
                file.write_table(table)
                job.step(table.num_rows)
        for number, shard in enumerate(shards):
            shard.rename(data / f"train-{number:05}-of-{len(shards):05}.parquet")
        return {}

    def look(self, path: Path, sample: ExportSample, settings: Settings) -> SearchCheck:
        """Stream it: that reads the same files as loading, without a copy in a cache."""
        import datasets
        import pyarrow.dataset

        # Otherwise pyarrow keeps what it reads ahead until the file is closed.
        options = {"pre_buffer": False, "use_buffered_stream": True, "buffer_size": 1 << 20}
        paged = pyarrow.dataset.ParquetFragmentScanOptions(**options)
        opened = datasets.load_dataset(
            str(path),
            split="train",
            streaming=True,
            columns=["id", EMBEDDING],
            batch_size=SCANNED_ROWS,
            fragment_scan_options=paged,
        )
        return scan(opened.with_format("arrow").iter(batch_size=SCANNED_ROWS), sample)


def schema(dim: int | None, facts: Mapping[str, Any]) -> Any:
    """The schema of a table with embeddings of this dimension (None: without embeddings)."""
    import pyarrow as pa

    fields = [pa.field(name, pa.string(), nullable=False) for name in TEXTS]
    if dim is not None:
        number = pa.field(ELEMENT, pa.float32(), nullable=False)
        fields.append(pa.field(EMBEDDING, pa.list_(number, dim), nullable=False))
    return pa.schema(fields, metadata={KEY: json.dumps(facts, ensure_ascii=False)})


def tables(source: ExportSource, form: Any) -> Iterator[Any]:
    """The documents in order, as tables of that schema, each at most a row group."""
    import pyarrow as pa

    most = min(GROUP_ROWS, max(1, GROUP_BYTES // (4 * source.dim)))
    start = 0
    rows: list[tuple[str, ...]] = []
    for at in range(0, source.count, ROWS_AT_ONCE):
        stop = min(at + ROWS_AT_ONCE, source.count)
        rows += [
            (d.id, d.title, d.url, d.text, json.dumps(dict(d.metadata), ensure_ascii=False))
            for d in source.documents(at, stop)
        ]
        characters = sum(len(text) + len(metadata) for *_, text, metadata in rows)
        if stop < source.count and len(rows) + ROWS_AT_ONCE <= most and characters < GROUP_BYTES:
            continue
        arrays = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
        if EMBEDDING in form.names:
            flat = source.rows(np.arange(start, stop)).reshape(-1)
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(flat), type=form.field(EMBEDDING).type))
        yield pa.Table.from_arrays(arrays, schema=form)
        start, rows = stop, []


def writer(path: Path, form: Any) -> Any:
    """A ParquetWriter that compresses texts. Vectors do not compress."""
    import pyarrow.parquet

    compression = dict.fromkeys(TEXTS, "zstd")
    if EMBEDDING in form.names:
        compression[f"{EMBEDDING}.list.{ELEMENT}"] = "none"
    return pyarrow.parquet.ParquetWriter(
        path, form, compression=compression, use_dictionary=False, write_statistics=["id"]
    )


def write_documents(job: ExportJob, folder: Path) -> None:
    """Write the documents alone, in order: line n belongs to the vector at position n."""
    form = schema(None, job.facts)
    with writer(folder / DOCUMENTS, form) as file:
        for table in tables(job.source, form):
            file.write_table(table)
            job.step(0)


def ids_at(folder: Path, positions: NDArray[np.int64]) -> list[str]:
    """The ids at these positions, ascending, from the file of `write_documents`."""
    ids: list[str] = []
    start = 0
    with open_parquet(folder / DOCUMENTS) as file:
        for batch in file.iter_batches(SCANNED_ROWS, columns=["id"]):
            mine = positions[(positions >= start) & (positions < start + batch.num_rows)] - start
            ids += batch.column(0).take(mine).to_pylist()
            start += batch.num_rows
    return ids


def scan(batches: Iterable[Any], sample: ExportSample) -> SearchCheck:
    """Search tables or batches with id and embedding, in order, by float32 products."""
    k = sample.k + 1
    best = np.full((len(sample.positions), k), -np.inf, np.float32)
    nearest = np.full((len(sample.positions), k), -1, np.int64)
    ids: list[str] = []
    rows: list[NDArray[np.float32]] = []
    start = 0
    for batch in batches:
        column = batch.column(EMBEDDING)
        lists = [chunk.flatten().to_numpy() for chunk in getattr(column, "chunks", [column])]
        block = np.concatenate([np.empty(0, np.float32), *lists]).reshape(-1, sample.queries.shape[1])
        mine = sample.positions[(sample.positions >= start) & (sample.positions < start + len(block))] - start
        ids += batch.column("id").take(mine).to_pylist()
        rows.append(block[mine])
        scores = np.concatenate([best, sample.queries @ block.T], axis=1)
        positions = np.broadcast_to(np.arange(start, start + len(block)), (len(best), len(block)))
        positions = np.concatenate([nearest, positions], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best, nearest = np.take_along_axis(scores, order, 1), np.take_along_axis(positions, order, 1)
        start += len(block)
    return SearchCheck(ids, np.concatenate(rows), nearest)
