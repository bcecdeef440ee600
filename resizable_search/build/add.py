"""Take documents of files (`giving`) into an index: they become a further part.

What that costs is what the new documents cost: of the parts that are there, only ids are looked up. A
document that the index has just so is passed over; one whose id another has is refused, or replaces it.

Documents of files that are given to an index, read as its own are.

Into an index of files they come just as `build files` would have them, with its columns, chunks and cut,
and with the same ids where they lie in its folder. Into any other, JSON lines and Parquet come with all
that their records have (`corpora.records`), and any other file as `build files` has it by default.
"""

import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from resizable_search.build.ingest import as_pending, no_text, reasons_of
from resizable_search.build.journal import PendingDocument
from resizable_search.build.options import BuildOptions
from resizable_search.build.pending import Pending
from resizable_search.build.report import BuildReport, Changes
from resizable_search.build.update import Changing
from resizable_search.build.workspace import changing
from resizable_search.corpora.base import Document
from resizable_search.corpora.files.corpus import FilesCorpus, StdinCorpus, TextCorpus
from resizable_search.corpora.files.discovery import absolute, base_of, lies_in
from resizable_search.corpora.sidecar import open_records
from resizable_search.embedders import registry
from resizable_search.embedders.base import Embedder
from resizable_search.errors import CorpusError, EmbedderMismatchError, UsageError
from resizable_search.progress import SILENT, Progress, logged
from resizable_search.specs import Checkpoint, EmbedderSpec
from resizable_search.store.documents import read_documents
from resizable_search.store.ids import PartIds, ids_of
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import read_manifest

RECORDS = (".jsonl", ".ndjson", ".json", ".parquet")
"""Files that hold whole documents, whatever the index is made of."""

Given = Path | BinaryIO
"""A file or folder, or a stream of JSON lines."""


def documents_of(given: Sequence[Given], held: Mapping[str, Any]) -> Iterator[tuple[str, Document]]:
    """Each document with where it comes from, in order; `held` is the spec of the index's corpus as JSON.

    One that cannot be read has no text and says why. Raises UsageError, and CorpusError for a record of
    another kind of index that makes no sense.
    """
    is_of_files = held["kind"] == TextCorpus.kind
    options = {key: value for key, value in held.items() if key not in ("kind", "paths")}
    how = options if is_of_files else {"chars": held.get("chars")}
    files: list[Path] = []
    for one in given:
        if not isinstance(one, Path):
            for block in StdinCorpus(one, **how).blocks():
                yield from (("standard input", document) for document in block.documents)
        elif not is_of_files and one.suffix.lower() in RECORDS:
            for document, _ in open_records(one).read(0, None):
                yield str(one), document
        else:
            files.append(one)
    if files:
        corpus = FilesCorpus(files, within=held["paths"] if is_of_files else (), **how)
        for block in corpus.blocks():
            for document in block.documents:
                yield str(document.metadata.get("path", document.id)), document


def is_foreign(given: Sequence[Given], held: Mapping[str, Any]) -> bool:
    """Whether an index that follows its files is given what does not lie among them."""
    if held["kind"] != TextCorpus.kind:
        return False
    base = base_of(held["paths"])
    return not all(base and isinstance(one, Path) and lies_in(absolute(str(one)), base) for one in given)


AT_ONCE = 500
"""Documents that are looked up together."""


