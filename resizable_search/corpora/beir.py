"""Test collections in BEIR's layout: a folder of documents, queries, and relevance judgements (qrels).

    corpus.jsonl      {"_id", "title", "text", "metadata"}, a document a line
    queries.jsonl     {"_id", "text"}, a query a line
    qrels/test.tsv    query-id, corpus-id and score, separated by tabs, below a header; a file a split

Each may be packed (`.gz`, `.zst`). As in BEIR, the embedded text is the title, a space and the text.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from resizable_search.arrays import open_regular
from resizable_search.corpora.base import Document, as_metadata
from resizable_search.corpora.decoding import PACKINGS
from resizable_search.corpora.files import FilesCorpus
from resizable_search.corpora.tables import Record
from resizable_search.errors import UsageError
from resizable_search.progress import SILENT, Progress
from resizable_search.specs import CorpusSpec, Json
from resizable_search.text import listed

CORPUS, QUERIES, QRELS = "corpus.jsonl", "queries.jsonl", "qrels"
DEFAULT_SPLIT = "test"

_LAYOUT = f"BEIR's layout is {CORPUS}, {QUERIES} and {QRELS}/{DEFAULT_SPLIT}.tsv, or .gz or .zst of these"


def collection_files(folder: Path, split: str = DEFAULT_SPLIT) -> tuple[Path, Path, Path]:
    """The files with queries, judgements of one split, and documents of a collection. Raises UsageError."""
    if not folder.is_dir():
        raise UsageError(f"{folder} does not exist, or is no folder: {_LAYOUT}")
    queries, corpus = (_maybe_packed(folder / name) for name in (QUERIES, CORPUS))
    if queries is None or corpus is None or not (folder / QRELS).is_dir():
        has = listed(sorted(path.name for path in folder.iterdir()), 6) or "no file"
        raise UsageError(f"{folder} has {has}: {_LAYOUT}")
    if (qrels := _maybe_packed(folder / QRELS / f"{split}.tsv")) is None:
        splits = sorted(path.name.partition(".tsv")[0] for path in (folder / QRELS).glob("*.tsv*"))
        has = listed(splits, 6) or "no split"
        raise UsageError(f"{folder / QRELS} has no {split}.tsv, but has {has}: name one with `split`")
    return queries, qrels, corpus


class BeirCorpus(FilesCorpus):
    """The documents of a corpus.jsonl. For `chars`, of title and text, and `encoding` see `TextCorpus`."""

    kind = "beir"

    def __init__(
        self,
        path: Path,
        *,
        chars: int | None = None,
        encoding: str | None = None,
        progress: Progress = SILENT,
    ) -> None:
        super().__init__([path], id_column="_id", chars=chars, encoding=encoding, progress=progress)
        self.label = os.path.basename(os.path.dirname(self.paths[0])) or self.paths[0]
        self._spec_path = self.paths[0]
        self._sha256 = ""

    def spec(self) -> CorpusSpec:
        """The file, its checksum, and the options. Raises CorpusError if it cannot be read."""
        if not self._sha256:
            with open_regular(Path(self.paths[0])) as file:
                self._sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        options = {"path": self._spec_path, "sha256": self._sha256, "chars": self.chars}
        return CorpusSpec(self.kind, options | ({"encoding": self.encoding} if self.encoding else {}))

    def pin(self, spec: Mapping[str, Json]) -> None:
        """Let the file move: its checksum identifies it."""
        if spec.get("kind") == self.kind:
            self._spec_path = spec["path"]

    def of_record(
        self, record: Record, id_: str, where: Mapping[str, str | int], url: str = ""
    ) -> list[Document]:
        """The document of a line: title and text as one text, and its metadata instead of its place."""
        if record.problem:
            return super().of_record(record, id_, where)
        document = self.columns.document(record.values, id_, {})
        values = record.values.get("metadata")
        metadata = as_metadata(values) if isinstance(values, dict) else {}
        own_url = metadata.get("url")
        text = f"{document.title} {document.text}".strip()
        url = document.url or (own_url if isinstance(own_url, str) else "")
        return self.finished(replace(document, text=text, metadata=metadata, url=url))


def _maybe_packed(path: Path) -> Path | None:
    """The file, or the packed one in its place."""
    paths = (path.with_name(path.name + packing) for packing in PACKINGS)
    return next((each for each in paths if each.is_file()), None)
