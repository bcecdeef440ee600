"""Files and folders as a corpus: a document a file, or a record of a table, or a chunk of either.

A position is {"listing", "file", "record"}: the digest of every file's name, size and time, how many
files were read through, and where in the next one (a table) the reading was. A folder that has changed is
not read on: what was read would no longer be what is there.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from resizable_search.corpora.base import Block, Document, Json
from resizable_search.corpora.columns import lacking
from resizable_search.corpora.files.formats import TABLES, format_of, parse
from resizable_search.corpora.files.opening import RefusedError, UnreadableError
from resizable_search.corpora.files.tables import Table, open_table
from resizable_search.corpora.files.text import Step, TextCorpus
from resizable_search.corpora.files.walking import Found, Listing, absolute, base_of, lies_in, roots_of, walk
from resizable_search.errors import CorpusError
from resizable_search.wording import counted

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

    def _counted(self, files: Iterator[Found]) -> Iterator[Found]:
        for number, found in enumerate(files, 1):
            if not number % LISTED_AT_ONCE:
                self.progress.advance(LISTED_AT_ONCE)
            yield found

    def is_as_read(self, position: Json) -> bool:
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
                    "--restart builds it anew, another --name keeps both"
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

    def _read(self, found: Found, record: int) -> Iterator[tuple[list[Document], int | None]]:
        """The documents of a file, with the record behind them; None where the file is done with."""
        try:
            if found.problem:
                raise (RefusedError if found.unread else UnreadableError)(found.problem)
            if _is_table(found):
                yield from self._records(found, record)
            else:
                yield self._whole(found), None
        except UnreadableError as error:
            yield [Document(found.id, "", "", "", problem=str(error), unread=error.for_now)], None

    def _whole(self, found: Found) -> list[Document]:
        path = self._path(found)
        parsed = parse(path, *format_of(found.id))
        title = parsed.title or os.path.basename(found.id)
        document = Document(found.id, title, Path(path).as_uri(), parsed.text, {"path": found.id})
        return self.finished(document, parsed.outline)

    def _records(self, found: Found, behind: int) -> Iterator[tuple[list[Document], int]]:
        table = self._table(found)
        known = table.columns()
        if known is None:
            raise UnreadableError("it is empty")
        if missing := self.columns.missing(known):
            raise UnreadableError(lacking(missing, known))
        url = Path(self._path(found)).as_uri()
        for record in table.read(behind):
            place: dict[str, str | int] = {"path": found.id, table.unit: record.place}
            yield self.of_record(record, f"{found.id}:{record.place}", place, url), record.behind

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
                raise CorpusError(f"{self._path(found)}: {lacking(missing, known)}; name one of those")

    def _table(self, found: Found) -> Table:
        form, packing = format_of(found.id)
        return open_table(self._path(found), form, packing, self.columns.wanted, self.columns.metadata)

    def _path(self, found: Found) -> str:
        return os.path.join(self._base, found.id)


def _is_table(found: Found) -> bool:
    return format_of(found.id)[0] in TABLES
