"""Documents and rows as Arrow tables: written to Parquet some at a time, and scanned again.

Columns: id, title, url, text and metadata (a JSON object, as text: keys and types differ from document
to document, and may be named as a column is), and embedding, a list of `dim` float32. The schema's own
metadata has under `rsearch` what the rows are (`ExportSource.facts`), as JSON.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.corpora.tables import open_file
from resizable_search.export.base import ExportSample, SearchCheck
from resizable_search.export.source import ExportSource
from resizable_search.store.documents import ROWS_AT_ONCE

KEY = "rsearch"
TEXTS = ("id", "title", "url", "text", "metadata")
EMBEDDING = "embedding"
ELEMENT = "element"
"""What Parquet calls the numbers of a list."""

GROUP_ROWS = 8192
GROUP_BYTES = 32 << 20
"""What a row group holds at most: rows, and characters of texts or bytes of rows. It is held at once."""

SCANNED_ROWS = 2048
"""Rows that are compared at once."""


def schema(dim: int | None, facts: Mapping[str, Any]) -> Any:
    """The schema of a table with embeddings of so many dimensions (None: without)."""
    import pyarrow as pa

    fields = [pa.field(name, pa.string(), nullable=False) for name in TEXTS]
    if dim is not None:
        number = pa.field(ELEMENT, pa.float32(), nullable=False)
        fields.append(pa.field(EMBEDDING, pa.list_(number, dim), nullable=False))
    return pa.schema(fields, metadata={KEY: json.dumps(facts, ensure_ascii=False)})


def tables(source: ExportSource, form: Any) -> Iterator[Any]:
    """The documents in order as tables of that schema, each as large as a row group may be."""
    import pyarrow as pa

    has_rows = EMBEDDING in form.names
    most = min(GROUP_ROWS, max(1, GROUP_BYTES // (4 * source.dim)))
    columns: dict[str, list[str]] = {name: [] for name in TEXTS}
    start, characters = 0, 0
    for at in range(0, source.count, ROWS_AT_ONCE):
        stop = min(at + ROWS_AT_ONCE, source.count)
        for document in source.documents(at, stop):
            metadata = json.dumps(dict(document.metadata), ensure_ascii=False)
            for name, value in zip(
                TEXTS, (document.id, document.title, document.url, document.text, metadata), strict=True
            ):
                columns[name].append(value)
            characters += len(document.text) + len(metadata)
        if stop < source.count and stop - start + ROWS_AT_ONCE <= most and characters < GROUP_BYTES:
            continue
        arrays = [pa.array(columns[name], pa.string()) for name in TEXTS]
        if has_rows:
            flat = source.rows(np.arange(start, stop)).reshape(-1)
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(flat), type=form.field(EMBEDDING).type))
        yield pa.Table.from_arrays(arrays, schema=form)
        columns, start, characters = {name: [] for name in TEXTS}, stop, 0


def writer(path: Path, form: Any) -> Any:
    """A ParquetWriter: texts are compressed, which numbers would not gain by."""
    import pyarrow.parquet

    compression = dict.fromkeys(TEXTS, "zstd") | {f"{EMBEDDING}.list.{ELEMENT}": "none"}
    if EMBEDDING not in form.names:
        compression = dict.fromkeys(TEXTS, "zstd")
    return pyarrow.parquet.ParquetWriter(
        path, form, compression=compression, use_dictionary=False, write_statistics=["id"]
    )


def write_documents(
    source: ExportSource, path: Path, facts: Mapping[str, Any], go_on: Callable[[int], None]
) -> None:
    """Write the documents alone, in order: the line at a place is that of the row there."""
    form = schema(None, facts)
    with writer(path, form) as file:
        for table in tables(source, form):
            file.write_table(table)
            go_on(0)


def ids_at(path: Path, places: NDArray[np.int64]) -> list[str]:
    """The ids at these places, ascending, of a Parquet file."""
    found: list[str] = []
    start = 0
    with open_file(path) as file:
        for batch in file.iter_batches(SCANNED_ROWS, columns=["id"]):
            mine = places[(places >= start) & (places < start + batch.num_rows)] - start
            found += batch.column(0).take(mine).to_pylist()
            start += batch.num_rows
    return found


def scan(batches: Iterable[Any], sample: ExportSample) -> SearchCheck:
    """Look through tables or batches with id and embedding, in order, by plain float32 products."""
    k = sample.k + 1
    best = np.full((len(sample.places), k), -np.inf, np.float32)
    nearest = np.full((len(sample.places), k), -1, np.int64)
    ids: list[str] = []
    rows: list[NDArray[np.float32]] = []
    start = 0
    for batch in batches:
        block = numbers_of(batch.column(EMBEDDING), sample.queries.shape[1])
        mine = sample.places[(sample.places >= start) & (sample.places < start + len(block))] - start
        ids += batch.column("id").take(mine).to_pylist()
        rows.append(block[mine])
        scores = np.concatenate([best, sample.queries @ block.T], axis=1)
        places = np.broadcast_to(np.arange(start, start + len(block)), (len(best), len(block)))
        places = np.concatenate([nearest, places], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best, nearest = np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)
        start += len(block)
    return SearchCheck(ids, np.concatenate(rows), nearest)


def numbers_of(column: Any, dim: int) -> NDArray[np.float32]:
    """The numbers of a column of lists, an array or in chunks: (n, dim) float32."""
    chunks: Sequence[Any] = getattr(column, "chunks", [column])
    blocks = [chunk.flatten().to_numpy().reshape(-1, dim) for chunk in chunks]
    return np.concatenate(blocks) if blocks else np.empty((0, dim), np.float32)
