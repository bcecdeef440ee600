"""Vectors from a .npy file, and the documents that belong to them; their checksums identify the corpus."""

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resizable_search.arrays import NpyReader, open_regular
from resizable_search.corpora.base import OTHER, Block, Corpus, Document, as_plain, as_text, gather
from resizable_search.corpora.decoding import SourceFile, UnreadableError
from resizable_search.corpora.formats import SAMPLE, format_within
from resizable_search.corpora.tables import FIELDS, JsonArray, JsonLines, Parquet
from resizable_search.errors import CorpusError
from resizable_search.progress import SILENT, Progress
from resizable_search.specs import CorpusSpec, Json

BLOCK_BYTES = 8 << 20  # of vectors, or about as many characters of documents, that are read at once
MAX_BLOCK_ROWS = 4096


class VectorsCorpus(Corpus):
    """The rows of a .npy file as documents; row i of `documents` (as for `Sidecar`) describes row i.

    Without `documents` a row's number is its id. `stop`, once set, ends the check of the files with
    KeyboardInterrupt. Close it after use. Raises CorpusError.
    """

    kind = "vectors"

    def __init__(
        self,
        path: Path,
        documents: Path | None = None,
        *,
        progress: Progress = SILENT,
        stop: threading.Event | None = None,
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
        """The documents, in blocks of bounded size. Raises CorpusError."""
        row, inner = position or (0, None)
        if self._sidecar is None:
            numbers = range(row, self.npy.rows)
            documents: Iterator[tuple[Document, Json]] = (
                (Document(str(i), f"row {i}", "", ""), None) for i in numbers
            )
        else:
            documents = self._sidecar.read(row, inner)
        steps = (([document], [count, after]) for count, (document, after) in enumerate(documents, row + 1))
        return gather(steps, self.block_rows, BLOCK_BYTES)

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

    def read(self, row: int, position: Json | None) -> Iterator[tuple[Document, Json]]:
        """The documents from `row` on, each with the position after it."""
        # A build that an older version began has [bytes, lines] for JSON lines.
        records = self._table.read(position[-1] if isinstance(position, list) else position or 0)
        with self._errors():
            for number, record in enumerate(records, row):
                where = f"line {record.number:,}" if self._table.unit == "line" else f"row {number:,}"
                if record.problem:
                    raise CorpusError(
                        f"{self.path}, {where}: {record.problem}; write a JSON object a line, or Parquet"
                    )
                yield self._document(number, record.values, where), record.position

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
