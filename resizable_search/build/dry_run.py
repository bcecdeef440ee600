"""What a build would do, cost and take, without writing or billing anything."""

import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, cast

from resizable_search.build.build import Build
from resizable_search.build.ingest import as_pending
from resizable_search.build.journal import Journal
from resizable_search.build.report import Changes
from resizable_search.build.update import Update
from resizable_search.build.workspace import (
    BuildOptions,
    Workspace,
    check_name,
    choose_dims,
    refuse_differences,
)
from resizable_search.corpora.base import Block, Corpus
from resizable_search.embedders.base import Embedder
from resizable_search.errors import RsearchError
from resizable_search.progress import SILENT, LoggedProgress, Progress
from resizable_search.store.layout import NAMES, Home, unfinished_build
from resizable_search.store.writer import array_bytes
from resizable_search.system import free_bytes

CHARS_A_TOKEN = 4.0
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
class DryRun:
    """What a build would do. `state`: what it finds; `documents`: how many it would read in all.

    `safe` of them are embedded already. State `follows`: the index is brought up to date with its corpus by
    these `changes`, and `texts` of them have no vector yet. None: cannot be known beforehand. `requests`,
    `tokens` and `minutes` are of what is not yet embedded. `tokens`, the size of documents.sqlite and
    `peak_bytes` (the most that the build takes while it runs) are estimated from the first `sampled`
    documents. `files`: bytes by name, the largest first. `billed`: what the dry run itself cost, '' if
    nothing.
    """

    name: str
    folder: Path
    corpus: str
    embedder: str
    state: State
    documents: int | None
    safe: int
    sampled: int
    requests: int | None
    batch_size: int
    tokens: int | None
    requests_per_minute: float | None
    minutes: float | None
    files: dict[str, int]
    peak_bytes: int
    free_bytes: int
    billed: str
    findings: tuple[DryRunFinding, ...]
    changes: Changes | None = None
    texts: int | None = None

    @property
    def fits(self) -> bool:
        """Whether the disk has room for it."""
        return self.peak_bytes <= self.free_bytes

    @property
    def ok(self) -> bool:
        """Whether the build can begin."""
        return self.fits and all(finding.ok for finding in self.findings)


@dataclass(frozen=True, slots=True)
class _Sample:
    """The documents that were read: how many, and their mean characters and bytes; `whole`: all there are."""

    count: int = 0
    chars: float = 0.0
    bytes: float = 0.0
    whole: bool = False


def dry_run(
    corpus: Corpus, embedder: Embedder, home: Home, options: BuildOptions, progress: Progress = SILENT
) -> DryRun:
    """What `build` would do with the same arguments; nothing is written or billed.

    Raises UsageError, BuildStateError and IndexFormatError as it would.
    """
    check_name(options.name)
    workspace = Workspace(home, options, LoggedProgress(progress), threading.Event())
    build = Build(workspace, corpus, embedder)
    build.check_dims()
    findings = (_finding("corpus", corpus.check), _finding("embedder", embedder.check))
    reachable = findings[0].ok
    build.refuse_foreign_folder()
    base = build.base() if reachable else None
    update = build.update(base) if reachable else None
    unfinished = None if options.restart else unfinished_build(workspace.unfinished)
    read = safe = base.source.read if base else 0
    sample, changes = _Sample(), None
    documents: int | None = read
    new: int | None = 0
    rows: int | None = 0
    state: State = "complete"
    if update is not None and not update.is_build:
        state = "follows"
        changes, documents, new, rows, sample = _compare(update)
    elif base is None or not build.is_complete(base):
        replaces = options.restart or (unfinished is not None and unfinished.replaces)
        state = "extends" if base else "replaces" if replaces and workspace.folder.exists() else "new"
        if unfinished is not None:
            state, safe = "goes on", read + unfinished.safe
            if update is not None and unfinished.request is not None:
                refuse_differences(options.name, "was begun", update.request(), unfinished.request)
        sample = _sample(corpus, options.limit) if reachable else sample
        if sample.whole:
            documents = sample.count
        else:
            size = corpus.size_hint() if reachable else None
            documents = min((count for count in (options.limit, size) if count is not None), default=None)
        new = None if documents is None else max(0, documents - safe)
        rows = None if documents is None else documents - read
    per_minute = options.requests_per_minute or embedder.requests_per_minute
    requests = tokens = None
    if embedder.remote and new is not None:
        requests = -(-new // embedder.batch_size)
        tokens = int(new * sample.chars / CHARS_A_TOKEN)
    files: dict[str, int] = {}
    answers = 0
    if rows:
        dims = base.dims if base else choose_dims(options.dims, embedder.widest or embedder.spec.width)
        files = array_bytes(rows, dims)
        files[NAMES.documents] = int(rows * (sample.bytes + ROW_BYTES))
        answers = 4 * dims[-1] * rows
        if changes is None and embedder.max_state_bytes:
            files[f"{NAMES.embedder}/"] = embedder.max_state_bytes
    return DryRun(
        name=options.name,
        folder=workspace.folder,
        corpus=corpus.label,
        embedder=embedder.kind,
        state=state,
        documents=documents,
        safe=safe,
        sampled=sample.count,
        requests=requests,
        batch_size=embedder.batch_size,
        tokens=tokens,
        requests_per_minute=per_minute,
        minutes=requests / per_minute if requests is not None and per_minute else None,
        files=dict(sorted(files.items(), key=lambda item: -item[1])),
        peak_bytes=sum(files.values()) + 2 * files.get(NAMES.documents, 0) + answers,
        free_bytes=free_bytes(home.path),
        billed=embedder.check_costs,
        findings=findings,
        changes=changes,
        texts=None if changes is None else new,
    )


def _compare(update: Update) -> tuple[Changes | None, int, int, int, _Sample]:
    """What following the corpus would do: changes, documents read, texts without a vector, new rows, sizes.

    Only a temporary folder is written.
    """
    with tempfile.TemporaryDirectory() as folder, closing(Journal(Path(folder))) as journal:
        changes, read = update.compare(journal)
        journal.copy_answered(update.workspace.unfinished)
        (texts, chars), rows = journal.to_embed(), journal.rows
        sizes = _Sample(rows, chars / max(1, texts), journal.document_bytes() / max(1, rows))
        return changes, read, texts, rows, sizes


def _sample(corpus: Corpus, limit: int | None) -> _Sample:
    """Read some documents of a remote corpus, or all of one on this machine."""
    most = SAMPLE if corpus.is_remote else None
    if limit is not None:
        most = limit if most is None else min(most, limit)
    count = chars = size = 0
    with closing(cast("Generator[Block]", corpus.blocks())) as blocks:
        documents = (document for block in blocks for document in block.documents)
        for document in islice(documents, most):
            d = as_pending(count, document)
            count += 1
            chars += len(d.text)
            size += sum(len(part.encode()) for part in (d.id, d.id, d.title, d.url, d.metadata, d.text))
    whole = not corpus.is_remote or (most is not None and count < most)
    return _Sample(count, chars / max(1, count), size / max(1, count), whole)


def _finding(what: str, check: Callable[[], str]) -> DryRunFinding:
    try:
        return DryRunFinding(what, True, check())
    except RsearchError as error:
        return DryRunFinding(what, False, str(error))
