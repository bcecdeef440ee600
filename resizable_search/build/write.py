"""The end of an update: its rows as they are stored, and the manifest of an index of one part."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from resizable_search.arrays import NpyWriter
from resizable_search.build.ingest import Ingest
from resizable_search.build.workspace import Workspace, checksums
from resizable_search.corpora.base import Corpus
from resizable_search.corpora.inputs import VectorsCorpus
from resizable_search.engine import vectors
from resizable_search.engine.vectors import Floats
from resizable_search.specs import Checkpoint, EmbedderSpec
from resizable_search.store.documents import write_documents
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import Manifest, Part
from resizable_search.store.reader import IndexReader
from resizable_search.store.writer import derive, derived_names, list_files
from resizable_search.text import clipped, counted, listed

NAMED_ZEROS = 3  # the zero vectors whose documents a note names


def write_part(
    ingest: Ingest, spec: EmbedderSpec, dims: Sequence[int], workspace: Workspace, mean: Floats | None
) -> Part:
    """Write what was read and answered, and all that follows from it, into the journal's folder of new files.

    `mean`: of the index's first part, if this is another. Raises CorpusError for a changed file of vectors.
    """
    journal, corpus, reader = ingest.journal, ingest.corpus, ingest.reader
    staged, full, count = journal.staged, dims[-1], journal.rows
    workspace.log.stage("writing", None, "files")
    journal.clear_staged()
    at, zeros = 0, 0
    named: list[str] = []
    with NpyWriter(staged / NAMES.vectors(full), (count, full)) as file:
        for documents, answers in journal.blocks(full):
            workspace.check_stop()
            rows = np.empty((len(documents), full), np.float32)
            is_copied = np.array([source is not None for _, source in documents])
            rows[~is_copied] = vectors.prepare(answers, full, centred=spec.centred)
            sources = [row for _, row in documents if row is not None]
            if isinstance(corpus, VectorsCorpus):
                raw = corpus.npy.read(sources[0], sources[-1] + 1)
                rows[:] = vectors.prepare(raw, full, centred=spec.centred)
            elif reader is not None and sources:
                rows[is_copied] = reader.vectors(np.array(sources))
            file.write(rows, at)
            at += rows.size
            empty = np.flatnonzero(~rows.any(axis=1))
            zeros += len(empty)
            named += [clipped(journal.id_of(documents[i][0])) for i in empty[: NAMED_ZEROS - len(named)]]
    if isinstance(corpus, VectorsCorpus):
        corpus.make_sure_unchanged()
    if zeros:
        are = "is a zero vector" if zeros == 1 else "are zero vectors"
        ids = listed(named, NAMED_ZEROS, zeros)
        workspace.log.note(f"{counted(zeros, 'row')} {are} ({ids}); kept as is")
    copy = workspace.unfinished / NAMES.documents_copy
    write_documents(staged / NAMES.documents, copy, journal.copy_documents)
    workspace.log.stage("deriving", count, "rows")
    names = derive(staged, staged, count, dims, derived_names(dims), mean, workspace.log)
    part = Part("", count, list_files(staged, [NAMES.vectors(full), *names, NAMES.documents]))
    workspace.check_stop()
    journal.set(placing=checksums(part))  # they tell later whether the part was put in place
    return part


def new_manifest(
    staged: Path, part: Part, dims: tuple[int, ...], corpus: Corpus, spec: EmbedderSpec, source: Checkpoint
) -> Manifest:
    """The manifest of a new index, with the state of a fitted embedder that lies in `staged`."""
    names = sorted(f"{NAMES.embedder}/{path.name}" for path in (staged / NAMES.embedder).glob("*"))
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
    """The next manifest of an index that becomes one part; its embedder's files are copied into `staged`."""
    base = reader.manifest
    for name in base.files:
        (staged / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(reader.folder / name, staged / name)
    # The last id must not name a deleted document.
    source = base.source if base.documents == base.rows else replace(base.source, last_id="")
    fitted_rows = int(np.count_nonzero(reader.live_rows() < base.fitted_rows))
    return base.next_generation(rows=part.rows, parts=(part,), source=source, fitted_rows=fitted_rows)
