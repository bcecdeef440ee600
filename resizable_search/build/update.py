"""An update of an index, resumable by its journal.

`Update` is what a build and a change share: embedding, errors, the report. A `Change` compares documents
with those of an index, embeds texts that have no vector yet, writes all new documents as one further part,
and lists it in one new manifest together with the new bitmaps of the other parts. `Sync` is the change that
makes an index follow its corpus.
"""

import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from resizable_search.build.change_journal import ChangeJournal
from resizable_search.build.embed import Embedding
from resizable_search.build.ingest import Ingest, as_batch
from resizable_search.build.journal import Journal
from resizable_search.build.report import BuildReport, BuildUsage, Changes, write_report
from resizable_search.build.workspace import BuildOptions, discard, resuming
from resizable_search.corpora.base import Corpus, Document
from resizable_search.embedders.base import Embedder, clean
from resizable_search.engine import vectors
from resizable_search.engine.kernel_cache import compile_if_worth
from resizable_search.errors import (
    BuildStateError,
    BuildStoppedError,
    CorpusError,
    RsearchError,
    StorageError,
    UsageError,
)
from resizable_search.progress import LoggedProgress
from resizable_search.specs import Checkpoint, EmbedderSpec
from resizable_search.store.documents import ids_of
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import Manifest
from resizable_search.store.reader import IndexReader
from resizable_search.store.writer import add_part, array_bytes, delete_rows, derive, sweep
from resizable_search.system import make_sure_of_room, storage_errors
from resizable_search.text import counted


