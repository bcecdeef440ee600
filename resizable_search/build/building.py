"""What every build does, wherever its rows come from: resume, extend, write, and put in place.

A `Building` works on an unfinished build beside the indexes (`index.work`) and goes on with the one
that the same request began. `build` fills it with texts that are embedded, `adopt` with vectors that
there are already; the rest is the same: small dimensions are derived, files measured, the manifest
written, and the folder renamed into its place. A finished index of the same corpus and embedder is
extended by a further part when more rows are asked for.

What one kind of build says of itself, and another says otherwise: its rows, their embedder, their width.

`building` does the rest, which is the same for all.
"""

import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from resizable_search.build.ingest import Ingest
from resizable_search.build.journal import CHANGE, NO_TEXT, Work
from resizable_search.build.options import STANDARD_DIMS, BuildOptions, choose_dims
from resizable_search.build.report import BuildReport, keep_report
from resizable_search.build.usage import BuildUsage
from resizable_search.build.workspace import (
    again,
    discard,
    goes_on_replacing,
    put_in_place,
    recover,
    refuse_differences,
)
from resizable_search.corpora.base import Corpus
from resizable_search.engine.kernel_cache import warm_up
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
from resizable_search.store.delete import is_wreck
from resizable_search.store.ids import ids_of
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import Manifest, Part, read_manifest
from resizable_search.store.writer import array_bytes, derive, list_files, part_files, place_part
from resizable_search.system import make_sure_of_room, size_of, storage_errors
from resizable_search.text import counted


def asked_of(spec: EmbedderSpec) -> dict[str, Any]:
    """What is asked of an embedder: its kind, its model, and prefixes, which make other vectors."""
    prefixes = {
        f"{side} prefix": spec.options[f"{side}_prefix"]
        for side in ("document", "query")
        if f"{side}_prefix" in spec.options
    }
    width = {"width": spec.width} if prefixes else {}
    return {"embedder": spec.kind, "model": spec.model, **prefixes, **width}


@dataclass(slots=True, kw_only=True)
class BuildKind(ABC):
    """What differs from one kind of build to another, and what a run of it is given."""

    verb: ClassVar[str]
    """What has been done with a row that is safe: 'embedded'."""
    corpus: Corpus
    home: Home
    options: BuildOptions
    progress: LoggedProgress
    stop: threading.Event
    stack: ExitStack
    base: Manifest | None = None
    added: int = 0
    account: BuildUsage = field(default_factory=BuildUsage)

    @property
    @abstractmethod
    def spec(self) -> EmbedderSpec:
        """The embedder of the rows; that of a fitted one is known once it has been filled."""

    @property
    @abstractmethod
    def asked(self) -> dict[str, Any]:
        """What is asked of the embedder, as `asked_of` has it; its model is None where fitting makes it."""

    @property
    def narrow(self) -> bool:
        """Whether the corpus decides how wide the rows are."""
        return False

    def check(self) -> None:
        """Make sure that the build can begin. Raises EmbedderError."""
        return

    @abstractmethod
    def intake(self, work: Work, start: Checkpoint) -> Ingest:
        """What reads the corpus; `start` is where the index that is extended was left."""

    @abstractmethod
    def fill(self, work: Work, intake: Ingest) -> None:
        """Bring every row that is still to come into `work`."""

    def follow(self, base: Manifest) -> BuildReport:
        """Bring the index that is there to what its corpus, a living one, holds now."""
        # Only a corpus that is living is followed, and the kinds whose corpora may be override this.
        raise NotImplementedError(f"{self.corpus.kind} is no corpus that changes")

    def is_hopeless(self, work: Work, error: RsearchError) -> bool:
        """Whether an unfinished build that ended so holds nothing to go on with."""
        return not (work.rows or work.count_incoming() or work.count_left_out())

    @property
    def folder(self) -> Path:
        """Where the index lies or will lie."""
        return self.home.index(self.options.name)

    @property
    def building(self) -> Path:
        """Where the unfinished build lies."""
        return self.home.building(self.options.name)

    @property
    def widest(self) -> int:
        """The most dimensions that the rows may have."""
        return self.spec.width

    @property
    def dims(self) -> tuple[int, ...]:
        """The dimensions that are stored, ascending; before a narrow build has been filled, the most."""
        if self.base is not None:
            return self.base.dims
        return choose_dims(self.options.dims, self.widest, narrow=self.narrow)


