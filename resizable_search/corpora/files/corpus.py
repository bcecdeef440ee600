"""Files and folders as a corpus: a document a file, or a record of a table, or a chunk of either.

A position is {"listing", "file", "record"}: the digest of every file's name, size and time, how many
files were read through, and where in the next one (a table) the reading was. A folder that has changed is
not read on: what was read would no longer be what is there.

What corpora of people's own text share, wherever it comes from: columns, cuts, chunks and blocks.

JSON lines that are piped in, as a corpus.

A pipe cannot be opened again, but its command can: a position is {"lines", "sha256"}, and a build goes
on when it is given the same lines again. Those that it has read are passed over, and must be the same.
"""

import hashlib
import os
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from resizable_search.corpora.base import BLOCK_SIZE, Block, Corpus, Document
from resizable_search.corpora.chunking import PLAIN, Chunking, Outline
from resizable_search.corpora.files.decoding import RefusedError, UnreadableError
from resizable_search.corpora.files.discovery import (
    FoundFile,
    Listing,
    absolute,
    base_of,
    lies_in,
    roots_of,
    walk,
)
from resizable_search.corpora.files.formats import TABLES, format_of, read_text
from resizable_search.corpora.tables import (
    FIELDS,
    Columns,
    Record,
    Table,
    lacks_columns,
    lines_of,
    open_table,
    parse_line,
)
from resizable_search.errors import CorpusError, UsageError
from resizable_search.progress import SILENT, Progress
from resizable_search.specs import CorpusSpec, Json
from resizable_search.text import counted

DEFAULT_CHARS = 1200
"""Characters of a text that are kept where it is not cut into chunks."""
BLOCK_CHARS = 8 << 20
"""About so many characters are read at once."""
_EXAMPLE_WORDS = 6

Step = tuple[list[Document], Json]
"""The documents of a file or a record, and the position behind them."""


class TextCorpus(Corpus):
    """Texts of the user's. `TextCorpus` of a spec's options is that corpus again.

    `text_column` and its like say which columns of a table hold what, and `metadata` which more are kept
    (`Columns`); `chars` cuts each text to its first characters (None: no cut); `chunk`, such as '400t',
    cuts what is left into documents of their own, which may share `chunk_overlap` (`Chunking`).
    Raises UsageError for options that make no sense.
    """

    kind = "files"
    example = "what you are looking for"

    def __init__(
        self,
        paths: Sequence[str],
        *,
        text_column: str | None = None,
        id_column: str | None = None,
        title_column: str | None = None,
        url_column: str | None = None,
        metadata: Sequence[str] = (),
        chars: int | None = DEFAULT_CHARS,
        chunk: str | None = None,
        chunk_overlap: int = 0,
        progress: Progress = SILENT,
    ) -> None:
        if chars is not None and chars < 1:
            raise UsageError(f"texts cannot be cut to {chars} characters: give 1 or more")
        self.paths = list(paths)
        self.columns = Columns(text_column, id_column, title_column, url_column, tuple(metadata))
        self.chars = chars
        self.chunking = None if chunk is None else Chunking.parse(chunk, chunk_overlap)
        self.progress = progress
        self._cut = 0

    def spec(self) -> CorpusSpec:
        """The paths from the root on, and the options."""
        chunking = self.chunking
        return CorpusSpec(
            self.kind,
            {
                "paths": self.paths,
                **{f"{field}_column": getattr(self.columns, field) for field in FIELDS},
                "metadata": list(self.columns.metadata),
                "chars": self.chars,
                "chunk": None if chunking is None else str(chunking),
                "chunk_overlap": 0 if chunking is None else chunking.overlap,
            },
        )

    @property
    @abstractmethod
    def label(self) -> str:
        """What a person calls it."""

    @property
    def is_mutable(self) -> bool:
        """People go on writing: an index follows."""
        return True

    def of_record(
        self, record: Record, id_: str, place: Mapping[str, str | int], url: str = ""
    ) -> list[Document]:
        """The documents of a record of a table; `id_` and `url` where it has none of its own."""
        if record.problem:
            return [Document(id_, "", "", "", problem=record.problem)]
        document = self.columns.document(record.values, id_, place)
        return self.finished(document if document.url else replace(document, url=url))

    def finished(self, document: Document, outline: Outline = PLAIN) -> list[Document]:
        """A document as it is handed out: cut, and in chunks."""
        if self.chars is not None and len(document.text) > self.chars:
            self._cut += 1
            document = replace(document, text=document.text[: self.chars])
        return [document] if self.chunking is None else self.chunking.documents(document, outline)

    def in_blocks(self, steps: Iterator[Step]) -> Iterator[Block]:
        """Gather steps into blocks of bounded size; tells at the end how many texts were cut."""
        held: list[Document] = []
        chars, behind = 0, None
        for documents, behind in steps:
            held += documents
            chars += sum(len(document.text) for document in documents)
            if len(held) >= BLOCK_SIZE or chars >= BLOCK_CHARS:
                self._choose_example(held)
                yield Block(held, behind)
                held, chars = [], 0
        if held:
            self._choose_example(held)
            yield Block(held, behind)
        if self._cut and self.chunking is None:
            are = "is" if self._cut == 1 else "are"
            self.progress.note(
                f"{counted(self._cut, 'text')} {are} longer than {self.chars:,} characters, and only the "
                "beginning is searched: --chunk 400 takes it all, in chunks"
            )

    def _choose_example(self, documents: Sequence[Document]) -> None:
        if self.example is TextCorpus.example:
            for document in documents:
                title, text = (re.findall(r"\w+", words[:200]) for words in (document.title, document.text))
                if words := title if len(title) > 2 else text:
                    self.example = " ".join(words[:_EXAMPLE_WORDS])
                    return


