"""Build an index, add documents to it, and compact it: each is an update that is resumable at any point.

If more rows are asked for, a finished index is extended by a further part; the index of a mutable corpus
follows it instead. A compaction keeps the order, ids and full vectors of rows, bit for bit.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from resizable_search.build.ingest import as_stored, by_content, by_id, with_vector
from resizable_search.build.journal import ROWS_AT_ONCE
from resizable_search.build.report import BuildReport, finish
from resizable_search.build.update import Update
from resizable_search.build.workspace import (
    BuildOptions,
    Workspace,
    check_name,
    choose_dims,
    embedder_request,
    lock_build,
    lock_index,
    made_of,
    refuse_differences,
)
from resizable_search.corpora.base import Block, Corpus, Document, gather
from resizable_search.corpora.inputs import AddedCorpus, Input, TextsCorpus, VectorsCorpus, reopened
from resizable_search.embedders import DEFAULT_EMBEDDER, registry
from resizable_search.embedders.base import Embedder, PrecomputedEmbedder
from resizable_search.embedders.registry import TrustedEndpoints
from resizable_search.errors import (
    BuildStateError,
    EmbedderMismatchError,
    NoCredentialsError,
    RsearchError,
    UsageError,
)
from resizable_search.progress import SILENT, Progress
from resizable_search.search.index import Index, open_index
from resizable_search.specs import EmbedderSpec, Json
from resizable_search.store.layout import NAMES, Home, home_of
from resizable_search.store.manifest import Manifest, read_manifest
from resizable_search.store.reader import IndexReader
from resizable_search.store.writer import discard, was_index


def build(
    corpus: Corpus,
    embedder: Embedder,
    home: Home,
    options: BuildOptions,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> BuildReport:
    """Build an index of a corpus, resume a build that was stopped, or bring a finished index up to date.

    `stop`, once set, ends the build. Raises UsageError, CorpusError, EmbedderError, BuildStateError (an
    unfinished build of other options), IndexBusyError, StorageError and BuildStoppedError; then what was
    embedded is safe, and the same call resumes.
    """
    check_name(options.name)
    with lock_build(home, options, progress, stop) as workspace:
        check_options(workspace, embedder)
        if options.restart:
            discard(workspace.unfinished)
        workspace.recover()
        update = requested(workspace, corpus, embedder)
        if update.base is not None and is_complete(update):  # a begun extension is paid for: it stays
            return BuildReport(options.name, workspace.folder, update.base)
        if corpus.shard is not None and embedder.needs_fit:
            learns = f"{embedder.kind} learns from the whole corpus"
            raise UsageError(f"{learns}: leave `shard` out, or choose another `embedder`")
        if embedder.embeds and update.kind == "build" and not corpus.has_vectors:
            check_embedder(workspace, embedder)
        TrustedEndpoints(home.trusted).add(embedder)
        return finish(workspace, update.run())


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
    """As `build`, of the rows of a .npy file: (n, width) float16, float32 or float64.

    Row i of `documents` (JSON lines or Parquet) describes row i. `model` made the vectors; `embedder` is the
    kind that embeds queries with it (None: the one that knows the model). Without both, the index is searched
    with vectors. Raises EmbedderMismatchError for another width than the model's, too.
    """
    stop = stop or threading.Event()
    with closing(VectorsCorpus(file, documents, progress=progress, stop=stop)) as corpus:
        made_by = registry.embedder_of_vectors(model, embedder, corpus.npy.width, file, embedder_options)
        return build(corpus, made_by, home, options, progress, stop)


def build_index(
    name: str,
    texts: Iterable[str | Document | Mapping[str, Any]],
    *,
    embedder: Embedder | str | None = None,
    home: str | Path | None = None,
    dims: Sequence[int] | None = None,
    progress: Progress = SILENT,
) -> Index:
    """Build an index of texts and open it. Called again, it resumes, or brings the index up to date.

    A text is a str, with its position as id, a `Document`, or a mapping with `text` and any of `id`, `title`
    and `url`; other keys are metadata. `embedder` is one, or a kind; None: that of the index, or `wordllama`,
    which works on this machine. `home` is as for `open_index`. Raises what `build` does.
    """
    home_folder, options = home_of(home), BuildOptions(name, dims=tuple(dims) if dims else None)
    folder = home_folder.index(name)
    is_kind = not isinstance(embedder, Embedder) and was_index(folder)
    if is_kind and embedder in (None, read_manifest(folder).embedder["kind"]):
        embedder = own_embedder(folder)
    made_by = embedder if isinstance(embedder, Embedder) else registry.create(embedder or DEFAULT_EMBEDDER)
    build(TextsCorpus(texts), made_by, home_folder, options, progress)
    return open_index(name, home=home_folder.path, embedder=None if made_by.needs_fit else made_by)


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

    `replace`: a document replaces the one with its id, else a taken id is a CorpusError. `embedder` None: the
    index's own. Raises what `build` does; then the index is as it was.
    """
    with lock_index(folder, options, progress, stop) as workspace:
        folder = workspace.folder
        base = read_manifest(folder)
        spec = EmbedderSpec.from_json(base.embedder)
        embedder = embedder or own_embedder(folder)
        if not embedder.embeds:
            given = f"{folder.name} holds vectors that were given"
            raise UsageError(f"{given}, and nothing here embeds texts as they were: use `build vectors`")
        if embedder.spec.space != spec.space:
            other = f"{folder.name} was embedded by {spec.model}, and {embedder.spec.model} cannot add to it"
            raise EmbedderMismatchError(f"{other}: leave the embedder out")
        corpus = AddedCorpus(inputs, base.corpus)
        if corpus.is_outside():
            workspace.log.note(
                f"{folder.name} follows {base.followed}: what is not there goes again with the next `update`"
            )
        match = partial(by_id, replaces=replace)
        return finish(workspace, Update(workspace, corpus, embedder, "add", base, match).run())


