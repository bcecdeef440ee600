"""Documents of files that are given to an index, read as its own are.

Into an index of files they come just as `build files` would have them, with its columns, chunks and cut,
and with the same ids where they lie in its folder. Into any other, JSON lines and Parquet come with all
that their records have (`corpora.records`), and any other file as `build files` has it by default.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from resizable_search.corpora.base import Document
from resizable_search.corpora.files.corpus import FilesCorpus
from resizable_search.corpora.files.stdin import StdinCorpus
from resizable_search.corpora.files.text import TextCorpus
from resizable_search.corpora.files.walking import absolute, base_of, lies_in
from resizable_search.corpora.records import open_records

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
