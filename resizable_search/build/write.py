"""The end of an update: its rows as they are stored, and the manifest of an index of one part."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resizable_search.arrays import NpyWriter
from resizable_search.build.journal import Journal
from resizable_search.build.workspace import Workspace, checksums
from resizable_search.corpora.base import Corpus
from resizable_search.corpora.inputs import VectorsCorpus
from resizable_search.engine import vectors
from resizable_search.engine.vectors import Floats
from resizable_search.errors import RsearchError
from resizable_search.specs import Checkpoint, EmbedderSpec
from resizable_search.store.documents import write_documents
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import Manifest, Part
from resizable_search.store.reader import IndexReader
from resizable_search.store.writer import derive_all, list_files
from resizable_search.text import clipped, counted, listed

NAMED_ZEROS = 3
"""The zero vectors whose documents a note names."""

Rows = Iterator[NDArray[np.float32]]
"""Blocks of (n, width) float32, in the order of the journal's documents."""


def rows_of_answers(journal: Journal, spec: EmbedderSpec, reader: IndexReader | None) -> Rows:
    """The answers, prepared; a document with a source gets a copy of that row of the index."""
    for sources, answers in journal.blocks(spec.width):
        is_copied = np.array([source is not None for source in sources])
        rows = np.empty((len(sources), spec.width), np.float32)
        rows[~is_copied] = vectors.prepare(answers, spec.width, centred=spec.centred)
        if reader is not None and is_copied.any():
            copied = [source for source in sources if source is not None]
            rows[is_copied] = reader.vectors(np.array(copied, np.int64))
        yield rows


def rows_of_file(journal: Journal, spec: EmbedderSpec, file: VectorsCorpus, first: int) -> Rows:
    """The file's rows from `first` on, prepared. Raises CorpusError if it has been changed."""
    for sources, _ in journal.blocks(spec.width):
        raw = file.npy.read(first, first + len(sources))
        first += len(sources)
        yield vectors.prepare(raw, spec.width, centred=spec.centred)
    file.make_sure_unchanged()


def write_part(
    journal: Journal, dims: Sequence[int], rows: Rows, workspace: Workspace, mean: Floats | None
) -> Part:
    """Write the rows, the documents and what follows from them into the journal's folder of new files.

    `mean`: that of the index's first part; None: this is the first part.

    The journal keeps their checksums, which tell later whether they were put in place.
    """
    staged, full, count = journal.staged, dims[-1], journal.rows
    workspace.log.stage("writing", None, "files")
    journal.clear_staged()
    at, zeros = 0, 0
    named: list[str] = []
    with NpyWriter(staged / NAMES.vectors(full), (count, full)) as file:
        for block in rows:
            workspace.check_stop()
            file.write(block, at)
            found = np.flatnonzero(~block.any(axis=1)) + at // full
            zeros += len(found)
            named += [clipped(journal.id_at(int(row))) for row in found[: NAMED_ZEROS - len(named)]]
            at += block.size
    if zeros:
        are = "is a zero vector" if zeros == 1 else "are zero vectors"
        ids = listed(named, NAMED_ZEROS, zeros)
        workspace.log.note(f"{counted(zeros, 'row')} {are} ({ids}); kept as is")
    copy = workspace.unfinished / NAMES.documents_copy
    write_documents(staged / NAMES.documents, copy, journal.copy_documents)
    workspace.log.stage("deriving", count, "rows")
    names = derive_all(staged, count, dims, mean, {NAMES.vectors(full)}, workspace.log)
    part = Part("", count, list_files(staged, [NAMES.vectors(full), *names, NAMES.documents]))
    workspace.check_stop()
    journal.set(placing=checksums(part))
    return part


def new_manifest(
    staged: Path, part: Part, dims: tuple[int, ...], corpus: Corpus, spec: EmbedderSpec, source: Checkpoint
) -> Manifest:
    """The manifest of a new index, with the state of a fitted embedder that lies in `staged`."""
    state = staged / NAMES.embedder
    names = sorted(f"{NAMES.embedder}/{path.name}" for path in state.iterdir()) if state.is_dir() else []
    return Manifest(
        rows=part.rows,
        dims=dims,
        corpus=corpus.spec().to_json(),
        label=corpus.label,
        embedder=spec.to_json(),
        source=source,
        parts=(part,),
        files=list_files(staged, names),
        fitted_rows=part.rows if names else 0,
    )


def compacted_manifest(staged: Path, part: Part, reader: IndexReader) -> Manifest:
    """The next manifest of an index that becomes one part; its embedder's files are copied into `staged`.

    Raises RsearchError if these are damaged.
    """
    base = reader.manifest
    for name in base.files:
        (staged / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(reader.folder / name, staged / name)
    if list_files(staged, list(base.files)) != base.files:
        raise RsearchError(
            f"the files of {reader.name}'s embedder are not as they were written: look with "
            f"`verify {reader.name}`"
        )
    # The last id must not name a deleted document.
    source = base.source if base.documents == base.rows else replace(base.source, last_id="")
    fitted_rows = int(np.count_nonzero(reader.live_rows() < base.fitted_rows))
    return base.next_generation(rows=part.rows, parts=(part,), source=source, fitted_rows=fitted_rows)
