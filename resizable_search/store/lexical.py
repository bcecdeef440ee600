"""The lexical tier of a part: which words are in which rows, derived from documents.sqlite.

It is written in bounded memory: some documents at a time are counted, sorted by term and spilled to a
temporary file; then all runs are merged, one share of the terms at a time.
"""

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.arrays import NpyWriter, map_array, npy_bytes
from resizable_search.engine.lexical import HEADING, TITLE, Postings, term_hash, terms_of, words
from resizable_search.progress import SILENT, Progress
from resizable_search.store.documents import open_documents
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import Part, damaged
from resizable_search.text import BACK, clipped

RUN_CHARACTERS = 1_000_000  # characters of documents that are counted at once
CACHED_CHARACTERS = 40_000_000  # of words whose terms are remembered: each takes some 100 bytes more
WORD_CHARACTERS = 50  # characters that a remembered word counts for besides its own
SHARE_SHIFT, SHARES = np.uint64(58), np.arange(65)  # terms are merged in 64 shares, by their highest 6 bits
MOST_COUNTED = 255  # the count of a term that a row has at least as often
POSTING = np.dtype([("term", "<u8"), ("row", "<u4"), ("count", "u1")])
DTYPES = ("<u8", "<i8", "<u4", "|u1", "<u4")  # of the files, in the order of `NAMES.lexical` and `Postings`
HEADER = npy_bytes((0,), "<u4")  # bytes before the numbers, the same for every one of these files


def map_postings(folder: Path, part: Part, remedy: str = BACK) -> Postings | None:
    """The tier of a part in this folder; None if it has none. Raises IndexFormatError with the remedy."""
    files = lexical_files(part).items()
    arrays = [map_array(folder / name, shape, dtype, remedy) for name, (shape, dtype) in files]
    return Postings(*arrays) if arrays else None


