"""What every build does, wherever its rows come from: resume, extend, write, and put in place.

A `Building` works on an unfinished build beside the indexes (`index.work`) and goes on with the one
that the same request began. `build` fills it with texts that are embedded, `adopt` with vectors that
there are already; the rest is the same: small dimensions are derived, files measured, the manifest
written, and the folder renamed into its place. A finished index of the same corpus and embedder is
extended by a further part when more rows are asked for.
"""

import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from resizable_search.build_options import (
    STANDARD_DIMS,
    BuildOptions,
    BuildReport,
    check_name,
    choose_dims,
)
from resizable_search.corpora.base import Corpus
from resizable_search.embedders.base import EmbedderSpec
from resizable_search.errors import BuildStateError, BuildStoppedError, CorpusError, RsearchError, UsageError
from resizable_search.index.documents import open_documents
from resizable_search.index.layout import NAMES, Home
from resizable_search.index.lock import build_lock
from resizable_search.index.manifest import Manifest, Part, Source, read_manifest
from resizable_search.index.storage import make_home, storage_errors
from resizable_search.index.work import NO_TEXT, Work
from resizable_search.index.wreck import is_wreck
from resizable_search.index.writer import derive, list_files, part_files, place_part
from resizable_search.intake import Intake
from resizable_search.progress import Progress
from resizable_search.resumption import (
    discard,
    goes_on_replacing,
    put_in_place,
    recover,
    refuse_differences,
)
from resizable_search.scan.warm import ColdKernelsError, are_compiled, compile_kernels
from resizable_search.wording import counted


@contextmanager
def locked(home: Home, options: BuildOptions) -> Iterator[ExitStack]:
    """Hold the lock of the index that is to be built; what is put on the stack is closed before it is freed.

    Raises UsageError for a name or limit that cannot be, IndexBusyError, and StorageError for whatever
    the disk refuses meanwhile.
    """
    check_name(options.name)
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"--limit must be 1 or more, not {options.limit}")
    make_home(home.path)
    with storage_errors(home.path), build_lock(home.state(options.name), options.name), ExitStack() as stack:
        yield stack


