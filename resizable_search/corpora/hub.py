"""A dataset of the hub (huggingface.co, or what HF_ENDPOINT names), streamed without a download.

The revision is resolved to a commit once, so that a build reads the same rows whenever it goes on.
A position is {"read", "last_id", "ahead", "state"}: `read` rows were handed out so far, the last of
them being `last_id`; `state` is the stream's own state (None: its start) `ahead` rows before that
point. The state is taken where a block begins, once a block, because it is a deep copy. To go on,
those `ahead` rows are read again, and the last of them must be `last_id`: a state is only a place,
and would otherwise go on in other data without a word. In the order of a seed (`hub_sample`) a position
is {"read", "hand", "done"}: hands of rows that were read through, and rows of the next one.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, ClassVar

from resizable_search.corpora import hub_client, hub_sample
from resizable_search.corpora import hub_client as hub_errors
from resizable_search.corpora.base import (
    BLOCK_SIZE,
    OTHER,
    Block,
    Corpus,
    Document,
    as_metadata,
    as_text,
    prefetch,
)
from resizable_search.corpora.chunking import Chunking
from resizable_search.errors import CorpusError, UsageError
from resizable_search.progress import SILENT, Progress
from resizable_search.specs import CorpusSpec, Json

DEFAULT_CHARS = 1200
"""Characters of a text that are kept: what fits an embedding model well enough, and the cookbook's cut."""

DEFAULT_COLUMNS: Mapping[str, str | None] = {"id": "id", "title": "title", "url": "url", "text": "text"}
"""Which column of the dataset holds which field of a document."""

_FULL_SHA = re.compile(r"[0-9a-f]{40}")


