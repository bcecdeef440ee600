"""Build an index, add documents to it, and compact it: each is an update that is resumable at any point.

If more rows are asked for, a finished index is extended by a further part; the index of a mutable corpus
follows it instead. A fitted embedder (lsa) reads the whole corpus first, is fitted and frozen, and embeds
then. A compaction keeps the order, ids and full vectors of rows, bit for bit; the rest is derived again.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from resizable_search.build.ingest import Ingest, Match, as_new, by_content, by_id, with_vector
from resizable_search.build.journal import ROWS_AT_ONCE, PendingDocument, discard
from resizable_search.build.report import BuildReport, finish
from resizable_search.build.update import Update
from resizable_search.build.workspace import (
    CHANGE,
    BuildOptions,
    EarlierBuild,
    Workspace,
    choose_dims,
    lock_build,
    lock_index,
    refuse_differences,
)
from resizable_search.corpora.base import Block, Corpus, Document
from resizable_search.corpora.inputs import AddedCorpus, Input, TextsCorpus, reopened
from resizable_search.corpora.vectors import VectorsCorpus
from resizable_search.embedders import registry
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
from resizable_search.specs import DEFAULT_EMBEDDER, CorpusSpec, EmbedderSpec, Json
from resizable_search.store.layout import NAMES, Home, home_of, unfinished_build
from resizable_search.store.manifest import Manifest, read_manifest
from resizable_search.store.reader import IndexReader
from resizable_search.store.writer import was_index


def build(
    corpus: Corpus,
    embedder: Embedder,
    home: Home,
    options: BuildOptions,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> BuildReport:
    """Build an index of a corpus, resume a build that was stopped, or bring a finished index up to date.

    `stop`, once set, ends the build at its next step. Raises UsageError, CorpusError, EmbedderError,
    BuildStateError (an unfinished build of other options), IndexBusyError, StorageError and
    BuildStoppedError; then what was embedded is safe, and the same call resumes.
    """
    with lock_build(home, options, progress, stop) as workspace:
        return Build(workspace, corpus, embedder).run()


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
    the one that knows the model), with `embedder_options` such as `base_url`. Without both, the index is
    searched with vectors. Options of requests and texts have no effect.

    Raises UsageError, CorpusError (a wrong file, of which nothing is kept), EmbedderMismatchError (another
    width than the model's), BuildStateError, IndexBusyError, StorageError and BuildStoppedError.
    """
    stop = stop or threading.Event()
    with closing(VectorsCorpus(file, documents, progress=progress, stop=stop)) as corpus:
        made_by = registry.embedder_of_vectors(model, embedder, corpus.npy.width, file, embedder_options)
        with lock_build(home, options, progress, stop) as workspace:
            return Build(workspace, corpus, made_by).run()


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
    and `url`; other keys are metadata. `embedder` is one, or a kind such as `nomic`. None: that of the index,
    or of a new one `wordllama`, which works on this machine. `home` is as for `open_index`. Raises what
    `build` does.
    """
    home_folder, options = home_of(home), BuildOptions(name, dims=tuple(dims) if dims else None)
    earlier = EarlierBuild.find(home_folder, options) if embedder is None else None
    if isinstance(embedder, Embedder):
        made_by = embedder
    elif earlier is not None:
        made_by = earlier.embedder(home_folder, name)
    else:
        made_by = registry.create(embedder or DEFAULT_EMBEDDER)
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

    `replace`: a document replaces the one with its id. `embedder` None: the index's own. Of the options,
    those of requests and texts count. Raises UsageError, CorpusError (an id that is repeated or taken),
    EmbedderError, IndexBusyError, StorageError, BuildStateError and BuildStoppedError; then the index is as
    it was, what was embedded is safe, and the same call resumes.
    """
    with lock_index(folder, options, progress, stop) as workspace:
        folder = workspace.folder
        base = read_manifest(folder)
        spec = EmbedderSpec.from_json(base.embedder)
        if embedder is None:
            embedder = own_embedder(workspace, spec)
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
                f"{folder.name} follows {base.label}: what is not there goes again with the next `update`"
            )
        match = partial(by_id, replaces=replace)
        return finish(workspace, Update(workspace, corpus, embedder, "add", base, match).run())


