"""Make an index of vectors that there are already: .npy file -> rows on disk, resumable at any point.

The rows are stored as those of every index are: normalised, centred if their model asks for it, with
the smaller dimensions derived. Every row is kept, whether its document has a text or not.
"""

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from resizable_search.build.building import Building, asked_of
from resizable_search.build.ingest import Ingest, as_pending
from resizable_search.build.journal import PendingDocument, Work
from resizable_search.build.options import BuildOptions, check_name
from resizable_search.build.report import BuildReport
from resizable_search.build.workspace import locked
from resizable_search.corpora.base import Document
from resizable_search.corpora.vectors import VectorsCorpus
from resizable_search.embedders import registry
from resizable_search.embedders.models import find
from resizable_search.embedders.precomputed import UNKNOWN, PrecomputedEmbedder
from resizable_search.embedders.trusted_endpoints import TrustedEndpoints
from resizable_search.engine import vectors
from resizable_search.errors import CorpusError, EmbedderMismatchError, RsearchError, UsageError
from resizable_search.progress import SILENT, Progress
from resizable_search.specs import Checkpoint, EmbedderSpec
from resizable_search.store.layout import Home


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
    """Build an index of the rows of a .npy file, go on with one that was stopped, or extend it.

    `file` holds (n, width) float16, float32 or float64; `documents` (JSON lines or Parquet) describes
    row i of it in its row i. `model` made the vectors, and `embedder` is the kind that embeds queries
    with it (None: the one that knows the model; without one, the index is searched with vectors),
    made with `embedder_options` (an endpoint's `base_url`, say).
    Of the options, those that concern requests and texts mean nothing here. `stop`, once set, ends the
    build at the next step. Raises UsageError, CorpusError (a file that is not as it should be),
    EmbedderMismatchError (another width than the model's), BuildStateError, IndexBusyError,
    StorageError and BuildStoppedError. Nothing of a file that is refused is kept.
    """
    check_name(options.name)
    stop = stop or threading.Event()
    with closing(VectorsCorpus(file, documents, progress=progress, stop=stop)) as corpus:
        spec = model_spec(model, embedder, corpus.npy.width, file, embedder_options)
        with locked(home, options, progress) as (stack, logged):
            if spec.kind != PrecomputedEmbedder.kind:
                TrustedEndpoints(home.trusted).give(registry.reopen(spec, home.path))
            return _Adoption(
                corpus=corpus,
                embedder=spec,
                home=home,
                options=options,
                progress=logged,
                stop=stop,
                stack=stack,
            ).run()


def model_spec(
    model: str | None,
    kind: str | None,
    width: int,
    file: Path,
    options: Mapping[str, str | int | None] | None = None,
) -> EmbedderSpec:
    """The spec of the embedder that made the (n, width) vectors of `file`, as `build_vectors` is told of it.

    Raises UsageError, and EmbedderMismatchError for another width than the model's.
    """
    if kind is None and model is not None:
        kind = registry.kind_of(model)
    if kind is None or kind == PrecomputedEmbedder.kind:
        return PrecomputedEmbedder(model=model or UNKNOWN, width=width).spec
    if registry.embedder_class(kind).needs_fit:
        raise UsageError(
            f"{kind} learns from the texts of a corpus, and cannot have made these vectors: "
            "leave --embedder out, or name another"
        )
    made: dict[str, str | int | None] = dict(options or {})
    if model is not None and find(model) is None and "width" in registry.parameters(kind):
        made["width"] = width  # there is no other way to know, but to ask the model
    spec = registry.create(kind, model, made).spec
    if spec.width != width:
        raise EmbedderMismatchError(
            f"{file} holds vectors of {width} numbers, and those of {spec.model} have {spec.width}: "
            "give its full vectors, or name the model that made these (or none) with --model"
        )
    return spec


@dataclass(slots=True, kw_only=True)
class _Adoption(Building):
    """A build whose rows are in a file."""

    verb: ClassVar[str] = "adopted"
    corpus: VectorsCorpus
    embedder: EmbedderSpec

    @property
    def spec(self) -> EmbedderSpec:
        return self.embedder

    @property
    def asked(self) -> dict[str, Any]:
        return asked_of(self.embedder)

    def intake(self, work: Work, start: Checkpoint) -> Ingest:
        limit = self.options.limit
        if limit is not None and limit >= self.corpus.npy.rows:
            limit = None
        return _RowsIntake(self.corpus, work, start, limit, False, self.embedder)

    def fill(self, work: Work, intake: Ingest) -> None:
        goal = min(self.options.limit or self.corpus.npy.rows, self.corpus.npy.rows)
        self.make_sure_of_room(goal - intake.start.read)
        self.progress.stage("adopting", goal - intake.start.read, "rows")
        self.progress.advance(work.rows)
        with closing(intake.read()) as reading:
            for rows in reading:
                self.added += rows
                self.progress.advance(rows)
                if self.stop.is_set():
                    raise KeyboardInterrupt
        self.corpus.make_sure_unchanged()
        zeros = work.get(_ZEROS, 0)
        if zeros:
            first = f"row {work.get(_FIRST_ZERO):,}"
            self.progress.note(
                f"{first} of {self.corpus.label} has no direction: it is kept as zeros"
                if zeros == 1
                else f"{zeros:,} rows of {self.corpus.label} have no direction (the first is {first}): "
                "they are kept as zeros"
            )

    def is_hopeless(self, work: Work, error: RsearchError) -> bool:
        # The same files would fail at the same row, and mended ones are others.
        return isinstance(error, CorpusError) or not work.rows


@dataclass(slots=True)
class _RowsIntake(Ingest):
    """Takes documents in together with their rows; there is nothing to embed."""

    corpus: VectorsCorpus
    embedder: EmbedderSpec

    def take(self, documents: Sequence[Document], first: int, after: Checkpoint) -> None:
        raw = self.corpus.vectors(first, first + len(documents))
        width = self.embedder.width
        rows = vectors.prepare(raw, width, centred=self.embedder.centred)
        incoming = [as_pending(seq, document) for seq, document in enumerate(documents, first)]
        kept: dict[str, Any] = {"stream": asdict(after)}
        zero = np.flatnonzero(~rows.any(axis=1))
        if len(zero):
            kept[_ZEROS] = self.work.get(_ZEROS, 0) + len(zero)
            kept[_FIRST_ZERO] = self.work.get(_FIRST_ZERO, first + int(zero[0]))
        try:
            self.work.add(incoming, rows, width, kept)
        except sqlite3.IntegrityError:
            raise self._repeated(incoming) from None

    def _repeated(self, incoming: Sequence[PendingDocument]) -> RsearchError:
        found = self.work.first_repeat(incoming)
        if found is None:
            raise CorpusError("the unfinished build is damaged: begin again with --restart")
        document, row = found
        return CorpusError(
            f"the documents of row {row:,} and row {document.seq:,} both have the id {document.id!r}: "
            "give each an id of its own, or leave the ids out"
        )


_ZEROS, _FIRST_ZERO = "zeros", "first zero"
"""What is kept of rows without a direction."""
