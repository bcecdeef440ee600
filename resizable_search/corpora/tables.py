"""Files of records: JSON, JSON lines, CSV, TSV and Parquet; the columns that make a document of a record.

A record has a number by which a person finds it: its line in the file, or its row, from 1.
"""

import csv
import json
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, count, islice
from typing import Any, ClassVar

from resizable_search.corpora.base import OTHER, Document, as_metadata, as_plain, as_text
from resizable_search.corpora.decoding import DAMAGED, MAX_LINE, SourceFile, UnreadableError
from resizable_search.errors import UsageError
from resizable_search.text import clipped, counted, listed

FIELDS = ("text", "id", "title", "url")
_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,17})", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,17})\.\d{1,17}(?:[eE][-+]?\d{1,3})?", re.ASCII)
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that hold a document's fields, and those that become its metadata. Raises UsageError."""

    text: str | None = None  # None: the column of the field's own name; the text needs one
    id: str | None = None  # None: likewise, if there is one
    title: str | None = None
    url: str | None = None
    metadata: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if "" in (*self.metadata, *(getattr(self, field) for field in FIELDS)):
            raise UsageError("the name of a column is empty: name a column of the table")
        if len(set(self.metadata)) < len(self.metadata):
            raise UsageError("`metadata` names a column more than once: name each once")

    def column_of(self, field: str) -> str:
        """The column that holds a field."""
        return getattr(self, field) or field

    @property
    def wanted(self) -> list[str]:
        """Every column to read if it is there, each once."""
        return list(dict.fromkeys((*map(self.column_of, FIELDS), *self.metadata)))

    def lacks(self, known: Sequence[str]) -> str:
        """What a table lacks of the text's column and all that were named; '' for nothing."""
        needed = [self.column_of("text"), *(getattr(self, field) for field in FIELDS[1:]), *self.metadata]
        missing = [column for column in dict.fromkeys(filter(None, needed)) if column not in known]
        if not missing:
            return ""
        columns = listed([clipped(column) for column in known], 12)
        return f"it has no column {', '.join(map(repr, missing))}: its columns are {columns}"

    def document(self, values: Mapping[str, Any], id_: str, where: Mapping[str, str | int]) -> Document:
        """The document of a record. `id_` is for one without an id; `where` goes into its metadata."""
        text, own_id, title, url = (as_text(values.get(self.column_of(field))) for field in FIELDS)
        metadata = {**where, **as_metadata({column: values.get(column) for column in self.metadata})}
        raw = values.get(self.column_of("text"))
        is_binary = isinstance(raw, bytes) and as_plain(raw) is OTHER
        problem = "its text is binary" if is_binary else ""
        return Document(own_id or id_, title, url, "" if problem else text, metadata, problem)


def typed(word: str) -> str | int | float | bool | None:
    """The number or boolean that a word of a text file is written as; None if empty. `01234` stays text."""
    if not word:
        return None
    if _INTEGER.fullmatch(word):
        return int(word)
    return float(word) if _DECIMAL.fullmatch(word) else _BOOLEANS.get(word, word)


_TOO_LONG = f"is longer than {MAX_LINE >> 20} million characters"
_SAMPLE_RECORDS = 100  # records of JSON whose columns stand for all
_SAMPLE_ROWS = 10_000  # of CSV, whose decimals tell whether they are numbers
_HEADER_LINES = 5  # of CSV, in which its delimiter is looked for
_NOT_UTF8 = "it is not UTF-8"
_FAR_TIME = re.compile(r"-?\d{4,}-\d\d-\d\d(?: \d\d:\d\d:\S+)?")
_BATCH_ROWS = 256  # rows of Parquet that are read at once: texts may be long


@dataclass(frozen=True, slots=True)
class Record:
    """A record: its number, its values by column, or what is wrong with it."""

    number: int
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Table(ABC):
    """The records of a file. Reading raises UnreadableError."""

    source: SourceFile
    wanted: Sequence[str] | None = None  # the columns to read of Parquet; None: all
    typed: Sequence[str] = ()  # the columns of CSV whose values get types
    delimiter: str | None = None  # of CSV; None: the header tells

    unit: ClassVar[str] = "line"  # what a record's number counts

    def columns(self) -> list[str] | None:
        """The columns of the table, or of its first hundred records; None for an empty file."""
        columns: dict[str, None] = {}
        bad: Record | None = None
        for record in islice(self.read(), _SAMPLE_RECORDS):
            columns |= dict.fromkeys(record.values)
            bad = bad or (record if record.problem else None)
        if bad and not columns:  # else every record would be reported
            raise UnreadableError(f"its {self.unit} {bad.number:,} and those after it: {bad.problem}")
        return list(columns) or None

    @abstractmethod
    def read(self) -> Iterator[Record]:
        """The records, in order."""


