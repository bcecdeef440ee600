"""Parquet files as rows, a few at a time, from any row on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ROWS = 256
"""Rows that are taken at once: texts may be long."""


def failures() -> tuple[type[Exception], ...]:
    """What opening and reading raise for a file that is damaged or gone."""
    import pyarrow

    return (pyarrow.ArrowException, OSError, ValueError)


def open_file(source: Any) -> Any:
    """A `pyarrow.parquet.ParquetFile` of a path or an open file; to be closed."""
    import pyarrow.parquet

    # Pages are read as they are needed: a row group may be larger than the memory.
    return pyarrow.parquet.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20)


def rows(
    file: Any, first: int, columns: Sequence[str] | None = None
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows behind the first so many, each with its number from 1; row groups before it are not read."""
    start = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        skip = max(first - start, 0)
        if skip < count:
            number = start
            for batch in file.iter_batches(ROWS, row_groups=[group], columns=columns):
                passed = min(skip, batch.num_rows)
                skip -= passed
                number += passed
                for row in batch.slice(passed).to_pylist():
                    number += 1
                    yield number, row
        start += count