def follow(
    folder: Path,
    *,
    shrink: bool = False,
    embedder: Embedder | None = None,
    options: BuildOptions | None = None,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> BuildReport:
    """Read the corpus of the index in `folder` again: embed what is new, and delete what is gone.

    Raises ShrinkError if more than half of it would go without `shrink`, and what `build` does; then the
    index is as it was.
    """
    with lock_index(folder, options, progress, stop) as workspace:
        update = following(workspace, progress, embedder)
        update.may_shrink = shrink
        return finish(workspace, update.run())


def following(workspace: Workspace, progress: Progress, embedder: Embedder | None = None) -> Update:
    """The update that an index's manifest describes: its corpus as it is now, its limit, its embedder."""
    base = read_manifest(workspace.folder)
    corpus = reopened(workspace.folder.name, base.corpus, progress)
    embedder = embedder or own_embedder(workspace.folder)
    limit = None if base.source.exhausted else base.source.read
    return Update(workspace, corpus, embedder, "follow", base, by_content, limit)


def own_embedder(folder: Path) -> Embedder:
    """The embedder of an index. Raises CredentialsError if nobody named the address that gets its key."""
    spec = EmbedderSpec.from_json(read_manifest(folder).embedder)
    embedder = registry.reopen(spec, folder / NAMES.embedder)
    TrustedEndpoints(Home(folder.parent).trusted).require(embedder, folder.name)
    return embedder


def compact(
    folder: Path, progress: Progress = SILENT, stop: threading.Event | None = None
) -> tuple[Manifest, Manifest]:
    """Make the index in `folder` one part without deleted rows. Returns its manifest before and after.

    Raises what `build` does, and RsearchError if every document is deleted.
    """
    with lock_index(folder, None, progress, stop) as workspace:
        old, name = read_manifest(workspace.folder), workspace.folder.name
        is_whole = old.documents == old.rows
        if is_whole and len(old.parts) == 1:
            return old, old
        if not old.documents:
            raise RsearchError(f"every document of {name} is deleted: `remove {name}` deletes the index")
        embedder = PrecomputedEmbedder(width=old.full_dim)
        with closing(IndexReader(workspace.folder)) as reader:
            new = Update(workspace, StoredCorpus(reader), embedder, "compact", old, as_stored).run().manifest
        if not is_whole:  # logs and reports of earlier builds may name deleted documents
            state = workspace.home.state(name)
            for path in (*state.glob(f"{NAMES.log}*"), state / NAMES.report):
                path.unlink(missing_ok=True)
        return old, new


def requested(workspace: Workspace, corpus: Corpus, embedder: Embedder) -> Update:
    """A new index, more rows, or what has changed in the corpus, which adopts what earlier runs resolved."""
    options, begun = workspace.options, workspace.begun
    update = Update(workspace, corpus, embedder, limit=options.limit)
    if isinstance(corpus, VectorsCorpus):
        update.match = with_vector
        if options.limit is not None and options.limit >= corpus.npy.rows:
            update.limit = None
    if begun is not None and begun.request is not None:
        corpus.pin(begun.request)
    if not workspace.folder.exists() or options.restart or (begun is not None and begun.replaces):
        return update
    update.base = base = read_manifest(workspace.folder)
    spec = EmbedderSpec.from_json(base.embedder)
    corpus.pin(base.corpus)
    asked, stored = made_of(corpus, embedder), {**base.corpus, **embedder_request(spec)}
    if asked["model"] is None:
        asked["model"] = spec.model
    if options.dims is not None:
        dims = choose_dims(options.dims, base.full_dim)
        asked["dims"], stored["dims"] = list(dims), list(base.dims)
    for key in corpus.adjustable:
        asked.pop(key, None)
        stored.pop(key, None)
    refuse_differences(options, "was built", asked, stored)
    if corpus.is_mutable:
        update.kind, update.match = "follow", by_content
    return update


def is_complete(update: Update) -> bool:
    """Whether the index has all that is asked for, of a corpus that never changes."""
    if update.base is None or update.corpus.is_mutable:
        return False
    limit, source = update.workspace.options.limit, update.base.source
    return source.exhausted or (limit is not None and source.read >= limit)


def check_options(workspace: Workspace, embedder: Embedder) -> None:
    """Refuse dimensions that the embedder does not have, and to overwrite a folder that is not an index."""
    most = embedder.widest or embedder.spec.width
    for dim in workspace.options.dims or ():
        if not 1 <= dim <= most:
            raise UsageError(f"`dims`: {dim} is not within 1 to {most}, the embedder's most")
    folder = workspace.folder
    if folder.exists() and not was_index(folder):
        raise BuildStateError(f"{folder} exists and is no index: move it away, or choose another `name`")


def check_embedder(workspace: Workspace, embedder: Embedder) -> str:
    """Check that the embedder can work, and say why. Raises EmbedderError, which names one without a key."""
    try:
        return embedder.check()
    except NoCredentialsError as error:
        if not workspace.options.restart and (workspace.folder.exists() or workspace.begun):
            raise
        other = f"add `embedder={DEFAULT_EMBEDDER}`, which needs none"
        raise NoCredentialsError(error.message, other, *error.remedies) from None


class StoredCorpus(Corpus):
    """The documents of an index that are not deleted, in order."""

    kind = "stored"

    def __init__(self, reader: IndexReader) -> None:
        self._reader = reader
        self.label = reader.name

    def size_hint(self) -> int:
        """The number of documents."""
        return self._reader.manifest.documents

    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """The documents, from the first on."""
        stored = self._reader.live_documents()
        documents = (Document(d.id, d.title, d.url, d.text, d.metadata) for d in stored)
        return gather((([document], None) for document in documents), ROWS_AT_ONCE)