class JsonLines(Table):
    """One JSON object a line. Blank lines are skipped."""

    def count(self) -> int:
        """The number of records."""
        return sum(1 for _ in self._lines())

    def end(self) -> int:
        """The number of the last line."""
        return max((number for number, _ in self._lines()), default=0)

    def read(self, skip: int = 0) -> Iterator[Record]:
        """The records, one a line, after the first `skip` lines."""
        return (parse_line(number, line) for number, line in self._lines(skip))

    def _lines(self, skip: int = 0) -> Iterator[tuple[int, str | None]]:
        return ((n, line) for n, line in self.source.lines(skip) if line is None or not line.isspace())


class JsonArray(Table):
    """An array of JSON objects, read whole. A record's number is its place in the array."""

    unit = "row"

    def count(self) -> int:
        """The number of objects."""
        return len(self._items)

    def read(self) -> Iterator[Record]:
        """The records, each an object of the array."""
        return map(_record, count(1), self._items)

    @cached_property
    def _items(self) -> list[Any]:
        with self.source.open(whole=True) as file:
            text = self.source.decode(file.read())
        try:
            items = json.loads(text)
        except (ValueError, RecursionError) as error:
            place = f"; line {error.lineno:,}" if isinstance(error, json.JSONDecodeError) else ""
            raise UnreadableError(f"it is not JSON ({_why(error)}{place})") from None
        if not isinstance(items, list):
            raise UnreadableError("it is not an array of JSON objects")
        return items


class Csv(Table):
    """Records with commas, or with what its header has most of outside quotes. That names the columns."""

    def columns(self) -> list[str] | None:
        """The names in the header."""
        with self._opened() as (header, *_):
            return header

    def read(self) -> Iterator[Record]:
        """The records; one may have several lines."""
        numbers = {*self.typed} - self._versions() if self.typed else ()
        with self._opened() as (header, reader, before):
            while header is not None:
                first = before + reader.line_num + 1
                try:
                    row = next(reader, None)
                except csv.Error as error:
                    if "field limit" in str(error):
                        raise UnreadableError(
                            f"its record in line {first:,} {_TOO_LONG}, perhaps because its quotes are not "
                            "closed: nothing after it is read"
                        ) from None
                    yield Record(first, problem=f"its quotes or commas make no sense ({error})")
                    continue
                if row is None:
                    return
                if not row:
                    continue
                values: dict[str, Any] = {}
                problem = ""
                if len(row) != len(header):
                    problem = f"it has {counted(len(row), 'value')} for {counted(len(header), 'column')}"
                elif any(map(DAMAGED.search, row)):
                    problem = _NOT_UTF8
                else:
                    for column, word in zip(header, row, strict=True):
                        values.setdefault(column, typed(word) if column in numbers else word or None)
                yield Record(first, values, problem)

    def _versions(self) -> set[str]:
        """The typed columns with decimals such as 1.9 and 1.10, which are no numbers: they stay text."""
        places: dict[str, set[int]] = {column: set() for column in self.typed}
        padded = set()
        with suppress(UnreadableError):  # it is raised where the records are wanted
            for record in islice(replace(self, typed=()).read(), _SAMPLE_ROWS):
                for column in self.typed:
                    if _DECIMAL.fullmatch(word := record.values.get(column) or ""):
                        places[column].add(len(word.partition(".")[2]))
                        padded |= {column} if word.endswith("0") and str(float(word)) != word else set()
        return {column for column in padded if len(places[column]) > 1}  # prices have two places, always

    def _lines(self) -> Generator[str]:
        for number, line in self.source.lines():
            if line is None:
                raise UnreadableError(f"its line {number:,} {_TOO_LONG}: nothing after it is read")
            yield line

    @contextmanager
    def _opened(self) -> Iterator[tuple[list[str] | None, Any, int]]:
        """The header, the CSV reader after it, and the number of lines before those that it reads."""
        csv.field_size_limit(MAX_LINE)
        with closing(self._lines()) as lines:
            head, before, delimiter = list(islice(lines, _HEADER_LINES)), 0, self.delimiter
            if head and re.fullmatch(r"sep=.\s*", head[0], re.IGNORECASE):  # as Excel writes it
                delimiter, before = delimiter or head[0][4], 1
            delimiter = delimiter or max(",;\t|", key=lambda each: len(_names(head, each)))
            reader = csv.reader(
                chain(head[before:], lines),
                delimiter=delimiter,
                strict=delimiter != "\t",
                skipinitialspace=any(name.startswith(" ") for name in _names(head[before:], delimiter)),
            )
            try:
                header = next((row for row in reader if row), None)
            except csv.Error as error:
                problem = f"its first line makes no sense ({error}): close its quotes, or give `delimiter`"
                raise UnreadableError(problem) from None
            yield header and [name.strip() for name in header], reader, before


