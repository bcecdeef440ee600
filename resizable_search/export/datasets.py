"""Export to a folder that `datasets.load_dataset` loads: Parquet shards and a card, ready for the hub.

`datasets.load_from_disk` reads the library's own Arrow files instead. `save_to_disk` of a loaded dataset
writes those.
"""

from contextlib import ExitStack
from pathlib import Path

from resizable_search.export import parquet
from resizable_search.export.base import ExportJob, ExportSample, Format, SearchCheck, Settings

SHARD_BYTES = 500_000_000
"""What the hub recommends."""


class DatasetsFormat(Format):
    """`DEST` has README.md and data/train-00000-of-00001.parquet."""

    name = "datasets"
    modules = ("datasets", "pyarrow")

    def write(self, job: ExportJob, path: Path) -> Settings:
        """Write the shards, then give them their final names."""
        form = parquet.schema(job.source.dim, job.facts)
        data = path / "data"
        data.mkdir()
        shards: list[Path] = []
        with ExitStack() as stack:
            file = None
            for table in parquet.tables(job.source, form):
                if file is None or shards[-1].stat().st_size >= SHARD_BYTES:
                    stack.close()
                    shards.append(data / f"{len(shards)}.parquet")
                    file = stack.enter_context(parquet.writer(shards[-1], form))
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
        paged = pyarrow.dataset.ParquetFragmentScanOptions(
            pre_buffer=False, use_buffered_stream=True, buffer_size=1 << 20
        )
        opened = datasets.load_dataset(
            str(path),
            split="train",
            streaming=True,
            columns=["id", parquet.EMBEDDING],
            batch_size=parquet.SCANNED_ROWS,
            fragment_scan_options=paged,
        )
        return parquet.scan(opened.with_format("arrow").iter(batch_size=parquet.SCANNED_ROWS), sample)

    def usage(self, settings: Settings) -> str:
        """The code of the card."""
        return (
            "import os\n\nimport datasets\n\n"
            "folder = os.getcwd()  # the folder of this file\n"
            'documents = datasets.load_dataset(folder, split="train").with_format("numpy")\n'
            'scores = documents["embedding"][:] @ query\n'
            "nearest = documents.select((-scores).argsort()[:10]).to_list()\n"
        )
