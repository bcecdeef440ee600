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
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine.base import NO_ROW, select
from resizable_search.engine.vectors import Floats, Rows

K1, B = 0.9, 0.4
TITLE, HEADING = 5, 3  # how often a word of the title or of the headings counts
MOST_TERMS = 1000  # of a query: the first ones of a longer one
LONGEST_NAME = 200  # characters of a word that is split into its parts
FREQUENT = 5000  # a term of more rows and of more than half of all is not scored, if another is rarer
PRUNED_FROM = 1000  # a term of more rows is looked up for some rows alone, if it cannot bring others

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


class PartTerm(NamedTuple):
    """The rows of a part that have a term, ascending, and how often."""

    rows: NDArray[np.uint32]
    counts: NDArray[np.uint8]


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

    def of(self, term: int) -> PartTerm:
        """The rows that have a term, and how often. Raises ValueError if the arrays are damaged."""
        at = int(np.searchsorted(self.terms, np.uint64(term)))
        if at == len(self.terms) or self.terms[at] != term:
            return PartTerm(self.rows[:0], self.counts[:0])
        begin, end = self.starts[at : at + 2].tolist()
        if not 0 <= begin < end <= len(self.rows) or self.rows[end - 1] >= len(self.lengths):
            raise ValueError("its postings make no sense")
        return PartTerm(self.rows[begin:end], self.counts[begin:end])


class QueryTerm(NamedTuple):
    """A term of a query: the live rows that have it, its weight, and where it is in each part."""

    frequency: int
    weight: float
    parts: list[PartTerm]


class LexicalIndex:
    """The postings of all parts, and `masks` of each part's rows that are not deleted (None: all).

    Raises ValueError or IndexError if the arrays are damaged.
    """

    def __init__(self, parts: Sequence[Postings], masks: Sequence[NDArray[np.bool_] | None]) -> None:
        self._parts = parts
        self._masks = masks
        *self._starts, self._rows = accumulate((len(part.lengths) for part in parts), initial=0)

    @cached_property
    def _live(self) -> tuple[int, NDArray[np.float64]]:
        """The number of live rows; and for each row K1 (1 - B + B length / mean length)."""
        lengths = np.concatenate([part.lengths for part in self._parts]).astype(np.float64)
        count, total = self._rows, float(lengths.sum())
        if (living := self._living) is not None:
            count, total = int(np.count_nonzero(living)), float(lengths[living].sum())
        return count, K1 * (1 - B + B * lengths / max(1.0, total / max(1, count)))

    @cached_property
    def _living(self) -> NDArray[np.bool_] | None:
        """The rows that are not deleted (None: all)."""
        if all(mask is None for mask in self._masks):
            return None
        pairs = zip(self._parts, self._masks, strict=True)
        return np.concatenate([np.ones(len(p.lengths), bool) if mask is None else mask for p, mask in pairs])

    def terms(self, text: str) -> list[QueryTerm]:
        """The terms of a text that live rows have, the rarest first: in this order scores are summed."""
        count, _ = self._live
        found = []
        for term in query_terms(text):
            parts = [part.of(term) for part in self._parts]
            frequency = sum(
                len(own.rows) if mask is None else int(np.count_nonzero(mask[own.rows]))
                for own, mask in zip(parts, self._masks, strict=True)
            )
            if frequency:
                weight = math.log1p((count - frequency + 0.5) / (frequency + 0.5))
                found.append(QueryTerm(frequency, weight, parts))
        found.sort(key=lambda term: term.frequency)  # equal ones stay in the order of their hashes
        rarer = [term for term in found if term.frequency <= max(FREQUENT, count // 2)]
        return rarer or found

    def scores(self, terms: Sequence[QueryTerm], rows: Rows) -> Floats:
        """The scores of these ascending rows (c,): (c,) float32."""
        sums = np.zeros(len(rows))
        for term in terms:
            for own, start, part in zip(term.parts, self._starts, self._parts, strict=True):
                begin, end = np.searchsorted(rows, (start, start + len(part.lengths))).tolist()
                if begin < end and len(own.rows):
                    wanted = (rows[begin:end] - start).astype(np.uint32)
                    at = np.searchsorted(own.rows, wanted).clip(max=len(own.rows) - 1)
                    have = np.flatnonzero(own.rows[at] == wanted)
                    self._add(sums, begin + have, rows[begin + have], term.weight, own.counts[at[have]])
        return self._final(sums, terms)

    def best(
        self,
        terms: Sequence[QueryTerm],
        k: int,
        selected: Sequence[NDArray[np.bool_]] | None = None,
        skip: int = NO_ROW,
    ) -> tuple[Floats, Rows]:
        """The scores and rows of the k best that have a term, best first, ties by lower row.

        `selected`: masks of the parts' rows that may be returned, but for row `skip`. A term adds less than
        its weight: once no other row can be among the best, terms are looked up for some rows alone.
        """
        allowed = self._living if selected is None else np.concatenate(selected)
        sums, left, seen = np.zeros(self._rows), sum(term.weight for term in terms), 0
        rows, slack = np.empty(0, np.int64), 1e-6 * left
        for term in terms:
            if seen >= k and term.frequency > PRUNED_FROM:
                rows = _allowed(np.flatnonzero(sums > 0), allowed, skip)
                if len(rows) >= k:
                    least = np.partition(sums[rows], len(rows) - k)[len(rows) - k] - left - slack
                    if least > 0:
                        rows = rows[sums[rows] >= least]
                        return select(self.scores(terms, rows), rows, k)
            for own, start in zip(term.parts, self._starts, strict=True):
                at = own.rows.astype(np.int64) + start
                self._add(sums, at, at, term.weight, own.counts)
            left -= term.weight
            seen += term.frequency
        rows = _allowed(np.flatnonzero(sums > 0), allowed, skip)
        return select(self._final(sums[rows], terms), rows, k)

    def _add(
        self, sums: NDArray[np.float64], at: Rows, rows: Rows, weight: float, counts: NDArray[np.uint8]
    ) -> None:
        """Add to sums[at] what a term gives these rows."""
        often = counts.astype(np.float64)
        sums[at] += weight * (often / (often + self._live[1][rows]))

    def _final(self, sums: NDArray[np.float64], terms: Sequence[QueryTerm]) -> Floats:
        return (sums / (sum(term.weight for term in terms) or 1.0)).astype(np.float32)


def _allowed(rows: Rows, allowed: NDArray[np.bool_] | None, skip: int) -> Rows:
    """Those of the rows that are allowed (None: all), without one."""
    rows = rows if allowed is None else rows[allowed[rows]]
    return rows if skip == NO_ROW else rows[rows != skip]
