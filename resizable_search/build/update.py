"""One change of an index: documents that come, rows that go, all by one new manifest.

`sync` has an index follow its corpus, `addition` takes documents in; what differs is what they compare.
The rest is the same: texts that have no vector yet are embedded, all that comes becomes one further
part, and it is listed together with the new bitmaps of the parts that were there.
"""

import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resizable_search.build.embed import Embedding
from resizable_search.build.options import BuildOptions
from resizable_search.build.pending import Pending
from resizable_search.build.report import BuildReport, Changes, keep_report
from resizable_search.build.usage import BuildUsage
from resizable_search.build.workspace import discard
from resizable_search.embedders.base import Embedder
from resizable_search.engine import vectors
from resizable_search.engine.kernel_cache import warm_up
from resizable_search.errors import BuildStateError, BuildStoppedError, RsearchError, UsageError
from resizable_search.progress import LoggedProgress
from resizable_search.specs import Checkpoint, EmbedderSpec
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import Manifest
from resizable_search.store.reader import IndexReader
from resizable_search.store.writer import array_bytes, delete_rows, derive, place_part, sweep
from resizable_search.system import make_sure_of_room, storage_errors
from resizable_search.text import counted


@dataclass(slots=True, kw_only=True)
class Changing(ABC):
    """One run of a change of the index that `base` describes, under its lock."""

    home: Home
    options: BuildOptions
    base: Manifest
    embedder: Embedder
    progress: LoggedProgress
    stop: threading.Event
    stack: ExitStack
    account: BuildUsage = field(default_factory=BuildUsage)
    embedded: int = 0

    @abstractmethod
    def compare(self, work: Pending) -> None:
        """Find out which documents come (into `work`), reading what there is to read. Raises CorpusError."""

    @abstractmethod
    def gone(self, work: Pending) -> list[int]:
        """The rows that are to be deleted, once it is known which documents come."""

    @abstractmethod
    def changes(self, work: Pending, gone: int) -> Changes:
        """The change in figures; `gone` rows are to be deleted."""

    @abstractmethod
    def source(self, work: Pending) -> Checkpoint:
        """Where the corpus is left."""

    @property
    def folder(self) -> Path:
        """Where the index lies."""
        return self.home.index(self.options.name)

    @property
    def building(self) -> Path:
        """Where the unfinished change lies."""
        return self.home.building(self.options.name)

    def run(self) -> BuildReport:
        """Do it, or go on with it. Raises what `build.build` says."""
        work = self.stack.enter_context(closing(Pending(self.building)))
        work.begin(EmbedderSpec.from_json(self.base.embedder).fingerprint)
        self.account.open(work)
        try:
            with storage_errors(self.home.path):
                self.compare(work)
                self._embed(work)
                self.account.save(work)
                return self._finish(work)
        except KeyboardInterrupt:
            stopped = BuildStoppedError(f"stopped: {self._kept(work)}")
            self.progress.log(str(stopped))
            raise stopped from None
        except RsearchError as error:
            if not work.safe:
                work.close()
                discard(self.building)
            elif not isinstance(error, BuildStateError | UsageError):
                error.kept = self._kept(work)
            self.progress.log(f"ended: {error}")
            raise

    def _kept(self, work: Pending) -> str:
        try:
            self.account.save(work)
            safe = work.safe
        except sqlite3.Error:  # the disk that ended it may refuse this too
            return "nothing is lost"
        command = f": `{self.options.command}`" if self.options.command else ""
        return (
            f"{self.options.name} is as it was, {counted(safe, 'new text')} {'is' if safe == 1 else 'are'} "
            f"embedded and safe; the same command goes on{command}"
        )

    def go_on(self) -> None:
        """End here if that was asked for."""
        if self.stop.is_set():
            raise KeyboardInterrupt

    def _embed(self, work: Pending) -> None:
        missing = work.to_ask
        rows = work.coming
        if rows:
            make_sure_of_room(
                self.options.name,
                self.home.path,
                lambda rows: sum(array_bytes(rows, self.base.dims).values()),
                [lambda: rows],
            )
        if not missing:
            return
        self.embedder.check()
        self.progress.stage("embedding", missing, "texts")
        embedding = Embedding(
            self.embedder,
            work,
            _nothing_more(),
            self.progress,
            self.stop,
            concurrency=self.options.concurrency,
            requests_per_minute=self.options.requests_per_minute,
            strict=self.options.on_bad_text == "fail",
        )

        def count() -> None:
            self.embedded, self.account.spent = embedding.done, embedding.spent
            self.account.save(work)

        embedding.on_fold = count
        embedding.run()

    def _finish(self, work: Pending) -> BuildReport:
        gone, left_out = self.gone(work), work.left_out()
        changes = self.changes(work, len(gone))
        written = self.base
        if changes.any:
            written = self._write(work, gone)
        work.close()
        discard(self.building)
        if not changes.any:
            sweep(self.folder, self.base)  # what a run that died behind its manifest has left
            self.progress.log(f"nothing has changed: {counted(changes.unchanged, 'document')}")
        report = self._report(written, changes, left_out)
        if changes.any:
            warm_up(self.progress)
            keep_report(report, self.home.state(self.options.name) / NAMES.report, self.progress)
        return report

    def _write(self, work: Pending, gone: list[int]) -> Manifest:
        """The change, by one new manifest."""
        rows, full, base = work.coming, self.base.full_dim, self.base
        source = self.source(work)
        if not rows:
            return delete_rows(self.folder, gone, source=source)
        centred = bool(base.embedder["centred"])
        self.progress.stage("deriving", rows, "rows")
        with closing(IndexReader(self.folder)) as reader:
            work.gather(full, lambda raw: vectors.prepare(raw, full, centred=centred), reader.vectors)
        work.finish_vectors(full)
        derive(work.staged, base.dims, self.progress)
        self.progress.stage("writing", None, "files")
        work.finish_documents()
        return place_part(work.staged, self.folder, base, rows, gone, source=source)

    def _report(self, manifest: Manifest, changes: Changes, left_out: list[dict[str, Any]]) -> BuildReport:
        account = self.account
        return BuildReport(
            self.options.name,
            self.folder,
            manifest,
            self.embedded,
            left_out,
            account.spent,
            account.seconds,
            account.total,
            account.total_seconds,
            account.runs,
            changes,
        )


def _nothing_more() -> Generator[int, None, None]:
    """A corpus that has been read to its end."""
    yield from ()
