"""Build an index: corpus -> embedder -> rows on disk, resumable at any point.

What was read and what was embedded is kept in an unfinished build beside the indexes (`index.work`);
the same request goes on with it. A fitted embedder (lsa) reads the whole corpus first, is fitted and
frozen, and embeds then; any other embeds while the corpus streams. A finished index of the same
corpus and embedder is extended by a further part when more rows are asked for.
"""

import errno
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from resizable_search.corpora.base import Corpus
from resizable_search.embedders.base import Embedder, EmbedderSpec
from resizable_search.embedding import Embedding
from resizable_search.errors import (
    BuildStateError,
    BuildStoppedError,
    CorpusError,
    RsearchError,
    StorageError,
    UsageError,
)
from resizable_search.index.documents import open_documents
from resizable_search.index.layout import NAMES, Home
from resizable_search.index.lock import build_lock
from resizable_search.index.manifest import Manifest, Part, Source, read_manifest
from resizable_search.index.work import Work
from resizable_search.index.writer import derive_dims, list_files, part_files, place, place_part
from resizable_search.intake import Intake
from resizable_search.progress import SILENT, Progress

STANDARD_DIMS = (64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096)
"""The dimensions that are stored by default: those below the full one, and itself."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How an index is built. `dims` None: the standard ones; `limit` None: the whole corpus."""

    name: str
    limit: int | None = None
    dims: tuple[int, ...] | None = None
    concurrency: int | None = None
    requests_per_minute: float | None = None
    on_bad_text: Literal["skip", "fail"] = "skip"
    restart: bool = False


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did. `added` is how many documents this call embedded; the other rows were there."""

    name: str
    folder: Path
    manifest: Manifest
    added: int = 0
    left_out: Sequence[dict[str, Any]] = field(default_factory=list)
    requests: int = 0
    seconds: float = 0.0


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
    with storage_errors(home.path), build_lock(home.state(options.name), options.name), ExitStack() as stack:
        return _Building(corpus, embedder, home, options, progress, stop or threading.Event(), stack).run()


def check_name(name: str) -> None:
    """Refuse a name that cannot be a folder of the home. Raises UsageError."""
    if (
        not name
        or name.startswith(".")
        or {"/", "\\"} & set(name)
        or not name.isprintable()
        or len(name) > 100
    ):
        raise UsageError(f"{name!r} is no name for an index: use letters, digits, - and _, with --name")


def choose_dims(wanted: Sequence[int] | None, full: int, *, narrow: bool = False) -> tuple[int, ...]:
    """The dimensions to store, ascending, the full one last. Raises UsageError for one out of range.

    `narrow`: drop those beyond `full` instead, since the corpus could not give more.
    """
    wanted = [dim for dim in STANDARD_DIMS if dim < full] if wanted is None else wanted
    for dim in wanted:
        if dim < 1 or (dim > full and not narrow):
            raise UsageError(f"--dims: {dim} is not within 1 to {full}, the embedder's full dimension")
    return tuple(sorted({dim for dim in wanted if dim < full} | {full}))


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
        if self.options.restart:
            shutil.rmtree(self.building, ignore_errors=True)
        self._recover()
        replaces = self.options.restart or self._goes_on_replacing()
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
        self._check_request(work)
        start = self.base.source if self.base else Source()
        strict = self.options.on_bad_text == "fail"
        intake = Intake(self.corpus, work, start, self.options.limit, strict)
        try:
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

    def _recover(self) -> None:
        """Bring a build that died between two of its last steps back to where it can go on, or end it."""
        staged = self.building / NAMES.staged
        if not (self.building / NAMES.work).exists():
            # Files without the database they belong to would be taken for a new one's.
            shutil.rmtree(self.building, ignore_errors=True)
        elif not staged.exists() and (self.folder / NAMES.manifest).exists():
            parts = len(read_manifest(self.folder).parts)
            unlisted = self.folder / NAMES.parts / str(parts + 1)
            if unlisted.exists():
                unlisted.rename(staged)
            else:
                shutil.rmtree(self.building)

    def _goes_on_replacing(self) -> bool:
        """Whether there is an unfinished build that was to replace the index."""
        if not (self.building / NAMES.work).exists():
            return False
        with closing(Work(self.building)) as work:
            return bool(work.get("replaces", False))

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
        _refuse_differences(self.options.name, "was built", asked, held)
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
        _refuse_differences(self.options.name, "was begun", asked, begun)
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
            manifest = self.base.next_generation(source=source)
            manifest.write(self.folder)
        else:
            manifest = self._write(work, source)
        work.close()
        shutil.rmtree(self.building, ignore_errors=True)
        return self._report(manifest, left_out)

    def _write(self, work: Work, source: Source) -> Manifest:
        """Derive, measure, and put the new index or part in its place."""
        spec = self.embedder.spec
        narrow = self.embedder.needs_fit
        dims = self.base.dims if self.base else choose_dims(self.options.dims, spec.width, narrow=narrow)
        rows = work.rows
        wanted = self.options.dims or STANDARD_DIMS[:5]
        if narrow and max(wanted) > spec.width:
            self.progress.note(
                f"the corpus gives {spec.width} dimensions, not {max(wanted)}: its documents or words are few"
            )
        elif self.options.dims and spec.width not in self.options.dims:
            self.progress.note(f"{spec.width} is stored too: the full dimension always is")
        self.progress.stage("deriving", rows, "rows")
        work.finish_vectors(spec.width)
        derive_dims(work.staged, dims, self.progress)
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
        manifest.write(work.staged)
        place(work.staged, self.folder, self.building / NAMES.replaced)
        return read_manifest(self.folder)

    def _report(self, manifest: Manifest, left_out: Sequence[dict[str, Any]] = ()) -> BuildReport:
        seconds = time.perf_counter() - self.began
        return BuildReport(
            self.options.name, self.folder, manifest, self.added, left_out, self.requests, seconds
        )


def _refuse_differences(name: str, how: str, asked: dict[str, Any], held: dict[str, Any]) -> None:
    for key in sorted({*asked, *held}):
        if asked.get(key) != held.get(key):
            raise BuildStateError(
                f"{name} {how} with {key} {_show(held.get(key))}, not {_show(asked.get(key))} as asked now: "
                "--restart builds it anew, another --name keeps both"
            )


def _show(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "the default" if value is None else str(value)


@contextmanager
def storage_errors(home: Path) -> Iterator[None]:
    """Turn what the disk refuses into StorageError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"the disk of {home} is full; nothing is lost: free some space, and the same command goes on"
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise StorageError(
                f"cannot write to {error.filename or home} ({error.strerror}): "
                "choose another home with --home or $RSEARCH_HOME"
            ) from None
        raise
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            raise StorageError(
                f"the disk of {home} is full; nothing is lost: free some space, and the same command goes on"
            ) from None
        raise StorageError(f"cannot write the build in {home} ({error}): check its permissions") from None
