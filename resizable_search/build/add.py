"""Add documents of files to an index: they become a further part.

The cost is that of the new documents: of the existing parts, only ids are looked up. Unchanged documents are
skipped. A document with another one's id is refused, or replaces it.

An index of files reads them as its own: with its columns, chunks and cut, and with the same ids if they lie
in its folder. Any other index takes all fields of JSON lines and Parquet (`Sidecar`), and reads
other files by the defaults of an index of files.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from resizable_search.build.change_journal import ChangeJournal
from resizable_search.build.ingest import as_batch, as_pending
from resizable_search.build.report import BuildReport, Changes
from resizable_search.build.update import Change, Outcome
from resizable_search.build.workspace import BuildOptions, lock_index
from resizable_search.corpora.base import Document
from resizable_search.corpora.files.corpus import FilesCorpus, StdinCorpus, TextCorpus
from resizable_search.corpora.files.discovery import absolute, base_of
from resizable_search.corpora.vectors import Sidecar
from resizable_search.embedders import registry
from resizable_search.embedders.base import Embedder
from resizable_search.errors import CorpusError, EmbedderMismatchError, UsageError
from resizable_search.progress import SILENT, Progress, logged
from resizable_search.specs import EmbedderSpec
from resizable_search.store.documents import PartIds, ids_of, row_of
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import read_manifest
from resizable_search.store.reader import IndexReader

RECORDS = (".jsonl", ".ndjson", ".json", ".parquet")
"""Files that hold whole documents, whatever the index is made of."""

AT_ONCE = 500
"""Documents that are looked up together."""

Input = Path | BinaryIO
"""A file or folder, or a stream of JSON lines."""


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
    folder = folder.resolve()
    options, stop = options or BuildOptions(folder.name), stop or threading.Event()
    with lock_index(folder) as home, logged(progress, home.state(folder.name) / NAMES.log) as log:
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
        run = (home, options, log, stop)
        return _Add(*run, base=base, embedder=embedder, inputs=inputs, replaces=replace).run()


@dataclass(slots=True, kw_only=True)
class _Add(Change):
    inputs: Sequence[Input]
    replaces: bool
    names: dict[str, str] = field(default_factory=dict)
    """The input's name by the ids of its documents."""
    replaced: dict[str, int] = field(default_factory=dict)
    """The rows that documents replace, by their ids."""

    def compare(self, journal: ChangeJournal) -> None:
        """Look up the id of each document; unchanged ones are skipped. Raises CorpusError."""
        self.progress.stage("reading", None, "documents")
        stored = self.base.corpus
        paths = [absolute(str(one)) for one in self.inputs if isinstance(one, Path)]
        if stored["kind"] == TextCorpus.kind and (
            len(paths) < len(self.inputs) or not base_of(stored["paths"], paths)
        ):
            self.progress.note(
                f"{self.options.name} follows {self.base.label}: what is not there goes again when "
                "`build files` is given again"
            )
        documents, count = documents_of(self.inputs, stored), 0
        with ids_of(self.folder, self.base) as parts, closing(IndexReader(self.folder)) as reader:
            while block := list(islice(documents, AT_ONCE)):
                self.check_stop()
                self._compare(journal, parts, reader, block, count)
                count += len(block)
                self.progress.advance(len(block))
        if not count:
            name = self.inputs[0] if isinstance(self.inputs[0], Path) else "standard input"
            raise CorpusError(f"{name} has no document: give a file that has some")

    def _compare(
        self,
        journal: ChangeJournal,
        parts: Sequence[PartIds],
        reader: IndexReader,
        block: Sequence[tuple[str, Document]],
        first: int,
    ) -> None:
        strict, chars = self.options.on_bad_text == "fail", self.base.corpus.get("chars")
        batch = as_batch([document for _, document in block], first, strict, chars)
        sources: dict[int, int | None] = {}
        for document in sorted((*batch.documents, *batch.blank), key=lambda document: document.seq):
            name = block[document.seq - first][0]
            if document.id in self.names:
                raise CorpusError(
                    f"{name}: the id {document.id!r} comes twice (before in {self.names[document.id]}): "
                    "give each document an id of its own"
                )
            self.names[document.id] = name
            row, source = row_of(parts, document.id), None
            if row is not None:
                stored = reader.documents([row])[row]
                unchanged = Document(stored.id, stored.title, stored.url, stored.text, stored.metadata)
                if document == as_pending(document.seq, unchanged):
                    continue
                if not self.replaces:
                    raise CorpusError(
                        f"{self.options.name} has another document {document.id!r}: nothing was added; "
                        "replace it with `replace`, or give it another id"
                    )
                self.replaced[document.id] = row
                source = row if stored.text == document.text else None
            sources[document.seq] = source
        journal.put(batch, sources)

    def outcome(self, journal: ChangeJournal) -> Outcome:
        """Delete the rows of replaced documents; the corpus itself was not read."""
        ids = journal.incoming_ids()
        deleted = sorted(self.replaced[id_] for id_ in ids if id_ in self.replaced)
        changed = len(deleted)
        changes = Changes(added=len(ids) - changed, changed=changed, unchanged=self.base.documents - changed)
        return Outcome(deleted, changes, self.base.source)


def documents_of(inputs: Sequence[Input], stored: Mapping[str, Any]) -> Iterator[tuple[str, Document]]:
    """Each document with the name of its input, in order; `stored` is the spec of the index's corpus as JSON.

    A document that cannot be read has no text and says why. Raises UsageError, and CorpusError for a wrong
    record.
    """
    is_of_files = stored["kind"] == TextCorpus.kind
    options = {key: value for key, value in stored.items() if key not in ("kind", "paths")}
    if not is_of_files:
        options = {"chars": stored.get("chars")}
    files: list[Path] = []
    for one in inputs:
        if not isinstance(one, Path):
            for block in StdinCorpus(one, **options).blocks():
                yield from (("standard input", document) for document in block.documents)
        elif not is_of_files and one.suffix.lower() in RECORDS:
            for document, _ in Sidecar(one).read(0, None):
                yield str(one), document
        else:
            files.append(one)
    if files:
        corpus = FilesCorpus(files, within=stored["paths"] if is_of_files else (), **options)
        for block in corpus.blocks():
            for document in block.documents:
                yield str(document.metadata.get("path", document.id)), document
