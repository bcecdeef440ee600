"""The terms of a text, and scores of rows by the words of a query (BM25).

A term is a word without case and accents. A plural counts as its singular. A name made of several words
(`HTTPStatus`, `read_csv`, `os.path.join`) is a term, and so is each of its words. Scripts without spaces
give their characters and pairs of neighbours.

A row's score is the BM25 sum of the query's terms, divided by the most that any row could have: 0 … 1. Each
part stores counts and lengths alone. What depends on the whole corpus is taken from the live rows of all
parts at query time, so the scores of several parts are those of one, to the bit.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine.vectors import Floats, Rows

K1, B = 0.9, 0.4
TITLE, HEADING = 5, 3
"""How often a word of the title or of the headings counts."""
MOST_TERMS = 1000
"""Terms of a query, the first ones of a longer one."""
LONGEST_NAME = 200
"""Characters of a word that is split into its parts."""
FREQUENT = 5000
"""A term is not scored if more rows than this and more than half of all have it, and another is rarer."""

_MARKS = re.compile("[\u0300-\u036f\u0591-\u05c7\u0640\u064b-\u065f\u0670]+")
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
)
_SPACED = rf"[^\W{_UNSPACED}]+(?:[\u0900-\u0dff]+[^\W{_UNSPACED}]*)*"  # vowel signs of India are no letters
_WORD = re.compile(rf"[{_UNSPACED}]+|{_SPACED}(?:\.{_SPACED})*")
_ASCII_WORD = re.compile(r"\w+(?:\.\w+)*", re.ASCII)
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_PARTS = re.compile(r"[A-Z]{2,}s?(?![a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\W_A-Za-z0-9]+")


def words(text: str) -> list[str]:
    """The words of a text in order, without accents, their case as it is."""
    if text.isascii():
        return _ASCII_WORD.findall(text)
    folded = unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFKD", text)))
    return _WORD.findall(folded)


def terms_of(word: str) -> list[str]:
    """The terms of a word: its own, and for a name those of its parts."""
    if _IS_UNSPACED.match(word):
        return [*word, *map("".join, zip(word, word[1:], strict=False))]
    if len(word) > LONGEST_NAME:
        return [word.casefold()]
    parts = _PARTS.findall(word) if word.isascii() else [part for part in re.split("[._]+", word) if part]
    if parts == [word]:
        return [_singular(word.casefold())]
    return [word.casefold(), *(_singular(part.casefold()) for part in parts)]


def _singular(word: str) -> str:
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    return f"{word[:-3]}y" if word.endswith("ies") and len(word) > 4 else word[:-1]


def term_hash(term: str) -> int:
    """What stands for a term in a file: the first 8 bytes of its BLAKE2b, little-endian."""
    return int.from_bytes(blake2b(term.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def query_terms(text: str) -> list[int]:
    """The different terms of a query as ascending hashes."""
    chosen: dict[str, None] = {}
    for word in words(text):
        chosen.update(dict.fromkeys(terms_of(word)))
        if len(chosen) >= MOST_TERMS:
            break
    return sorted(map(term_hash, list(chosen)[:MOST_TERMS]))


@dataclass(frozen=True, slots=True)
class Postings:
    """The terms of a part's rows.

    `terms` (t,) uint64: ascending hashes. Term i is in `rows[starts[i]:starts[i + 1]]`, ascending uint32, as
    often as `counts` uint8 says (255: or more). `starts` is (t + 1,) int64. `lengths` (n,) uint32: the number
    of terms of each row. A title's and headings' terms count `TITLE` and `HEADING` times in both.
    """

    terms: NDArray[np.uint64]
    starts: NDArray[np.int64]
    rows: NDArray[np.uint32]
    counts: NDArray[np.uint8]
    lengths: NDArray[np.uint32]

    def of(self, term: int) -> tuple[Rows, NDArray[np.uint8]]:
        """The rows that have a term, and how often. Raises ValueError if the arrays are damaged."""
        at = int(np.searchsorted(self.terms, np.uint64(term)))
        if at == len(self.terms) or self.terms[at] != term:
            return np.empty(0, np.int64), np.empty(0, np.uint8)
        begin, end = self.starts[at : at + 2].tolist()
        rows = self.rows[begin:end].astype(np.int64)
        if not 0 <= begin < end <= len(self.rows) or int(rows.max()) >= len(self.lengths):
            raise ValueError("its postings make no sense")
        return rows, self.counts[begin:end]


class WordScores(NamedTuple):
    """The `scores` (c,) float32 of the `rows` (c,), ascending, that have a word, and the bytes read."""

    scores: Floats
    rows: Rows
    read: int

    def of(self, rows: Rows) -> Floats:
        """The scores of these rows (r,), 0 without a word: (r,) float32."""
        if not len(self.rows):
            return np.zeros(len(rows), np.float32)
        at = np.searchsorted(self.rows, rows).clip(max=len(self.rows) - 1)
        return np.where(self.rows[at] == rows, self.scores[at], np.float32(0))


class LexicalIndex:
    """The postings of all parts, and `masks` of each part's rows that are not deleted (None: all)."""

    def __init__(self, parts: Sequence[Postings], masks: Sequence[NDArray[np.bool_] | None]) -> None:
        self._parts = parts
        self._masks = masks
        self._starts = np.cumsum([0, *(len(part.lengths) for part in parts)]).tolist()

    @cached_property
    def _live(self) -> tuple[int, NDArray[np.float64]]:
        """The number of live rows; and for each row K1 (1 - B + B length / mean length)."""
        lengths = np.concatenate([part.lengths for part in self._parts]).astype(np.float64)
        count, total = 0, 0.0
        for part, mask in zip(self._parts, self._masks, strict=True):
            own = part.lengths if mask is None else part.lengths[mask]
            count, total = count + len(own), total + float(own.sum(dtype=np.float64))
        return count, K1 * (1 - B + B * lengths / max(1.0, total / max(1, count)))

    def knows(self, text: str) -> bool:
        """Whether a live row has a word of the text. Raises ValueError if the arrays are damaged."""
        return any(len(self._postings(term)[0]) for term in query_terms(text))

    def scores(self, text: str, selected: Sequence[NDArray[np.bool_]] | None = None) -> WordScores:
        """The scores of all rows that have a word of the text.

        `selected`: masks of the parts' rows that may be returned. Raises ValueError for damaged arrays.
        """
        count, norms = self._live
        terms = [(rows, counts) for rows, counts in map(self._postings, query_terms(text)) if len(rows)]
        limit = max(FREQUENT, count // 2)
        chosen = [(rows, counts) for rows, counts in terms if len(rows) <= limit] or terms
        total, sums = 0.0, np.zeros(self._starts[-1])
        for rows, counts in chosen:
            weight = math.log1p((count - len(rows) + 0.5) / (len(rows) + 0.5))
            total += weight
            often = counts.astype(np.float64)
            sums[rows] += weight * (often / (often + norms[rows]))
        if selected is not None:
            sums *= np.concatenate(selected)
        rows = np.flatnonzero(sums)
        read = sum(rows.nbytes // 2 + counts.nbytes for rows, counts in chosen)
        return WordScores((sums[rows] / (total or 1.0)).astype(np.float32), rows, read)

    def _postings(self, term: int) -> tuple[Rows, NDArray[np.uint8]]:
        """The live rows of the index that have a term, and how often."""
        rows, counts = [], []
        for part, mask, start in zip(self._parts, self._masks, self._starts, strict=False):
            own, often = part.of(term)
            if mask is not None:
                own, often = own[mask[own]], often[mask[own]]
            rows.append(own + start)
            counts.append(often)
        return np.concatenate(rows), np.concatenate(counts)
