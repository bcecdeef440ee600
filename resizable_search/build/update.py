"""An update of an index: documents and their vectors in, rows out, one new manifest.

A build is an update of an empty index. It reads documents into the journal, embeds the texts that have no
vector yet, writes all rows as one part, and puts that in place: as a new index, or as a further part.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from resizable_search.build.embed import Embedding
from resizable_search.build.ingest import Ingest, Match, as_new, hash_stored
from resizable_search.build.journal import NO_TEXT, Journal
from resizable_search.build.report import BuildReport, BuildUsage, Changes
from resizable_search.build.workspace import Workspace, choose_dims, made_of, refuse_differences
from resizable_search.build.write import compacted_manifest, new_manifest, write_part
from resizable_search.corpora.base import Corpus
from resizable_search.embedders.base import Embedder
from resizable_search.errors import (
    BuildStateError,
    BuildStoppedError,
    CorpusError,
    RsearchError,
    ShrinkError,
    StorageError,
    UsageError,
)
from resizable_search.specs import Checkpoint, EmbedderSpec
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import Manifest
from resizable_search.store.reader import IndexReader
from resizable_search.store.writer import array_bytes, commit, mean_of_index, replace_folder
from resizable_search.system import free_bytes, make_sure_of_room, storage_errors
from resizable_search.text import counted


@dataclass(slots=True)
class Update:
    """One run of an update of an index."""

    workspace: Workspace
    corpus: Corpus
    embedder: Embedder
    kind: Literal["build", "follow", "add", "compact"] = "build"
    """A build reads the corpus on from where the base ends; the others read all of it each time."""
    base: Manifest | None = None  # of the index; None: a new one
    match: Match = as_new  # compares the corpus with the base
    limit: int | None = None  # of the corpus's rows
    may_shrink: bool = True  # more than half of the documents may go
    journal: Journal = field(init=False)
    usage: BuildUsage = field(init=False)

    @property
    def fits(self) -> bool:
        """Whether the embedder is fitted to this corpus first."""
        return self.embedder.needs_fit and self.base is None

    @property
    def start(self) -> Checkpoint:
        """Where reading the corpus begins."""
        return self.base.source if self.base and self.kind == "build" else Checkpoint()

    @property
    def dims(self) -> tuple[int, ...]:
        """The dimensions that are stored, ascending; the most of them, before a fitted embedder is fitted."""
        if self.base is not None:
            return self.base.dims
        return choose_dims(self.workspace.options.dims, self.embedder.widest or self.embedder.spec.width)

    @property
    def spec(self) -> EmbedderSpec:
        """The embedder of the rows."""
        return EmbedderSpec.from_json(self.base.embedder) if self.base else self.embedder.spec

    def request(self) -> dict[str, Any]:
        """What must be the same for an unfinished update to be resumed, by name."""
        if self.kind != "build":
            return {"kind": "change"}  # all documents are read and compared in each run
        dims = self.workspace.options.dims
        return {
            **made_of(self.corpus, self.embedder),
            "dims": None if dims is None else sorted(dims),
            "extends rows read": None if self.base is None else self.base.source.read,
        }

    def run(self) -> BuildReport:
        """Make the update, or resume it. Raises what `build` says."""
        with closing(Journal(self.workspace.unfinished)) as self.journal:
            journal = self.journal
            self.usage = usage = BuildUsage(journal)
            with self._resumable():
                self._begin()
                safe = journal.safe
                with self._comparing() as ingest:
                    if self.kind != "build" or self.fits or self.corpus.has_vectors:
                        self._read_all(ingest)
                    if self.kind != "build":
                        safe = journal.safe
                    self._outcome(ingest)  # refuses to delete too much
                    if not self.corpus.has_vectors:
                        self._embed(ingest)
                    journal.set(spent=usage.to_json())
                    added, left_out, read = journal.safe - safe, journal.left_out(), ingest.source.read
                    deleted, changes = self._outcome(ingest)
                    manifest = self._put_in_place(ingest, deleted)
            if journal.get("is_shared") and (left := journal.drop_used()):
                others = f"{counted(left, 'text')} that another command has embedded are kept"
                self.workspace.log.note(f"{others}: its next run uses them")
            else:
                journal.discard()
        name, folder = self.workspace.options.name, self.workspace.folder
        cost = usage.spent, usage.total, usage.runs
        return BuildReport(name, folder, manifest, added, left_out, *cost, changes, read)

    def compare(self, journal: Journal) -> tuple[Changes | None, int]:
        """What would change, and how many rows of the corpus were read, into this journal; embeds nothing."""
        self.journal = journal
        self._begin()
        with self._comparing() as ingest:
            self._read_all(ingest)
            return self._outcome(ingest)[1], ingest.source.read

    def _begin(self) -> None:
        """Begin the update, or make sure that what was begun can be resumed. Raises BuildStateError."""
        journal, options, asked = self.journal, self.workspace.options, self.request()
        begun, stream = journal.get("request"), journal.get("stream")
        space = None if self.fits else list(self.spec.space)
        if begun is not None and begun != asked:
            if self.base is None:
                refuse_differences(options, "was begun", asked, begun)
            if journal.get("replaces") or journal.get("space") != space:
                other = f"another build of {options.name} is not finished"
                raise BuildStateError(f"{other}: give its command again first, or begin again with `restart`")
            journal.set(is_shared=True)
        if begun != asked or self.kind != "build":
            journal.read_anew(request=asked, space=space, replaces=options.restart)
        elif stream is not None and not self.corpus.is_unchanged(stream["position"]):
            self.workspace.log.note(f"reading {self.corpus.label} again: only what is new is embedded")
            journal.read_anew(keeps_answers=not self.fits, fitted=False)
        else:
            self.workspace.log.note(f"resuming {options.name}: {self._are_safe(journal.safe)} already")

    @contextmanager
    def _comparing(self) -> Iterator[Ingest]:
        """What reads the corpus and compares it with the base, which is open meanwhile."""
        folder, reader = self.workspace.folder, None
        with ExitStack() as stack:
            if self.base is not None:
                if self.embedder.needs_fit:
                    self.embedder = type(self.embedder).load(folder / NAMES.embedder)
                reader = stack.enter_context(closing(IndexReader(folder)))
                if self.kind == "follow":
                    self.workspace.log.stage("hashing", self.base.documents, "documents")
                    hash_stored(self.journal, reader, self.corpus.embeds_headings)
            keeps_blank = self.kind == "compact" or self.corpus.has_vectors
            on_blank = "keep" if keeps_blank else self.workspace.options.on_bad_text
            ingest = Ingest(self.corpus, self.journal, self.match, reader, self.start, self.limit, on_blank)
            if not ingest.is_done:
                self.corpus.start()  # it may list files, which is a stage of its own
            yield ingest

    def _read_all(self, ingest: Ingest) -> None:
        log, goal = self.workspace.log, self._goal()
        if self.corpus.has_vectors:
            self._make_sure_of_room(goal, goal or 0)
        log.stage({"follow": "comparing", "compact": "copying"}.get(self.kind, "reading"), goal, "documents")
        log.advance(ingest.source.read - self.start.read)
        with closing(ingest.read()) as reading:
            for rows in reading:
                log.advance(rows)
                self.workspace.check_stop()
        self._check_not_empty(ingest)

    def _goal(self) -> int | None:
        goal = self.limit or self.corpus.size_hint()
        return goal and goal - self.start.read

    def _check_not_empty(self, ingest: Ingest) -> None:
        journal, label, name = self.journal, self.corpus.label, self.workspace.options.name
        is_extension = self.base is not None and self.kind == "build"
        if is_extension or journal.rows or journal.count("unchanged"):
            return
        remedy = "there is nothing to index; choose another corpus or a larger `limit`"
        if self.base is not None:
            remedy = f"{name} is left as it was; look at the corpus, or delete the index with `remove {name}`"
        wrong = next((one for one in journal.left_out() if one["reason"] != NO_TEXT), None)
        why = f" ({wrong['id']}: {wrong['reason']})" if wrong else ""
        read = f"among the {ingest.source.read:,} that were read{why}"
        raise CorpusError(f"{label} has no document with text {read}: {remedy}")

    def _embed(self, ingest: Ingest) -> None:
        """Embed the texts that have no vector yet, while the rest of the corpus is read."""
        journal, log = self.journal, self.workspace.log
        goal, safe = journal.rows if ingest.is_done else self._goal(), journal.safe
        if not self.fits:
            self._make_sure_of_room(goal, safe)
        else:
            state = journal.staged / NAMES.embedder
            if not journal.get("fitted"):
                log.stage("fitting", None, "documents")
                self.embedder.fit(journal.texts(), state)
                journal.set(fitted=True)
            self.embedder = type(self.embedder).load(state)
        if self.kind != "build":
            if safe == goal:
                return
            self.embedder.check()
        log.stage("embedding", goal, "documents")
        log.advance(safe)
        Embedding(self.embedder, journal, ingest.read(), self.workspace, self.usage).run()
        self._check_not_empty(ingest)

    def _make_sure_of_room(self, rows: int | None, safe: int) -> None:
        """Refuse to begin what the disk cannot hold: `rows`, `safe` of them answered. Raises StorageError."""

        def needed(rows: int) -> int:
            return sum(array_bytes(rows, self.dims).values()) + 4 * self.dims[-1] * max(0, rows - safe)

        home, what = self.workspace.home.path, self.workspace.options.name
        if rows and needed(rows) > free_bytes(home) and (size := self.corpus.size_hint()) is not None:
            rows = min(rows, size - self.start.read)
        if rows:
            make_sure_of_room(f"compacting {what}" if self.kind == "compact" else what, needed(rows), home)

    def _outcome(self, ingest: Ingest) -> tuple[list[int], Changes | None]:
        """The rows of the base that go, and what is done to its documents. Raises ShrinkError."""
        if self.base is None or self.kind not in ("follow", "add"):
            return [], None
        deleted, changes = ingest.outcome(self.base.documents)
        if not self.may_shrink and 2 * changes.removed > self.base.documents:
            what = f"{changes.removed:,} of the {self.base.documents:,} documents"
            what += f" of {self.workspace.options.name}, which {self.base.followed} no longer has"
            raise ShrinkError(f"delete {what}{changes.exclusions}")
        return deleted, changes

    def _put_in_place(self, ingest: Ingest, deleted: Sequence[int]) -> Manifest:
        journal, workspace, base, spec = self.journal, self.workspace, self.base, self.spec
        source, reader, left_out = ingest.source, ingest.reader, journal.count("left_out")
        changes: dict[str, Any] = {}
        if self.kind == "build":
            source = replace(source, left_out=self.start.left_out + left_out)
            changes["source"] = source
        elif self.kind == "follow":  # the corpus may be that of another Python
            source = Checkpoint(read=source.read, exhausted=source.exhausted, left_out=left_out)
            changes = {"source": source, "corpus": self.corpus.spec().to_json(), "label": self.corpus.label}
        if base is not None and not journal.rows:
            is_same = self.kind != "build" and changes.get("corpus", base.corpus) == base.corpus
            return base if is_same and not deleted else commit(workspace.folder, base, deleted, **changes)
        dims = base.dims if base else choose_dims(workspace.options.dims, spec.width)
        extended = None if self.kind == "compact" else base
        mean = mean_of_index(workspace.folder, extended) if extended else None
        part, staged = write_part(ingest, spec, dims, workspace, mean), journal.staged
        if extended is not None:
            if self.kind == "build":  # the same model, perhaps at another address
                changes["embedder"] = self.embedder.spec.to_json()
            path = f"{NAMES.parts}/{len(extended.parts) + 1}"
            replace_folder(staged, workspace.folder / path)  # readers see it once the manifest lists it
            return commit(workspace.folder, extended, deleted, replace(part, path=path), **changes)
        if reader is not None:
            manifest = compacted_manifest(staged, part, reader)
        else:
            workspace.note_dims(spec.width, fitted=self.embedder.needs_fit)
            manifest = new_manifest(staged, part, dims, self.corpus, spec, source)
        written = manifest.write(staged)
        replace_folder(staged, workspace.folder)
        return written

    @contextmanager
    def _resumable(self) -> Iterator[None]:
        """Let every error say what is safe and what resumes the work; discard a journal without content."""
        workspace = self.workspace
        try:
            with storage_errors(workspace.home.path, again=lambda: f"{workspace.same_command} resumes"):
                yield
        except KeyboardInterrupt:
            raise self._ended(BuildStoppedError(f"stopped: {self._resume()}")) from None
        except RsearchError as error:
            self._ended(error)
            raise

    def _ended(self, error: RsearchError) -> RsearchError:
        """Say what is safe, and discard a journal that has nothing to resume, unless it undoes a restart."""
        journal, is_worthless = self.journal, False
        with suppress(sqlite3.Error):  # a broken journal is not deleted
            is_worthless = not journal.count("answers") and not (self.kind == "build" and journal.rows)
            if isinstance(error, StorageError | BuildStoppedError):
                is_worthless = is_worthless and not journal.get("replaces")
            elif self.corpus.has_vectors and isinstance(error, CorpusError):
                is_worthless = True  # the same files would fail again, and corrected ones are others
        if is_worthless:
            journal.discard()
        elif isinstance(error, StorageError):  # it has said what resumes the work
            error.resume = self._safe()
        elif not isinstance(error, BuildStateError | BuildStoppedError | UsageError):
            error.resume = self._resume()
        self.workspace.log.log(f"ended: {error}")
        return error

    def _are_safe(self, count: int, what: str = "document") -> str:
        verb = "stored" if self.corpus.has_vectors else "embedded"
        return f"{counted(count, what)} {'is' if count == 1 else 'are'} {verb}"

    def _safe(self) -> str:
        try:
            self.journal.set(spent=self.usage.to_json())
            safe = self.journal.safe if self.kind == "build" else self.journal.count("answers")
        except sqlite3.Error:  # a disk that has ended the build may refuse this too
            return "nothing is lost"
        if self.kind != "build":
            return f"{self.workspace.options.name} is as it was, {self._are_safe(safe, 'new text')} and safe"
        return f"{self._are_safe(safe + (self.base.rows if self.base else 0))} and safe"

    def _resume(self) -> str:
        command = self.workspace.options.command
        resumes = f"{self._safe()}; {self.workspace.same_command} resumes"
        return f"{resumes}: `{command}`" if command else resumes