@dataclass(slots=True, kw_only=True)
class Building(ABC):
    """One run of a build, under its lock. What differs from one kind of build to another is abstract."""

    verb: ClassVar[str]
    """What has been done with a row that is safe: 'embedded'."""
    corpus: Corpus
    home: Home
    options: BuildOptions
    progress: Progress
    stop: threading.Event
    stack: ExitStack
    base: Manifest | None = None
    added: int = 0
    requests: int = 0
    began: float = field(default_factory=time.perf_counter)

    # -- what a kind of build says

    @property
    @abstractmethod
    def spec(self) -> EmbedderSpec:
        """The embedder of the rows; that of a fitted one is known once it has been filled."""

    @property
    @abstractmethod
    def asked(self) -> dict[str, Any]:
        """What is asked of the embedder: its kind, and its model (None where fitting makes it)."""

    @property
    def narrow(self) -> bool:
        """Whether the corpus decides how wide the rows are."""
        return False

    def check(self) -> None:
        """Make sure that the build can begin. Raises EmbedderError."""
        return

    @abstractmethod
    def intake(self, work: Work, start: Source) -> Intake:
        """What reads the corpus; `start` is where the index that is extended was left."""

    @abstractmethod
    def fill(self, work: Work, intake: Intake) -> None:
        """Bring every row that is still to come into `work`."""

    def is_hopeless(self, work: Work, error: RsearchError) -> bool:
        """Whether an unfinished build that ended so holds nothing to go on with."""
        return not (work.rows or work.count_incoming() or work.count_left_out())

    # -- what they share

    @property
    def folder(self) -> Path:
        """Where the index lies or will lie."""
        return self.home.index(self.options.name)

    @property
    def building(self) -> Path:
        """Where the unfinished build lies."""
        return self.home.building(self.options.name)

    def run(self) -> BuildReport:
        """Build, go on, or extend. Raises what `build.build` says."""
        if not self.narrow:
            choose_dims(self.options.dims, self.spec.width)
        elif self.options.dims is not None and min(self.options.dims) < 1:
            raise UsageError(f"--dims: {min(self.options.dims)} is no dimension: give 1 or more")
        if self.options.restart:
            self._refuse_foreign_folder()
            discard(self.building)
        recover(self.building, self.folder)
        replaces = self.options.restart or goes_on_replacing(self.building)
        if self.folder.exists() and not replaces:
            self.base = self._finished_index()
            if self._is_complete(self.base):  # an extension that was begun is paid for, and stays
                return self._report(self.base)
        self.check()
        work = self.stack.enter_context(closing(Work(self.building)))
        if replaces:
            work.set("replaces", True)
        if self.base is not None:
            paths = [self.folder / part.path / NAMES.documents for part in self.base.parts]
            work.ids.earlier = [self.stack.enter_context(closing(open_documents(path))) for path in paths]
        intake = self.intake(work, self.base.source if self.base else Source())
        try:
            self._check_request(work, intake)
            self.fill(work, intake)
            return self._finish(work, intake)
        except KeyboardInterrupt:
            rows = work.rows + (self.base.rows if self.base else 0)
            safe = f"{counted(rows, 'document')} {'is' if rows == 1 else 'are'} {self.verb} and safe"
            again = "without --restart " if self.options.restart else ""
            raise BuildStoppedError(f"stopped: {safe}; the same command {again}goes on") from None
        except RsearchError as error:
            if self.is_hopeless(work, error):
                discard(self.building)
            raise

    def _refuse_foreign_folder(self) -> None:
        if self.folder.exists() and not is_wreck(self.folder):
            raise BuildStateError(
                f"{self.folder} exists and is no index: move it away, or choose another --name"
            )

    def _finished_index(self) -> Manifest:
        self._refuse_foreign_folder()
        manifest = read_manifest(self.folder)
        spec = EmbedderSpec.from_json(manifest.embedder)
        self.corpus.pin(manifest.corpus)
        asked = {**self.corpus.spec().to_json(), **self.asked}
        if asked["model"] is None:
            asked["model"] = spec.model
        held = {**manifest.corpus, "embedder": spec.kind, "model": spec.model}
        if self.options.dims is not None:
            dims = choose_dims(self.options.dims, manifest.full_dim, narrow=self.narrow)
            asked["dims"], held["dims"] = list(dims), list(manifest.dims)
        refuse_differences(self.options.name, "was built", asked, held)
        return manifest

    def _is_complete(self, manifest: Manifest) -> bool:
        limit = self.options.limit
        return manifest.source.exhausted or (limit is not None and manifest.source.read >= limit)

    def _check_request(self, work: Work, intake: Intake) -> None:
        """Begin an unfinished build, or make sure that it was begun by the same request and is whole."""
        begun = work.get("request")
        if begun is not None:
            self.corpus.pin(begun)
        asked = {
            **self.corpus.spec().to_json(),
            **self.asked,
            "dims": None if self.options.dims is None else sorted(self.options.dims),
            "extends generation": None if self.base is None else self.base.generation,
        }
        if begun is None:
            work.set("request", asked)
            return
        refuse_differences(self.options.name, "was begun", asked, begun)
        intake.check_counts()
        done = f"{counted(work.rows, 'document')} {'is' if work.rows == 1 else 'are'}"
        self.progress.note(f"going on with {self.options.name}: {done} {self.verb} already")

    def _finish(self, work: Work, intake: Intake) -> BuildReport:
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
        self._warm()
        report = self._report(manifest, left_out)
        self._keep(report)
        return report

    def nothing_to_embed(self, intake: Intake) -> CorpusError:
        """Clear up after a corpus without a single text: the error that says so."""
        wrong = next((one for one in intake.work.left_out() if one["reason"] != NO_TEXT), None)
        why = f" ({wrong['id']}: {wrong['reason']})" if wrong else ""
        discard(self.building)
        return CorpusError(
            f"{self.corpus.label} has no document with text among the {intake.source.read:,} that were read"
            f"{why}: there is nothing to index; choose another corpus or a larger --limit"
        )

    def _write(self, work: Work, source: Source) -> Manifest:
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
            return place_part(work.staged, self.folder, self.base, rows, source=source)
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

    def _warm(self) -> None:
        """Compile the engine's kernels, if they are not yet, so that no query has to."""
        if not are_compiled():
            try:
                compile_kernels(self.progress)
            except ColdKernelsError as error:
                self.progress.note(f"{error}; searches take numpy, which is slower")

    def _keep(self, report: BuildReport) -> None:
        """Leave what the build did beside the index: what was left out, and why, is of interest later."""
        told = {
            "finished": report.manifest.changed,
            "rows": report.manifest.rows,
            "added": report.added,
            "requests": report.requests,
            "seconds": round(report.seconds, 3),
            "left_out": list(report.left_out),
        }
        path = self.home.state(self.options.name) / NAMES.report
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")

    def _report(self, manifest: Manifest, left_out: Sequence[dict[str, Any]] = ()) -> BuildReport:
        seconds = time.perf_counter() - self.began
        return BuildReport(
            self.options.name, self.folder, manifest, self.added, left_out, self.requests, seconds
        )
