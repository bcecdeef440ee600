"""Files of records, one document each: JSON lines, CSV and TSV, Parquet.

A record has a place, by which a person finds it: its line in the file, or its row, from 1. Behind each
stands a position, from which reading goes on: lines or rows that were read so far. Files of lines are
read again up to there, without being parsed: packed ones cannot be entered in the middle.

Parquet files as rows, a few at a time, from any row on.
"""

import csv
import io
import json
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO, ClassVar

from resizable_search.corpora.columns import typed
from resizable_search.corpora.files.decoding import (
    SAMPLE,
    Packing,
    UnreadableError,
    encoding_of,
    open_unpacked,
)
from resizable_search.corpora.files.formats import FileFormat
from resizable_search.text import counted

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


MAX_LINE = 64 << 20
"""Characters of the longest line, and of the longest record of a CSV file."""
_TOO_LONG = f"it is longer than {MAX_LINE >> 20} million characters"
_LOOKED_AT = 100
"""Records of JSON lines whose columns are taken for those that there are."""
_DELIMITERS = ",;\t|"
_NOT_UTF8 = "it is not UTF-8"
_DAMAGED = re.compile("[\udc80-\udcff]")
"""What bytes that are no UTF-8 become where a text is taken for it."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record: its place, the position behind it, its values by column, or what is wrong with it."""

    place: int
    behind: int
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


class Table(ABC):
    """The records of a file. What it raises while it is read is UnreadableError."""

    unit: ClassVar[str] = "line"
    """What a place is the number of."""

    def __init__(self, path: str, packing: Packing, columns: Sequence[str], typed: Sequence[str]) -> None:
        self._path = path
        self._packing = packing
        self._columns = columns
        self._typed = frozenset(typed)

    @abstractmethod
    def columns(self) -> list[str] | None:
        """The columns there are, for JSON lines those of the first records; None for an empty file."""

    @abstractmethod
    def read(self, behind: int = 0) -> Iterator[Record]:
        """The records behind a position, in order, as far as they can be read."""


class JsonLines(Table):
    """One JSON object a line; blank lines are passed over, and a line that is none is told."""

    def columns(self) -> list[str] | None:
        """Those of the first hundred records; raises UnreadableError where these are none."""
        found: dict[str, None] = {}
        wrong: Record | None = None
        for record in islice(self.read(), _LOOKED_AT):
            found |= dict.fromkeys(record.values)
            wrong = wrong or (record if record.problem else None)
        if wrong and not found:  # it would be told of each line
            raise UnreadableError(f"its line {wrong.place:,} and those behind: {wrong.problem}")
        return list(found) if found else None

    def read(self, behind: int = 0) -> Iterator[Record]:
        """The records, a line each."""
        with open_unpacked(self._path, self._packing) as file:
            for number, line in lines_of(file, behind):
                if line is None or not line.isspace():
                    yield parsed(number, line)


class Csv(Table):
    """Records with commas, or what its first line has most of, between; that line names the columns."""

    def columns(self) -> list[str] | None:
        """What the first line says."""
        with self._opened() as (header, _, _):
            return header

    def read(self, behind: int = 0) -> Iterator[Record]:
        """The records; one may have several lines."""
        with self._opened() as (header, lines, reader):
            if header is None:
                return
            lines.skip(behind)
            while True:
                lines.begin()
                try:
                    row = next(reader, None)
                except csv.Error as error:
                    yield Record(
                        lines.first, lines.number, problem=f"its quotes or commas make no sense ({error})"
                    )
                    continue
                if row is None:
                    return
                if row:
                    yield self._record(header, row, lines)

    def _record(self, header: Sequence[str], row: Sequence[str], lines: "_Lines") -> Record:
        if len(row) != len(header):
            problem = f"it has {counted(len(row), 'value')} for {counted(len(header), 'column')}"
            return Record(lines.first, lines.number, problem=problem)
        if lines.damaged:
            return Record(lines.first, lines.number, problem=_NOT_UTF8)
        values: dict[str, Any] = {}
        for column, word in zip(header, row, strict=True):
            values.setdefault(column, typed(word) if column in self._typed else word)
        return Record(lines.first, lines.number, values)

    @contextmanager
    def _opened(self) -> Iterator[tuple[list[str] | None, "_Lines", Iterator[list[str]]]]:
        csv.field_size_limit(2 * MAX_LINE)  # `_Lines` says sooner, and better, that there is too much
        with open_unpacked(self._path, self._packing) as file:
            lines = _Lines(file)
            lines.begin()
            first = next(lines, "")
            if first.lower().startswith("sep=") and len(first.rstrip("\r\n")) == 5:  # as Excel writes it
                delimiter, first = first[4], next(lines, "")
            else:
                delimiter = self._delimiter(first)
            lines.again(first)
            reader = csv.reader(lines, delimiter=delimiter, strict=delimiter != "\t")
            header = next((row for row in reader if row), None)
            yield header, lines, reader

    def _delimiter(self, first: str) -> str:
        return max(_DELIMITERS, key=first.count)


