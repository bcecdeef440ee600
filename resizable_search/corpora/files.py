"""People's own text as a corpus: a document for each file, record of a table, or chunk of either.

The position of `FilesCorpus` is {"listing"}, the digest of every file's name, size and time: a build that
resumes reads them from the first one on. A shard's position also has "names", the digest of names and sizes:
all shards must be of the same files. Files belong to the shard in which their first byte lies, but JSON lines
and Parquet are cut in their middle.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from resizable_search.corpora.base import DEFAULT_CHARS, Block, Corpus, Document, Shard, gather
from resizable_search.corpora.chunking import PLAIN, Outline, chunking_of
from resizable_search.corpora.decoding import SourceFile, UnreadableError, checked_codec, lines_of, name_of
from resizable_search.corpora.discovery import FoundFile, Listing, Patterns, absolute, base_of, roots_of, walk
from resizable_search.corpora.formats import SAMPLE, format_of, format_within, machine_made, read_text
from resizable_search.corpora.tables import (
    FIELDS,
    TABLES,
    Columns,
    JsonLines,
    Parquet,
    Record,
    Table,
    parse_line,
)
from resizable_search.errors import CorpusError, UsageError
from resizable_search.progress import SILENT, Progress
from resizable_search.specs import CorpusSpec, FileFormat, Json
from resizable_search.text import clipped, counted, listed

BLOCK_CHARS = 8 << 20  # about as many characters are read at once
STDIN = "-"
RULES = 3
"""The rules by which a new index reads files; an index keeps those that it was built by.

1: a chunk's text alone is embedded, and every chunk has a number. In folders, every text is read, and whole.
2: title and headings are embedded before a chunk's text, and a document of one chunk keeps its own id. Texts
that are not for people are left out of folders, as are navigation and comments of HTML and Markdown. Where a
name says nothing, the content tells the format.
3: a heading alone is not a chunk: the chunks below it have it among their headings.
Each object of a JSON array is a document.
"""
_TABLE_OPTIONS = {*(f"{field}_column" for field in FIELDS), "metadata", "delimiter"}
_EXAMPLE_WORDS = 6
_LISTED_AT_ONCE = 1000  # files between two reports of progress


@dataclass(eq=False)
class TextCorpus(Corpus):
    """Texts of the user. `TextCorpus` of a spec's options is that corpus again. Raises UsageError."""

    kind = "files"
    example = "what you are looking for"
    is_mutable = True
    adjustable = ("include", "exclude", "encoding")

    paths: Sequence[str]
    _: KW_ONLY
    text_column: str | None = None  # for this and the others see `Columns`
    id_column: str | None = None
    title_column: str | None = None
    url_column: str | None = None
    metadata: Sequence[str] = ()
    chars: int | None = DEFAULT_CHARS  # each text is cut to so many; None: no cut
    chunk: str | None = None  # the rest is cut into chunks (`Chunking`)
    chunk_overlap: int = 0
    include: Sequence[str] = ()  # for both see `Patterns`
    exclude: Sequence[str] = ()
    input_format: FileFormat | None = None  # of every file, whatever its name
    delimiter: str | None = None
    encoding: str | None = None  # of files that are not UTF-8 and do not declare theirs
    must_apply: Collection[str] = ()  # options that are refused where they do nothing
    rules: int = 1
    shard: str | None = None  # a part of all files (`Shard`), which the index does not follow
    progress: Progress = SILENT

    def __post_init__(self) -> None:
        self._shard = Shard.parse(self.shard) if self.shard is not None else None
        self.is_mutable = self._shard is None
        fields = self.text_column, self.id_column, self.title_column, self.url_column
        self.columns = Columns(*fields, tuple(self.metadata))
        self.chunking = chunking_of(self.chunk, self.chunk_overlap)
        self.patterns = Patterns(self.include, self.exclude)
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise UsageError(f"`delimiter` is one character, not {self.delimiter!r}")
        self._codec = checked_codec(self.encoding)
        self.encoding = name_of(self.encoding) if self.encoding else None
        self._cut = 0

    def spec(self) -> CorpusSpec:
        """The absolute paths, and the options."""
        options: dict[str, Json] = {
            "paths": list(self.paths),
            **{f"{field}_column": getattr(self.columns, field) for field in FIELDS},
            "metadata": list(self.columns.metadata),
            "chars": self.chars,
            "chunk": self.chunking and str(self.chunking),
            "chunk_overlap": self.chunking.overlap if self.chunking else 0,
        }
        # What is not used is left out: indexes from before it existed stay the same.
        more = {name: getattr(self, name) for name in ("input_format", "delimiter", "encoding", "shard")}
        more |= {"include": list(self.patterns.include), "exclude": list(self.patterns.exclude)}
        rules = {"rules": self.rules} if self.rules > 1 else {}
        return CorpusSpec(self.kind, options | {k: v for k, v in more.items() if v} | rules)

    def pin(self, spec: Mapping[str, Json]) -> None:
        """Read by the rules of an earlier run."""
        if spec.get("kind") == self.kind and (rules := spec.get("rules", 1)) in range(1, RULES + 1):
            self.rules = rules

    @property
    def embeds_headings(self) -> bool:
        """Whether it makes chunks by rules that say so."""
        return self.rules > 1 and self.chunking is not None

    def _refuse_idle(self, options: set[str], what: str) -> None:
        if idle := options.intersection(self.must_apply):
            raise UsageError(f"`{min(idle)}` is for {what}, and there are none: leave it out")

    def of_record(
        self, record: Record, id_: str, where: Mapping[str, str | int], url: str = ""
    ) -> list[Document]:
        """The documents of a record of a table; `id_` and `url` are for one without its own."""
        if record.problem:
            return [Document(id_, "", "", "", problem=record.problem)]
        document = self.columns.document(record.values, id_, where)
        return self.finished(document if document.url else replace(document, url=url))

    def finished(self, document: Document, outline: Outline = PLAIN) -> list[Document]:
        """The document cut, and in chunks. A heading or text of words gives the example."""
        if self.example is TextCorpus.example:
            headings = [heading.title for heading in outline.headings] or [document.text]
            texts = (re.findall(r"[^\W_]+", words[:200]) for words in (document.title, *headings))
            words = next((words for words in texts if len(words) > 2), ())
            self.example = " ".join(words[:_EXAMPLE_WORDS]) or self.example
        if self.chars is not None and len(document.text) > self.chars:
            self._cut += 1
            document = replace(document, text=document.text[: self.chars])
        if self.chunking is None:
            return [document]
        return self.chunking.documents(
            document, outline, keeps_single=self.rules > 1, lone_headings=self.rules < 3
        )

    def in_blocks(self, steps: Iterable[list[Document]], position: Json | None = None) -> Iterator[Block]:
        """Gather documents into blocks of bounded size; note at the end how many texts were cut."""
        yield from gather(((documents, position) for documents in steps), chars=BLOCK_CHARS)
        if self._cut and self.chunking is None:
            self.progress.note(
                f"only the first {self.chars:,} characters of {counted(self._cut, 'text')} are searched: "
                "build again with `chunk=400` and `restart` to search all of them"
            )


