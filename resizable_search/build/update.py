"""An update of an index: documents and their vectors in, rows out, one new manifest.

A build is an update of an empty index. What an update does is said by its fields; how far it is, by its
journal. It reads documents into the journal, embeds the texts that have no vector yet, writes all rows as one
part, and puts the part in place: as a new index, or as a further part beside deletions in earlier ones.
"""

import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from resizable_search.build.embed import Embedding
from resizable_search.build.ingest import Ingest, Matching, NewIds
from resizable_search.build.journal import NO_TEXT, Journal
from resizable_search.build.report import BuildReport, BuildUsage, Changes
from resizable_search.build.workspace import CHANGE, STANDARD_DIMS, Workspace, choose_dims, refuse_differences
from resizable_search.build.write import (
    compacted_manifest,
    new_manifest,
    rows_of_answers,
    rows_of_file,
    write_new_part,
)
from resizable_search.corpora.base import Corpus
from resizable_search.corpora.vectors import VectorsCorpus
from resizable_search.embedders.base import Embedder
from resizable_search.errors import (
    BuildStateError,
    BuildStoppedError,
    CorpusError,
    RsearchError,
    StorageError,
    UsageError,
)
from resizable_search.specs import Checkpoint, EmbedderSpec
from resizable_search.store.documents import PartIds, ids_of
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import Manifest
from resizable_search.store.reader import IndexReader
from resizable_search.store.writer import (
    add_part,
    array_bytes,
    delete_rows,
    replace_folder,
    sweep,
)
from resizable_search.system import free_bytes, make_sure_of_room, storage_errors
from resizable_search.text import counted

MakeMatching = Callable[[Journal, Sequence[PartIds], Any], Matching]
"""Makes the matching of an update from its journal and the index that it changes."""


