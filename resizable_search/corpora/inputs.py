"""Documents that a call brings: texts in memory, files that are added to an index, a corpus of a manifest."""

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from resizable_search.corpora.base import Block, Corpus, Document, as_plain, gather
from resizable_search.corpora.discovery import absolute, base_of
from resizable_search.corpora.files import FilesCorpus, StdinCorpus, TextCorpus
from resizable_search.corpora.vectors import Sidecar
from resizable_search.errors import CorpusError, IndexFormatError, UsageError
from resizable_search.progress import Progress
from resizable_search.specs import Json
from resizable_search.text import without_surrogates

RECORDS = (".jsonl", ".ndjson", ".json", ".parquet")  # hold whole documents, whatever the index

FOLLOWED = ("files", "pydoc", "beir")  # the kinds of corpora that `reopened` knows

NOT_FOLLOWED = {
    "hub": "it holds a fixed state of a dataset: its build command with a larger `limit` extends it",
    "vectors": "its vectors came from a file: give all of them to `build vectors`",
    "texts": "its texts came from Python: give all of them to build_index",
    "merged": "it was merged of other indexes: update those, and merge them again",
    "-": "its documents came from stdin: give all of them to its build command",
}  # by the kind of a corpus, why it cannot be read again, and what to do instead

Input = Path | BinaryIO  # a file or folder, or a stream of JSON lines


class AddedCorpus(Corpus):
    """Files, folders and streams of JSON lines, read as the index to which they are added reads its own.

    `stored` is the spec of the index's corpus as JSON. An index of files has its columns, chunks and cut, and
    its ids if they lie in its folder. Any other index takes all fields of JSON and Parquet. Raises
    UsageError, and CorpusError for a wrong record or an id that comes twice.
    """

    kind = "added"

    def __init__(self, inputs: Sequence[Input], stored: Mapping[str, Any]) -> None:
        self._inputs = inputs
        self._stored = stored
        self._is_of_files = stored["kind"] == TextCorpus.kind
        self.label = str(inputs[0]) if isinstance(inputs[0], Path) else "standard input"

    @property
    def embeds_headings(self) -> bool:
        """As in the index."""
        return self._is_of_files and self._stored.get("rules", 1) > 1 and bool(self._stored.get("chunk"))

    def is_outside(self) -> bool:
        """Whether an index that follows its corpus does not follow these."""
        if not self._is_of_files:
            return self._stored["kind"] in FOLLOWED
        paths = [absolute(str(one)) for one in self._inputs if isinstance(one, Path)]
        return len(paths) < len(self._inputs) or not base_of(self._stored["paths"], paths)

    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """The documents, from the first on."""
        return gather(([document], count) for count, document in enumerate(self._documents(), 1))

    def _documents(self) -> Iterator[Document]:
        names: dict[str, str] = {}
        for name, document in self._named():
            id_ = without_surrogates(document.id)  # as the index will have it
            if id_ in names:
                raise CorpusError(
                    f"{name}: the id {id_!r} comes twice (before in {names[id_]}): "
                    "give each document an id of its own"
                )
            names[id_] = name
            yield replace(document, text=document.text[: self._stored.get("chars")])

    def _named(self) -> Iterator[tuple[str, Document]]:
        of_files = {key: value for key, value in self._stored.items() if key not in ("kind", "paths")}
        options = of_files if self._is_of_files else {"chars": self._stored.get("chars")}
        files: list[Path] = []
        for one in self._inputs:
            if not isinstance(one, Path):
                for block in StdinCorpus(one, **options).blocks():
                    yield from (("standard input", document) for document in block.documents)
            elif not self._is_of_files and one.suffix.lower() in RECORDS:
                for document, _ in Sidecar(one).read(0, None):
                    yield str(one), document
            else:
                files.append(one)
        if files:
            corpus = FilesCorpus(files, within=self._stored["paths"] if self._is_of_files else (), **options)
            for block in corpus.blocks():
                for document in block.documents:
                    yield str(document.metadata.get("path", document.id)), document


class TextsCorpus(Corpus):
    """Texts in memory, as `build_index` takes them; its index follows them. Raises UsageError for others."""

    kind = "texts"
    label = "texts from Python"
    is_mutable = True

    def __init__(self, texts: Iterable[str | Document | Mapping[str, Any]]) -> None:
        self._documents = [_document(row, text) for row, text in enumerate(texts)]
        self._digest = hashlib.sha256(repr(self._documents).encode()).hexdigest()

    def size_hint(self) -> int:
        """The number of texts."""
        return len(self._documents)

    def start(self) -> Json:
        """Before the first text."""
        return {"texts": self._digest, "row": 0}

    def is_unchanged(self, position: Json) -> bool:
        """Whether `position` is one in the same texts."""
        return bool(position["texts"] == self._digest)

    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """The texts from `position` on."""
        row = 0 if position is None else position["row"]
        rows = enumerate(self._documents[row:], row + 1)
        return gather(([document], {"texts": self._digest, "row": count}) for count, document in rows)


def _document(row: int, text: str | Document | Mapping[str, Any]) -> Document:
    if isinstance(text, Document):
        return text
    if isinstance(text, str):
        return Document(str(row), "", "", text)
    if isinstance(text, Mapping):
        metadata = dict(text)
        id_, title, url, body = (metadata.pop(name, "") for name in ("id", "title", "url", "text"))
        are_texts = all(isinstance(value, str) for value in (title, url, body))
        if are_texts and all(as_plain(value) is value for value in metadata.values()):
            return Document(str(id_) or str(row), title, url, body, metadata)
    raise UsageError(
        f"text {row} must be a string, a Document, or a mapping with a string as `text` and plain values"
    )


def reopened(name: str, spec: Mapping[str, Any], progress: Progress) -> Corpus:
    """The corpus of the index `name`, as it is now. Raises CorpusError if it is gone, IndexFormatError."""
    kind, options = spec.get("kind"), {key: value for key, value in spec.items() if key != "kind"}
    try:
        if shard := options.get("shard"):
            raise CorpusError(
                f"{name} cannot be updated: it is shard {shard} of its corpus; merge all shards, and update "
                "the whole"
            )
        paths = [options["path"]] if kind == "beir" else options.get("paths", [])
        if why := NOT_FOLLOWED.get("-" if paths == ["-"] else str(kind)):
            raise CorpusError(f"{name} cannot be updated: {why}")
        for path in paths:
            if not os.path.lexists(path) and not glob.has_magic(path):
                raise CorpusError(
                    f"{name} follows {path}, which is gone: put it back, or build another index"
                )
        if kind == "files":
            return FilesCorpus(**options, progress=progress)
        if kind == "pydoc":
            from resizable_search.corpora.pydoc import PydocCorpus

            return PydocCorpus(options["chars"], root=options.get("root"))
        if kind == "beir":
            from resizable_search.corpora.beir import BeirCorpus

            encoding = options.get("encoding")
            return BeirCorpus(paths[0], chars=options["chars"], encoding=encoding, progress=progress)
    except (AttributeError, KeyError, TypeError, ValueError):  # of options that nobody wrote so
        pass
    raise IndexFormatError(
        f"{name} cannot be updated, since this rsearch does not know its corpus: upgrade rsearch, or build "
        "the index again"
    )
