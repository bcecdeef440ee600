"""Documents that a call brings: vectors, texts in memory, files that are added; the corpus of a manifest."""

import glob
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from resizable_search.arrays import NpyReader, open_regular
from resizable_search.corpora.base import OTHER, Block, Corpus, Document, as_plain, as_text, gather
from resizable_search.corpora.decoding import SourceFile, UnreadableError
from resizable_search.corpora.discovery import absolute, base_of
from resizable_search.corpora.files import FilesCorpus, StdinCorpus, TextCorpus
from resizable_search.corpora.formats import SAMPLE, format_within
from resizable_search.corpora.tables import FIELDS, JsonArray, JsonLines, Parquet
from resizable_search.errors import CorpusError, IndexFormatError, UsageError
from resizable_search.progress import SILENT, Progress
from resizable_search.specs import CorpusSpec, Json
from resizable_search.text import without_surrogates

BLOCK_BYTES = 8 << 20  # of vectors, or about as many characters of documents, that are read at once
MAX_BLOCK_ROWS = 4096
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


class VectorsCorpus(Corpus):
    """The rows of a .npy file as documents. Close it after use. Raises CorpusError."""

    kind, has_vectors = "vectors", True

    def __init__(
        self,
        path: Path,
        documents: Path | None = None,  # of a `Sidecar`: row i describes row i; None: its number is its id
        *,
        progress: Progress = SILENT,
        stop: threading.Event | None = None,  # once set, it ends the check of files: KeyboardInterrupt
    ) -> None:
        self.label = path.name
        self._progress = progress
        self._stop = stop or threading.Event()
        self._spec: CorpusSpec | None = None
        self._sidecar = None if documents is None else Sidecar(documents)
        self._paths = [path, *([] if documents is None else [documents])]
        self._states = self._file_states()
        self.npy = NpyReader(path)
        self.block_rows = max(1, min(MAX_BLOCK_ROWS, BLOCK_BYTES // self.npy.row_bytes))

    def spec(self) -> CorpusSpec:
        """Size, shape, type and checksums; reads the files once. Raises CorpusError if their rows differ."""
        if self._spec is None:
            npy = self.npy
            size = sum(path.stat().st_size for path in self._paths)
            self._progress.stage("checking", -(-size // 1_000_000), "MB")
            checksums = [self._checksum(path) for path in self._paths]
            if self._sidecar is not None and (count := self._sidecar.count()) != npy.rows:
                raise CorpusError(
                    f"{self._sidecar.path} has {count:,} documents, and {npy.path} has {npy.rows:,} vectors: "
                    "give one document for each vector, in their order"
                )
            if npy.surplus:
                self._progress.note(f"{npy.path} has {npy.surplus:,} bytes after its array: not read")
            options: dict[str, Json] = {
                "rows": npy.rows,
                "width": npy.width,
                "dtype": npy.dtype.str,
                "bytes": npy.path.stat().st_size,
                "sha256": checksums[0],
                "documents": "none" if self._sidecar is None else checksums[1],
            }
            self._spec = CorpusSpec(self.kind, options)
        return self._spec

    def size_hint(self) -> int:
        """The number of rows."""
        return self.npy.rows

    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """All documents, in blocks of bounded size. Raises CorpusError."""
        rows = (Document(str(row), f"row {row}", "", "") for row in range(self.npy.rows))
        documents = rows if self._sidecar is None else self._sidecar.read()
        return gather((([document], None) for document in documents), self.block_rows, BLOCK_BYTES)

    def make_sure_unchanged(self) -> None:
        """Raise CorpusError if a file was written to since it was opened."""
        for path, before, now in zip(self._paths, self._states, self._file_states(), strict=True):
            if before != now:
                raise CorpusError(f"{path} was changed while it was read: run the same command again")

    def close(self) -> None:
        """Close the file of vectors."""
        self.npy.close()

    def _file_states(self) -> list[tuple[int, int, int]]:
        states = []
        for path in self._paths:
            with open_regular(path) as file:
                state = os.fstat(file.fileno())
            states.append((state.st_ino, state.st_size, state.st_mtime_ns))
        return states

    def _checksum(self, path: Path) -> str:
        digest = hashlib.sha256()
        with open_regular(path) as file:
            while piece := file.read(1_000_000):
                digest.update(piece)
                if len(piece) == 1_000_000:
                    self._progress.advance(1)
                    if self._stop.is_set():
                        raise KeyboardInterrupt
        return digest.hexdigest()


class Sidecar:
    """Documents in JSON lines (UTF-8), a JSON array or Parquet, in the order of their vectors.

    A record may have `id` (else its row's number), `title`, `url` and `text`. Its other numbers, texts,
    booleans and times become metadata; lists and objects are skipped. Raises CorpusError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_regular(path) as file:
            form = format_within(file.read(SAMPLE))
        source = SourceFile(str(path), encoding="utf-8")
        self._table: JsonArray | JsonLines | Parquet = JsonLines(source)
        if form == "json":
            self._table = JsonArray(source)
        elif form == "parquet" or path.suffix == ".parquet":
            self._table = Parquet(source)

    def count(self) -> int:
        """The number of documents."""
        with self._errors():
            return self._table.count()

    def read(self) -> Iterator[Document]:
        """The documents, in order."""
        with self._errors():
            for number, record in enumerate(self._table.read()):
                where = f"line {record.number:,}" if self._table.unit == "line" else f"row {number:,}"
                if record.problem:
                    raise CorpusError(
                        f"{self.path}, {where}: {record.problem}; write a JSON object a line, or Parquet"
                    )
                yield self._document(number, record.values, where)

    def _document(self, row: int, values: Mapping[str, Any], where: str) -> Document:
        plains = {key: as_plain(value) for key, value in values.items()}
        if isinstance(values.get("id"), bytes):  # binary ones are written in hex
            plains["id"] = as_text(values["id"])
        for field in FIELDS:
            if plains.get(field) is OTHER:
                raise CorpusError(f"{self.path}, {where}: its {field} is not text; make it text")
        text, id_, title, url = (as_text(plains.pop(field, None)) for field in FIELDS)
        metadata = {key: value for key, value in plains.items() if value is not OTHER}
        return Document(id_ or str(row), title, url, text, metadata)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except UnreadableError as error:
            raise CorpusError(f"{self.path}: {error}; write or copy it again") from None


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
        """All documents."""
        return gather(([document], None) for document in self._documents())

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
                yield from ((str(one), document) for document in Sidecar(one).read())
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
        """The digest of the texts, which is the position of all of them."""
        return {"texts": self._digest}

    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """All texts."""
        return gather(([document], self.start()) for document in self._documents)


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
                problem = f"{name} follows {path}, which is gone: put it back, or build another index"
                raise CorpusError(problem)
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
