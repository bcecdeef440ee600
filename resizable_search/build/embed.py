"""The middle of an update: embed the texts that wait, and record each answer on arrival."""

from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from resizable_search.build.journal import Journal
from resizable_search.build.report import BuildUsage
from resizable_search.build.workspace import Workspace
from resizable_search.embedders.base import Embedder
from resizable_search.embedders.http import TooLongError
from resizable_search.embedders.request_pool import BatchResult, RequestPool
from resizable_search.errors import RefusedTextError

GRACE_SECONDS = 5.0  # how long a build that ends early waits for its open requests, because they are paid for
STOP_SECONDS = 0.2  # how often a build that waits for answers checks whether it should stop
LOOK_AHEAD = 500  # waiting texts that are read from the journal at once
MOST_UNSAFE = 200  # texts that may be requested and not yet recorded: what a kill makes us pay twice


@dataclass(slots=True)
class Embedding:
    """Embeds what waits in the journal, and what `reading` brings into it, until nothing is left."""

    embedder: Embedder
    journal: Journal
    reading: Generator[int, None, None]
    workspace: Workspace
    usage: BuildUsage
    _last: int = -1
    _has_read_all: bool = False
    _waiting: deque[tuple[int, str]] = field(default_factory=deque)
    _asked: set[str] = field(default_factory=set)  # the texts that wait or are requested
    _halves: dict[int, list[int]] = field(default_factory=dict)
    """By its first text, each half of a refused request that is asked again: sizes of those answered."""
    _most_taken: int = 0  # the texts of the largest request that was answered
    _pool: RequestPool = field(init=False)

    def __post_init__(self) -> None:
        embedder, log, options = self.embedder, self.workspace.log, self.workspace.options
        wanted, most = options.concurrency, max(1, MOST_UNSAFE // embedder.batch_size) * embedder.workers
        if not embedder.remote:
            most = min(most, embedder.concurrency)  # it may not bear more threads
        elif wanted is not None and wanted > most:
            log.note(
                f"{most} requests at once, not {wanted}: if this process died, more than "
                f"{MOST_UNSAFE * embedder.workers} texts would be paid for in vain"
            )
        self._pool = RequestPool(
            embedder,
            "search_document",
            concurrency=min(wanted or embedder.concurrency, most),
            requests_per_minute=options.requests_per_minute or embedder.requests_per_minute,
            on_retry=log.note,
            on_repeat=lambda: log.log("the service is busy or failing (429 or 5xx): its client repeats"),
        )

    def run(self) -> None:
        """Embed everything. Raises EmbedderError or CorpusError; what was answered is safe in any case."""
        with closing(self.reading):
            try:
                while True:
                    most = 2 * self._pool.concurrency  # batches: each thread should have two
                    while self._pool.outstanding < most and (batch := self._next_batch()):
                        self._pool.submit([seq for seq, _ in batch], [text for _, text in batch])
                    if self._pool.outstanding:
                        results = self._pool.next(STOP_SECONDS)
                        self._record(results)
                        for result in results:
                            self._take(result)
                    elif self._has_read_all:
                        return
                    else:
                        self.workspace.stop.wait(STOP_SECONDS)
                    words = self._pool.status(), self.embedder.status()
                    self.workspace.log.status(", ".join(filter(None, words)))
                    self.workspace.check_stop()
            finally:
                self._record(self._pool.drain(GRACE_SECONDS if self.embedder.remote else 0.0))
                self.usage.requested = self._pool.usage

    def _next_batch(self) -> list[tuple[int, str]]:
        """The texts of one request; none while the corpus has nothing yet, or if all are requested."""
        size = self.embedder.batch_size
        while len(self._waiting) < size:
            more = self.journal.waiting(self._last, LOOK_AHEAD)
            if more:
                self._last = more[-1][0]
            elif self._has_read_all:
                break
            else:
                rows = next(self.reading, None)
                self._has_read_all = rows is None
                if rows == 0:
                    return []
            for seq, text in more:
                if text in self._asked:  # an equal text brings its answer
                    self.workspace.log.advance(1)
                else:
                    self._asked.add(text)
                    self._waiting.append((seq, text))
        count = self.embedder.fit_in([text for _, text in islice(self._waiting, size)])
        return [self._waiting.popleft() for _ in range(count)]

    def _take(self, result: BatchResult) -> None:
        seqs, texts, refused = result.keys, result.texts, result.refused
        answered = self._halves.pop(seqs[0], None)
        if refused is None:
            self._most_taken = max(self._most_taken, len(seqs))
            if answered is not None:
                answered.append(len(seqs))
                if len(answered) == 2 and sum(answered) > self._most_taken:  # the refused one was too large
                    self.embedder.batch_size = max(answered)
                    self.workspace.log.log(f"{max(answered)} texts a request from now on: more are refused")
        elif len(seqs) > 1:  # one text spoils the batch: its halves tell which
            middle = len(seqs) // 2
            halves: list[int] = []
            for first, last in ((0, middle), (middle, len(seqs))):
                if not isinstance(refused, TooLongError):
                    self._halves[seqs[first]] = halves
                self._pool.submit(seqs[first:last], texts[first:last])
        else:
            document = self.journal.id_of(seqs[0])
            if self.workspace.options.on_bad_text == "fail":
                raise RefusedTextError(f"document {document!r}: {refused}")
            self._asked.discard(texts[0])
            self.journal.leave_out(texts[0], str(refused))
            self.workspace.log.advance(1)
            self.workspace.log.log(f"document {document!r} is left out: {refused}")

    def _record(self, results: Sequence[BatchResult]) -> None:
        """Record all that was answered in one step: many workers answer at once."""
        answered = [result for result in results if result.vectors is not None]
        if not answered:
            return
        texts = [text for result in answered for text in result.texts]
        vectors = np.concatenate([result.vectors for result in answered if result.vectors is not None])
        self.usage.requested = self._pool.usage
        self.journal.record(texts, vectors, spent=self.usage.to_json())
        self._asked.difference_update(texts)
        self.workspace.log.advance(len(texts))
