"""A dataset of the hub (huggingface.co, or what HF_ENDPOINT names), streamed without a download.

The revision is resolved to a commit once, so that a build reads the same rows whenever it resumes.

A position in Parquet files is {"read"}, the number of the next row; in others it also has the "state" of the
stream, or in earlier versions the one `ahead` rows before. With a seed, a position is {"read", "hand",
"done"}: the hands that were read, and the rows of the next one.
"""

import hashlib
import re
import sys
from bisect import bisect_right
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice
from typing import Any

from resizable_search.corpora import hub_client
from resizable_search.corpora.base import BLOCK_SIZE, DEFAULT_CHARS, Block, Corpus, Document, Shard, prefetch
from resizable_search.corpora.chunking import chunking_of
from resizable_search.corpora.hub_client import HubSource
from resizable_search.corpora.tables import Columns
from resizable_search.errors import CorpusError, UsageError
from resizable_search.progress import SILENT, Progress
from resizable_search.specs import CorpusSpec, Json

DEFAULT_COLUMNS = {"id": "id", "title": "title", "url": "url", "text": "text"}  # by field of a document
WIKIPEDIA = "wikimedia/wikipedia"
WIKIPEDIA_REVISION = "b04c8d1ceb2f5cd4588862100d08de323dccfbaa"  # so everyone's wiki100k is the same
WIKI100K_ROWS = 100_000  # wiki100k is the first of the default Wikipedia


