"""To a folder that `datasets.load_dataset` loads, and that may be uploaded to the hub as it is.

Parquet in shards of some 500 MB, and a card that says where they are. (`datasets.load_from_disk` reads
the library's own Arrow files instead, and a folder is one or the other: a data set that was loaded is
saved like that with its `save_to_disk`.)
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from resizable_search.export import tables
from resizable_search.export.base import ExportSample, Format, SearchCheck, Settings
from resizable_search.export.source import ExportSource

SHARD_BYTES = 500_000_000
"""What the hub asks for."""


class DatasetsFormat(Format):
    """`DEST` has README.md and data/train-00000-of-00001.parquet."""

    name = "datasets"
    modules = ("datasets", "pyarrow")

    def write(
        self,
        source: ExportSource,
        path: Path,
        facts: Mapping[str, Any],
        sample: ExportSample,
        go_on: Callable[[int], None],
    ) -> Settings:
        """Write the shards, and number them when it is known how many there are."""
        form = tables.schema(source.dim, facts)
        data = path / "data"
        data.mkdir()
        shards: list[Path] = []
        with ExitStack() as stack:
            file = None
            for table in tables.tables(source, form):
                if file is None or shards[-1].stat().st_size >= SHARD_BYTES:
                    stack.close()
                    shards.append(data / f"{len(shards)}.parquet")
                    file = stack.enter_context(tables.writer(shards[-1], form))
                file.write_table(table)
                go_on(table.num_rows)
        for number, shard in enumerate(shards):
            shard.rename(data / f"train-{number:05}-of-{len(shards):05}.parquet")
        return {}

    def look(self, path: Path, sample: ExportSample, settings: Settings) -> SearchCheck:
        """Stream it, which finds and reads the same files as loading does, and copies nothing to a cache."""
        import datasets
        import pyarrow.dataset

        # By itself, pyarrow keeps what it reads ahead until the file is closed.
        paged = pyarrow.dataset.ParquetFragmentScanOptions(
            pre_buffer=False, use_buffered_stream=True, buffer_size=1 << 20
        )
        opened = datasets.load_dataset(
            str(path),
            split="train",
            streaming=True,
            columns=["id", tables.EMBEDDING],
            batch_size=tables.SCANNED_ROWS,
            fragment_scan_options=paged,
        )
        batches = opened.with_format("arrow").iter(batch_size=tables.SCANNED_ROWS)
        return tables.scan(batches, sample)

    def usage(self, settings: Settings) -> str:
        """As the card says."""
        return (
            "import os\n\nimport datasets\n\n"
            "folder = os.getcwd()  # where this file lies\n"
            'documents = datasets.load_dataset(folder, split="train").with_format("numpy")\n'
            'scores = documents["embedding"][:] @ query\n'
            "nearest = documents.select((-scores).argsort()[:10]).to_list()\n"
        )