def lexical_files(part: Part) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every array of the tier, by its file's name: the shape follows from the size."""
    return {
        name: ((max(0, part.files[name].bytes - HEADER) // np.dtype(dtype).itemsize,), dtype)
        for name, dtype in zip(NAMES.lexical, DTYPES, strict=True)
        if name in part.files
    }


def derive_lexical(folder: Path, target: Path, rows: int, progress: Progress = SILENT) -> tuple[str, ...]:
    """Derive the tier of the documents in `folder` into `target`. Returns the names of its files."""
    path = folder / NAMES.documents
    with closing(open_documents(path, rows)) as connection:
        try:
            return _derive(connection, target, rows, progress)
        except (sqlite3.DatabaseError, ValueError, RecursionError) as error:
            raise damaged(path, clipped(str(error))) from None


def _derive(connection: sqlite3.Connection, target: Path, rows: int, progress: Progress) -> tuple[str, ...]:
    if connection.execute("SELECT 1 FROM texts WHERE text <> '' LIMIT 1").fetchone() is None:
        return ()
    progress.stage("indexing words", rows, "documents")
    query = "SELECT title, metadata, text FROM documents JOIN texts USING (row) ORDER BY documents.row"
    records = connection.execute(query)
    runs, lengths, total = [], [], 0
    with tempfile.TemporaryFile(dir=target) as spill:
        for postings, own in TermCounter().runs(map(_fields, records)):
            spill.write(postings.tobytes())
            runs.append(total + np.searchsorted(postings["term"] >> SHARE_SHIFT, SHARES))
            lengths.append(own)
            total += len(postings)
            progress.advance(len(own))
        spill.flush()
        _merge(target, spill.fileno(), runs, total, np.concatenate(lengths))
    return NAMES.lexical


def _fields(record: tuple[str, str, str]) -> tuple[str, str, str]:
    title, metadata, text = record
    heading = json.loads(metadata).get("heading", "") if '"heading"' in metadata else ""
    return title, heading if isinstance(heading, str) else "", text


def _merge(
    target: Path, spill: int, runs: Sequence[NDArray[np.int64]], total: int, lengths: NDArray[np.uint32]
) -> None:
    """Write the files from `total` postings in runs, each of which begins a share of the terms at `runs`."""
    terms, starts = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    at = 0
    with ExitStack() as stack:

        def opened(number: int, length: int) -> NpyWriter:
            return stack.enter_context(NpyWriter(target / NAMES.lexical[number], (length,), DTYPES[number]))

        rows, counts = opened(2, total), opened(3, total)
        for begins, ends in pairwise(np.transpose(runs).tolist()):
            parts = [
                os.pread(spill, (end - begin) * POSTING.itemsize, begin * POSTING.itemsize)
                for begin, end in zip(begins, ends, strict=True)
            ]
            postings = np.frombuffer(b"".join(parts), POSTING)
            postings = postings[np.argsort(postings["term"], kind="stable")]
            own, first = np.unique(postings["term"], return_index=True)
            terms.append(own)
            starts.append(at + first)
            rows.write(postings["row"], at)
            counts.write(postings["count"], at)
            at += len(postings)
        starts.append(np.array([total]))
        others: list[tuple[int, NDArray[Any]]]
        others = [(0, np.concatenate(terms)), (1, np.concatenate(starts)), (4, lengths)]
        for number, values in others:
            opened(number, len(values)).write(values, 0)


class TermCounter(dict[str, int]):
    """Counts the terms of documents. A word leads to the number of its term, or below 0 to several."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[str, int] = {}
        self._hashes: list[int] = []
        self._several: list[list[int]] = [[]]
        self._characters = 0

    def __missing__(self, word: str) -> int:
        numbers = []
        for term in terms_of(word):
            number = self._numbers.setdefault(term, len(self._hashes))
            if number == len(self._hashes):
                self._hashes.append(term_hash(term))
            numbers.append(number)
        self._characters += (1 + len(numbers)) * WORD_CHARACTERS + 2 * len(word)
        if len(numbers) > 1:
            self._several.append(numbers)
            numbers = [1 - len(self._several)]
        self[word] = numbers[0]
        return numbers[0]

    def runs(
        self, documents: Iterable[tuple[str, str, str]]
    ) -> Iterator[tuple[NDArray[np.void], NDArray[np.uint32]]]:
        """The postings by term and row, and the lengths, of (title, headings, text), some at a time."""
        start, characters = 0, 0
        numbers: list[int] = []
        sizes: list[int] = []
        for document in documents:
            before = len(numbers)
            for field, times in zip(document, (TITLE, HEADING, 1), strict=True):
                own = list(map(self.__getitem__, words(field)))
                if own and min(own) < 0:
                    own = [n for one in own for n in ((one,) if one >= 0 else self._several[-one])]
                numbers += own * times
            sizes.append(len(numbers) - before)
            characters += sum(map(len, document))
            if characters >= RUN_CHARACTERS:
                yield self._run(numbers, sizes, start)
                start += len(sizes)
                numbers, sizes, characters = [], [], 0
                if self._characters > CACHED_CHARACTERS:
                    self.clear()
                    self.__init__()  # type: ignore[misc]  # forget all words
        yield self._run(numbers, sizes, start)

    def _run(
        self, numbers: Sequence[int], sizes: Sequence[int], start: int
    ) -> tuple[NDArray[np.void], NDArray[np.uint32]]:
        """The postings and lengths of documents from row `start` on, of so many terms each."""
        lengths = np.array(sizes, np.uint32)
        rows = np.repeat(np.arange(start, start + len(sizes)), lengths)
        keys, counts = np.unique(np.array(numbers, np.int64) << 32 | rows, return_counts=True)
        postings = np.empty(len(keys), POSTING)
        postings["term"] = np.array(self._hashes, np.uint64)[keys >> 32]
        postings["row"] = keys & 0xFFFFFFFF
        postings["count"] = counts.clip(max=MOST_COUNTED)
        return postings[np.argsort(postings["term"], kind="stable")], lengths