@dataclass(kw_only=True, eq=False)
class HubCorpus(Corpus):
    """The rows of one split of a hub dataset. Raises UsageError."""

    kind = "hub"
    is_remote = True

    repo: str
    config: str | None = None  # a part of the dataset; None: the only one
    split: str = "train"
    revision: str | None = None  # a branch, tag or commit; None: main as it is now
    chars: int | None = DEFAULT_CHARS  # each text is cut to so many; None: no cut
    columns: Mapping[str, str] = field(default_factory=dict)  # in place of those in `DEFAULT_COLUMNS`
    optional: Sequence[str] = ()  # fields that may lack a column: the id is a row's number, others are ''
    metadata: Sequence[str] = ()  # more columns to keep
    chunk: str | None = None  # see `Chunking`
    chunk_overlap: int = 0
    shuffle_seed: int | None = None  # rows come at random; None: in the order of the files
    shard: str | None = None  # a part of the rows in file order (`Shard`)
    limit: int | None = None  # of the rows that are cut into shards; None: all
    progress: Progress = SILENT

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repo):
            raise UsageError(f"'{self.repo}' is not a dataset's name: write OWNER/NAME, such as {WIKIPEDIA}")
        self.label = f"{self.repo} {self.config}" if self.config else self.repo
        self.columns = {**DEFAULT_COLUMNS, **self.columns}
        needed = {field: column for field, column in self.columns.items() if field not in self.optional}
        self._columns = Columns(**needed, metadata=tuple(self.metadata))
        self._chunking = chunking_of(self.chunk, self.chunk_overlap)
        self._shard = Shard.parse(self.shard) if self.shard is not None else None
        if self._shard is not None and self.shuffle_seed is not None:
            raise UsageError("`shard` takes rows in file order: leave `shuffle_seed` or `shard` out")
        if self.limit is not None and self._chunking is not None:
            problem = "`limit` counts chunks, which no shard knows before: leave `limit` or `chunk` out"
            raise UsageError(problem)
        self._sha = self.revision if re.fullmatch("[0-9a-f]{40}", self.revision or "") else None
        self._source: HubSource | None = None

    def spec(self) -> CorpusSpec:
        """What reopens this corpus, with its commit. Raises HubError if that cannot be looked up."""
        if self._sha is None:
            with hub_client.quiet(self.progress):
                self._sha = hub_client.find_commit(self.repo, self.revision)
        names = ("repo", "config", "split", "chars", "columns")
        options: dict[str, Json] = {name: getattr(self, name) for name in names} | {"revision": self._sha}
        more = {name: getattr(self, name) for name in ("shuffle_seed", "shard", "limit")}
        more |= {"optional": list(self.optional) or None, "metadata": list(self.metadata) or None}
        if self._chunking is not None:
            more |= {"chunk": str(self._chunking), "chunk_overlap": self._chunking.overlap}
        # An option that is not used is left out: indexes from before it existed stay the same.
        return CorpusSpec(self.kind, options | {k: v for k, v in more.items() if v is not None})

    def pin(self, spec: Mapping[str, Json]) -> None:
        """Stay at the commit of an earlier run, unless another revision is asked for."""
        same = spec.get("kind") == self.kind and spec.get("repo") == self.repo
        if same and self.revision is None and isinstance(spec.get("revision"), str):
            self._sha = spec["revision"]

    def size_hint(self) -> int | None:
        """The number of rows on the dataset's card; None for chunks. Raises HubError."""
        if self._chunking is not None:
            return None
        with hub_client.quiet(self.progress):
            rows = self._open().rows(self.split)
        if rows is None or self._shard is None:
            return rows
        first, last = self._shard.of(min(rows, self.limit or rows))
        return last - first

    def check(self) -> str:
        """Ask the hub for the dataset without reading it: its commit, in one line. Raises HubError."""
        with hub_client.quiet(self.progress):
            sha = hub_client.find_commit(self.repo, self._sha or self.revision)
        return f"{self.repo} is there, at commit {sha[:7]} ({hub_client.endpoint()})"

    def blocks(self, position: Json | None = None) -> Generator[Block]:
        """The documents from `position` to the end. Close it: its clients complain later. Raises HubError."""
        with hub_client.quiet(self.progress):
            source = self._open()
            columns = self._columns.wanted
            if (known := source.columns(self.split)) is not None:
                self._check_columns(known)
                columns = [column for column in known if column in columns]  # a file is read forwards
            if self.shuffle_seed is not None:
                yield from self._shuffled(source, columns, self.shuffle_seed, position)
            elif self._shard is None and source.parquet_files(self.split) is None:
                yield from self._streamed(source, columns, position or {"read": 0, "state": None})
            else:
                yield from self._in_order(source, columns, position)

    def blocks_nowait(self, position: Json | None = None) -> Iterator[Block | None]:
        """The blocks, read in a thread of their own; None while none has arrived."""
        return prefetch(self.blocks(position), self.progress, self.label, hub_client.patience())

    def _streamed(self, source: HubSource, columns: Sequence[str], position: Json) -> Iterator[Block]:
        stream = source.stream(self.split, columns)
        if position["state"] is not None:
            stream.load_state_dict(position["state"])
        read, ahead = position["read"], position.get("ahead", 0)
        with closing(iter(stream)) as rows:
            self._take(rows, ahead, read - ahead)
            while documents := self._take(rows, BLOCK_SIZE, read):
                read += len(documents)
                yield Block(self._chunks(documents), {"read": read, "state": stream.state_dict()})

    def _in_order(self, source: HubSource, columns: Sequence[str], position: Json | None) -> Iterator[Block]:
        files = self._parquet(source, "shard")
        first, last = 0, sys.maxsize
        if self._shard is not None:
            with hub_client.read_errors(self.label, 0):
                total = sum(map(sum, source.group_rows(files)))
            first, last = self._shard.of(min(total, self.limit or total))
        read = first if position is None else position["read"]
        with closing(source.rows_from(files, read, columns)) as rows:
            while documents := self._take(rows, min(BLOCK_SIZE, last - read), read):
                read += len(documents)
                yield Block(self._chunks(documents), {"read": read})

    def _parquet(self, source: HubSource, option: str) -> list[str]:
        if (files := source.parquet_files(self.split)) is None:
            raise UsageError(
                f"`{option}` needs Parquet files, and {self.label} has others: the hub keeps a copy in "
                "Parquet of most datasets, as `revision=refs/convert/parquet`"
            )
        return files

    def _shuffled(
        self, source: HubSource, columns: Sequence[str], seed: int, position: Json | None
    ) -> Iterator[Block]:
        files = self._parquet(source, "shuffle_seed")
        read, first, done = (0, 0, 0) if position is None else (position[k] for k in ("read", "hand", "done"))
        with hub_client.read_errors(self.label, read):
            sample = HubSample(source.group_rows(files), seed)
        self.progress.note(
            f"drawing from {sample.rows:,} rows in {sample.groups:,} row groups of {len(files):,} files, "
            f"{sample.rows / max(sample.hands, 1):,.0f} of a row group at a time"
        )
        for number in range(first, sample.hands):
            with hub_client.read_errors(self.label, read):
                file, group, numbers = sample.hand(number)
                rows = source.read_rows(files[file], group, numbers, columns)
            for start in range(done, len(rows), BLOCK_SIZE):
                some = rows[start : start + BLOCK_SIZE]
                documents = [self._document(row, at) for at, row in enumerate(some, read)]
                read += len(some)
                done = (start + len(some)) % len(rows)  # 0 after the last
                after = {"read": read, "hand": number + (not done), "done": done}
                yield Block(self._chunks(documents), after)

    def _chunks(self, documents: list[Document]) -> list[Document]:
        if self._chunking is None:
            return documents
        return [chunk for document in documents for chunk in self._chunking.documents(document)]

    def _check_columns(self, known: Sequence[str]) -> None:
        if lacks := self._columns.lacks(known):
            raise CorpusError(f"{self.label}: {lacks}; say which to read")

    def _take(self, rows: Iterator[dict[str, Any]], count: int, read: int) -> list[Document]:
        with hub_client.read_errors(self.label, read):
            taken = list(islice(rows, count))
        return [self._document(row, number) for number, row in enumerate(taken, start=read)]

    def _document(self, row: Mapping[str, Any], number: int) -> Document:
        self._check_columns(list(row))
        has_id = self._columns.column_of("id") in row
        document = self._columns.document(row, "" if has_id else str(number), {})
        return replace(document, text=document.text[: self.chars])

    def _open(self) -> HubSource:
        if self._source is None:
            # A full sha needs no lookup, but this request fails fast and says why, as opening would not.
            self._sha = hub_client.find_commit(self.repo, self._sha or self.revision)
            self._source = HubSource(self.repo, self.config, self._sha)
        return self._source


