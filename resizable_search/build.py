"""Build an index: corpus -> embedder -> rows on disk, resumable at any point.

What was read and what was embedded is kept in an unfinished build beside the indexes (`index.work`);
the same request goes on with it. A fitted embedder (lsa) reads the whole corpus first, is fitted and
frozen, and embeds then; any other embeds while the corpus streams. A finished index of the same
corpus and embedder is extended by a further part when more rows are asked for.
"""

import json
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from resizable_search.build_options import (
    STANDARD_DIMS,
    BuildOptions,
    BuildReport,
    check_name,
    choose_dims,
)
from resizable_search.corpora.base import Corpus
from resizable_search.embedders.base import Embedder, EmbedderSpec
from resizable_search.embedding import Embedding
from resizable_search.errors import (
    BuildStateError,
    BuildStoppedError,
    CorpusError,
    RsearchError,
    UsageError,
)
from resizable_search.index.documents import open_documents
from resizable_search.index.layout import NAMES, Home
from resizable_search.index.lock import build_lock
from resizable_search.index.manifest import Manifest, Part, Source, read_manifest
from resizable_search.index.storage import make_home, storage_errors
from resizable_search.index.work import Work
from resizable_search.index.writer import derive, list_files, part_files, place, place_part
from resizable_search.intake import Intake
from resizable_search.progress import SILENT, Progress
from resizable_search.resumption import goes_on_replacing, recover, refuse_differences
from resizable_search.scan.warm import ColdKernelsError, are_compiled, compile_kernels


def build(
    corpus: Corpus,
    embedder: Embedder,
    home: Home,
    options: BuildOptions,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> BuildReport:
    """Build an index of a corpus, go on with one that was stopped, or extend one that is complete.

    `stop`, once set, ends the build at the next step, as Ctrl-C does at once. Raises UsageError,
    CorpusError, EmbedderError, BuildStateError (an unfinished build of other options), IndexBusyError,
    StorageError and BuildStoppedError. In each case what was embedded is safe, and the same call
    goes on with it.
    """
    check_name(options.name)
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"--limit must be 1 or more, not {options.limit}")
    make_home(home.path)
    with storage_errors(home.path), build_lock(home.state(options.name), options.name), ExitStack() as stack:
        return _Building(corpus, embedder, home, options, progress, stop or threading.Event(), stack).run()


