"""Build an index: corpus -> embedder -> rows on disk, resumable at any point.

What was read and what was embedded is kept in an unfinished build; the same request goes on with it
(`building`). A fitted embedder (lsa) reads the whole corpus first, is fitted and frozen, and embeds
then; any other embeds while the corpus streams.
"""

import threading
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, ClassVar

from resizable_search.build.building import Building, asked_of
from resizable_search.build.dry_run import DryRun
from resizable_search.build.dry_run import dry_run as forecast_of
from resizable_search.build.embed import Embedding
from resizable_search.build.ingest import Ingest
from resizable_search.build.journal import Work
from resizable_search.build.options import BuildOptions, check_name
from resizable_search.build.report import BuildReport
from resizable_search.build.sync import compared, sync_of
from resizable_search.build.workspace import locked
from resizable_search.corpora.base import Corpus
from resizable_search.embedders.base import Embedder
from resizable_search.embedders.trusted_endpoints import TrustedEndpoints
from resizable_search.errors import UsageError
from resizable_search.progress import SILENT, Progress, unlogged
from resizable_search.specs import Checkpoint, EmbedderSpec
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import Manifest


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
    _check_widest(embedder, options)
    with locked(home, options, progress) as (stack, logged):
        return _EmbeddedBuilding(
            corpus=corpus,
            embedder=embedder,
            home=home,
            options=options,
            progress=logged,
            stop=stop or threading.Event(),
            stack=stack,
        ).run()


def forecast(
    corpus: Corpus, embedder: Embedder, home: Home, options: BuildOptions, progress: Progress = SILENT
) -> DryRun:
    """What `build` would do with the same arguments: nothing is written, nothing is billed.

    Raises UsageError, BuildStateError and IndexFormatError as it would.
    """
    _check_widest(embedder, options)
    check_name(options.name)
    with ExitStack() as stack:
        building = _EmbeddedBuilding(
            corpus=corpus,
            embedder=embedder,
            home=home,
            options=options,
            progress=unlogged(progress),
            stop=threading.Event(),
            stack=stack,
        )
        return forecast_of(building, embedder, lambda base: compared(building, embedder, base))


def _check_widest(embedder: Embedder, options: BuildOptions) -> None:
    widest = embedder.widest
    if options.dims and widest is not None and max(options.dims) > widest:
        raise UsageError(
            f"--dims: {max(options.dims)} is not within 1 to {widest}, the most that {embedder.kind} makes"
        )


@dataclass(slots=True, kw_only=True)
class _EmbeddedBuilding(Building):
    """A build whose rows an embedder makes of the corpus's texts."""

    verb: ClassVar[str] = "embedded"
    embedder: Embedder

    @property
    def spec(self) -> EmbedderSpec:
        return self.embedder.spec

    @property
    def widest(self) -> int:
        return self.embedder.widest or self.spec.width

    @property
    def asked(self) -> dict[str, Any]:
        if self.embedder.needs_fit:
            return {"embedder": self.embedder.kind, "model": None}
        return asked_of(self.embedder.spec)

    @property
    def narrow(self) -> bool:
        return self.embedder.needs_fit

    def check(self) -> None:
        self.embedder.check()
        TrustedEndpoints(self.home.trusted).give(self.embedder)

    def follow(self, base: Manifest) -> BuildReport:
        embedder = self.embedder
        if embedder.needs_fit:
            embedder = type(embedder).load(self.folder / NAMES.embedder)
        return sync_of(self, embedder, base).run()

    def intake(self, work: Work, start: Checkpoint) -> Ingest:
        return Ingest(self.corpus, work, start, self.options.limit, self.options.on_bad_text == "fail")

    def fill(self, work: Work, intake: Ingest) -> None:
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
        self.make_sure_of_room(goal)
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

        def count() -> None:
            self.added, self.account.spent = embedding.done, embedding.spent
            self.account.save(work)

        embedding.on_fold = count
        embedding.run()

    def _fit(self, work: Work, intake: Ingest) -> None:
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
                raise self.nothing_to_embed(intake)
            self.progress.stage("fitting", None, "documents")
            self.embedder.fit(work.texts(), state)
            work.set("fitted", True)
        self.embedder = type(self.embedder).load(state)
