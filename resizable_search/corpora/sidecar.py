"""Documents in a file of their own, JSON lines or Parquet, in the order of the vectors they belong to.

A record has any of `id`, `title`, `url` and `text`; whatever else in it is a number, a text, a truth
value or a time becomes metadata, and lists and objects are passed over. Without an id the row's
number is its id.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resizable_search.arrays import open_regular
from resizable_search.corpora import tables as parquet
from resizable_search.corpora.base import Document
from resizable_search.corpora.columns import OTHER, as_plain
from resizable_search.errors import CorpusError
from resizable_search.specs import Json

MAX_LINE = 64 << 20
"""Bytes of the longest line that is read."""
_FIELDS = ("id", "title", "url", "text")
_PARQUET_MAGIC = b"PAR1"

Look = Callable[[bytes], None]
"""Is shown every byte of a file, in order."""


class Records(ABC):
    """The documents of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def count(self, look: Look) -> int:
        """How many documents there are; `look` is shown the whole file on the way. Raises CorpusError."""

    @abstractmethod
    def read(self, row: int, position: Json | None) -> Iterator[tuple[Document, Json]]:
        """The documents from the one of `row` on, each with the position behind it. Raises CorpusError."""

    def _document(self, row: int, record: Mapping[str, Any], where: str) -> Document:
        id_, title, url, text = (
            value if type(value := record.get(field)) is str else self._text(value, field, where)
            for field in _FIELDS
        )
        metadata = {}
        for key, value in record.items():
            if key not in _FIELDS and (plain := as_plain(value)) is not OTHER:
                metadata[key] = plain
        return Document(id_ or str(row), title, url, text, metadata)

    def _text(self, value: Any, field: str, where: str) -> str:
        plain = as_plain(value)
        if plain is OTHER:
            raise CorpusError(f"{self.path}, {where}: its {field} is no text; make it one")
        return "" if plain is None else str(plain)


class JsonLines(Records):
    """One JSON object a line, UTF-8; blank lines are passed over. The position is (bytes, lines) read."""

    def count(self, look: Look) -> int:
        """How many lines are not blank."""
        number = 0
        for line, _ in self._lines(0, 0):
            look(line)
            number += bool(line.strip())
        return number

    def read(self, row: int, position: Json | None) -> Iterator[tuple[Document, Json]]:
        """The documents, one a line."""
        offset, lines = position or (0, 0)
        for line, number in self._lines(offset, lines):
            offset += len(line)
            if line.strip():
                yield self._document(row, self._parsed(line, number), f"line {number:,}"), (offset, number)
                row += 1

    def _lines(self, offset: int, number: int) -> Iterator[tuple[bytes, int]]:
        with open_regular(self.path) as file:
            file.seek(offset)
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise CorpusError(
                        f"{self.path}, line {number:,}: it is longer than {MAX_LINE >> 20} MB; "
                        "give JSON lines (an object a line) or Parquet"
                    )
                yield line, number

    def _parsed(self, line: bytes, number: int) -> Mapping[str, Any]:
        try:
            record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError:
            raise CorpusError(f"{self.path}, line {number:,}: it is not UTF-8; write it as such") from None
        except (ValueError, RecursionError) as error:
            what = error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be read"
            raise CorpusError(
                f"{self.path}, line {number:,}: it is no JSON ({what}); give an object a line, or Parquet"
            ) from None
        if not isinstance(record, dict):
            raise CorpusError(f"{self.path}, line {number:,}: it is no JSON object; write one a line")
        return record


class Parquet(Records):
    """The rows of a Parquet file; the position is how many were read."""

    def count(self, look: Look) -> int:
        """What the file's own footer says."""
        with open_regular(self.path) as file:
            while piece := file.read(1 << 20):
                look(piece)
        with self._open() as file:
            return int(file.metadata.num_rows)

    def read(self, row: int, position: Json | None) -> Iterator[tuple[Document, Json]]:
        """The documents, one a row; row groups before the position are not read."""
        with self._open() as file, self._told():
            for done, record in parquet.rows(file, int(position or 0)):
                yield self._document(row, record, f"row {row:,}"), done
                row += 1

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except parquet.failures() as error:
            raise self._damaged(error) from None

    def _open(self) -> Any:
        open_regular(self.path).close()
        with self._told():
            return parquet.open_file(self.path)

    def _damaged(self, error: Exception) -> CorpusError:
        return CorpusError(f"{self.path} cannot be read as Parquet ({error}): write or copy it again")


def open_records(path: Path) -> Records:
    """The documents of a file: Parquet by name or first bytes, else JSON lines. Raises CorpusError."""
    with open_regular(path) as file:
        magic = file.read(len(_PARQUET_MAGIC))
    return Parquet(path) if magic == _PARQUET_MAGIC or path.suffix == ".parquet" else JsonLines(path)