def _names(head: Sequence[str], delimiter: str) -> list[str]:
    """The names in a header with this delimiter; none if its quotes make no sense."""
    with suppress(csv.Error):
        return next(filter(None, csv.reader(head, delimiter=delimiter, strict=True)), [])
    return []


class Parquet(Table):
    """The rows of a Parquet file."""

    unit = "row"

    def columns(self) -> list[str] | None:
        """The columns in the file's footer."""
        with self._opened() as file:
            return list(file.schema_arrow.names)

    def count(self) -> int:
        """The number of rows in the file's footer."""
        with self._opened() as file:
            return int(file.metadata.num_rows)

    end = count

    def read(self, skip: int = 0) -> Iterator[Record]:
        """The rows after the first `skip`. Row groups before them are not read."""
        with self._opened() as file:
            columns = file.schema_arrow.names
            if self.wanted is not None:
                columns = [column for column in self.wanted if column in columns]
            for number, row in enumerate(rows_after(file, skip, columns), skip + 1):
                yield Record(number, row)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        with self.source.open() as file, tempfile.TemporaryFile() as unpacked:
            source: Any = self.source.path
            if self.source.packing:  # Parquet is read from its end
                shutil.copyfileobj(file, unpacked)
                source = unpacked
            try:
                with closing(open_parquet(source)) as opened:
                    yield opened
            except Exception as error:  # its library raises any
                words = str(error).partition("\n")[0][:200]
                raise UnreadableError(f"it cannot be read as Parquet ({words})") from None


def open_parquet(source: Any) -> Any:
    """A `pyarrow.parquet.ParquetFile` of a path or an open file; close it after use."""
    import pyarrow.parquet

    # Pages are read as they are needed: a row group may be larger than the memory.
    return pyarrow.parquet.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20)


def rows_after(
    parquet: Any, skip: int, columns: Sequence[str], *, use_threads: bool = True
) -> Iterator[dict[str, Any]]:
    """The rows of an open Parquet file after the first `skip`; row groups before are not read."""
    for group in range(parquet.num_row_groups):
        count = parquet.metadata.row_group(group).num_rows
        if skip >= count:
            skip -= count
            continue
        for batch in parquet.iter_batches(
            _BATCH_ROWS, row_groups=[group], columns=list(columns), use_threads=use_threads
        ):
            yield from rows_of(batch.slice(min(skip, batch.num_rows)))
            skip = max(0, skip - batch.num_rows)


def rows_of(batch: Any) -> list[dict[str, Any]]:
    """The rows of a batch of Arrow. A value that Python cannot hold is its text or number, or None."""
    columns = []
    for column in batch.columns:
        try:
            columns.append(column.to_pylist())
        except Exception:  # of dates, time zones, and texts that are not UTF-8
            columns.append([_value_of(scalar) for scalar in column])
    return [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]


def _value_of(scalar: Any) -> Any:
    for form in (None, "timestamp[us]", "string", "binary"):
        with suppress(Exception):
            value = (scalar.cast(form) if form else scalar).as_py()
            if form != "string" or _FAR_TIME.fullmatch(value):
                return value
    return None


TABLES: dict[str, type[Table]] = {  # by format; a file of any other is one document
    "json": JsonArray,
    "jsonl": JsonLines,
    "csv": Csv,
    "tsv": Csv,
    "parquet": Parquet,
}


def parse_line(number: int, line: str | None) -> Record:
    """The record of a line of JSON lines; None is a line that is too long."""
    if line is None:
        return Record(number, problem=f"it {_TOO_LONG}")
    if DAMAGED.search(line):
        return Record(number, problem=_NOT_UTF8)
    try:
        return _record(number, json.loads(line))
    except (ValueError, RecursionError) as error:
        return Record(number, problem=f"it is not JSON ({_why(error)})")


def _why(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be read"


def _record(number: int, values: Any) -> Record:
    if not isinstance(values, dict):
        return Record(number, problem="it is not a JSON object")
    return Record(number, values)
