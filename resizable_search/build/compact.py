"""Compact an index: make it one part again, without deleted rows.

The new index is made beside the old one and exchanged with it in one step. Rows keep their order, ids and
full vectors, bit for bit; the rest is derived again. A compaction that is stopped or dies leaves the index as
it was. One that dies after the exchange leaves the old index in `.building`; the next change deletes it.
"""

import shutil
import sqlite3
import threading
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resizable_search.arrays import NpyAppender, read_blocks
from resizable_search.build.workspace import discard_compaction, lock_index
from resizable_search.errors import BuildStateError, BuildStoppedError, RsearchError
from resizable_search.progress import SILENT, Progress
from resizable_search.store.documents import allowed_rows, ids_of, open_documents, row_of, write_documents
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import Manifest, Part, read_manifest
from resizable_search.store.writer import array_bytes, derive, list_files, part_files, replace_folder
from resizable_search.system import ANOTHER_HOME, make_sure_of_room

AT_ONCE = 1000
"""Documents that are copied at once."""


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did: the parts, deleted rows and bytes `before`, and the bytes `after`.

    `done`: False if there was nothing to do. `fitted`: the embedder was fitted on the corpus, and still knows
    the words of deleted documents.
    """

    index: str
    documents: int
    parts: int
    deleted: int
    before: int
    after: int
    done: bool
    fitted: bool


def compact(folder: Path, progress: Progress = SILENT, stop: threading.Event | None = None) -> Compaction:
    """Make the index in `folder` one part without deleted rows; readers see the old or the new one.

    Raises RsearchError if every document is deleted, BuildStateError for an unfinished build of the index,
    BuildStoppedError, IndexBusyError, and StorageError if there is no room.
    """
    with lock_index(folder) as home:
        return _Compactor(folder.resolve(), home, progress, stop or threading.Event()).run()


class _Compactor:
    def __init__(self, folder: Path, home: Home, progress: Progress, stop: threading.Event) -> None:
        self.folder = folder
        self.unfinished = home.building(folder.name)
        self.state = home.state(folder.name)
        self.staged = self.unfinished / NAMES.compacted
        self.progress = progress
        self.stop = stop
        self.manifest = read_manifest(folder)
        self.staying: list[NDArray[np.bool_]] = []
        """Which rows of each part are not deleted."""
        for part in self.manifest.parts:
            allowed = allowed_rows(folder / part.path, part)
            self.staying.append(np.ones(part.rows, bool) if allowed is None else allowed)

    def run(self) -> Compaction:
        old = self.manifest
        deleted = old.rows - old.documents
        new = old
        done = len(old.parts) > 1 or deleted > 0
        if done:
            self._refuse()
            try:
                new = self._make()
            except BaseException:
                discard_compaction(self.unfinished)
                raise
            replace_folder(self.staged, self.folder, self.unfinished / NAMES.replaced)
            discard_compaction(self.unfinished)
        before, after = (sum(entry.bytes for entry in one.all_files().values()) for one in (old, new))
        fitted = bool(old.files)
        return Compaction(
            self.folder.name, new.documents, len(old.parts), deleted, before, after, done, fitted
        )

    def _refuse(self) -> None:
        name = self.folder.name
        if not self.manifest.documents:
            raise RsearchError(f"every document of {name} is deleted: `remove {name}` deletes the index")
        if (self.unfinished / NAMES.work).exists():
            raise BuildStateError(
                f"the build of {name} is not finished: give its command again, and compact then"
            )
        needed = sum(array_bytes(self.manifest.documents, self.manifest.dims).values())
        needed += 2 * sum(part.files[NAMES.documents].bytes for part in self.manifest.parts)
        needed += sum(entry.bytes for entry in self.manifest.files.values())
        make_sure_of_room(f"compacting {name}", needed, self.folder.parent, f"or {ANOTHER_HOME}")

    def _make(self) -> Manifest:
        """Make the whole new index beside the old one."""
        old, full = self.manifest, self.manifest.full_dim
        rows = old.documents
        self.staged.mkdir(parents=True)
        self.progress.stage("copying", rows, "rows")
        with closing(NpyAppender(self.staged / NAMES.vectors(full), full)) as file:
            for part, staying in zip(old.parts, self.staying, strict=True):
                for start, block in read_blocks(self.folder / part.path / NAMES.vectors(full)):
                    rows_of_block = staying[start : start + len(block)]
                    file.append(block[rows_of_block])
                    self._advance(int(rows_of_block.sum()))
            file.finish()
        self.progress.stage("deriving", rows, "rows")
        derive(self.staged, old.dims, self.progress)
        self._check_stop()
        self.progress.stage("copying", rows, "documents")
        write_documents(
            self.staged / NAMES.documents, self.unfinished / NAMES.documents_copy, self._copy_documents
        )
        for name in old.files:
            (self.staged / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(self.folder / name, self.staged / name)
        self._check_stop()
        self.progress.stage("writing", None, "files")
        source = old.source
        with ids_of(self.folder, old) as parts:
            if row_of(parts, source.last_id) is None:  # it must not name a deleted document
                source = replace(source, last_id="")
        manifest = old.next_generation(
            rows=rows,
            parts=(Part("", rows, list_files(self.staged, part_files(old.dims))),),
            files=list_files(self.staged, list(old.files)),
            source=source,
            fitted_rows=int(np.concatenate(self.staying)[: old.fitted_rows].sum()),
        )
        if manifest.files != old.files:
            raise RsearchError(
                f"the files of {self.folder.name}'s embedder are not as they were written: look with "
                f"`verify {self.folder.name}`"
            )
        written = manifest.write(self.staged)
        if rows < old.rows:  # logs and reports of earlier builds may name deleted documents
            for path in (*self.state.glob(f"{NAMES.log}*"), self.state / NAMES.report):
                path.unlink(missing_ok=True)
        return written

    def _copy_documents(self, copy: sqlite3.Connection) -> None:
        """Copy the documents that stay into a new database, in order, with new row numbers."""
        first = 0
        for part, staying in zip(self.manifest.parts, self.staying, strict=True):
            numbers = np.flatnonzero(staying).tolist()
            new_rows = dict(zip(numbers, range(first, first + len(numbers)), strict=True))
            first += len(numbers)
            with closing(open_documents(self.folder / part.path / NAMES.documents, part.rows)) as old, copy:
                for table, columns in (("documents", 5), ("texts", 2)):
                    marks = ", ".join("?" * columns)
                    documents = old.execute(f"SELECT * FROM {table} ORDER BY row")
                    while block := documents.fetchmany(AT_ONCE):
                        rows = [(new_rows[row], *rest) for row, *rest in block if row in new_rows]
                        copy.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
                        if table == "documents":
                            self._advance(len(rows))

    def _advance(self, rows: int) -> None:
        self.progress.advance(rows)
        self._check_stop()

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise BuildStoppedError(
                f"stopped: {self.folder.name} is as it was; the same command starts again"
            )