@dataclass(slots=True, kw_only=True)
class Update:
    """One run of an update of the index `base` (None: a new one).

    `kind`: "build" adds rows, reading the corpus on from `start`. The others read it anew in each run and
    compare it with the base: "follow" the corpus, "add" to the index, or "compact" it. `matching` compares
    the documents. `request`: what must be the same for an unfinished build to be resumed, by name. `limit`
    counts the rows of the corpus. `vectors_from`: the file that holds the vectors; None: the embedder makes
    them.
    """

    workspace: Workspace
    corpus: Corpus
    embedder: Embedder
    kind: Literal["build", "follow", "add", "compact"] = "build"
    base: Manifest | None = None
    matching: MakeMatching = NewIds
    request: Callable[[], Mapping[str, Any]] = CHANGE.copy
    start: Checkpoint = Checkpoint()
    limit: int | None = None
    vectors_from: VectorsCorpus | None = None
    usage: BuildUsage = field(default_factory=BuildUsage)

    @property
    def is_build(self) -> bool:
        """Whether it only adds rows."""
        return self.kind == "build"

    @property
    def fits(self) -> bool:
        """Whether the embedder is fitted to this corpus first."""
        return self.embedder.needs_fit and self.base is None

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

    def run(self, journal: Journal) -> BuildReport:
        """Make the update, or resume it. Raises what `build` says."""
        self.usage.open(journal)
        with self._resumable(journal), ExitStack() as stack:
            self._begin(journal)
            safe = journal.safe
            ingest, matching, reader = self._open(journal, stack)
            reading = ingest.read()
            if not self.is_build or self.fits or self.vectors_from is not None:
                self._read_all(ingest)
                reading = (0 for _ in ())
            if not self.is_build:
                safe = journal.safe
            if self.vectors_from is None:
                self._embed(journal, reading, ingest)
            self.usage.save(journal)
            added, left_out = journal.safe - safe, journal.left_out()
            deleted, changes = matching.outcome(exhausted=ingest.source.exhausted)
            manifest = self._put_in_place(journal, reader, deleted, self._source(ingest))
        self._end(journal)
        name, usage = self.workspace.options.name, self.usage
        cost = (usage.spent, usage.seconds, usage.total, usage.total_seconds, usage.runs)
        return BuildReport(name, self.workspace.folder, manifest, added, left_out, *cost, changes)

    def compare(self, journal: Journal) -> tuple[Changes | None, int]:
        """What would change, and how many documents the corpus has; reads it, and embeds nothing."""
        with ExitStack() as stack:
            self._begin(journal)
            ingest, matching, _ = self._open(journal, stack)
            self._read_all(ingest)
            return matching.outcome(exhausted=ingest.source.exhausted)[1], ingest.source.read

    # -- the beginning

    def _begin(self, journal: Journal) -> None:
        """Begin the update, or make sure that what was begun can be resumed. Raises BuildStateError."""
        options, begun, asked = self.workspace.options, journal.get("request"), self.request()
        space = None if self.fits else list(self.spec.space)
        if begun is not None and begun != asked:
            if self.base is None:
                refuse_differences(options.name, "was begun", asked, begun)
            if journal.get("replaces") or journal.get("space") != space:
                raise BuildStateError(
                    f"another build of {options.name} is not finished: give its command again first, "
                    "or begin again with `restart`"
                )
            journal.set(is_shared=True)
        if begun != asked or not self.is_build:
            journal.read_anew(request=asked, space=space, replaces=options.restart)
        elif self._is_outdated(journal):
            self.workspace.log.note(
                f"{self.corpus.label} has changed since it was read: only what is new is embedded"
            )
            journal.read_anew(fitted=False)
        else:
            safe = journal.safe
            verb = f"{'is' if safe == 1 else 'are'} {self._verb}"
            self.workspace.log.note(f"resuming {options.name}: {counted(safe, 'document')} {verb} already")

    @property
    def _verb(self) -> str:
        return "embedded" if self.vectors_from is None else "stored"

    def _is_outdated(self, journal: Journal) -> bool:
        """Whether a mutable corpus has changed since an earlier run read it."""
        stream = journal.get("stream")
        if not self.corpus.is_mutable or not stream or stream["position"] is None:
            return False
        if not stream["exhausted"]:
            self.corpus.start()  # before the next stage is shown, since it may take a while
        return not self.corpus.is_unchanged(stream["position"])

    def _open(self, journal: Journal, stack: ExitStack) -> tuple[Ingest, Matching, IndexReader | None]:
        """What reads the corpus, and what compares it with the base."""
        folder, options, reader = self.workspace.folder, self.workspace.options, None
        parts: list[PartIds] = []
        if self.base is not None:
            if self.embedder.needs_fit:
                self.embedder = type(self.embedder).load(folder / NAMES.embedder)
            parts = stack.enter_context(ids_of(folder, self.base))
            reader = stack.enter_context(closing(IndexReader(folder)))
        if self.kind == "follow" and self.base is not None:
            self.workspace.log.stage("hashing", self.base.documents, "documents")
        matching = self.matching(journal, parts, reader)
        strict = options.on_bad_text == "fail"
        keeps_blank = self.kind == "compact" or self.vectors_from is not None
        ingest = Ingest(self.corpus, journal, matching, self.start, self.limit, strict, keeps_blank)
        ingest.check_counts()
        return ingest, matching, reader

    # -- reading and embedding

    def _read_all(self, ingest: Ingest) -> None:
        """Read the whole corpus. Raises CorpusError if no document has a text."""
        journal, goal = ingest.journal, self._goal()
        if self.vectors_from is not None:
            self._make_sure_of_room(goal, 0)
        if self.kind == "follow":
            self.corpus.start()
        stage = {"follow": "comparing", "compact": "copying"}.get(self.kind, "reading")
        self.workspace.log.stage(stage, goal, "documents")
        self.workspace.log.advance(ingest.source.read - self.start.read)
        with closing(ingest.read()) as reading:
            for rows in reading:
                self.workspace.log.advance(rows)
                self.workspace.check_stop()
        if not journal.rows + journal.count("unchanged") and (self.base is None or not self.is_build):
            raise self._nothing_to_embed(ingest)

    def _goal(self) -> int | None:
        """How many documents there will be beside those of the base, as far as that is known."""
        goal = self.limit or self.corpus.size_hint()
        return goal and goal - self.start.read

    def _nothing_to_embed(self, ingest: Ingest) -> CorpusError:
        """The error for a corpus without text."""
        label, name = self.corpus.label, self.workspace.options.name
        if self.base is not None:
            return CorpusError(
                f"{label} has no document with text now: {name} is left as it was; "
                f"look at the corpus, or delete the index with `remove {name}`"
            )
        wrong = next((one for one in ingest.journal.left_out() if one["reason"] != NO_TEXT), None)
        why = f" ({wrong['id']}: {wrong['reason']})" if wrong else ""
        return CorpusError(
            f"{label} has no document with text among the {ingest.source.read:,} that were read"
            f"{why}: there is nothing to index; choose another corpus or a larger `limit`"
        )

    def _fit(self, journal: Journal) -> None:
        """Fit the embedder to the whole corpus, once."""
        state = journal.staged / NAMES.embedder
        if not journal.get("fitted"):
            journal.forget_answers()  # of an earlier fit
            self.workspace.log.stage("fitting", None, "documents")
            with closing(journal.texts()) as texts:
                self.embedder.fit(texts, state)
            journal.set(fitted=True)
        self.embedder = type(self.embedder).load(state)

    def _embed(self, journal: Journal, reading: Generator[int, None, None], ingest: Ingest) -> None:
        """Embed the texts that have no vector yet, and those that `reading` brings."""
        if self.fits:
            self._fit(journal)
        is_read = not self.is_build or self.fits or ingest.is_done
        goal, safe = journal.rows if is_read else self._goal(), journal.safe
        if not self.fits:
            self._make_sure_of_room(goal, safe)
        if not self.is_build and safe == goal:
            return
        if not self.is_build:
            self.embedder.check()
        self.workspace.log.stage("embedding", goal, "documents")
        self.workspace.log.advance(safe)
        Embedding(self.embedder, journal, reading, self.workspace, self.usage).run()
        if not journal.rows and self.base is None:
            raise self._nothing_to_embed(ingest)

    def _make_sure_of_room(self, rows: int | None, safe: int) -> None:
        """Refuse to begin what the disk cannot hold: `rows`, `safe` of them answered. Raises StorageError."""

        def needed(rows: int) -> int:
            answers = 0 if self.vectors_from is not None else rows - min(rows, safe)
            return sum(array_bytes(rows, self.dims).values()) + 4 * self.dims[-1] * answers

        home, count = self.workspace.home.path, self.corpus.size_hint
        if rows and needed(rows) > free_bytes(home) and (size := count()) is not None:
            rows = min(rows, size - self.start.read)
        if rows:
            what = self.workspace.options.name
            make_sure_of_room(f"compacting {what}" if self.kind == "compact" else what, needed(rows), home)

    # -- the end

    def _source(self, ingest: Ingest) -> Checkpoint:
        """How far the corpus of the index has been read."""
        source, left_out = ingest.source, ingest.journal.count("left_out")
        if self.is_build or self.base is None:
            return replace(source, left_out=self.start.left_out + left_out)
        if self.kind == "follow":
            return Checkpoint(read=source.read, exhausted=source.exhausted, left_out=left_out)
        return self.base.source

    def _put_in_place(
        self, journal: Journal, reader: IndexReader | None, deleted: Sequence[int], source: Checkpoint
    ) -> Manifest:
        """Write what has changed, and make it the index."""
        workspace, base, spec = self.workspace, self.base, self.spec
        if base is not None and not journal.rows:
            if deleted:
                return delete_rows(workspace.folder, deleted, source=source)
            sweep(workspace.folder, base)  # the rest of a run that died after it wrote its manifest
            return base.next_generation(source=source).write(workspace.folder) if self.is_build else base
        dims = base.dims if base else choose_dims(workspace.options.dims, spec.width)
        if self.vectors_from is None:
            rows = rows_of_answers(journal, spec, reader)
        else:
            rows = rows_of_file(journal, spec, self.vectors_from, self.start.read, workspace.log)
        part, staged = write_new_part(journal, dims, rows, workspace), journal.staged
        if base is not None and self.kind != "compact":
            changes: dict[str, Any] = {"source": source}
            if self.is_build:  # the same model, perhaps at another address
                changes["embedder"] = self.embedder.spec.to_json()
            return add_part(staged, workspace.folder, base, part, deleted, **changes)
        if base is not None and reader is not None:
            manifest = compacted_manifest(staged, part, base, reader)
        else:
            self._note_dims()
            manifest = new_manifest(staged, part, dims, self.corpus, spec, source)
        written = manifest.write(staged)
        replace_folder(staged, workspace.folder, journal.folder / NAMES.replaced)
        return written

    def _note_dims(self) -> None:
        """Say why the dimensions that are stored are not those that were asked for."""
        width, asked = self.spec.width, self.workspace.options.dims
        most = max(asked or STANDARD_DIMS[:5])
        if self.embedder.needs_fit and most > width:
            self.workspace.log.note(
                f"the corpus gives {width} dimensions, not {most}: its documents or words are few"
            )
        elif asked and width not in asked:
            self.workspace.log.note(f"{width} is stored too: the full dimension always is")

    def _end(self, journal: Journal) -> None:
        """Delete the journal, except answers that an interrupted command of another kind has paid for."""
        left = journal.drop_used() if journal.get("is_shared") else 0
        journal.close()
        if left:
            self.workspace.log.note(
                f"{counted(left, 'text')} that another command has embedded are kept: its next run uses them"
            )
        else:
            self.workspace.discard()

    # -- errors

    @contextmanager
    def _resumable(self, journal: Journal) -> Iterator[None]:
        """Let every error say what is safe and what resumes the work; discard a journal that holds nothing.

        Raises BuildStoppedError for an interrupt, and StorageError for what the disk refuses.
        """
        workspace = self.workspace
        try:
            with storage_errors(workspace.home.path, again=lambda: workspace.same_command):
                yield
        except KeyboardInterrupt:
            stopped = BuildStoppedError(f"stopped: {self._resume(journal)}")
            if not self.is_build and not journal.count("answers"):
                journal.close()
                workspace.discard()
            workspace.log.log(str(stopped))
            raise stopped from None
        except RsearchError as error:
            is_worthless = False
            with suppress(sqlite3.Error):  # a broken journal is not deleted
                is_worthless = self._is_worthless(journal, error)
            if is_worthless:
                journal.close()
                workspace.discard()
            elif isinstance(error, StorageError):  # it has said what resumes the work
                error.resume = self._safe(journal)
            elif not isinstance(error, BuildStateError | UsageError):
                error.resume = self._resume(journal)
            workspace.log.log(f"ended: {error}")
            raise

    def _is_worthless(self, journal: Journal, error: RsearchError) -> bool:
        """Whether the journal has nothing to resume; a disk's refusal does not undo a restart."""
        if isinstance(error, StorageError) and journal.get("replaces"):
            return False
        if self.vectors_from is not None and isinstance(error, CorpusError):
            return True  # the same files would fail at the same row, and corrected ones are other files
        return not journal.count("answers") and not (self.is_build and journal.rows)

    def _safe(self, journal: Journal) -> str:
        """How much of the work is safe, in words."""
        try:
            self.usage.save(journal)
            safe = journal.safe if self.is_build else journal.count("answers")
        except sqlite3.Error:  # a disk that has ended the build may refuse this too
            return "nothing is lost"
        if not self.is_build:
            is_are = "is" if safe == 1 else "are"
            name = self.workspace.options.name
            return f"{name} is as it was, {counted(safe, 'new text')} {is_are} embedded and safe"
        rows = safe + (self.base.rows if self.base else 0)
        return f"{counted(rows, 'document')} {'is' if rows == 1 else 'are'} {self._verb} and safe"

    def _resume(self, journal: Journal) -> str:
        workspace = self.workspace
        command = f": `{workspace.options.command}`" if workspace.options.command else ""
        return f"{self._safe(journal)}; {workspace.same_command} resumes{command}"
