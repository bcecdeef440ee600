"""Build an index of vectors from a .npy file, resumable at any point.

The rows are stored as in every index: normalised, centred if their model asks for it, with smaller dimensions
derived. Every row is kept, whether its document has a text or not.
"""

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from resizable_search.build.build import Build
from resizable_search.build.ingest import Ingest, as_pending
from resizable_search.build.journal import Journal
from resizable_search.build.report import BuildReport
from resizable_search.build.workspace import BuildOptions, check_name, lock_build
from resizable_search.corpora.base import Document
from resizable_search.corpora.vectors import VectorsCorpus
from resizable_search.embedders import registry
from resizable_search.embedders.base import UNKNOWN_MODEL, Embedder, PrecomputedEmbedder
from resizable_search.embedders.models import find
from resizable_search.embedders.registry import TrustedEndpoints
from resizable_search.engine import vectors
from resizable_search.errors import CorpusError, EmbedderMismatchError, RsearchError, UsageError
from resizable_search.progress import SILENT, Progress
from resizable_search.specs import Checkpoint
from resizable_search.store.layout import Home

_ZEROS, _FIRST_ZERO = "zeros", "first zero"
"""Keys of the journal: how many rows are zero vectors, and the first of them."""


def build_vectors(
    file: Path,
    home: Home,
    options: BuildOptions,
    *,
    documents: Path | None = None,
    model: str | None = None,
    embedder: str | None = None,
    embedder_options: Mapping[str, str | int | None] | None = None,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> BuildReport:
    """Build an index of the rows of a .npy file, resume a build that was stopped, or extend the index.

    `file` holds (n, width) float16, float32 or float64; row i of `documents` (JSON lines or Parquet)
    describes its row i. `model` made the vectors; `embedder` is the kind that embeds queries with it (None:
    the one that knows the model; without a model, the index is searched with vectors), with
    `embedder_options` such as `base_url`. Options of requests and texts have no effect. `stop`, once set,
    ends the build at its next step.

    Raises UsageError, CorpusError (a wrong file, of which nothing is kept), EmbedderMismatchError (another
    width than the model's), BuildStateError, IndexBusyError, StorageError and BuildStoppedError.
    """
    check_name(options.name)
    stop = stop or threading.Event()
    with closing(VectorsCorpus(file, documents, progress=progress, stop=stop)) as corpus:
        made_by = model_embedder(model, embedder, corpus.npy.width, file, embedder_options)
        with lock_build(home, options, progress) as log:
            TrustedEndpoints(home.trusted).add(made_by)
            return _VectorsBuild(home, options, log, stop, corpus=corpus, embedder=made_by).run()


def model_embedder(
    model: str | None,
    kind: str | None,
    width: int,
    file: Path,
    options: Mapping[str, str | int | None] | None = None,
) -> Embedder:
    """The embedder that made the (n, width) vectors of `file`, from the arguments of `build_vectors`.

    Raises UsageError, and EmbedderMismatchError for another width than the model's.
    """
    if kind is None and model is not None:
        kind = registry.kind_of(model)
    if kind is None or kind == PrecomputedEmbedder.kind:
        return PrecomputedEmbedder(model=model or UNKNOWN_MODEL, width=width)
    if registry.embedder_class(kind).needs_fit:
        raise UsageError(
            f"{kind} learns from the texts of a corpus, and cannot have made these vectors: "
            "leave `embedder` out, or name another"
        )
    arguments: dict[str, str | int | None] = dict(options or {})
    if model is not None and find(model) is None and "width" in registry.parameters(kind):
        arguments["width"] = width  # otherwise only the model could tell
    embedder = registry.create(kind, model, arguments)
    spec = embedder.spec
    if spec.width != width:
        raise EmbedderMismatchError(
            f"{file} holds vectors of {width} numbers, and those of {spec.model} have {spec.width}: "
            "give its full vectors, or name the model that made these (or none) with `model`"
        )
    return embedder


@dataclass(slots=True, kw_only=True)
class _VectorsBuild(Build):
    """A build whose rows are in a file."""

    verb: ClassVar[str] = "stored"
    corpus: VectorsCorpus

    def check(self) -> None:
        """Check nothing: no text is embedded."""

    def ingest(self, journal: Journal, start: Checkpoint) -> Ingest:
        limit = self.options.limit
        if limit is not None and limit >= self.corpus.npy.rows:
            limit = None
        return _VectorsIngest(self.corpus, journal, start, limit, False, self.embedder)

    def fill(self, journal: Journal, ingest: Ingest) -> None:
        rows = min(self.options.limit or self.corpus.npy.rows, self.corpus.npy.rows) - ingest.start.read
        self.make_sure_of_room(rows)
        self.progress.stage("storing", rows, "rows")
        self.progress.advance(journal.rows)
        with closing(ingest.read()) as reading:
            for count in reading:
                self.added += count
                self.progress.advance(count)
                self.check_stop()
        self.corpus.make_sure_unchanged()
        if zeros := journal.get(_ZEROS, 0):
            label, first = self.corpus.label, f"row {journal.get(_FIRST_ZERO):,}"
            many = f"{zeros:,} rows of {label} are zero vectors (the first is {first}); kept as is"
            self.progress.note(many if zeros > 1 else f"{first} of {label} is a zero vector; kept as is")

    def holds_nothing(self, journal: Journal, error: RsearchError) -> bool:
        # The same files would fail at the same row, and corrected ones are other files.
        return isinstance(error, CorpusError) or not journal.rows


@dataclass(slots=True)
class _VectorsIngest(Ingest):
    """Reads documents together with their vectors; there is nothing to embed."""

    corpus: VectorsCorpus
    embedder: Embedder

    def take(self, documents: Sequence[Document], first: int, after: Checkpoint) -> None:
        spec = self.embedder.spec
        raw = self.corpus.vectors(first, first + len(documents))
        rows = vectors.prepare(raw, spec.width, centred=spec.centred)
        pending = [as_pending(seq, document) for seq, document in enumerate(documents, first)]
        values: dict[str, Any] = {"stream": asdict(after)}
        zero = np.flatnonzero(~rows.any(axis=1))
        if len(zero):
            values[_ZEROS] = self.journal.get(_ZEROS, 0) + len(zero)
            values[_FIRST_ZERO] = self.journal.get(_FIRST_ZERO, first + int(zero[0]))
        try:
            self.journal.commit_documents(pending, rows, spec.width, values)
        except sqlite3.IntegrityError:
            seen: dict[str, int] = {}
            for document in pending:
                row = self.journal.ids.row_of(document.id)
                row = seen.setdefault(document.id, document.seq) if row is None else row
                if row != document.seq:
                    raise CorpusError(
                        f"the documents of row {row:,} and row {document.seq:,} both have the id "
                        f"{document.id!r}: give each an id of its own, or leave the ids out"
                    ) from None
            raise self.journal.damaged("rows are missing") from None
