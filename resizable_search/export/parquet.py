"""To one Parquet file, for pandas, polars, DuckDB and whatever else reads it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from resizable_search.corpora.tables import open_file
from resizable_search.export import tables
from resizable_search.export.base import ExportSample, Format, SearchCheck, Settings
from resizable_search.export.source import ExportSource


class ParquetFormat(Format):
    """`DEST` is the file."""

    name = "parquet"
    modules = ("pyarrow",)
    is_folder = False

    def write(
        self,
        source: ExportSource,
        path: Path,
        facts: Mapping[str, Any],
        sample: ExportSample,
        go_on: Callable[[int], None],
    ) -> Settings:
        """Write the file, a row group at a time."""
        form = tables.schema(source.dim, facts)
        with tables.writer(path, form) as file:
            for table in tables.tables(source, form):
                file.write_table(table)
                go_on(table.num_rows)
        return {}

    def look(self, path: Path, sample: ExportSample, settings: Settings) -> SearchCheck:
        """Read it from beginning to end."""
        with open_file(path) as file:
            columns = ["id", tables.EMBEDDING]
            return tables.scan(file.iter_batches(tables.SCANNED_ROWS, columns=columns), sample)

    def usage(self, settings: Settings) -> str:
        """Unused: a file has no card."""
        return ""