@dataclass(slots=True)
class Update(ABC):
    """One run that builds or changes an index, under its lock."""

    home: Home
    options: BuildOptions
    progress: LoggedProgress
    stop: threading.Event
    usage: BuildUsage = field(default_factory=BuildUsage)
    added: int = 0

    @property
    def folder(self) -> Path:
        """The folder of the index."""
        return self.home.index(self.options.name)

    @property
    def unfinished(self) -> Path:
        """The folder of the unfinished build or change."""
        return self.home.building(self.options.name)

    @abstractmethod
    def safe_work(self, journal: Journal) -> str:
        """How much of the work is safe, in words."""

    def holds_nothing(self, journal: Journal, error: RsearchError) -> bool:
        """Whether the journal of an update that ended with this error has nothing worth resuming."""
        return not journal.safe

    def check_stop(self) -> None:
        """Stop here if that was asked for."""
        if self.stop.is_set():
            raise KeyboardInterrupt

    @contextmanager
    def resumable(self, journal: Journal) -> Iterator[None]:
        """Let every error say what is safe and what resumes the work; discard a journal that holds nothing.

        Raises BuildStoppedError for an interrupt, and StorageError for what the disk refuses.
        """
        try:
            with storage_errors(self.home.path, again=lambda: resuming(self.home, self.options)):
                yield
        except KeyboardInterrupt:
            stopped = BuildStoppedError(f"stopped: {self._resume(journal)}")
            self.progress.log(str(stopped))
            raise stopped from None
        except RsearchError as error:
            worthless = False
            with suppress(sqlite3.Error):  # a broken journal is not deleted
                worthless = self.holds_nothing(journal, error)
            if worthless:
                journal.close()
                discard(self.unfinished)
            elif isinstance(error, StorageError):  # it has said what resumes the work
                error.resume = self._safe(journal)
            elif not isinstance(error, BuildStateError | UsageError):
                error.resume = self._resume(journal)
            self.progress.log(f"ended: {error}")
            raise

    def _safe(self, journal: Journal) -> str:
        try:
            self.usage.save(journal)
            return self.safe_work(journal)
        except sqlite3.Error:  # a disk that has ended the build may refuse this too
            return "nothing is lost"

    def _resume(self, journal: Journal) -> str:
        command = f": `{self.options.command}`" if self.options.command else ""
        return f"{self._safe(journal)}; {resuming(self.home, self.options)} resumes{command}"

    def embed(self, embedder: Embedder, journal: Journal, reading: Generator[int, None, None]) -> None:
        """Embed what waits in the journal, and what `reading` brings into it."""
        run = (self.progress, self.stop, self.options, self.usage)
        self.added = Embedding(embedder, journal, reading, *run).run()

    def write_part(self, journal: Journal, dims: Sequence[int]) -> None:
        """Write the files of an index or part from the journal's vectors and documents."""
        journal.finish_vectors(dims[-1])
        derive(journal.staged, dims, self.progress)
        self.progress.stage("writing", None, "files")
        journal.finish_documents()

    def report(
        self, manifest: Manifest, left_out: Sequence[dict[str, Any]] = (), changes: Changes | None = None
    ) -> BuildReport:
        """What this run did."""
        name, usage = self.options.name, self.usage
        cost = (usage.spent, usage.seconds, usage.total, usage.total_seconds, usage.runs)
        return BuildReport(name, self.folder, manifest, self.added, left_out, *cost, changes)

    def finish(self, report: BuildReport) -> BuildReport:
        """Write the report, and compile the kernels if the index is large enough: the last steps."""
        write_report(report, self.home.state(self.options.name) / NAMES.report, self.progress)
        manifest = report.manifest
        with suppress(KeyboardInterrupt):  # the index is complete: this ends only the compilation
            compile_if_worth(manifest.documents * manifest.full_dim, self.progress, self.stop)
        return report


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change does once its texts are embedded: the rows it deletes, and where it leaves the corpus."""

    deleted: list[int]
    changes: Changes
    source: Checkpoint


@dataclass(slots=True, kw_only=True)
class Change(Update):
    """One run of a change of the index that `base` describes."""

    base: Manifest
    embedder: Embedder

    @abstractmethod
    def compare(self, journal: ChangeJournal) -> None:
        """Read documents and put those into the journal that are new or changed. Raises CorpusError."""

    @abstractmethod
    def outcome(self, journal: ChangeJournal) -> Outcome:
        """What is to be done, after `compare`."""

    def run(self) -> BuildReport:
        """Make the change, or resume it. Raises what `build` says."""
        with closing(ChangeJournal(self.unfinished)) as journal:
            journal.begin(EmbedderSpec.from_json(self.base.embedder).fingerprint)
            self.usage.open(journal)
            with self.resumable(journal):
                self.compare(journal)
                rows, (missing, _) = journal.count_incoming(), journal.to_embed
                if rows:
                    needed = sum(array_bytes(rows, self.base.dims).values())
                    make_sure_of_room(self.options.name, needed, self.home.path)
                if missing:
                    self.embedder.check()
                    self.progress.stage("embedding", missing, "texts")
                    self.embed(self.embedder, journal, (0 for _ in ()))  # all is read
                self.usage.save(journal)
                return self._finish(journal)

    def safe_work(self, journal: Journal) -> str:
        """How many new texts are safe."""
        safe = journal.safe
        is_are = "is" if safe == 1 else "are"
        return f"{self.options.name} is as it was, {counted(safe, 'new text')} {is_are} embedded and safe"

    def _finish(self, journal: ChangeJournal) -> BuildReport:
        outcome, left_out = self.outcome(journal), journal.left_out()
        changes = outcome.changes
        written = self._write(journal, outcome) if changes.any else self.base
        journal.close()
        discard(self.unfinished)
        report = self.report(written, left_out, changes)
        if changes.any:
            return self.finish(report)
        sweep(self.folder, self.base)  # the rest of a run that died after it wrote its manifest
        self.progress.log(f"nothing has changed: {counted(changes.unchanged, 'document')}")
        return report

    def _write(self, journal: ChangeJournal, outcome: Outcome) -> Manifest:
        rows, full, base = journal.count_incoming(), self.base.full_dim, self.base
        if not rows:
            return delete_rows(self.folder, outcome.deleted, source=outcome.source)
        centred = bool(base.embedder["centred"])
        self.progress.stage("deriving", rows, "rows")
        with closing(IndexReader(self.folder)) as reader:
            journal.gather(full, lambda raw: vectors.prepare(raw, full, centred=centred), reader.vectors)
        self.write_part(journal, base.dims)
        return add_part(journal.staged, self.folder, base, rows, outcome.deleted, source=outcome.source)


@dataclass(slots=True, kw_only=True)
class Sync(Change):
    """A change that makes an index follow its corpus.

    The whole corpus is read, and each document compared with the index by hashes of its content. A text that
    the index has, under whatever id, is not embedded again: its vector is copied. Documents that were not
    read because of a limit, or cannot be read now, stay.
    """

    corpus: Corpus
    read: Checkpoint = Checkpoint()

    def compare(self, journal: ChangeJournal) -> None:
        """Read and compare the corpus. Raises CorpusError if no document has a text."""
        self.progress.stage("hashing", self.base.documents, "documents")
        with ids_of(self.folder, self.base) as parts:
            journal.hold(parts)
        self.corpus.start()
        options = self.options
        self.progress.stage("comparing", options.limit or self.corpus.size_hint(), "documents")
        strict = options.on_bad_text == "fail"
        ingest = _Comparison(self.corpus, journal, Checkpoint(), options.limit, strict)
        with closing(ingest.read()) as reading:
            for rows in reading:
                self.check_stop()
                self.progress.advance(rows)
        self.read = ingest.source
        if not journal.has_seen_text:
            raise CorpusError(
                f"{self.corpus.label} has no document with text now: {options.name} is left as it was; "
                f"look at the corpus, or delete the index with `remove {options.name}`"
            )

    def outcome(self, journal: ChangeJournal) -> Outcome:
        """Delete rows of documents that have changed or vanished."""
        read = self.read
        deleted = journal.gone(vanished=read.exhausted)
        source = Checkpoint(read=read.read, exhausted=read.exhausted, left_out=journal.count_left_out())
        return Outcome(deleted, journal.changes(len(deleted)), source)


@dataclass(slots=True)
class _Comparison(Ingest):
    """Reads a corpus from its beginning and compares it with the index."""

    journal: ChangeJournal
    last: Checkpoint = Checkpoint()

    @property
    def source(self) -> Checkpoint:
        return self.last

    def end(self) -> None:
        self.last = replace(self.last, exhausted=True)

    def take(self, documents: Sequence[Document], first: int, after: Checkpoint) -> None:
        self.journal.compare(as_batch(documents, first, self.strict))
        self.journal.spare(clean(document.id) for document in documents if document.unread)
        self.last = after