class HubCorpus(Corpus):
    """The rows of one split of a hub dataset, in order, or in one that `shuffle_seed` decides.

    `repo` is 'owner/name'; `config` and `split` choose among what the dataset has (config None: the
    only one). `revision` is a branch, a tag or a commit (None: main as it is now). `chars` cuts each
    text to its first characters (None: no cut). `columns` overrides entries of `DEFAULT_COLUMNS`;
    None means that the dataset has no such column: the id is then the row's number, title and url
    are empty. For the fields in `optional` that is no error if it turns out so. A None in a row's
    title, url or text reads as "". `metadata` names more columns, which are kept as such; `chunk` and
    `chunk_overlap` cut texts into chunks (`Chunking`). Raises UsageError for arguments that make no sense.
    """

    kind: ClassVar[str] = "hub"

    def __init__(
        self,
        *,
        repo: str,
        config: str | None = None,
        split: str = "train",
        revision: str | None = None,
        chars: int | None = DEFAULT_CHARS,
        columns: Mapping[str, str | None] | None = None,
        optional: Sequence[str] = (),
        metadata: Sequence[str] = (),
        chunk: str | None = None,
        chunk_overlap: int = 0,
        shuffle_seed: int | None = None,
        progress: Progress = SILENT,
    ) -> None:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
            raise UsageError(f"'{repo}' names no dataset: write OWNER/NAME, such as wikimedia/wikipedia")
        if chars is not None and chars < 1:
            raise UsageError(f"a text cannot be cut to {chars} characters: give 1 or more")
        self.repo = repo
        self.config = config
        self.split = split
        self.chars = chars
        self.columns = {**DEFAULT_COLUMNS, **(columns or {})}
        self.optional = list(optional)
        self.metadata = list(metadata)
        self.chunking = None if chunk is None else Chunking.parse(chunk, chunk_overlap)
        self.shuffle_seed = shuffle_seed
        if unknown := {*self.columns, *self.optional} - DEFAULT_COLUMNS.keys():
            raise UsageError(
                f"no such field: {', '.join(sorted(unknown))}; fields are {', '.join(DEFAULT_COLUMNS)}"
            )
        if self.columns["text"] is None:
            raise UsageError("a corpus needs texts: name the column that holds them")
        self._revision = revision
        self._sha = revision if revision and _FULL_SHA.fullmatch(revision) else None
        self._progress = progress
        self._source: hub_client.HubSource | None = None

    @property
    def label(self) -> str:
        """The repository and the configuration: 'wikimedia/wikipedia 20231101.en'."""
        return f"{self.repo} {self.config}" if self.config else self.repo

    def spec(self) -> CorpusSpec:
        """What reopens this corpus, its revision as a commit. Raises HubError if that must be looked up."""
        options: dict[str, Json] = {
            "repo": self.repo,
            "config": self.config,
            "split": self.split,
            "revision": self._commit(),
            "chars": self.chars,
            "columns": self.columns,
        }
        chunking = self.chunking
        more = {
            "optional": self.optional or None,
            "metadata": self.metadata or None,
            "chunk": None if chunking is None else str(chunking),
            "chunk_overlap": None if chunking is None else chunking.overlap,
            "shuffle_seed": self.shuffle_seed,
        }
        # Only what is asked for, so that an index from before there was such a thing is still the same.
        return CorpusSpec(
            self.kind, options | {key: value for key, value in more.items() if value is not None}
        )

    def pin(self, held: Mapping[str, Json]) -> None:
        """Stay at the commit that an earlier run found its main branch at, if no revision is asked for."""
        same = all(held.get(key) == getattr(self, key) for key in ("kind", "repo"))
        if same and self._revision is None and isinstance(held.get("revision"), str):
            self._sha = held["revision"]

    def size_hint(self) -> int | None:
        """The rows that the dataset's card counts, if it does; chunks are not known. Raises HubError."""
        if self.chunking is not None:
            return None
        with hub_client.quiet(self._progress):
            return self._open().rows(self.split)

    @property
    def is_remote(self) -> bool:
        """It is."""
        return True

    def check(self) -> str:
        """Ask the hub for the dataset, reading none of it: what was found, in one line. Raises HubError."""
        with hub_client.quiet(self._progress):
            sha = hub_client.find_commit(self.repo, self._sha or self._revision)
        return f"{self.repo} is there, at commit {sha[:7]} ({hub_errors.endpoint()})"

    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """The documents from `position` to the end. Raises HubError, or CorpusError for an odd position."""
        with hub_client.quiet(self._progress):
            source = self._open()
            wanted = self._wanted(source.columns(self.split))
            if self.shuffle_seed is not None:
                yield from self._shuffled(source, wanted, self.shuffle_seed, position)
                return
            stream = source.stream(self.split, wanted)
            read, ahead, state = 0, 0, None
            if position is not None:
                read, ahead, state = position["read"], position["ahead"], position["state"]
            if state is not None:
                stream.load_state_dict(state)
            with closing(iter(stream)) as rows:
                yield from self._continue(stream, rows, read - ahead, position)

    def blocks_nowait(self, position: Json | None = None) -> Iterator[Block | None]:
        """The blocks, read in a thread of their own; None whenever the hub keeps one waiting."""
        return prefetch(self.blocks(position), self._progress, self.label, hub_client.patience())

    def _continue(
        self, stream: Any, rows: Iterator[dict[str, Any]], read: int, position: Json | None
    ) -> Iterator[Block]:
        state: Json | None = None
        if position is not None:
            state = position["state"]
            documents = self._take(rows, position["ahead"], read)
            if len(documents) < position["ahead"] or documents[-1].id != position["last_id"]:
                raise CorpusError(
                    f"{self.label} no longer has document {position['last_id']} as its row "
                    f"{position['read']:,}: begin again with --restart"
                )
            read = position["read"]
            state = stream.state_dict()
        while documents := self._take(rows, BLOCK_SIZE, read):
            read += len(documents)
            place = {"read": read, "last_id": documents[-1].id, "ahead": len(documents), "state": state}
            yield Block(self._cut(documents), place)
            state = stream.state_dict()

    def _shuffled(
        self, source: hub_client.HubSource, columns: Sequence[str], seed: int, position: Json | None
    ) -> Iterator[Block]:
        files = source.parquet_files(self.split)
        if files is None:
            raise UsageError(
                f"--shuffle-seed draws from Parquet files, and {self.label} has others: the hub keeps a copy "
                "in Parquet of most datasets, which --revision refs/convert/parquet names"
            )
        read, hand, done = (0, 0, 0) if position is None else (position[k] for k in ("read", "hand", "done"))
        with hub_errors.told_as_interruption(self.label, read):
            sample = hub_sample.HubSample(hub_sample.group_rows(files, source.token), seed)
        self._progress.note(
            f"drawing from {sample.rows:,} rows in {sample.groups:,} row groups of {len(files):,} files, "
            f"{sample.rows / max(sample.hands, 1):,.0f} of a row group at a time"
        )
        for number in range(hand, sample.hands):
            drawn = sample.hand(number)
            with hub_errors.told_as_interruption(self.label, read):
                rows = hub_sample.read_hand(drawn, files, source.token, columns)
            for start in range(done, len(rows), BLOCK_SIZE):
                some = rows[start : start + BLOCK_SIZE]
                documents = [self._document(row, at) for at, row in enumerate(some, read)]
                read += len(some)
                through = start + len(some) == len(rows)
                place = {"read": read, "hand": number + through, "done": 0 if through else start + len(some)}
                yield Block(self._cut(documents), place)
            done = 0

    def _cut(self, documents: list[Document]) -> list[Document]:
        if self.chunking is None:
            return documents
        return [chunk for document in documents for chunk in self.chunking.documents(document)]

    def _wanted(self, known: Sequence[str] | None) -> list[str]:
        """The columns to read; those of optional fields only if they are known, if any are."""
        named = [
            column
            for field, column in self.columns.items()
            if column is not None and (known is None or column in known or field not in self.optional)
        ]
        wanted = list(dict.fromkeys((*named, *self.metadata)))
        if known is not None and (missing := [column for column in wanted if column not in known]):
            raise hub_errors.missing_column(self.label, missing, known)
        return wanted

    def _take(self, rows: Iterator[dict[str, Any]], count: int, read: int) -> list[Document]:
        with hub_errors.told_as_interruption(self.label, read):
            found = list(islice(rows, count))
        return [self._document(row, number) for number, row in enumerate(found, start=read)]

    def _document(self, row: Mapping[str, Any], number: int) -> Document:
        values: dict[str, str] = {}
        for field, column in self.columns.items():
            if column is not None and column not in row and field not in self.optional:
                raise hub_errors.missing_column(self.label, [column], row)
            values[field] = "" if column is None else as_text(row.get(column))
        if self.columns["id"] is None or (self.columns["id"] not in row and "id" in self.optional):
            values["id"] = str(number)
        if missing := [column for column in self.metadata if column not in row]:
            raise hub_errors.missing_column(self.label, missing, row)
        metadata = {
            column: value for column in self.metadata if (value := as_metadata(row[column])) is not OTHER
        }
        text = values["text"][: self.chars]
        return Document(values["id"], values["title"], values["url"], text, metadata)

    def _commit(self) -> str:
        if self._sha is None:
            with hub_client.quiet(self._progress):
                self._sha = hub_client.find_commit(self.repo, self._revision)
        return self._sha

    def _open(self) -> hub_client.HubSource:
        if self._source is None:
            # A full sha needs no resolving, but this contact fails fast and says why, as opening would not.
            self._sha = hub_client.find_commit(self.repo, self._sha or self._revision)
            self._source = hub_client.HubSource(self.repo, self.config, self._sha)
        return self._source
