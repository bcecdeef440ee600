"""What a build would do, cost and take, without writing or billing anything."""

import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from resizable_search.build.build import Build, followed_build
from resizable_search.build.journal import Journal
from resizable_search.build.report import Changes
from resizable_search.build.update import Update
from resizable_search.build.workspace import BuildOptions, Workspace, check_name, refuse_differences
from resizable_search.corpora.base import Corpus
from resizable_search.embedders.base import Embedder
from resizable_search.errors import RsearchError
from resizable_search.progress import SILENT, LoggedProgress, Progress
from resizable_search.store.layout import NAMES, Home, unfinished_build
from resizable_search.store.manifest import Manifest, read_manifest
from resizable_search.store.writer import array_bytes
from resizable_search.system import free_bytes

CHARS_A_TOKEN = 4
"""Characters of a token of English text: OpenAI's rule of thumb, and close to BERT's word pieces."""

SAMPLE = 200
"""Documents of a remote corpus that are read to estimate the length of its texts."""

ROW_BYTES = 60
"""What SQLite adds to a document, in two tables and an index of ids."""

State = Literal["new", "goes on", "replaces", "extends", "complete", "follows"]


@dataclass(frozen=True, slots=True)
class DryRunFinding:
    """Whether something that a build needs is in order, and why."""

    what: str
    ok: bool
    words: str


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to read, to embed and to write.

    `documents` of the corpus are read in all, None if that cannot be known beforehand. `texts` of so many
    `chars` are embedded. `rows` are written, with so many `bytes` of documents. `sampled`: the documents
    that were read to know, or to estimate, all this. `changes`: what happens to the documents of an index
    that follows its corpus.
    """

    documents: int | None
    texts: int = 0
    chars: int = 0
    rows: int = 0
    bytes: int = 0
    sampled: int = 0
    changes: Changes | None = None


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a build would do. `state`: what it finds; `safe`: how many documents are embedded already.

    `files`: bytes by name, the largest first; that of the documents is estimated, and so is `peak_bytes`, the
    most that the build takes while it runs.
    """

    name: str
    folder: Path
    corpus: Corpus
    embedder: Embedder
    state: State
    safe: int
    work: Work
    requests_per_minute: float | None
    files: dict[str, int]
    peak_bytes: int
    free_bytes: int
    findings: tuple[DryRunFinding, ...]

    @property
    def requests(self) -> int | None:
        """The requests to a service; None if there is none, or their number cannot be known."""
        if not self.embedder.remote or self.work.documents is None:
            return None
        return -(-self.work.texts // self.embedder.batch_size)

    @property
    def tokens(self) -> int | None:
        """The tokens that a service is sent, estimated."""
        return None if self.requests is None else self.work.chars // CHARS_A_TOKEN

    @property
    def minutes(self) -> float | None:
        """The least minutes that the requests take at the rate limit, if there is one."""
        rate = self.requests_per_minute
        return self.requests / rate if self.requests is not None and rate else None

    @property
    def fits(self) -> bool:
        """Whether the disk has room for it."""
        return self.peak_bytes <= self.free_bytes

    @property
    def ok(self) -> bool:
        """Whether the build can begin."""
        return self.fits and all(finding.ok for finding in self.findings)


def dry_run(
    corpus: Corpus, embedder: Embedder, home: Home, options: BuildOptions, progress: Progress = SILENT
) -> DryRun:
    """What `build` would do with the same arguments; nothing is written or billed.

    Raises UsageError, BuildStateError, IndexFormatError and CorpusError as it would.
    """
    check_name(options.name)
    workspace = Workspace(home, options, LoggedProgress(progress), threading.Event())
    return _dry_run(Build(workspace, corpus, embedder))


def dry_follow(folder: Path, options: BuildOptions, progress: Progress = SILENT) -> DryRun:
    """What `follow` would do; nothing is written or billed. Raises as it would, but no ShrinkError."""
    folder = folder.resolve()
    workspace = Workspace(Home(folder.parent), options, LoggedProgress(progress), threading.Event())
    base = read_manifest(folder)
    return _dry_run(followed_build(workspace, base, progress), base)


def _dry_run(build: Build, followed: Manifest | None = None) -> DryRun:
    """What a build would do, or an update of the index whose manifest is `followed`."""
    workspace, corpus, embedder = build.workspace, build.corpus, build.embedder
    options = workspace.options
    build.check_options()
    findings = (_finding("corpus", corpus.check), _finding("embedder", build.check_embedder))
    is_reachable = findings[0].ok
    base = followed
    if followed is None and is_reachable:
        base = build.base()
    update = build.update(base, follows=followed is not None)
    unfinished = None if options.restart else unfinished_build(workspace.unfinished)
    safe = update.start.read
    state: State = "complete"
    if not update.is_build:
        state = "follows"
    elif base is None or not build.is_complete(base):
        replaces = options.restart or (unfinished is not None and unfinished.replaces)
        state = "extends" if base else "replaces" if replaces and workspace.folder.exists() else "new"
        if unfinished is not None:
            state, safe = "goes on", safe + unfinished.safe
            if is_reachable and unfinished.request is not None:
                refuse_differences(options, "was begun", update.request(), unfinished.request)
    if state == "complete":
        work = Work(safe)
    elif is_reachable:
        work = _work(update, safe)
    else:
        work = Work(options.limit, texts=max(0, (options.limit or 0) - safe))
    files: dict[str, int] = {}
    if work.rows:
        files = array_bytes(work.rows, update.dims)
        files[NAMES.documents] = work.bytes + work.rows * ROW_BYTES
        if update.fits and embedder.max_state_bytes:
            files[f"{NAMES.embedder}/"] = embedder.max_state_bytes
    answers = 4 * update.dims[-1] * work.rows
    return DryRun(
        name=options.name,
        folder=workspace.folder,
        corpus=corpus,
        embedder=embedder,
        state=state,
        safe=safe,
        work=work,
        requests_per_minute=options.requests_per_minute or embedder.requests_per_minute,
        files=dict(sorted(files.items(), key=lambda item: -item[1])),
        peak_bytes=sum(files.values()) + 2 * files.get(NAMES.documents, 0) + answers,
        free_bytes=free_bytes(workspace.home.path),
        findings=findings,
    )


def _work(update: Update, safe: int) -> Work:
    """Read the corpus, or the next documents of a remote one, into a journal in a temporary folder."""
    corpus, start, limit = update.corpus, update.start.read, update.limit
    if corpus.is_remote:
        limit = min(start + SAMPLE, limit or start + SAMPLE)
    with tempfile.TemporaryDirectory() as folder, closing(Journal(Path(folder))) as journal:
        changes, documents = replace(update, limit=limit).compare(journal)
        if not update.is_build:
            journal.copy_answered(update.workspace.unfinished)
        texts, chars, rows, size = journal.sizes()
    sampled = documents - start
    if not update.is_build:
        return Work(documents, texts, chars, rows, size, sampled, changes)
    if corpus.is_remote and documents == limit:
        known = [count for count in (update.limit, corpus.size_hint()) if count is not None]
        if not known:
            return Work(None, sampled=sampled)
        documents = min(known)
    texts, scale = max(0, documents - safe), (documents - start) / max(1, sampled)
    chars = int(chars / max(1, sampled) * texts)
    return Work(documents, texts, chars, round(rows * scale), round(size * scale), sampled)


def _finding(what: str, check: Callable[[], str]) -> DryRunFinding:
    try:
        return DryRunFinding(what, True, check())
    except RsearchError as error:
        return DryRunFinding(what, False, str(error))