class FilesCorpus(TextCorpus):
    """The files that `paths` name, and those in folders among them; see `discovery` and `formats`.

    `within`: the paths of another corpus of files, whose ids the files below its folder get. `options` are
    those of `TextCorpus`. Raises UsageError for a path that does not exist.
    """

    def __init__(self, paths: Sequence[str | Path], *, within: Sequence[str] = (), **options: Any) -> None:
        super().__init__([absolute(str(path)) for path in paths], **options)
        self.label = listed([os.path.basename(path) or path for path in self.paths], 3)
        self._roots, self._base = roots_of(self.paths)
        if all(not root.pattern and not os.path.isdir(root.path) for root in self._roots):
            self._refuse_idle({"include", "exclude"}, "folders")
        self._guessed: list[str] = []  # files whose encoding was guessed
        self._listing: Listing | None = None  # what `start` has listed, until `blocks` reads it
        if within and (base := base_of(within, self.paths)):
            self._base = base

    def start(self) -> Json:
        """The listing of now, which is the position of all documents."""
        if self._listing is None:
            self.progress.stage("listing", None, "files")  # folders may be large, and disks slow
            self._listing = Listing(self._walk())
        names = {} if self._shard is None else {"names": self._listing.names}
        return {"listing": self._listing.digest, **names}

    def _walk(self) -> Iterator[FoundFile]:
        for number, file in enumerate(walk(self._roots, self._base, self.patterns), 1):
            if not number % _LISTED_AT_ONCE:
                self.progress.advance(_LISTED_AT_ONCE)
            yield file

    def holds(self, path: str) -> bool:
        """Whether this file is there, be it read or left out."""
        return os.path.lexists(os.path.join(self._base, path))

    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """All documents, unreadable ones with a `problem`. Raises CorpusError: no file, or no such column."""
        position = self.start()
        listing, self._listing = cast("Listing", self._listing), None
        with closing(listing):
            if not listing.count:
                raise CorpusError(
                    f"{self.label} holds no file that is read (hidden, ignored and excluded files only by "
                    "name): put files there, or name others"
                )
            self._check_columns(listing)
            yield from self.in_blocks(self._steps(listing), position)
        if self._guessed:
            self.progress.note(
                f"the encoding of {counted(len(self._guessed), 'file')} was guessed, as it is not UTF-8: "
                f"{listed(self._guessed, 3)}: give `encoding` to say it"
            )

    def _steps(self, listing: Listing) -> Iterator[list[Document]]:
        offset = 0
        for file in listing.read():
            if part := self._part_of(file, offset, listing.bytes):
                yield from self._read(file, *part)
            offset += file.size

    def _part_of(self, file: FoundFile, offset: int, total: int) -> tuple[int, int | None] | None:
        """What to read of a file at byte `offset` of `total`: after a record, up to another (None: all)."""
        if self._shard is None:
            return 0, None
        first, last = self._shard.of(total)
        last += self._shard.number == self._shard.count  # empty files at the end
        stop = offset + file.size
        if offset < first < stop or offset < last < stop:
            with suppress(UnreadableError):  # reported by the shard that has its first byte
                table = self._opened(file)[2]
                if isinstance(table, JsonLines | Parquet):
                    edges = (min(max(offset, edge), stop) - offset for edge in (first, last))
                    first, last = (table.end() * edge // file.size for edge in edges)
                    return (first, last) if first < last else None
        return (0, None) if first <= offset < last else None

    def _read(self, file: FoundFile, first: int, last: int | None) -> Iterator[list[Document]]:
        """The documents of a file, or those of the records of a table after `first` and up to `last`."""
        try:
            if file.problem:
                raise UnreadableError(file.problem, unread=file.unread)
            source, form, table = self._opened(file)
            url = Path(source.path).as_uri()
            if table is not None:
                if (known := table.columns()) is None:
                    raise UnreadableError("it is empty")
                if lacks := self.columns.lacks(known):
                    raise UnreadableError(lacks)
                records = table.read(first) if isinstance(table, JsonLines | Parquet) else table.read()
                for record in records:
                    if last is not None and record.number > last:
                        return
                    where: dict[str, str | int] = {"path": file.id, table.unit: record.number}
                    yield self.of_record(record, f"{file.id}:{record.number}", where, url)
            else:
                content = read_text(source, form, bare=self.rules > 1)
                if self.rules > 1 and not file.named and (kind := machine_made(file.id, content.text)):
                    raise UnreadableError(f"it is {kind}")
                title = content.title or os.path.basename(file.id)
                document = Document(file.id, title, url, content.text, {"path": file.id})
                yield self.finished(document, content.outline)
            if source.guessed:
                self._guessed.append(f"{clipped(file.id)} ({name_of(source.guessed)})")
        except UnreadableError as error:
            yield [Document(file.id, "", "", "", problem=str(error), unread=error.unread)]
        except Exception as error:  # of a library: the other files are read all the same
            problem = f"it cannot be read ({clipped(str(error)) or type(error).__name__})"
            yield [Document(file.id, "", "", "", problem=problem, unread=isinstance(error, OSError))]

    def _check_columns(self, listing: Listing) -> None:
        """Refuse a table that lacks a column at once; one that only lies in a folder need not have texts."""
        idle = _TABLE_OPTIONS.intersection(self.must_apply)
        for file in listing.read():
            if file.problem or not (file.named or self.columns.text or idle):
                continue
            with suppress(UnreadableError):  # reported when it is read
                source, form, table = self._opened(file)
                if table is not None:
                    idle &= set() if form == "csv" else {"delimiter"}
                    known = table.columns()
                    if (file.named or self.columns.text) and known and (lacks := self.columns.lacks(known)):
                        raise CorpusError(f"{source.path}: {lacks}; name one of those")
        self._refuse_idle(idle, "CSV" if idle == {"delimiter"} else "tables (see `input_format`)")

    def _opened(self, file: FoundFile) -> tuple[SourceFile, FileFormat, Table | None]:
        """A file to read, its format, and its records if it is a table. Raises UnreadableError."""
        form, packing = format_of(file.id)
        source = SourceFile(os.path.join(self._base, file.id), packing, self._codec)
        form = self.input_format or form
        if is_guess := form == "text" and self.input_format is None and self.rules > 1:
            with source.open() as opened:
                form = format_within(opened.read(SAMPLE))
            if form == "json" and self.rules < 3:
                form = "text"
        if form not in TABLES:
            return source, form, None
        delimiter = self.delimiter if form == "csv" else "\t"
        table = TABLES[form](source, self.columns.wanted, self.columns.metadata, delimiter=delimiter)
        may_be_data = is_guess and form in ("json", "jsonl") and not file.named  # or the log of a program
        if may_be_data and self.columns.lacks(table.columns() or ()):
            return source, "text", None
        return source, form, table


class StdinCorpus(TextCorpus):
    """The records of a stream of JSON lines in UTF-8, which is read once. `options`: `TextCorpus`."""

    label = "standard input"

    def __init__(self, stream: BinaryIO, **options: Any) -> None:
        super().__init__([STDIN], **options)
        self._refuse_idle({"include", "exclude", "delimiter", "input_format", "encoding", "shard"}, "files")
        self._stream = stream

    def is_unchanged(self, position: Json) -> bool:
        """False: nobody knows what is piped in before it is read."""
        return False

    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """All documents, once. Raises CorpusError for missing columns."""
        yield from self.in_blocks(self._steps())

    def _steps(self) -> Iterator[list[Document]]:
        known = None
        for number, line in lines_of(self._stream):
            if line is not None and line.isspace():
                continue
            record = parse_line(number, line)
            if known is None and not record.problem:
                known = list(record.values)
                if lacks := self.columns.lacks(known):
                    raise CorpusError(f"line {number:,} of standard input: {lacks}; name one of those")
            yield self.of_record(record, f"line:{number}", {"line": number})
