"""An unfinished build: what was read and answered (`Spool`), made into rows, and how far all is safe.

What is answered without a gap is folded (`fold`, `append`) into rows of vectors and documents, with ids
made unique, in one SQLite transaction. The vectors are written and synced before the transaction that
counts them, so a vector file may be longer than what is committed, never shorter, and is cut back on
opening.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import BuildStateError
from resizable_search.index.documents import write_documents
from resizable_search.index.ids import TakenIds
from resizable_search.index.layout import NAMES
from resizable_search.index.rows import RowsFile
from resizable_search.index.spool import Incoming, Spool, text_key
from resizable_search.index.steps import Step, reached

FOLD_AT_MOST = 1000
"""Documents folded in one transaction."""

Prepare = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Raw vectors of the embedder to rows as they are stored."""


class Work(Spool):
    """The state of an unfinished build, in `folder`. `ids` knows which ids are taken.

    `kept` are values that are kept with it from its beginning, as `set` does.
    """

    def __init__(self, folder: Path, **kept: Any) -> None:
        super().__init__(folder, **kept)
        self._rows_file: RowsFile | None = None
        self.ids = TakenIds(self._db)

    @property
    def rows(self) -> int:
        """Documents that are embedded, folded and safe."""
        return int(self.get("rows", 0))

    @property
    def safe(self) -> int:
        """Documents whose vectors are safe, be they rows already or answers that wait for one before them."""
        return self.rows + int(self._db.execute("SELECT count(*) FROM journal").fetchone()[0])

    @property
    def has_its_rows(self) -> bool:
        """Whether the documents that are filed are as many as the rows that are committed."""
        return bool(
            self._db.execute("SELECT coalesce(max(row) + 1, 0) FROM documents").fetchone()[0] == self.rows
        )

    def fold(self, width: int, prepare: Prepare) -> None:
        """Fold the journalled answers that no gap precedes."""
        while True:
            found = self._db.execute(
                "SELECT seq, text, text_sha256, vector FROM incoming LEFT JOIN journal USING (seq) "
                "ORDER BY seq LIMIT ?",
                (FOLD_AT_MOST,),
            ).fetchall()
            answered = []
            for seq, text, key, vector in found:
                if vector is None:
                    break
                if key != text_key(text) or len(vector) != 4 * width:
                    raise BuildStateError(
                        f"the unfinished build in {self.folder} is damaged (an answer is not of the text of "
                        f"document {seq:,}): begin again with --restart"
                    )
                answered.append((seq, vector))
            if not answered:
                return
            raw = np.frombuffer(b"".join(v for _, v in answered), "<f4").reshape(-1, width)
            self.append([seq for seq, _ in answered], prepare(raw), width)

    def append(self, seqs: Sequence[int], rows: NDArray[np.float32], dim: int) -> None:
        """Make documents, the first ones waiting, into rows of the index: (n, dim) float32, prepared."""
        try:
            self._append(seqs, rows, self._vectors(dim))
        except BaseException:
            # The file may hold rows that no commit knows of: opening it again cuts them off.
            self.close_vectors()
            raise

    def _append(self, seqs: Sequence[int], rows: NDArray[np.float32], file: RowsFile) -> None:
        self._extend(file, rows)
        first, last, start = seqs[0], seqs[-1], file.rows - len(rows)
        with self._db:
            documents = self._db.execute(
                "SELECT id, title, url, metadata, text FROM incoming WHERE seq BETWEEN ? AND ? ORDER BY seq",
                (first, last),
            ).fetchall()
            for row, (id_, title, url, metadata, text) in enumerate(documents, start):
                self._db.execute(
                    "INSERT INTO documents VALUES (?, ?, ?, ?, ?)",
                    (row, self.ids.unique(id_), title, url, metadata),
                )
                self._db.execute("INSERT INTO texts VALUES (?, ?)", (row, text))
            self._db.execute("DELETE FROM incoming WHERE seq BETWEEN ? AND ?", (first, last))
            self._db.execute("DELETE FROM journal WHERE seq BETWEEN ? AND ?", (first, last))
            self._set("rows", file.rows)
            reached(Step.FILED)
        reached(Step.COUNTED)

    def _extend(self, file: RowsFile, rows: NDArray[np.float32]) -> None:
        """Have the disk hold further rows, which are not counted yet."""
        file.append(rows)
        reached(Step.APPENDED)
        file.sync()
        reached(Step.SYNCED)

    def add(
        self, documents: Sequence[Incoming], rows: NDArray[np.float32], dim: int, kept: Mapping[str, Any]
    ) -> None:
        """Make documents that come with their (n, dim) float32 prepared rows into rows of the index.

        Their ids stay as they are: raises sqlite3.IntegrityError, and takes none of them, where one is
        taken (`first_repeat` tells which). `kept` are values to keep with them, as `set` does.
        """
        try:
            file = self._vectors(dim)
            start = file.rows
            self._extend(file, rows)
            with self._db:
                self._add_documents(documents, start)
                for key, value in kept.items():
                    self._set(key, value)
                self._set("rows", file.rows)
                reached(Step.FILED)
            reached(Step.COUNTED)
        except BaseException:
            self.close_vectors()  # as for `append`
            raise

    def _add_documents(self, documents: Sequence[Incoming], start: int) -> None:
        if self.ids.earlier and any(self.ids.is_taken(document.id) for document in documents):
            raise sqlite3.IntegrityError("an id of an earlier part")
        self._db.executemany(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?)",
            ((row, d.id, d.title, d.url, d.metadata) for row, d in enumerate(documents, start)),
        )
        self._db.executemany(
            "INSERT INTO texts VALUES (?, ?)", ((row, d.text) for row, d in enumerate(documents, start))
        )

    def first_repeat(self, documents: Sequence[Incoming]) -> tuple[Incoming, int] | None:
        """The first of these documents whose id is taken, and the row of the index (or `seq`) that has it."""
        seen: dict[str, int] = {}
        for document in documents:
            row = self.ids.row_of(document.id)
            if row is not None:
                return document, row
            if document.id in seen:
                return document, seen[document.id]
            seen[document.id] = document.seq
        return None

    def _vectors(self, dim: int) -> RowsFile:
        if self._rows_file is None:
            try:
                self._rows_file = RowsFile(self.staged / NAMES.vectors(dim), dim, self.rows)
            except EOFError as error:
                raise BuildStateError(f"{error}: begin again with --restart") from None
        return self._rows_file

    def finish_vectors(self, dim: int) -> Path:
        """Complete the file of full vectors; its path."""
        file = self._vectors(dim)
        file.finish()
        self.close_vectors()
        reached(Step.COMPLETED)
        return self.staged / NAMES.vectors(dim)

    def finish_documents(self) -> Path:
        """Write documents.sqlite anew: the same rows make the same bytes, however they came.

        The copy brings the rows in order; VACUUM INTO then lays the pages out from the rows alone.
        """
        path = self.staged / NAMES.documents

        def fill(copy: sqlite3.Connection) -> None:
            copy.execute("ATTACH ? AS work", (str(self.folder / NAMES.work),))
            with copy:
                copy.execute("INSERT INTO documents SELECT * FROM work.documents ORDER BY row")
                copy.execute("INSERT INTO texts SELECT * FROM work.texts ORDER BY row")
            copy.execute("DETACH work")

        write_documents(path, self.folder / NAMES.documents_copy, fill)
        return path

    def close_vectors(self) -> None:
        """Close the file of vectors."""
        if self._rows_file is not None:
            self._rows_file.close()
            self._rows_file = None

    def close(self) -> None:
        """Close everything; what is committed is safe."""
        self.close_vectors()
        super().close()