@dataclass(slots=True, kw_only=True)
class Building(BuildKind):
    """One run of a build, under its lock."""

    def make_sure_of_room(self, rows: int | None) -> None:
        """Refuse to begin what the disk cannot hold: `rows` are to come in all. Raises StorageError."""
        if rows is None or self.narrow:
            return
        earlier = self.base.source.read if self.base else 0
        there = self.corpus.size_hint
        make_sure_of_room(
            self.options.name,
            self.home.path,
            lambda rows: sum(array_bytes(rows, self.dims).values()) - size_of(self.building / NAMES.staged),
            [lambda: rows, lambda: rows if (count := there()) is None else min(rows, count - earlier)],
        )

    def check_dims(self) -> None:
        """Refuse dimensions that there cannot be. Raises UsageError."""
        if not self.narrow:
            choose_dims(self.options.dims, self.spec.width)
        elif self.options.dims is not None and min(self.options.dims) < 1:
            raise UsageError(f"--dims: {min(self.options.dims)} is no dimension: give 1 or more")

    def run(self) -> BuildReport:
        """Build, go on, or extend. Raises what `build.build` says."""
        self.check_dims()
        if self.options.restart:
            self.refuse_foreign_folder()
            discard(self.building)
        recover(self.building, self.folder)
        replaces = self.options.restart or goes_on_replacing(self.building)
        if self.folder.exists() and not replaces:
            self.base = self.finished_index()
            if self.corpus.is_mutable:
                return self.follow(self.base)
            if self.is_complete(self.base):  # an extension that was begun is paid for, and stays
                return self._report(self.base)
        self.check()
        kept = {"replaces": True} if replaces else {}
        work = self.stack.enter_context(closing(Work(self.building, **kept)))
        self.account.open(work)
        if self.base is not None:
            work.ids.earlier = self.stack.enter_context(ids_of(self.folder, self.base))
            work.ids.rows = self.base.rows
        intake = self.intake(work, self.base.source if self.base else Checkpoint())
        try:
            self._check_request(work, intake)
            outdated = self._is_outdated(intake)
            if outdated and (self.narrow or not work.safe):  # nothing that was paid for is lost
                work.close()
                discard(self.building)
                return self.run()
            if outdated:
                intake.end()
            self.fill(work, intake)
            self.account.save(work)
            report = self._finish(work, intake)
            return self.follow(report.manifest) if outdated else report
        except KeyboardInterrupt:
            stopped = BuildStoppedError(f"stopped: {self._kept(work)}")
            self.progress.log(str(stopped))
            raise stopped from None
        except (OSError, sqlite3.DatabaseError) as error:
            raise self._refused(work, error) from None
        except RsearchError as error:
            if self.is_hopeless(work, error):
                discard(self.building)
            elif isinstance(error, StorageError):
                error.kept = self._safe(work)  # how to go on, it has said
            elif not isinstance(error, BuildStateError | UsageError):
                error.kept = self._kept(work)
            self.progress.log(f"ended: {error}")
            raise

    def _refused(self, work: Work, error: Exception) -> Exception:
        """What the disk refuses, told with how far the build has come."""
        safe = self._safe(work)
        try:
            with storage_errors(self.home.path, again=lambda: again(self.home, self.options)):
                raise error
        except StorageError as told:
            told.kept = safe
            self.progress.log(f"ended: {told}")
            return told
        except Exception as other:
            return other

    def _safe(self, work: Work) -> str:
        """How far the build has come."""
        try:
            self.account.save(work)
            rows = work.safe + (self.base.rows if self.base else 0)
        except sqlite3.Error:  # the disk that ended the build may refuse this too
            return "nothing is lost"
        return f"{counted(rows, 'document')} {'is' if rows == 1 else 'are'} {self.verb} and safe"

    def _kept(self, work: Work) -> str:
        """How far the build has come, and how to go on with it."""
        command = f": `{self.options.command}`" if self.options.command else ""
        return f"{self._safe(work)}; {again(self.home, self.options)} goes on{command}"

    def refuse_foreign_folder(self) -> None:
        """Refuse to write over a folder that is no index. Raises BuildStateError."""
        if self.folder.exists() and not is_wreck(self.folder):
            raise BuildStateError(
                f"{self.folder} exists and is no index: move it away, or choose another --name"
            )

    def finished_index(self) -> Manifest:
        """The index that is there, if the request fits it. Raises BuildStateError, IndexFormatError."""
        self.refuse_foreign_folder()
        manifest = read_manifest(self.folder)
        spec = EmbedderSpec.from_json(manifest.embedder)
        self.corpus.pin(manifest.corpus)
        asked = {**self.corpus.spec().to_json(), **self.asked}
        if asked["model"] is None:
            asked["model"] = spec.model
        held = {**manifest.corpus, **asked_of(spec)}
        if self.options.dims is not None:
            dims = choose_dims(self.options.dims, manifest.full_dim, narrow=self.narrow)
            asked["dims"], held["dims"] = list(dims), list(manifest.dims)
        refuse_differences(self.options.name, "was built", asked, held)
        return manifest

    def is_complete(self, manifest: Manifest) -> bool:
        """Whether the index holds all that is asked for."""
        limit = self.options.limit
        return manifest.source.exhausted or (limit is not None and manifest.source.read >= limit)

    def check_begun(self, begun: Mapping[str, Any] | None) -> dict[str, Any]:
        """What is asked for; refused where an unfinished build was begun for something else."""
        if begun is not None and begun.get("kind") == CHANGE:
            raise BuildStateError(
                f"a change of {self.options.name} was stopped: give its command again, or delete "
                f"{self.building} to give up what was embedded for it"
            )
        if begun is not None:
            self.corpus.pin(begun)
        asked = {
            **self.corpus.spec().to_json(),
            **self.asked,
            "dims": None if self.options.dims is None else sorted(self.options.dims),
            "extends rows read": None if self.base is None else self.base.source.read,
        }
        if begun is not None:
            refuse_differences(self.options.name, "was begun", asked, begun)
        return asked

    def _check_request(self, work: Work, intake: Ingest) -> None:
        """Begin an unfinished build, or make sure that it was begun by the same request and is whole."""
        begun = work.get("request")
        asked = self.check_begun(begun)
        if begun is None:
            work.set("request", asked)
            return
        intake.check_counts()
        done = f"{counted(work.safe, 'document')} {'is' if work.safe == 1 else 'are'}"
        self.progress.note(f"going on with {self.options.name}: {done} {self.verb} already")

    def _is_outdated(self, intake: Ingest) -> bool:
        """Whether a living corpus is another by now than what an earlier run read of it.

        What is embedded is then put in place as it is, so that it is not paid for again, and the index
        follows the corpus from there.
        """
        held = intake.source
        if not intake.is_done:
            self.corpus.start()  # before the next stage is told of, since it may take a while
        if self.base is not None or not self.corpus.is_mutable or held.position is None:
            return False
        if self.corpus.is_as_read(held.position):
            return False
        self.progress.note(f"{self.corpus.label} has changed since it was read: only what is new is embedded")
        return True

    def _finish(self, work: Work, intake: Ingest) -> BuildReport:
        source = replace(intake.source, left_out=intake.start.left_out + work.count_left_out())
        left_out = work.left_out()
        if work.rows:
            manifest = self._write(work, source)
        elif self.base is not None:
            manifest = self.base.next_generation(source=source).write(self.folder)
        else:
            raise self.nothing_to_embed(intake)
        work.close()
        discard(self.building)
        warm_up(self.progress)
        report = self._report(manifest, left_out)
        keep_report(report, self.home.state(self.options.name) / NAMES.report, self.progress)
        return report

    def nothing_to_embed(self, intake: Ingest) -> CorpusError:
        """Clear up after a corpus without a single text: the error that says so."""
        wrong = next((one for one in intake.work.left_out() if one["reason"] != NO_TEXT), None)
        why = f" ({wrong['id']}: {wrong['reason']})" if wrong else ""
        discard(self.building)
        return CorpusError(
            f"{self.corpus.label} has no document with text among the {intake.source.read:,} that were read"
            f"{why}: there is nothing to index; choose another corpus or a larger --limit"
        )

    def _write(self, work: Work, source: Checkpoint) -> Manifest:
        """Derive, measure, and put the new index or part in its place."""
        spec = self.spec
        dims = self.base.dims if self.base else choose_dims(self.options.dims, spec.width, narrow=self.narrow)
        rows = work.rows
        if self.base is None:
            self._tell_of_width(spec.width)
        self.progress.stage("deriving", rows, "rows")
        work.finish_vectors(spec.width)
        derive(work.staged, dims, self.progress)
        self.progress.stage("writing", None, "files")
        work.finish_documents()
        if self.base is not None:
            embedder = spec.to_json()  # the same model, which may be reached at another address by now
            return place_part(work.staged, self.folder, self.base, rows, source=source, embedder=embedder)
        state = work.staged / NAMES.embedder
        names = sorted(f"{NAMES.embedder}/{path.name}" for path in state.iterdir()) if state.is_dir() else []
        manifest = Manifest(
            rows=rows,
            dims=dims,
            corpus=self.corpus.spec().to_json(),
            label=self.corpus.label,
            embedder=spec.to_json(),
            source=source,
            parts=(Part("", rows, list_files(work.staged, part_files(dims))),),
            files=list_files(work.staged, names),
            fitted_rows=rows if names else 0,
        )
        return put_in_place(work, manifest, self.folder)

    def _tell_of_width(self, width: int) -> None:
        wanted = self.options.dims or STANDARD_DIMS[:5]
        if self.narrow and max(wanted) > width:
            self.progress.note(
                f"the corpus gives {width} dimensions, not {max(wanted)}: its documents or words are few"
            )
        elif self.options.dims and width not in self.options.dims:
            self.progress.note(f"{width} is stored too: the full dimension always is")

    def _report(self, manifest: Manifest, left_out: Sequence[dict[str, Any]] = ()) -> BuildReport:
        account = self.account
        return BuildReport(
            self.options.name,
            self.folder,
            manifest,
            self.added,
            left_out,
            account.spent,
            account.seconds,
            account.total,
            account.total_seconds,
            account.runs,
        )