LISTED_AT_ONCE = 1000
"""Files between two words of how many there are."""


class FilesCorpus(TextCorpus):
    """The files that `paths` name, and those in the folders among them; see `walking` and `formats`.

    `within`: the paths of another such corpus, whose ids those of its files are to be. `options` are
    those of `TextCorpus`. Raises UsageError for a path that does not exist.
    """

    def __init__(self, paths: Sequence[str | Path], *, within: Sequence[str] = (), **options: Any) -> None:
        super().__init__([absolute(str(path)) for path in paths], **options)
        self._roots, self._base = roots_of(self.paths)
        self._listing: Listing | None = None
        """What `start` has found, until `blocks` reads it."""
        if within and (base := base_of(within)) and all(lies_in(path, base) for path in self.paths):
            self._base = base

    @property
    def label(self) -> str:
        """The names of the files and folders."""
        names = [os.path.basename(path) or path for path in self.paths]
        return ", ".join(names[:3]) + (f" and {counted(len(names) - 3, 'other')}" if len(names) > 3 else "")

    def start(self) -> Json:
        """Before the first file, of those that there are now."""
        if self._listing is None:
            self.progress.stage("listing", None, "files")  # folders may be large, and disks slow
            self._listing = Listing(self._counted(walk(self._roots, self._base)))
        return {"listing": self._listing.digest, "file": 0, "record": 0}

    def _counted(self, files: Iterator[FoundFile]) -> Iterator[FoundFile]:
        for number, found in enumerate(files, 1):
            if not number % LISTED_AT_ONCE:
                self.progress.advance(LISTED_AT_ONCE)
            yield found

    def is_unchanged(self, position: Json) -> bool:
        """Whether no file was added, removed or written to since `position` was told."""
        return bool(position["listing"] == self.start()["listing"])

    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """The documents from `position` on.

        Raises CorpusError where there is no file, where a table lacks a column, and where a file was
        added, removed or written to since `position` was told. What is wrong with a file or a record
        does not end the stream: it is handed out without text, with its `problem`.
        """
        held, self._listing = self._listing, None
        with closing(held or Listing(walk(self._roots, self._base))) as listing:
            if not listing.count:
                raise CorpusError(
                    f"{self.label} holds no file that is read (hidden and ignored ones are not, unless they "
                    "are named): name other files or folders"
                )
            if position is not None and position["listing"] != listing.digest:
                raise CorpusError(
                    f"{self.label} has changed since it was read: files were added, removed or written to; "
                    "--restart builds it again, another --name keeps both"
                )
            self._check_columns(listing)
            yield from self.in_blocks(self._steps(listing, position or {"file": 0, "record": 0}))

    def _steps(self, listing: Listing, position: Json) -> Iterator[Step]:
        record = position["record"]
        for number, found in enumerate(listing.read(position["file"]), position["file"]):
            for documents, behind in self._read(found, record):
                place = {"file": number + (behind is None), "record": behind or 0}
                yield documents, {"listing": listing.digest, **place}
            record = 0

    def _read(self, found: FoundFile, record: int) -> Iterator[tuple[list[Document], int | None]]:
        """The documents of a file, with the record behind them; None where the file is done with."""
        try:
            if found.problem:
                raise (RefusedError if found.unread else UnreadableError)(found.problem)
            if _is_table(found):
                yield from self._records(found, record)
            else:
                yield self._whole(found), None
        except UnreadableError as error:
            yield [Document(found.id, "", "", "", problem=str(error), unread=error.unread)], None

    def _whole(self, found: FoundFile) -> list[Document]:
        path = self._path(found)
        parsed = read_text(path, *format_of(found.id))
        title = parsed.title or os.path.basename(found.id)
        document = Document(found.id, title, Path(path).as_uri(), parsed.text, {"path": found.id})
        return self.finished(document, parsed.outline)

    def _records(self, found: FoundFile, behind: int) -> Iterator[tuple[list[Document], int]]:
        table = self._table(found)
        known = table.columns()
        if known is None:
            raise UnreadableError("it is empty")
        if missing := self.columns.missing(known):
            raise UnreadableError(lacks_columns(missing, known))
        url = Path(self._path(found)).as_uri()
        for record in table.read(behind):
            place: dict[str, str | int] = {"path": found.id, table.unit: record.number}
            yield self.of_record(record, f"{found.id}:{record.number}", place, url), record.position

    def _check_columns(self, listing: Listing) -> None:
        """Refuse a table without a column that is asked of it, before anything is embedded.

        One that merely lies in a folder need not have texts: it is left out and told.
        """
        for found in listing.read():
            if found.problem or not _is_table(found) or not (found.named or self.columns.text):
                continue
            try:
                known = self._table(found).columns()
            except UnreadableError:
                continue  # told when its turn comes
            if known is not None and (missing := self.columns.missing(known)):
                raise CorpusError(f"{self._path(found)}: {lacks_columns(missing, known)}; name one of those")

    def _table(self, found: FoundFile) -> Table:
        form, packing = format_of(found.id)
        return open_table(self._path(found), form, packing, self.columns.wanted, self.columns.metadata)

    def _path(self, found: FoundFile) -> str:
        return os.path.join(self._base, found.id)


