"""What a build would do, cost and take, without writing or billing anything."""

import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from resizable_search.build.build import check_embedder, check_options, following, is_complete, requested
from resizable_search.build.journal import Journal
from resizable_search.build.report import Changes
from resizable_search.build.update import Update
from resizable_search.build.workspace import BuildOptions, Workspace, check_name, refuse_differences
from resizable_search.corpora.base import Corpus
from resizable_search.embedders.base import Embedder
from resizable_search.errors import RsearchError
from resizable_search.progress import SILENT, LoggedProgress, Progress
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.writer import array_bytes
from resizable_search.system import free_bytes

SAMPLE = 200  # documents of a remote corpus that are read to estimate the length of its texts
ROW_BYTES = 60  # what SQLite adds to a document, in two tables and an index of ids

State = Literal["new", "goes on", "replaces", "extends", "complete", "follows"]


@dataclass(frozen=True, slots=True)
class DryRun:
    """What an update would do."""

    update: Update
    findings: Mapping[str, str | RsearchError]  # why the corpus and the embedder are in order, or the error
    state: State  # what it finds
    safe: int  # documents that are embedded already
    documents: int | None  # of the corpus, which are read in all; None if that cannot be known beforehand
    texts: int = 0  # to embed
    chars: int = 0  # of these texts
    rows: int = 0  # to write
    bytes: int = 0  # of their documents
    sampled: int = 0  # documents that were read to know this
    changes: Changes | None = None

    @property
    def requests(self) -> int | None:
        """The requests to a service; None if there is none, or their number cannot be known."""
        if not self.update.embedder.remote or self.documents is None:
            return None
        return -(-self.texts // self.update.embedder.batch_size)

    @property
    def files(self) -> dict[str, int]:
        """Bytes by name, the largest first; those of documents and their words are estimated."""
        if not self.rows:
            return {}
        files = array_bytes(self.rows, self.update.dims)
        files[NAMES.documents] = self.bytes + self.rows * ROW_BYTES
        if not self.update.corpus.has_vectors:
            files[f"{NAMES.tiers}/lexical"] = self.bytes // 2
        if self.update.fits and self.update.embedder.max_state_bytes:
            files[f"{NAMES.embedder}/"] = self.update.embedder.max_state_bytes
        return dict(sorted(files.items(), key=lambda item: -item[1]))

    @property
    def peak_bytes(self) -> int:
        """The most that the update takes while it runs, estimated."""
        files, answers = self.files, 4 * self.update.dims[-1] * self.rows
        return sum(files.values()) + 2 * files.get(NAMES.documents, 0) + answers

    @property
    def free_bytes(self) -> int:
        """What the disk has left."""
        return free_bytes(self.update.workspace.home.path)

    @property
    def ok(self) -> bool:
        """Whether the build can begin."""
        errors = [words for words in self.findings.values() if isinstance(words, RsearchError)]
        return not errors and self.peak_bytes <= self.free_bytes


def dry_run(
    corpus: Corpus, embedder: Embedder, home: Home, options: BuildOptions, progress: Progress = SILENT
) -> DryRun:
    """What `build` would do with the same arguments; nothing is written or billed. Raises as it would."""
    check_name(options.name)
    workspace = Workspace(home, options, LoggedProgress(progress))
    check_options(workspace, embedder)
    return _dry_run(Update(workspace, corpus, embedder, limit=options.limit))


def dry_follow(folder: Path, options: BuildOptions, progress: Progress = SILENT) -> DryRun:
    """What `follow` would do; nothing is written or billed. Raises as it would, but no ShrinkError."""
    home = Home(folder.resolve().parent)
    return _dry_run(following(Workspace(home, options, LoggedProgress(progress)), progress))


def _dry_run(update: Update) -> DryRun:
    workspace, corpus, embedder = update.workspace, update.corpus, update.embedder
    findings: dict[str, str | RsearchError] = {}
    embedder_works = partial(check_embedder, workspace, embedder)
    for what, check in (("corpus", corpus.check), ("embedder", embedder_works)):
        try:
            findings[what] = check()
        except RsearchError as error:
            findings[what] = error
    is_reachable = isinstance(findings["corpus"], str)
    if update.kind == "build" and is_reachable:
        update = requested(workspace, corpus, embedder)
    options, unfinished, safe = workspace.options, workspace.begun, update.start.read
    state: State = "extends" if update.base else "new"
    if update.kind != "build":
        state = "follows"
    elif is_complete(update):
        return DryRun(update, findings, "complete", safe, safe)
    elif unfinished is not None:
        state, safe = "goes on", safe + unfinished.safe
        if is_reachable and unfinished.request is not None:
            refuse_differences(options, "was begun", update.request(), unfinished.request)
    elif options.restart and workspace.folder.exists():
        state = "replaces"
    plan = DryRun(update, findings, state, safe, safe)
    if not is_reachable:
        return replace(plan, documents=options.limit, texts=max(0, (options.limit or 0) - safe))
    return _measured(plan)


def _measured(plan: DryRun) -> DryRun:
    """Read the corpus, or some documents of a remote one, into a journal in a temporary folder."""
    update, corpus, start = plan.update, plan.update.corpus, plan.update.start.read
    limit = update.limit
    if corpus.is_remote:
        limit = min(start + SAMPLE, limit or start + SAMPLE)
    with tempfile.TemporaryDirectory() as folder, closing(Journal(Path(folder))) as journal:
        changes, documents = replace(update, limit=limit).compare(journal)
        if update.kind != "build":
            journal.copy_answered(update.workspace.unfinished)
        texts, chars, rows, size = journal.sizes()
    sampled = documents - start
    if update.kind == "build":
        if corpus.is_remote and documents == limit:
            known = [count for count in (update.limit, corpus.size_hint()) if count is not None]
            if not known:
                return replace(plan, documents=None, sampled=sampled)
            documents = min(known)
        texts, scale = max(0, documents - plan.safe), (documents - start) / max(1, sampled)
        chars, rows, size = int(chars / max(1, sampled) * texts), round(rows * scale), round(size * scale)
    plan = replace(plan, documents=documents, sampled=sampled, changes=changes)
    return replace(plan, texts=texts, chars=chars, rows=rows, bytes=size)