def follow(
    folder: Path,
    *,
    shrink: bool = False,
    options: BuildOptions | None = None,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> BuildReport:
    """Read the corpus of the index in `folder` again: embed what is new, and delete what is gone.

    Everything else is as its manifest says. `shrink`: more than half of the documents may go. Of the options,
    those of requests count. Raises CorpusError for a corpus that is gone, empty or cannot be read again,
    ShrinkError, EmbedderError, IndexBusyError, StorageError, BuildStateError and BuildStoppedError; then the
    index is as it was, what was embedded is safe, and the same call resumes.
    """
    with lock_index(folder, options, progress, stop) as workspace:
        build = following(workspace, progress)
        update = build.update(build.followed)
        update.may_shrink = shrink
        return finish(workspace, update.run())


def following(workspace: Workspace, progress: Progress) -> "Build":
    """The build that the manifest of an index describes: its corpus as it is now, its limit, its embedder."""
    base = read_manifest(workspace.folder)
    corpus = reopened(workspace.folder.name, base.corpus, progress)
    embedder = own_embedder(workspace, EmbedderSpec.from_json(base.embedder))
    limit = None if base.source.exhausted else base.source.read
    options = replace(workspace.options, limit=limit)
    return Build(replace(workspace, options=options), corpus, embedder, base)


def own_embedder(workspace: Workspace, spec: EmbedderSpec) -> Embedder:
    """The embedder of the index. Raises CredentialsError if nobody named the address that gets its key."""
    embedder = registry.reopen(spec, workspace.folder / NAMES.embedder)
    TrustedEndpoints(workspace.home.trusted).require(embedder, workspace.folder.name)
    return embedder


def compact(
    folder: Path, progress: Progress = SILENT, stop: threading.Event | None = None
) -> tuple[Manifest, Manifest]:
    """Make the index in `folder` one part without deleted rows; readers see the old or the new one.

    Returns its manifest before and after: the same if there was nothing to do. Raises RsearchError if every
    document is deleted, BuildStateError if another build will replace the index, BuildStoppedError,
    IndexBusyError, and StorageError if there is no room.
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
            corpus = StoredCorpus(reader)
            new = Update(workspace, corpus, embedder, "compact", old, corpus.as_stored).run().manifest
        if not is_whole:  # logs and reports of earlier builds may name deleted documents
            state = workspace.home.state(name)
            for path in (*state.glob(f"{NAMES.log}*"), state / NAMES.report):
                path.unlink(missing_ok=True)
        return old, new


@dataclass(frozen=True, slots=True)
class Build:
    """A request of a build, and the update that answers it. `followed`: the index that follows the corpus."""

    workspace: Workspace
    corpus: Corpus
    embedder: Embedder
    followed: Manifest | None = None

    def run(self) -> BuildReport:
        """Make the index what is asked for. Raises what `build` says."""
        workspace = self.workspace
        self.check_options()
        if workspace.options.restart:
            discard(workspace.unfinished)
        workspace.recover()
        base = self.base()
        if base is not None and self.is_complete(base):  # an extension that was begun is paid for, and stays
            return BuildReport(workspace.options.name, workspace.folder, base)
        update = self.update(base)
        if self.embedder.embeds and update.is_build and update.file is None:
            self.check_embedder()
        TrustedEndpoints(workspace.home.trusted).add(self.embedder)
        return finish(workspace, update.run())

    def update(self, base: Manifest | None) -> Update:
        """What is to be done: a new index, more rows than `base` has, or what has changed in the corpus."""
        limit, corpus = self.workspace.options.limit, self.corpus
        making = self.workspace, corpus, self.embedder
        if base is not None and (self.followed or corpus.is_mutable):
            return Update(*making, "follow", base, by_content, limit=limit)
        match: Match = as_new
        if isinstance(corpus, VectorsCorpus):
            match = with_vector
            if limit is not None and limit >= corpus.npy.rows:
                limit = None
        return Update(*making, "build", base, match, partial(self.request, base), limit)

    def check_options(self) -> None:
        """Refuse dimensions that the embedder does not have, and to overwrite a folder that is not an index.

        Raises UsageError and BuildStateError.
        """
        dims = self.workspace.options.dims or ()
        most = self.embedder.widest or self.embedder.spec.width
        for dim in dims:
            if not 1 <= dim <= most:
                raise UsageError(f"`dims`: {dim} is not within 1 to {most}, the embedder's most")
        folder = self.workspace.folder
        if folder.exists() and not was_index(folder):
            raise BuildStateError(f"{folder} exists and is no index: move it away, or choose another `name`")

    def check_embedder(self) -> str:
        """Check that the embedder can work, and say why. Raises EmbedderError.

        Without a key for a new index, the error names the embedder that needs none.
        """
        workspace = self.workspace
        try:
            return self.embedder.check()
        except NoCredentialsError as error:
            exists = workspace.folder.exists() or unfinished_build(workspace.unfinished)
            if exists and not workspace.options.restart:
                raise
            other = f"add `embedder={DEFAULT_EMBEDDER}`, which needs none"
            raise NoCredentialsError(error.message, other, *error.remedies) from None

    def base(self) -> Manifest | None:
        """The index that is brought up to date; None if a new one is made.

        The corpus adopts what an earlier run resolved. Raises BuildStateError, IndexFormatError.
        """
        if self.followed is not None:
            return self.followed
        options, folder = self.workspace.options, self.workspace.folder
        begun = None if options.restart else unfinished_build(self.workspace.unfinished)
        if begun is not None and begun.request is not None and begun.request != CHANGE:
            self.corpus.pin(begun.request)
        if not folder.exists() or options.restart or (begun is not None and begun.replaces):
            return None
        manifest = read_manifest(folder)
        spec = EmbedderSpec.from_json(manifest.embedder)
        self.corpus.pin(manifest.corpus)
        asked = self._made_of()
        if asked["model"] is None:
            asked["model"] = spec.model
        stored = {**manifest.corpus, **_embedder_request(spec)}
        if options.dims is not None:
            dims = choose_dims(options.dims, manifest.full_dim)
            asked["dims"], stored["dims"] = list(dims), list(manifest.dims)
        for key in self.corpus.adjustable:
            asked.pop(key, None)
            stored.pop(key, None)
        refuse_differences(options, "was built", asked, stored)
        return manifest

    def is_complete(self, manifest: Manifest) -> bool:
        """Whether an index of a corpus that never changes holds all that is asked for."""
        limit, source = self.workspace.options.limit, manifest.source
        is_all = source.exhausted or (limit is not None and source.read >= limit)
        return is_all and not self.corpus.is_mutable

    def request(self, base: Manifest | None) -> dict[str, Any]:
        """What must be the same for an unfinished build to be resumed, by name."""
        dims = self.workspace.options.dims
        return {
            **self._made_of(),
            "dims": None if dims is None else sorted(dims),
            "extends rows read": None if base is None else base.source.read,
        }

    def _made_of(self) -> dict[str, Any]:
        """The corpus and the embedder that are asked for; the model is None if fitting makes it."""
        if self.embedder.needs_fit:
            return {**self.corpus.spec().to_json(), "embedder": self.embedder.kind, "model": None}
        return {**self.corpus.spec().to_json(), **_embedder_request(self.embedder.spec)}


def _embedder_request(spec: EmbedderSpec) -> dict[str, Any]:
    """What a request says of the embedder: its kind and model, and prefixes, which make other vectors."""
    prefixes = {
        f"{side} prefix": spec.options[f"{side}_prefix"]
        for side in ("document", "query")
        if f"{side}_prefix" in spec.options
    }
    width = {"width": spec.width} if prefixes else {}
    return {"embedder": spec.kind, "model": spec.model, **prefixes, **width}


class StoredCorpus(Corpus):
    """The documents of an index that are not deleted, in order."""

    kind = "stored"

    def __init__(self, reader: IndexReader) -> None:
        self._reader = reader
        self._rows = reader.live_rows().tolist()
        self.label = reader.folder.name

    def spec(self) -> CorpusSpec:
        """The kind alone."""
        return CorpusSpec(self.kind, {})

    def size_hint(self) -> int:
        """The number of documents."""
        return len(self._rows)

    def as_stored(self, _: Ingest, document: PendingDocument) -> PendingDocument:
        """The document as it is, with the vector of its row."""
        return replace(document, source=self._rows[document.seq])

    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """The documents, from the first on."""
        for start in range(0, len(self._rows), ROWS_AT_ONCE):
            some = self._rows[start : start + ROWS_AT_ONCE]
            stored = map(self._reader.documents(some).__getitem__, some)
            documents = [Document(d.id, d.title, d.url, d.text, d.metadata) for d in stored]
            yield Block(documents, start + len(some))
