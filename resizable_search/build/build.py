"""Build an index: corpus -> embedder -> rows on disk, resumable at any point.

A build works beside the indexes (`Home.building`), derives the smaller dimensions, writes the manifest and
moves its folder into place. The same request resumes it. If more rows are asked for, a finished index is
extended by a further part; the index of a mutable corpus follows it instead (`update.Sync`). A fitted
embedder (lsa) reads the whole corpus first, is fitted and frozen, and embeds then.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from resizable_search.build.ingest import Ingest, TextsCorpus
from resizable_search.build.journal import CHANGE, NO_TEXT, Journal
from resizable_search.build.report import BuildReport
from resizable_search.build.update import Sync, Update
from resizable_search.build.workspace import (
    STANDARD_DIMS,
    BuildOptions,
    choose_dims,
    discard,
    is_replacing,
    lock_build,
    put_in_place,
    recover,
    refuse_differences,
)
from resizable_search.corpora.base import Corpus, Document
from resizable_search.embedders import registry
from resizable_search.embedders.base import Embedder
from resizable_search.embedders.registry import TrustedEndpoints
from resizable_search.errors import BuildStateError, CorpusError, RsearchError, StorageError, UsageError
from resizable_search.progress import SILENT, Progress
from resizable_search.search.index import Index, open_index
from resizable_search.specs import Checkpoint, EmbedderSpec
from resizable_search.store.documents import ids_of
from resizable_search.store.layout import NAMES, Home, home_of
from resizable_search.store.manifest import Manifest, Part, read_manifest
from resizable_search.store.writer import add_part, array_bytes, list_files, part_files, was_index
from resizable_search.system import free_bytes, make_sure_of_room, size_of
from resizable_search.text import counted


def build(
    corpus: Corpus,
    embedder: Embedder,
    home: Home,
    options: BuildOptions,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> BuildReport:
    """Build an index of a corpus, resume a build that was stopped, or extend a finished index.

    `stop`, once set, ends the build at its next step. Raises UsageError, CorpusError, EmbedderError,
    BuildStateError (an unfinished build of other options), IndexBusyError, StorageError and
    BuildStoppedError; then what was embedded is safe, and the same call resumes.
    """
    with lock_build(home, options, progress) as log:
        stop = stop or threading.Event()
        return Build(home, options, log, stop, corpus=corpus, embedder=embedder).run()


def build_index(
    name: str,
    texts: Iterable[str | Document | Mapping[str, Any]],
    *,
    embedder: Embedder | str = "lsa",
    home: str | Path | None = None,
    dims: Sequence[int] | None = None,
    progress: Progress = SILENT,
) -> Index:
    """Build an index of texts and open it. Called again, it resumes, or brings the index up to date.

    A text is a str, with its position as id, a `Document`, or a mapping with `text` and any of `id`, `title`
    and `url`; other keys are metadata. `embedder` is one, or a kind such as `lsa`, which is fitted to the
    texts on this machine. `home` is as for `open_index`. Raises what `build` does.
    """
    places = home_of(home)
    made_by = registry.create(embedder, None, {}) if isinstance(embedder, str) else embedder
    options = BuildOptions(name, dims=tuple(dims) if dims else None)
    build(TextsCorpus(texts), made_by, places, options, progress)
    return open_index(name, home=places.path, embedder=None if made_by.needs_fit else made_by)


@dataclass(slots=True, kw_only=True)
class Build(Update):
    """One run of a build. `base`: the finished index that it extends."""

    verb: ClassVar[str] = "embedded"
    """What a build does with a row."""

    corpus: Corpus
    embedder: Embedder
    base: Manifest | None = None

    @property
    def dims(self) -> tuple[int, ...]:
        """The dimensions that are stored, ascending; the most of them, before a fitted embedder is fitted."""
        if self.base is not None:
            return self.base.dims
        return choose_dims(self.options.dims, self.embedder.widest or self.embedder.spec.width)

    def check_dims(self) -> None:
        """Refuse dimensions that the embedder does not have. Raises UsageError."""
        for dim in self.options.dims or ():
            if not 1 <= dim <= self.dims[-1]:
                raise UsageError(f"`dims`: {dim} is not within 1 to {self.dims[-1]}, the embedder's most")

    def check(self) -> None:
        """Make sure that the build can begin. Raises EmbedderError."""
        self.embedder.check()
        TrustedEndpoints(self.home.trusted).add(self.embedder)

    def sync(self, base: Manifest) -> Sync:
        """The change that makes the index follow its corpus."""
        embedder = self.embedder
        if embedder.needs_fit:
            embedder = type(embedder).load(self.folder / NAMES.embedder)
        run = (self.home, self.options, self.progress, self.stop)
        return Sync(*run, base=base, embedder=embedder, corpus=self.corpus)

    def ingest(self, journal: Journal, start: Checkpoint) -> Ingest:
        """What reads the corpus; `start`: where the index that is extended was left."""
        return Ingest(self.corpus, journal, start, self.options.limit, self.options.on_bad_text == "fail")

    def fill(self, journal: Journal, ingest: Ingest) -> None:
        """Read and embed what is not yet a row."""
        if self.embedder.needs_fit and self.base is not None:
            self.embedder = type(self.embedder).load(self.folder / NAMES.embedder)
        elif self.embedder.needs_fit:
            self._fit(journal, ingest)
        if ingest.is_done:
            goal: int | None = journal.rows + journal.count_incoming()
        else:
            goal = self.options.limit or self.corpus.size_hint()
            goal = goal and goal - ingest.start.read
        self.make_sure_of_room(goal)
        self.progress.stage("embedding", goal, "documents")
        self.progress.advance(journal.rows)
        self.embed(self.embedder, journal, ingest.read())

    def _fit(self, journal: Journal, ingest: Ingest) -> None:
        """Read the whole corpus and fit the embedder to it, once."""
        state = journal.staged / NAMES.embedder
        if not journal.get("fitted"):
            self.progress.stage("reading", self.options.limit or self.corpus.size_hint(), "documents")
            self.progress.advance(ingest.source.read)
            with closing(ingest.read()) as reading:
                for rows in reading:
                    self.progress.advance(rows)
                    self.check_stop()
            if not journal.count_incoming():
                raise self.nothing_to_embed(ingest)
            self.progress.stage("fitting", None, "documents")
            with closing(journal.texts()) as texts:
                self.embedder.fit(texts, state)
            journal.set("fitted", True)
        self.embedder = type(self.embedder).load(state)

    def make_sure_of_room(self, rows: int | None) -> None:
        """Refuse to begin what the disk cannot hold: `rows` in all. Raises StorageError."""
        if rows is None or self.embedder.needs_fit:
            return
        present = size_of(self.unfinished / NAMES.staged)
        needed = sum(array_bytes(rows, self.dims).values()) - present
        if needed > free_bytes(self.home.path) and (count := self.corpus.size_hint()) is not None:
            rows = min(rows, count - (self.base.source.read if self.base else 0))
            needed = sum(array_bytes(rows, self.dims).values()) - present
        make_sure_of_room(self.options.name, needed, self.home.path)

    def run(self) -> BuildReport:
        """Build, resume or extend. Raises what `build` says."""
        self.check_dims()
        if self.options.restart:
            self.refuse_foreign_folder()
            discard(self.unfinished)
        recover(self.unfinished, self.folder)
        replaces = self.options.restart or is_replacing(self.unfinished)
        if self.folder.exists() and not replaces:
            self.base = self.finished_index()
            if self.corpus.is_mutable:
                return self.sync(self.base).run()
            if self.is_complete(self.base):  # an extension that was begun is paid for, and stays
                return self.report(self.base)
        self.check()
        with ExitStack() as stack:
            values = {"replaces": True} if replaces else {}
            journal = stack.enter_context(closing(Journal(self.unfinished, **values)))
            if self.base is not None:
                journal.ids.earlier = stack.enter_context(ids_of(self.folder, self.base))
                journal.ids.rows = self.base.rows
            self.usage.open(journal)
            report = self._run(journal)
        if report is None:  # nothing that was paid for is lost
            discard(self.unfinished)
            return self.run()
        return report

    def _run(self, journal: Journal) -> BuildReport | None:
        """Fill the journal and make it an index; None to begin again, because its corpus has changed."""
        ingest = self.ingest(journal, self.base.source if self.base else Checkpoint())
        with self.resumable(journal):
            self._check_request(journal, ingest)
            outdated = self._is_outdated(ingest)
            if outdated and (self.embedder.needs_fit or not journal.safe):
                return None
            if outdated:
                ingest.end()
            self.fill(journal, ingest)
            self.usage.save(journal)
            report = self._finish(journal, ingest)
        return self.sync(report.manifest).run() if outdated else report

    def safe_work(self, journal: Journal) -> str:
        """How many documents are safe."""
        rows = journal.safe + (self.base.rows if self.base else 0)
        return f"{counted(rows, 'document')} {'is' if rows == 1 else 'are'} {self.verb} and safe"

    def holds_nothing(self, journal: Journal, error: RsearchError) -> bool:
        """Whether no document with text has been read; a disk's refusal does not undo a restart."""
        restarts = isinstance(error, StorageError) and journal.get("replaces")
        return not (restarts or journal.safe or journal.count_incoming())

    def refuse_foreign_folder(self) -> None:
        """Refuse to overwrite a folder that is not an index. Raises BuildStateError."""
        if self.folder.exists() and not was_index(self.folder):
            raise BuildStateError(
                f"{self.folder} exists and is no index: move it away, or choose another `name`"
            )

    def finished_index(self) -> Manifest:
        """The index that is there, if the request is its own. Raises BuildStateError, IndexFormatError."""
        self.refuse_foreign_folder()
        manifest = read_manifest(self.folder)
        spec = EmbedderSpec.from_json(manifest.embedder)
        self.corpus.pin(manifest.corpus)
        asked = self._request()
        if asked["model"] is None:
            asked["model"] = spec.model
        stored = {**manifest.corpus, **embedder_request(spec)}
        if self.options.dims is not None:
            dims = choose_dims(self.options.dims, manifest.full_dim)
            asked["dims"], stored["dims"] = list(dims), list(manifest.dims)
        refuse_differences(self.options.name, "was built", asked, stored)
        return manifest

    def _request(self) -> dict[str, Any]:
        """The corpus and the embedder that are asked for; the model is None if fitting makes it."""
        if self.embedder.needs_fit:
            return {**self.corpus.spec().to_json(), "embedder": self.embedder.kind, "model": None}
        return {**self.corpus.spec().to_json(), **embedder_request(self.embedder.spec)}

    def is_complete(self, manifest: Manifest) -> bool:
        """Whether the index holds all that is asked for."""
        limit = self.options.limit
        return manifest.source.exhausted or (limit is not None and manifest.source.read >= limit)

    def check_begun(self, begun: Mapping[str, Any] | None) -> dict[str, Any]:
        """The request; raises BuildStateError if an unfinished build was `begun` by another one."""
        if begun is not None:
            if begun.get("kind") == CHANGE:
                raise BuildStateError(
                    f"a change of {self.options.name} was stopped: give its command again, or delete "
                    f"{self.unfinished} to give up what was embedded for it"
                )
            self.corpus.pin(begun)
        asked = {
            **self._request(),
            "dims": None if self.options.dims is None else sorted(self.options.dims),
            "extends rows read": None if self.base is None else self.base.source.read,
        }
        if begun is not None:
            refuse_differences(self.options.name, "was begun", asked, begun)
        return asked

    def _check_request(self, journal: Journal, ingest: Ingest) -> None:
        """Begin a build, or make sure that this request began it and that its journal is whole."""
        begun = journal.get("request")
        asked = self.check_begun(begun)
        if begun is None:
            journal.set("request", asked)
            return
        ingest.check_counts()
        done = f"{counted(journal.safe, 'document')} {'is' if journal.safe == 1 else 'are'}"
        self.progress.note(f"resuming {self.options.name}: {done} {self.verb} already")

    def _is_outdated(self, ingest: Ingest) -> bool:
        """Whether a mutable corpus has changed since an earlier run read it.

        What is embedded is then put in place as it is, so that it is not paid for again. From there the
        index follows the corpus.
        """
        source = ingest.source
        if not ingest.is_done:
            self.corpus.start()  # before the next stage is shown, since it may take a while
        if self.base is not None or not self.corpus.is_mutable or source.position is None:
            return False
        if self.corpus.is_unchanged(source.position):
            return False
        self.progress.note(f"{self.corpus.label} has changed since it was read: only what is new is embedded")
        return True

    def _finish(self, journal: Journal, ingest: Ingest) -> BuildReport:
        source = replace(ingest.source, left_out=ingest.start.left_out + journal.count_left_out())
        left_out = journal.left_out()
        if journal.rows:
            manifest = self._write(journal, source)
        elif self.base is not None:
            manifest = self.base.next_generation(source=source).write(self.folder)
        else:
            raise self.nothing_to_embed(ingest)
        journal.close()
        discard(self.unfinished)
        return self.finish(self.report(manifest, left_out))

    def nothing_to_embed(self, ingest: Ingest) -> CorpusError:
        """The error for a corpus without text."""
        wrong = next((one for one in ingest.journal.left_out() if one["reason"] != NO_TEXT), None)
        why = f" ({wrong['id']}: {wrong['reason']})" if wrong else ""
        return CorpusError(
            f"{self.corpus.label} has no document with text among the {ingest.source.read:,} that were read"
            f"{why}: there is nothing to index; choose another corpus or a larger `limit`"
        )

    def _write(self, journal: Journal, source: Checkpoint) -> Manifest:
        """Derive and measure the files, and put the new index or part in place."""
        spec, rows, base = self.embedder.spec, journal.rows, self.base
        dims = base.dims if base else choose_dims(self.options.dims, spec.width)
        wanted = self.options.dims or STANDARD_DIMS[:5]
        if base is None and self.embedder.needs_fit and max(wanted) > spec.width:
            self.progress.note(
                f"the corpus gives {spec.width} dimensions, not {max(wanted)}: its documents or words are few"
            )
        elif base is None and self.options.dims and spec.width not in self.options.dims:
            self.progress.note(f"{spec.width} is stored too: the full dimension always is")
        self.progress.stage("deriving", rows, "rows")
        self.write_part(journal, dims)
        if base is not None:
            embedder = spec.to_json()  # the same model, perhaps at another address
            return add_part(journal.staged, self.folder, base, rows, source=source, embedder=embedder)
        state = journal.staged / NAMES.embedder
        names = sorted(f"{NAMES.embedder}/{path.name}" for path in state.iterdir()) if state.is_dir() else []
        manifest = Manifest(
            rows=rows,
            dims=dims,
            corpus=self.corpus.spec().to_json(),
            label=self.corpus.label,
            embedder=spec.to_json(),
            source=source,
            parts=(Part("", rows, list_files(journal.staged, part_files(dims))),),
            files=list_files(journal.staged, names),
            fitted_rows=rows if names else 0,
        )
        return put_in_place(journal, manifest, self.folder)


def embedder_request(spec: EmbedderSpec) -> dict[str, Any]:
    """What a request says of the embedder: its kind and model, and prefixes, which make other vectors."""
    prefixes = {
        f"{side} prefix": spec.options[f"{side}_prefix"]
        for side in ("document", "query")
        if f"{side}_prefix" in spec.options
    }
    width = {"width": spec.width} if prefixes else {}
    return {"embedder": spec.kind, "model": spec.model, **prefixes, **width}