@dataclass(slots=True)
class _Building:
    """One run of `build`, under its lock."""

    corpus: Corpus
    embedder: Embedder
    home: Home
    options: BuildOptions
    progress: Progress
    stop: threading.Event
    stack: ExitStack
    base: Manifest | None = None
    added: int = 0
    requests: int = 0
    began: float = field(default_factory=time.perf_counter)

    @property
    def folder(self) -> Path:
        return self.home.index(self.options.name)

    @property
    def building(self) -> Path:
        return self.home.building(self.options.name)

    def run(self) -> BuildReport:
        if not self.embedder.needs_fit:
            choose_dims(self.options.dims, self.embedder.spec.width)
        elif self.options.dims is not None and min(self.options.dims) < 1:
            raise UsageError(f"--dims: {min(self.options.dims)} is no dimension: give 1 or more")
        if self.options.restart:
            shutil.rmtree(self.building, ignore_errors=True)
        recover(self.building, self.folder)
        replaces = self.options.restart or goes_on_replacing(self.building)
        if self.folder.exists() and not replaces:
            self.base = self._finished_index()
            if self._is_complete(self.base):
                shutil.rmtree(self.building, ignore_errors=True)
                return self._report(self.base)
        self.embedder.check()
        work = self.stack.enter_context(closing(Work(self.building)))
        if replaces:
            work.set("replaces", True)
        if self.base is not None:
            paths = [self.folder / part.path / NAMES.documents for part in self.base.parts]
            work.earlier = [self.stack.enter_context(closing(open_documents(path))) for path in paths]
        start = self.base.source if self.base else Source()
        strict = self.options.on_bad_text == "fail"
        intake = Intake(self.corpus, work, start, self.options.limit, strict)
        try:
            self._check_request(work)
            self._fill(work, intake)
            return self._finish(work, intake)
        except KeyboardInterrupt:
            safe = work.rows + (self.base.rows if self.base else 0)
            again = "without --restart " if self.options.restart else ""
            raise BuildStoppedError(
                f"stopped: {safe:,} documents are embedded and safe; the same command {again}goes on"
            ) from None
        except RsearchError:
            if not (work.rows or work.count_incoming() or work.count_left_out()):
                shutil.rmtree(self.building, ignore_errors=True)  # it holds nothing to go on with
            raise

    def _finished_index(self) -> Manifest:
        if not (self.folder / NAMES.manifest).exists():
            raise BuildStateError(
                f"{self.folder} exists and is no index: move it away, or choose another --name"
            )
        manifest = read_manifest(self.folder)
        spec = EmbedderSpec.from_json(manifest.embedder)
        model = spec.model if self.embedder.needs_fit else self.embedder.spec.model
        asked = {**self.corpus.spec().to_json(), "embedder": self.embedder.kind, "model": model}
        held = {**manifest.corpus, "embedder": spec.kind, "model": spec.model}
        if self.options.dims is not None:
            dims = choose_dims(self.options.dims, manifest.full_dim, narrow=self.embedder.needs_fit)
            asked["dims"], held["dims"] = list(dims), list(manifest.dims)
        refuse_differences(self.options.name, "was built", asked, held)
        return manifest

    def _is_complete(self, manifest: Manifest) -> bool:
        limit = self.options.limit
        return manifest.source.exhausted or (limit is not None and manifest.source.read >= limit)

    def _check_request(self, work: Work) -> None:
        """Begin an unfinished build, or make sure that it was begun by the same request."""
        asked = {
            **self.corpus.spec().to_json(),
            "embedder": self.embedder.kind,
            "model": None if self.embedder.needs_fit else self.embedder.spec.model,
            "dims": None if self.options.dims is None else sorted(self.options.dims),
            "extends generation": None if self.base is None else self.base.generation,
        }
        begun = work.get("request")
        if begun is None:
            work.set("request", asked)
            return
        refuse_differences(self.options.name, "was begun", asked, begun)
        self.progress.note(f"going on with {self.options.name}: {work.rows:,} documents are embedded already")

    def _fill(self, work: Work, intake: Intake) -> None:
        """Read and embed whatever is still to be read and embedded."""
        if self.embedder.needs_fit and self.base is not None:
            self.embedder = type(self.embedder).load(self.folder / NAMES.embedder)
        elif self.embedder.needs_fit:
            self._fit(work, intake)
        if intake.is_done:
            goal: int | None = work.rows + work.count_incoming()
        else:
            goal = self.options.limit or self.corpus.size_hint()
            goal = goal and goal - intake.start.read
        self.progress.stage("embedding", goal, "documents")
        self.progress.advance(work.rows)
        embedding = Embedding(
            self.embedder,
            work,
            intake.read(),
            self.progress,
            self.stop,
            concurrency=self.options.concurrency,
            requests_per_minute=self.options.requests_per_minute,
            strict=intake.strict,
        )
        try:
            embedding.run()
        finally:
            self.added, self.requests = embedding.done, embedding.requests

    def _fit(self, work: Work, intake: Intake) -> None:
        """Have a fitted embedder read the whole corpus and learn from it, once, before the first row."""
        state = work.staged / NAMES.embedder
        if not work.get("fitted"):
            self.progress.stage("reading", self.options.limit or self.corpus.size_hint(), "documents")
            self.progress.advance(intake.source.read)
            with closing(intake.read()) as reading:
                for rows in reading:
                    self.progress.advance(rows)
                    if self.stop.is_set():
                        raise KeyboardInterrupt
            if not work.count_incoming():
                raise self._nothing_to_embed(intake)
            self.progress.stage("fitting", None, "documents")
            self.embedder.fit(work.texts(), state)
            work.set("fitted", True)
        self.embedder = type(self.embedder).load(state)

    def _nothing_to_embed(self, intake: Intake) -> CorpusError:
        shutil.rmtree(self.building, ignore_errors=True)
        return CorpusError(
            f"{self.corpus.label} has no document with text among the {intake.source.read:,} that were read: "
            "there is nothing to index; choose another corpus or a larger --limit"
        )

    def _finish(self, work: Work, intake: Intake) -> BuildReport:
        source = replace(intake.source, left_out=intake.start.left_out + work.count_left_out())
        left_out = work.left_out()
        if not work.rows and self.base is None:
            raise self._nothing_to_embed(intake)
        if not work.rows and self.base is not None:
            manifest = self.base.next_generation(source=source).write(self.folder)
        else:
            manifest = self._write(work, source)
        work.close()
        shutil.rmtree(self.building, ignore_errors=True)
        self._warm()
        report = self._report(manifest, left_out)
        self._keep(report)
        return report

    def _write(self, work: Work, source: Source) -> Manifest:
        """Derive, measure, and put the new index or part in its place."""
        spec = self.embedder.spec
        narrow = self.embedder.needs_fit
        dims = self.base.dims if self.base else choose_dims(self.options.dims, spec.width, narrow=narrow)
        rows = work.rows
        wanted = self.options.dims or STANDARD_DIMS[:5]
        if self.base is None and narrow and max(wanted) > spec.width:
            self.progress.note(
                f"the corpus gives {spec.width} dimensions, not {max(wanted)}: its documents or words are few"
            )
        elif self.base is None and self.options.dims and spec.width not in self.options.dims:
            self.progress.note(f"{spec.width} is stored too: the full dimension always is")
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
        manifest = manifest.write(work.staged)
        place(work.staged, self.folder, self.building / NAMES.replaced)
        return manifest

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
