"""Add documents of files to an index: they become a further part.

The cost is that of the new documents: of the existing parts, only ids are looked up. Unchanged documents are
skipped. A document with another one's id is refused, or replaces it.
"""

import threading
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from resizable_search.build.ingest import ById
from resizable_search.build.journal import Journal
from resizable_search.build.report import BuildReport, finish
from resizable_search.build.update import Update
from resizable_search.build.workspace import BuildOptions, lock_index
from resizable_search.corpora.inputs import AddedCorpus, Input
from resizable_search.embedders import registry
from resizable_search.embedders.base import Embedder
from resizable_search.errors import EmbedderMismatchError, UsageError
from resizable_search.progress import SILENT, Progress
from resizable_search.specs import EmbedderSpec
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import read_manifest


def add(
    folder: Path,
    inputs: Sequence[Input],
    *,
    replace: bool = False,
    embedder: Embedder | None = None,
    options: BuildOptions | None = None,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> BuildReport:
    """Add the documents of these files, folders or streams of JSON lines to the index in `folder`.

    `replace`: a document replaces the one with its id. `embedder` None: the index's own. Of the options,
    those of requests and texts count. Raises UsageError, CorpusError (an id that is repeated or taken),
    EmbedderError, IndexBusyError, StorageError, BuildStateError and BuildStoppedError; then the index is as
    it was, what was embedded is safe, and the same call resumes.
    """
    with lock_index(folder, options, progress, stop) as workspace:
        folder = workspace.folder
        base = read_manifest(folder)
        spec = EmbedderSpec.from_json(base.embedder)
        embedder = embedder or registry.reopen(spec, folder / NAMES.embedder)
        if not embedder.embeds:
            raise UsageError(
                f"{folder.name} holds vectors that were given, and nothing here embeds texts as they were: "
                "give all of them to `build vectors`"
            )
        if embedder.spec.space != spec.space:
            raise EmbedderMismatchError(
                f"{folder.name} was embedded by {spec.model}, and {embedder.spec.model} cannot add to it: "
                "leave the embedder out"
            )
        corpus = AddedCorpus(inputs, base.corpus)
        if corpus.is_outside():
            workspace.log.note(
                f"{folder.name} follows {base.label}: what is not there goes again when "
                "`build files` is given again"
            )
        update = Update(
            workspace=workspace,
            corpus=corpus,
            embedder=embedder,
            kind="add",
            base=base,
            matching=partial(ById, folder.name, replaces=replace),
        )
        with closing(Journal(workspace.unfinished)) as journal:
            return finish(workspace, update.run(journal))