def _is_table(found: FoundFile) -> bool:
    return format_of(found.id)[0] in TABLES


STDIN = "-"


class StdinCorpus(TextCorpus):
    """The records of a stream of JSON lines in UTF-8, which is read once. `options`: `TextCorpus`."""

    def __init__(self, stream: BinaryIO, **options: Any) -> None:
        super().__init__([STDIN], **options)
        self._stream = stream

    @property
    def label(self) -> str:
        """As in 'standard input'."""
        return "standard input"

    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """The documents behind `position`; only the first call has any.

        Raises CorpusError for a first record without a column that it must have, and where what was read
        before does not come again.
        """
        yield from self.in_blocks(self._steps(position))

    def _steps(self, position: Json | None) -> Iterator[Step]:
        known = None
        digest = hashlib.sha256()
        passed, expected = (0, "") if position is None else (position["lines"], position["sha256"])
        number = 0
        for number, line in lines_of(self._stream, encoding="utf-8-sig"):
            digest.update((line or "").encode("utf-8", "surrogateescape"))
            if number == passed and digest.hexdigest() != expected:
                raise self._changed(passed)
            if number <= passed or (line is not None and line.isspace()):
                continue
            record = parse_line(number, line)
            if known is None and not record.problem:
                known = list(record.values)
                if position is None and (missing := self.columns.missing(known)):
                    lacks = lacks_columns(missing, known)
                    raise CorpusError(f"line {number:,} of standard input: {lacks}; name one of those")
            documents = self.of_record(record, f"line:{number}", {"line": number})
            yield documents, {"lines": number, "sha256": digest.hexdigest()}
        if number < passed:
            raise self._changed(passed)

    def _changed(self, passed: int) -> CorpusError:
        return CorpusError(
            "a build of standard input goes on when the same lines are piped in again, and the first "
            f"{passed:,} are not those that it has read: pipe them in, or begin again with --restart"
        )