def add(
    folder: Path,
    files: Sequence[Given],
    *,
    replace: bool = False,
    embedder: Embedder | None = None,
    options: BuildOptions | None = None,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> BuildReport:
    """Take the documents of these files and folders, or streams of JSON lines, into the index in `folder`.

    `replace`: a document whose id the index has takes the place of that one. `embedder` None: the one
    that the index was made with. Of the options, those count that concern requests and texts. Raises
    UsageError, CorpusError (an id twice, or one that there is), EmbedderError, IndexBusyError,
    StorageError, BuildStateError and BuildStoppedError; in each case the index is as it was, what was
    embedded is safe, and the same call goes on with it.
    """
    place = folder.resolve()
    options = options or BuildOptions(place.name)
    with changing(folder) as home, ExitStack() as stack:
        log = stack.enter_context(logged(progress, home.state(place.name) / NAMES.log))
        manifest = read_manifest(place)
        return _Adding(
            home=home,
            options=options,
            base=manifest,
            embedder=_embedder_for(place, EmbedderSpec.from_json(manifest.embedder), embedder),
            progress=log,
            stop=stop or threading.Event(),
            stack=stack,
            files=files,
            replaces=replace,
        ).run()


def _embedder_for(folder: Path, spec: EmbedderSpec, given: Embedder | None) -> Embedder:
    found = given or registry.reopen(spec, folder / NAMES.embedder)
    if not found.embeds:
        raise UsageError(
            f"{folder.name} holds vectors that were given, and nothing here embeds texts as they were: "
            "give all of them to `rsearch build vectors`"
        )
    if found.spec.space != spec.space:
        raise EmbedderMismatchError(
            f"{folder.name} was embedded by {spec.model}, and {found.spec.model} cannot add to it: "
            "leave the embedder out"
        )
    return found


@dataclass(slots=True, kw_only=True)
class _Adding(Changing):
    files: Sequence[Given]
    replaces: bool
    reasons: dict[int, str] = field(default_factory=dict)

    def compare(self, work: Pending) -> None:
        """Look each document's id up; one that is there already, as it is, is passed over."""
        self.progress.stage("reading", None, "documents")
        if is_foreign(self.files, self.base.corpus):
            self.progress.note(
                f"{self.options.name} follows {self.base.label}: what is not there goes again when "
                "`rsearch build files` is given again"
            )
        seen: dict[str, str] = {}
        with ids_of(self.folder, self.base) as parts:
            documents = self._documents()
            while some := list(islice(documents, AT_ONCE)):
                self.go_on()
                for file, document in some:
                    if document.id in seen:
                        raise CorpusError(
                            f"{file}: the id {document.id!r} comes twice (before in {seen[document.id]}): "
                            "give each document an id of its own"
                        )
                    seen[document.id] = file
                self._take(work, parts, [document for _, document in some])
                self.progress.advance(len(some))
        if not seen:
            name = self.files[0] if isinstance(self.files[0], Path) else "standard input"
            raise CorpusError(f"{name} has no document: give a file that has some")

    def _take(self, work: Pending, parts: Sequence[PartIds], some: Sequence[PendingDocument]) -> None:
        blank = [d for d in some if not d.text.strip()]
        if blank and self.options.on_bad_text == "fail":
            raise no_text(blank[0], self.reasons)
        coming: list[PendingDocument] = []
        sources: list[int | None] = []
        for document in some:
            found = _find(parts, document.id)
            if found is None:
                if document.text.strip():
                    coming.append(document)
                    sources.append(None)
                continue
            part, row = found
            held = read_documents(part.db, [row], part.path, part.rows)[row]
            if document == as_pending(
                document.seq, Document(held.id, held.title, held.url, held.text, held.metadata)
            ):
                continue
            if not self.replaces:
                raise CorpusError(
                    f"{self.options.name} has another document {document.id!r}: nothing was added; "
                    "take it in its place with --replace, or give it another id"
                )
            if document.text.strip():
                coming.append(document)
                sources.append(part.start + row if held.text == document.text else None)
        work.put(coming, sources)
        work.leave_out_blank(blank, self.reasons)

    def _documents(self) -> Iterator[tuple[str, PendingDocument]]:
        chars: int | None = self.base.corpus.get("chars")
        for seq, (place, document) in enumerate(documents_of(self.files, self.base.corpus)):
            self.reasons |= reasons_of([document], seq)
            incoming = as_pending(seq, document)
            # The index's texts are cut so, if they are.
            yield place, dataclasses.replace(incoming, text=incoming.text[:chars])

    def gone(self, work: Pending) -> list[int]:
        coming = work.coming_ids()
        with ids_of(self.folder, self.base) as parts:
            found = (_find(parts, id_) for id_ in coming)
            return sorted(part.start + row for part, row in filter(None, found)) if self.replaces else []

    def changes(self, work: Pending, gone: int) -> Changes:
        unchanged = self.base.documents - gone
        return Changes(added=work.coming - gone, changed=gone, unchanged=unchanged)

    def source(self, work: Pending) -> Checkpoint:
        """As it was: the corpus itself was not read."""
        return self.base.source


def _find(parts: Sequence[PartIds], id_: str) -> tuple[PartIds, int] | None:
    for part in parts:
        row = part.row_of(id_)
        if row is not None:
            return part, row - part.start
    return None