class Tsv(Csv):
    """The same with tabs between."""

    def _delimiter(self, first: str) -> str:
        return "\t"


class Parquet(Table):
    """The rows of a Parquet file, of which no other columns are read than those that are wanted."""

    unit = "row"

    def columns(self) -> list[str] | None:
        """What the file's own footer says."""
        with self._told(), self._opened() as file:
            return list(file.schema_arrow.names)

    def read(self, behind: int = 0) -> Iterator[Record]:
        """The rows; row groups before the position are not read."""
        with self._told(), self._opened() as file:
            known = set(file.schema_arrow.names)
            columns = [column for column in self._columns if column in known]
            for number, values in rows(file, behind, columns):
                yield Record(number, number, values)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except failures() as error:
            words = str(error).partition("\n")[0][:200]
            raise UnreadableError(f"it cannot be read as Parquet ({words})") from None

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        with open_unpacked(self._path, self._packing) as file, tempfile.TemporaryFile() as unpacked:
            if self._packing is Packing.none:
                source: Any = self._path
            else:  # its end is read first, and then any place
                while piece := file.read(1 << 20):
                    unpacked.write(piece)
                source = unpacked
            with closing(open_file(source)) as found:
                yield found


_KINDS: dict[FileFormat, type[Table]] = {
    FileFormat.jsonl: JsonLines,
    FileFormat.csv: Csv,
    FileFormat.tsv: Tsv,
    FileFormat.parquet: Parquet,
}


def open_table(
    path: str, form: FileFormat, packing: Packing, columns: Sequence[str], typed: Sequence[str] = ()
) -> Table:
    """The records of a file: of these columns, and those of text files in `typed` with types."""
    return _KINDS[form](path, packing, columns, typed)


def parsed(number: int, line: str | None) -> Record:
    """The record of a line of JSON lines, which was too long where it is None."""
    if line is None:
        return Record(number, number, problem=_TOO_LONG)
    if _DAMAGED.search(line):
        return Record(number, number, problem=_NOT_UTF8)
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be read"
        return Record(number, number, problem=f"it is no JSON ({what})")
    if not isinstance(values, dict):
        return Record(number, number, problem="it is no JSON object")
    return Record(number, number, values)


def lines_of(
    file: BinaryIO, behind: int = 0, encoding: str | None = None
) -> Iterator[tuple[int, str | None]]:
    """The lines of a stream with their numbers from 1, less the first so many; None for one too long.

    Their ends stay. The first bytes say in which encoding they are, if it is not given.
    """
    if encoding is None:
        encoding = encoding_of(file.peek(SAMPLE)[:SAMPLE], whole=False)  # type: ignore[attr-defined]  # what is opened here is buffered
    errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
    text = io.TextIOWrapper(file, encoding, errors, newline="")
    number = 0
    while line := text.readline(MAX_LINE + 1):
        number += 1
        whole: str | None = line
        while len(line) > MAX_LINE:
            whole, line = None, text.readline(MAX_LINE + 1)
        if number > behind:
            yield number, whole


class _Lines:
    """Lines for a CSV reader, which takes as many as a record has: `first` to `number` of the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._lines = lines_of(file)
        self._again: list[str] = []
        self.number = 0
        self.begin()

    def begin(self) -> None:
        """A record begins behind the lines taken so far."""
        self.first = self.number + 1
        self.damaged = False
        self._length = 0

    def again(self, line: str) -> None:
        """Give a line once more that was taken last."""
        if line:
            self._again.append(line)

    def skip(self, behind: int) -> None:
        """Pass over lines, up to the one of that number."""
        if behind > self.number:
            last = next(islice(self._lines, behind - self.number - 1, None), None)
            self.number = last[0] if last else self.number

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self._again:
            return self._again.pop()
        self.number, line = next(self._lines)
        self._length += len(line or "")
        if line is None or self._length > MAX_LINE:
            raise UnreadableError(
                f"its record in line {self.first:,} is longer than {MAX_LINE >> 20} million characters, as "
                "one is whose quotes are not closed: nothing from there on is read"
            )
        self.damaged |= bool(_DAMAGED.search(line))
        return line
