"""Rows of a dataset's Parquet files in a random order that needs no memory, and can be entered anywhere.

The client's own shuffle fills a buffer with the first rows that come, of ten files at most, and draws from
that: its first rows are of a few files' beginnings, and a stream that was stopped loses the buffer.

Here the rows of each row group are dealt at random into hands of a hundred (of a tenth of the group if
that is more, up to ten thousand), and the hands of all row groups of all files are put into a random
order. Each row is in one hand, so the first so many hands are a simple random sample of all hands, in
which every row is as likely as every other. It is a cluster sample: rows of a hand come from one row
group, whose neighbours a dataset may have sorted together. A hand costs the reading of its row group.
Both orders are permutations computed from the seed, so the same seed gives the same rows in the same
order on every machine.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from resizable_search.corpora import hub_client

FEWEST, MOST = 100, 10_000
"""Rows of a hand."""
_PART = 10
"""A hand is this part of a row group if that lies between those two: it bounds how often a group is read."""
_ROUNDS = 6
_LEAST_HALF = 3
"""Bits: with fewer, some permutations would come up more often than others."""
_READ_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Hand:
    """Rows of one row group of one file, by their numbers in it, in the order in which they come."""

    file: int
    group: int
    rows: list[int]


class HubSample:
    """All rows of Parquet files, by the row counts of their row groups: `groups[file][group]`."""

    def __init__(self, groups: Sequence[Sequence[int]], seed: int) -> None:
        self._groups = [(f, g, rows) for f, counts in enumerate(groups) for g, rows in enumerate(counts)]
        self._ends = list(accumulate(-(-rows // _hand_size(rows)) for _, _, rows in self._groups))
        self._seed = seed
        self.rows = sum(rows for _, _, rows in self._groups)
        self.groups = len(self._groups)

    @property
    def hands(self) -> int:
        """How many hands there are."""
        return self._ends[-1] if self._ends else 0

    def hand(self, number: int) -> Hand:
        """The hand that comes after `number` others."""
        place = permuted(number, self.hands, f"{self._seed}")
        at = bisect_right(self._ends, place)
        file, group, rows = self._groups[at]
        size = _hand_size(rows)
        first = (place - (self._ends[at - 1] if at else 0)) * size
        key = f"{self._seed}/{file}/{group}"
        return Hand(file, group, [permuted(i, rows, key) for i in range(first, min(first + size, rows))])


def _hand_size(rows: int) -> int:
    return min(max(FEWEST, rows // _PART), MOST)


def permuted(number: int, count: int, key: str) -> int:
    """Where a permutation of `count` things that `key` decides puts one of them.

    A Feistel network over a power of four, walked until it ends below `count`.
    """
    half = max(_LEAST_HALF, (count - 1).bit_length() + 1 >> 1)
    mask = (1 << half) - 1
    while True:
        left, right = number >> half, number & mask
        for turn in range(_ROUNDS):
            digest = hashlib.blake2b(f"{key}:{turn}:{right}".encode(), digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(digest, "big") & mask)
        number = left << half | right
        if number < count:
            return number


def group_rows(files: Sequence[str], token: Any) -> list[list[int]]:
    """The rows of each row group of each file, from their footers."""
    found = []
    for file in files:
        with hub_client.open_parquet(file, token) as parquet:
            footer = parquet.metadata
            found.append([footer.row_group(group).num_rows for group in range(footer.num_row_groups)])
    return found


def read_hand(hand: Hand, files: Sequence[str], token: Any, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a hand in its order; no more of its row group is held than those."""
    wanted = {row: place for place, row in enumerate(hand.rows)}
    found: list[dict[str, Any]] = [{} for _ in hand.rows]
    with hub_client.open_parquet(files[hand.file], token) as parquet:
        first = 0
        for batch in _batches(parquet, hand.group, columns):
            for row in sorted(wanted.keys() & range(first, first + batch.num_rows)):
                found[wanted[row]] = batch.slice(row - first, 1).to_pylist()[0]
            first += batch.num_rows
    return found


def _batches(parquet: Any, group: int, columns: Sequence[str]) -> Iterator[Any]:
    # In this thread, as `hub_client` reads: Ctrl-C is heard.
    yield from parquet.iter_batches(
        _READ_AT_ONCE, row_groups=[group], columns=list(columns), use_threads=False
    )
