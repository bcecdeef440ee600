"""Test collections in BEIR's layout: a folder of documents, queries, and judgements of what answers them.

    corpus.jsonl      {"_id", "title", "text", "metadata"}, a document a line
    queries.jsonl     {"_id", "text"}, a query a line
    qrels/test.tsv    query-id, corpus-id and score with tabs between, below a header; a file a split

Each may be packed (`.gz`, `.zst`). What is embedded of a document is what BEIR embeds: its title, a
space and its text.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from resizable_search.corpora.base import OTHER, Document, as_metadata
from resizable_search.corpora.files.corpus import FilesCorpus
from resizable_search.corpora.files.decoding import Packing
from resizable_search.corpora.tables import Record
from resizable_search.errors import CorpusError, UsageError
from resizable_search.progress import SILENT, Progress
from resizable_search.specs import CorpusSpec, Json
from resizable_search.text import counted

CORPUS, QUERIES, QRELS = "corpus.jsonl", "queries.jsonl", "qrels"
USUAL_SPLIT = "test"

_EXPECTED = f"BEIR's layout is {CORPUS}, {QUERIES} and {QRELS}/{USUAL_SPLIT}.tsv, or .gz or .zst of these"
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class BeirFolder:
    """Where the files of a collection lie. Made by `find`."""

    corpus: Path
    queries: Path
    qrels: Path

    @classmethod
    def find(cls, folder: Path, split: str = USUAL_SPLIT) -> "BeirFolder":
        """The files of a folder, with one split. Raises UsageError, which names what lies there instead."""
        if not folder.is_dir():
            what = "is no folder" if folder.exists() else "does not exist"
            raise UsageError(f"{folder} {what}: {_EXPECTED}")
        corpus, queries = (_packed(folder / name) for name in (CORPUS, QUERIES))
        missing = [name for name, path in ((CORPUS, corpus), (QUERIES, queries)) if path is None]
        if not (folder / QRELS).is_dir():
            missing.append(f"{QRELS}/")
        if corpus is None or queries is None or missing:
            raise UsageError(f"{folder} lacks {', '.join(missing)}, {_lying(folder)}: {_EXPECTED}")
        qrels = _packed(folder / QRELS / f"{split}.tsv")
        if qrels is None:
            raise UsageError(
                f"{folder / QRELS} has no {split}.tsv, {_lying(folder / QRELS)}: name a split that is there "
                "with --split"
            )
        return cls(corpus, queries, qrels)


class BeirCorpus(FilesCorpus):
    """The documents of a corpus.jsonl; the spec holds its checksum, so that another one is noticed.

    `chars` cuts each text, title included, to its first characters (None: no cut). What is flat in
    "metadata" becomes metadata.
    """

    kind = "beir"

    def __init__(self, path: Path, *, chars: int | None = None, progress: Progress = SILENT) -> None:
        super().__init__([path], id_column="_id", chars=chars, progress=progress)
        self._told = self.paths[0]
        self._sha256 = ""

    def spec(self) -> CorpusSpec:
        """The file, its checksum, and the cut. Raises CorpusError if it cannot be read."""
        if not self._sha256:
            try:
                with open(self.paths[0], "rb") as file:
                    self._sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise CorpusError(
                    f"cannot read {self.paths[0]} ({error.strerror}): name another folder"
                ) from None
        return CorpusSpec(self.kind, {"path": self._told, "sha256": self._sha256, "chars": self.chars})

    def pin(self, held: Mapping[str, Json]) -> None:
        """Let the file be where it is now: what is in it tells whether it is the same."""
        if held.get("kind") == self.kind:
            self._told = held["path"]

    @property
    def label(self) -> str:
        """The folder's name."""
        return os.path.basename(os.path.dirname(self.paths[0])) or self.paths[0]

    def of_record(
        self, record: Record, id_: str, place: Mapping[str, str | int], url: str = ""
    ) -> list[Document]:
        """The document of a line: title and text as one text, its metadata for a place in the file."""
        if record.problem:
            return super().of_record(record, id_, place)
        document = self.columns.document(record.values, id_, {})
        held = record.values.get("metadata")
        values = {key: as_metadata(value) for key, value in held.items()} if isinstance(held, Mapping) else {}
        flat = {key: value for key, value in values.items() if value is not OTHER}
        text = f"{document.title} {document.text}".strip()
        where = flat.get("url")
        return self.finished(
            replace(
                document,
                text=text,
                metadata=flat,
                url=document.url or (where if isinstance(where, str) else ""),
            )
        )


def splits(folder: Path) -> list[str]:
    """The names of the splits whose judgements lie in a folder of qrels."""
    names = (path.name.removesuffix(_packing_of(path)) for path in folder.iterdir())
    return sorted(name.removesuffix(".tsv") for name in names if name.endswith(".tsv"))


def _packed(path: Path) -> Path | None:
    """The file, or the packed one in its place."""
    found = (path.with_name(path.name + packing.value) for packing in Packing)
    return next((each for each in found if each.is_file()), None)


def _packing_of(path: Path) -> str:
    return next((p.value for p in Packing if p.value and path.name.endswith(p.value)), "")


def _lying(folder: Path) -> str:
    """What there is: `but has a, b and 3 others`."""
    names: Iterable[str] = splits(folder) if folder.name == QRELS else ()
    names = list(names) or sorted(
        path.name + ("/" if path.is_dir() else "")
        for path in folder.iterdir()
        if not path.name.startswith(".")
    )
    if not names:
        return "and is empty"
    more = f" and {counted(len(names) - _SHOWN, 'other')}" if len(names) > _SHOWN else ""
    return f"but has {', '.join(names[:_SHOWN])}{more}"
