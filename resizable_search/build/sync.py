"""Have an index follow its corpus: embed what is new, drop what vanished, leave alone what is the same.

The whole corpus is read and each document compared with what the index holds, by hashes of its content.
A text that the index has under whatever id is never embedded again: its vector is copied. Where a limit
ends the reading, documents that were not met are not known to have vanished, and stay; so do those that
cannot be looked at now.
"""

import tempfile
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from resizable_search.build.building import Building
from resizable_search.build.ingest import as_pending, no_text, reasons_of
from resizable_search.build.pending import Pending
from resizable_search.build.report import Changes, Comparison
from resizable_search.build.update import Changing
from resizable_search.corpora.base import Block, Corpus
from resizable_search.embedders.base import Embedder, clean
from resizable_search.errors import CorpusError
from resizable_search.specs import Checkpoint, EmbedderSpec
from resizable_search.store.ids import ids_of
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import Manifest


@dataclass(slots=True, kw_only=True)
class _Sync(Changing):
    """One run of a sync."""

    corpus: Corpus
    read: int = 0
    exhausted: bool = True

    def compare(self, work: Pending) -> None:
        self.progress.stage("hashing", self.base.documents, "documents")
        with ids_of(self.folder, self.base) as parts:
            work.hold(parts)
        self.corpus.start()
        self.progress.stage("comparing", self.options.limit or self.corpus.size_hint(), "documents")
        strict, limit, met = self.options.on_bad_text == "fail", self.options.limit, 0
        blocks = cast("Generator[Block | None, None, None]", self.corpus.blocks_nowait())
        with closing(blocks):
            for block in blocks:
                self.go_on()
                if block is None:
                    continue
                room = len(block.documents) if limit is None else limit - self.read
                documents = block.documents[:room]
                taken = [as_pending(seq, d) for seq, d in enumerate(documents, self.read)]
                blank = [document for document in taken if not document.text.strip()]
                reasons = reasons_of(documents, self.read)
                if blank and strict:
                    raise no_text(blank[0], reasons)
                work.take_in([d for d in taken if d.text.strip()], blank, reasons)
                work.spare(clean(d.id) for d in documents if d.unread)
                self.read += len(taken)
                met += len(taken) - len(blank)
                self.progress.advance(len(taken))
                if room < len(block.documents) or self.read == limit:
                    self.exhausted = False
                    break
        if not met:
            raise CorpusError(
                f"{self.corpus.label} has no document with text now: {self.options.name} is left as it was; "
                f"look at the corpus, or delete the index with `rsearch remove {self.options.name}`"
            )

    def gone(self, work: Pending) -> list[int]:
        return work.gone(vanished=self.exhausted)

    def changes(self, work: Pending, gone: int) -> Changes:
        return work.changes(gone)

    def source(self, work: Pending) -> Checkpoint:
        return Checkpoint(read=self.read, exhausted=self.exhausted, left_out=work.count_left_out())


def sync_of(building: Building, embedder: Embedder, base: Manifest) -> Changing:
    """The sync that `building`, whose index is there already, comes to."""
    return _Sync(
        home=building.home,
        options=building.options,
        base=base,
        embedder=embedder,
        progress=building.progress,
        stop=building.stop,
        stack=building.stack,
        corpus=building.corpus,
    )


def compared(building: Building, embedder: Embedder, base: Manifest) -> Comparison:
    """What that sync would have to do; nothing is kept, and nothing written but to a temporary folder."""
    with tempfile.TemporaryDirectory() as folder, closing(Pending(Path(folder))) as work:
        run = sync_of(building, embedder, base)
        work.begin(EmbedderSpec.from_json(base.embedder).fingerprint)
        work.know_answers(building.building / NAMES.work)
        run.compare(work)
        changes = run.changes(work, len(run.gone(work)))
        read = run.source(work).read
        return Comparison(changes, read, work.to_ask, work.chars_to_ask, work.coming, work.bytes_coming)