MIN_HAND, MAX_HAND = 100, 10_000  # rows of a hand
_HANDS_A_GROUP = 10  # hands of a row group, as far as the limits above allow: a group is read as often
_ROUNDS = 6
_MIN_HALF_BITS = 3  # with fewer bits, some permutations would be more likely than others


class HubSample:
    """The rows of Parquet files in a random order that needs no memory and can be entered anywhere.

    `groups[file][group]` are the rows of each row group. They are dealt at random into hands of a hundred (of
    a tenth of the group if that is more, up to ten thousand), and all hands are put into a random order, both
    by permutations of the seed. So the first hands are a cluster sample in which every row is equally likely.
    Reading a hand costs reading its group. The client's own shuffle draws from the first rows of ten files.
    """

    def __init__(self, groups: Sequence[Sequence[int]], seed: int) -> None:
        self._groups = [(f, g, rows) for f, counts in enumerate(groups) for g, rows in enumerate(counts)]
        self._ends = list(accumulate(-(-rows // _hand_size(rows)) for _, _, rows in self._groups))
        self._seed = seed
        self.rows = sum(rows for _, _, rows in self._groups)
        self.groups = len(self._groups)
        self.hands = self._ends[-1] if self._ends else 0

    def hand(self, number: int) -> tuple[int, int, list[int]]:
        """The hand after `number` others: a file, a row group of it, and rows of that group in order."""
        position = permuted(number, self.hands, f"{self._seed}")
        at = bisect_right(self._ends, position)
        file, group, rows = self._groups[at]
        size = _hand_size(rows)
        first = (position - (self._ends[at - 1] if at else 0)) * size
        key = f"{self._seed}/{file}/{group}"
        return file, group, [permuted(i, rows, key) for i in range(first, min(first + size, rows))]


def _hand_size(rows: int) -> int:
    return min(max(MIN_HAND, rows // _HANDS_A_GROUP), MAX_HAND)


def permuted(number: int, count: int, key: str) -> int:
    """Where a permutation of `count` numbers that `key` decides puts one of them: a Feistel network."""
    half = max(_MIN_HALF_BITS, (count - 1).bit_length() + 1 >> 1)
    mask = (1 << half) - 1
    while True:
        left, right = number >> half, number & mask
        for turn in range(_ROUNDS):
            digest = hashlib.blake2b(f"{key}:{turn}:{right}".encode(), digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(digest, "big") & mask)
        number = left << half | right
        if number < count:
            return number


def wikipedia(*, lang: str = "en", date: str = "20231101", **options: Any) -> HubCorpus:
    """A Wikipedia, by its language code ('en', 'simple', 'de') and the dump's date; see `HubCorpus`."""
    return HubCorpus(repo=WIKIPEDIA, config=f"{date}.{lang}", revision=WIKIPEDIA_REVISION, **options)
