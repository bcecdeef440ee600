"""Update an index to what it was built from, by what its manifest says."""

import glob
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from resizable_search.build.build import Build
from resizable_search.build.dry_run import DryRun, dry_run
from resizable_search.build.report import BuildReport, Changes, finish
from resizable_search.build.workspace import BuildOptions, lock_index
from resizable_search.corpora.base import Corpus
from resizable_search.embedders import registry
from resizable_search.embedders.base import Embedder
from resizable_search.embedders.registry import TrustedEndpoints
from resizable_search.errors import CorpusError, IndexFormatError, ShrinkError
from resizable_search.progress import SILENT, Progress
from resizable_search.specs import EmbedderSpec
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import Manifest, read_manifest

NOT_FOLLOWED = {
    "hub": "it holds a fixed state of a dataset: its build command with a larger `limit` extends it",
    "vectors": "its vectors came from a file: give all of them to `build vectors`",
    "texts": "its texts came from Python: give all of them to build_index",
    "-": "its documents came from stdin: give all of them to its build command",
}
"""By the kind of a corpus, why it cannot be read again, and what to do instead."""


def follow(
    folder: Path,
    *,
    shrink: bool = False,
    options: BuildOptions | None = None,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> BuildReport:
    """Read the corpus of the index in `folder` again: embed what is new, and delete what is gone.

    `shrink`: more than half of the documents may go. Of the options, those of requests count. Raises
    CorpusError for a corpus that is gone, empty or cannot be read again, ShrinkError, EmbedderError,
    IndexBusyError, StorageError, BuildStateError and BuildStoppedError; then the index is as it was, what was
    embedded is safe, and the same call resumes.
    """
    with lock_index(folder, options, progress, stop) as workspace:
        base, name = read_manifest(workspace.folder), workspace.folder.name
        corpus, embedder = _reopened(workspace.folder, base, progress)

        def check_changes(changes: Changes | None) -> None:
            if changes is not None and 2 * changes.removed > base.documents:
                what = f"{changes.removed:,} of the {base.documents:,} documents of {name}"
                raise ShrinkError(f"delete {what}, which {corpus.label} no longer has{changes.exclusions}")

        workspace = replace(workspace, options=_limited(workspace.options, base))
        update = Build(workspace, corpus, embedder).update(base, follows=True)
        if not shrink:
            update.check_changes = check_changes
        return finish(workspace, update.run())


def dry_follow(folder: Path, options: BuildOptions, progress: Progress = SILENT) -> DryRun:
    """What `follow` would do; nothing is written or billed. Raises as it would, but no ShrinkError."""
    folder = folder.resolve()
    base = read_manifest(folder)
    corpus, embedder = _reopened(folder, base, progress)
    return dry_run(corpus, embedder, Home(folder.parent), _limited(options, base), progress, base)


def _limited(options: BuildOptions, base: Manifest) -> BuildOptions:
    """The options, with the limit that the index was built with, if the corpus had more."""
    return replace(options, limit=None if base.source.exhausted else base.source.read)


def _reopened(folder: Path, manifest: Manifest, progress: Progress) -> tuple[Corpus, Embedder]:
    """The corpus and the embedder of the index in `folder`."""
    corpus = _corpus(folder.name, manifest.corpus, progress)
    embedder = registry.reopen(EmbedderSpec.from_json(manifest.embedder), folder / NAMES.embedder)
    TrustedEndpoints(Home(folder.parent).trusted).require(embedder, folder.name)
    return corpus, embedder


def _corpus(name: str, spec: Mapping[str, Any], progress: Progress) -> Corpus:
    """The corpus of a manifest as it is now. Raises CorpusError if it is gone, or cannot be read again."""
    kind, options = spec.get("kind"), {key: value for key, value in spec.items() if key != "kind"}
    try:
        paths = [options["path"]] if kind == "beir" else options.get("paths", [])
        if why := NOT_FOLLOWED.get("-" if paths == ["-"] else str(kind)):
            raise CorpusError(f"{name} cannot be updated: {why}")
        for path in paths:
            if not os.path.lexists(path) and not glob.has_magic(path):
                raise CorpusError(
                    f"{name} follows {path}, which is gone: put it back, or build another index"
                )
        if kind == "files":
            from resizable_search.corpora.files import FilesCorpus

            return FilesCorpus(**options, progress=progress)
        if kind == "pydoc":
            from resizable_search.corpora.pydoc import PydocCorpus

            return PydocCorpus(options["chars"], root=options.get("root"))
        if kind == "beir":
            from resizable_search.corpora.beir import BeirCorpus

            return BeirCorpus(paths[0], chars=options["chars"], progress=progress)
    except (TypeError, KeyError):
        pass
    raise IndexFormatError(
        f"{name} cannot be updated, since this rsearch does not know its corpus: upgrade rsearch, or build "
        "the index again"
    )
