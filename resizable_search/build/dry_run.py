"""What a build would do, cost and take, found out without writing or billing anything."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, cast

from resizable_search.build.building import Building
from resizable_search.build.ingest import as_pending
from resizable_search.build.report import Changes, Comparison
from resizable_search.corpora.base import Block, Corpus
from resizable_search.embedders.base import Embedder
from resizable_search.errors import RsearchError
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import Manifest
from resizable_search.store.unfinished import Unfinished, look
from resizable_search.store.writer import array_bytes
from resizable_search.system import free_bytes

CHARS_A_TOKEN = 4.0
"""Of English text: OpenAI's rule of thumb, and about what BERT's word pieces come to."""

SAMPLE = 200
"""Documents of a remote corpus that are read to know how long its texts are."""

ROW_BYTES = 60
"""What SQLite adds to a document, in two tables and an index of ids."""


@dataclass(frozen=True, slots=True)
class DryRunFinding:
    """Whether something that a build needs is in order, and why."""

    what: str
    ok: bool
    words: str


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a build would do. `state`: what it finds; `documents`: how many it would read in all.

    `safe` of them are embedded already. State `follows`: the index is brought to what its corpus holds
    now, by these `changes`; `texts` of them have no vector yet. None stands for what cannot be known
    beforehand. `requests`, `tokens` and `minutes` are of what is still to be embedded; `tokens`, the
    size of documents.sqlite and `peak_bytes`, the most that the build takes while it goes on, are
    estimated from the texts of the first `sampled` documents. `files` are bytes by name. `billed`: what
    the look itself cost, '' if nothing.
    """

    name: str
    folder: Path
    corpus: str
    embedder: str
    state: Literal["new", "goes on", "replaces", "extends", "complete", "follows"]
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
        """Whether there is room for it."""
        return self.peak_bytes <= self.free_bytes

    @property
    def ok(self) -> bool:
        """Whether nothing stands against it."""
        return self.fits and all(finding.ok for finding in self.findings)


@dataclass(frozen=True, slots=True)
class _Sample:
    """How many documents were looked at; their mean length in characters and in bytes with all they have.

    `whole`: that was the whole corpus.
    """

    count: int = 0
    chars: float = 0.0
    bytes: float = 0.0
    whole: bool = False


def dry_run(
    building: Building, embedder: Embedder | None, compare: Callable[[Manifest], Comparison] | None = None
) -> DryRun:
    """What `building.run()` would do; `embedder` None where nothing is to be embedded.

    `compare` finds out what an index that follows its corpus is behind.

    Raises UsageError, and BuildStateError where the build would be refused.
    """
    building.check_dims()
    options, corpus = building.options, building.corpus
    unfinished = None if options.restart else look(building.building)
    replaces = options.restart or (unfinished is not None and unfinished.replaces)
    findings = [_finding("corpus", corpus.check)]
    if embedder is not None:
        findings.append(_finding("embedder", embedder.check))
    building.refuse_foreign_folder()
    reachable = findings[0].ok
    if building.folder.exists() and not replaces and reachable:
        building.base = building.finished_index()
    base = building.base
    follows = base is not None and corpus.is_mutable
    complete = base is not None and (follows or building.is_complete(base))
    if unfinished is not None and not complete and reachable:
        building.check_begun(unfinished.request)
    sample = _sample(corpus, options.limit) if reachable and not complete else _Sample()
    documents = _documents(corpus, options.limit, sample, reachable)
    state, safe = _state(building, unfinished, replaces, complete)
    new = 0 if complete else documents if documents is None else max(0, documents - safe)
    rows = documents if documents is None else documents - (base.source.read if base else 0)
    behind = compare(base) if compare and base is not None and follows and reachable else None
    if behind is not None:
        new, rows, documents = behind.texts, behind.rows, behind.read
        sample = _Sample(rows, behind.chars / max(1, new), behind.bytes / max(1, rows))
    per_minute = None if embedder is None else options.requests_per_minute or embedder.requests_per_minute
    asks = embedder is not None and embedder.remote and new is not None
    requests = -(-new // embedder.batch_size) if asks and embedder and new is not None else None
    idle = complete and behind is None
    files = {} if idle or not rows else _files(building, rows, sample, None if behind else embedder)
    return DryRun(
        name=options.name,
        folder=building.folder,
        corpus=corpus.label,
        embedder="" if embedder is None else embedder.kind,
        state="follows" if follows else state,
        documents=documents if base is None or not idle else base.source.read,
        safe=safe,
        sampled=sample.count,
        requests=requests,
        batch_size=0 if embedder is None else embedder.batch_size,
        tokens=int(new * sample.chars / CHARS_A_TOKEN) if requests is not None and new is not None else None,
        requests_per_minute=per_minute,
        minutes=requests / per_minute if requests is not None and per_minute else None,
        files=files,
        peak_bytes=sum(files.values()) + 2 * files.get(NAMES.documents, 0),
        free_bytes=free_bytes(building.home.path),
        billed="" if embedder is None else embedder.check_costs,
        findings=tuple(findings),
        changes=None if behind is None else behind.changes,
        texts=None if behind is None else behind.texts,
    )


def _state(
    building: Building, unfinished: Unfinished | None, replaces: bool, complete: bool
) -> tuple[Literal["new", "goes on", "replaces", "extends", "complete"], int]:
    """What the build finds, and how many documents are embedded already."""
    held = building.base.source.read if building.base else 0
    if complete:
        return "complete", held
    if unfinished is not None:
        return "goes on", held + unfinished.safe
    if building.base is not None:
        return "extends", held
    return ("replaces" if replaces and building.folder.exists() else "new"), 0


def _documents(corpus: Corpus, limit: int | None, sample: _Sample, reachable: bool) -> int | None:
    """How many documents would be read in all; None if nobody knows."""
    if sample.whole:
        return sample.count
    there = corpus.size_hint() if reachable else None
    known = [count for count in (limit, there) if count is not None]
    return min(known, default=None)


def _sample(corpus: Corpus, limit: int | None) -> _Sample:
    """Read some documents of a remote corpus, or all of one on this machine."""
    most = SAMPLE if corpus.is_remote else None
    if limit is not None:
        most = limit if most is None else min(most, limit)
    count = chars = size = 0
    with closing(cast("Generator[Block]", corpus.blocks())) as blocks:
        documents = (document for block in blocks for document in block.documents)
        for document in islice(documents, most):
            found = as_pending(count, document)
            count += 1
            chars += len(found.text)
            size += sum(
                len(part.encode()) for part in (found.id, found.id, found.title, found.url, found.metadata)
            ) + len(found.text.encode())
    whole = not corpus.is_remote or (most is not None and count < most)
    return _Sample(count, chars / max(1, count), size / max(1, count), whole)


def _files(building: Building, rows: int, sample: _Sample, embedder: Embedder | None) -> dict[str, int]:
    """The files of the new index or part with their sizes, the largest first."""
    found = array_bytes(rows, building.dims)
    found[NAMES.documents] = int(rows * (sample.bytes + ROW_BYTES))
    if embedder is not None and embedder.most_state_bytes:
        found[f"{NAMES.embedder}/"] = embedder.most_state_bytes
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _finding(what: str, look: Callable[[], str]) -> DryRunFinding:
    try:
        return DryRunFinding(what, True, look())
    except RsearchError as error:
        return DryRunFinding(what, False, str(error))
