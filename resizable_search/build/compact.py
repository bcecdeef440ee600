"""Compact an index: an update that writes its documents again as one part, without deleted rows.

The new index is made beside the old one and exchanged with it in one step. Rows keep their order, ids and
full vectors, bit for bit; the rest is derived again. A compaction that is stopped or dies leaves the index as
it was. One that dies after the exchange leaves the old index in `.building`; the next change deletes it.
"""

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resizable_search.build.ingest import AsStored
from resizable_search.build.journal import Journal
from resizable_search.build.update import Update
from resizable_search.build.workspace import lock_index
from resizable_search.corpora.base import Block, Corpus, Document, in_blocks
from resizable_search.embedders.base import PrecomputedEmbedder
from resizable_search.errors import RsearchError
from resizable_search.progress import SILENT, Progress
from resizable_search.specs import CorpusSpec, Json
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import read_manifest
from resizable_search.store.reader import IndexReader

AT_ONCE = 1000
"""Documents that are read at once."""


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

    Raises RsearchError if every document is deleted, BuildStateError if another build will replace the index,
    BuildStoppedError, IndexBusyError, and StorageError if there is no room.
    """
    with lock_index(folder, None, progress, stop) as workspace:
        old = new = read_manifest(workspace.folder)
        name, deleted = workspace.folder.name, old.rows - old.documents
        done = len(old.parts) > 1 or deleted > 0
        if done and not old.documents:
            raise RsearchError(f"every document of {name} is deleted: `remove {name}` deletes the index")
        if done:
            with (
                closing(IndexReader(workspace.folder)) as reader,
                closing(Journal(workspace.unfinished)) as journal,
            ):
                update = Update(
                    workspace=workspace,
                    corpus=StoredCorpus(reader),
                    embedder=PrecomputedEmbedder(width=old.full_dim),
                    kind="compact",
                    base=old,
                    matching=AsStored,
                )
                new = update.run(journal).manifest
        if deleted:  # logs and reports of earlier builds may name deleted documents
            state = workspace.home.state(name)
            for path in (*state.glob(f"{NAMES.log}*"), state / NAMES.report):
                path.unlink(missing_ok=True)
        before, after = (sum(entry.bytes for entry in one.all_files().values()) for one in (old, new))
        parts = len(old.parts)
        return Compaction(name, new.documents, parts, deleted, before, after, done, fitted=bool(old.files))


class StoredCorpus(Corpus):
    """The documents of an index that are not deleted, in order."""

    kind = "stored"

    def __init__(self, reader: IndexReader) -> None:
        self._reader = reader
        self.label = reader.folder.name

    def spec(self) -> CorpusSpec:
        """The kind alone."""
        return CorpusSpec(self.kind, {})

    def size_hint(self) -> int:
        """The number of documents."""
        return self._reader.manifest.documents

    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """The documents, from the first on."""
        return in_blocks(self._documents(), 0, AT_ONCE)

    def _documents(self) -> Iterator[Document]:
        rows = self._reader.live_rows()
        for some in np.array_split(rows, -(-len(rows) // AT_ONCE)):
            documents = self._reader.documents(some.tolist())
            for row in some.tolist():
                d = documents[row]
                yield Document(d.id, d.title, d.url, d.text, d.metadata)
