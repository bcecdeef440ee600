"""The middle of a build: embed the texts that wait, record the answers, commit them."""

import threading
from collections import deque
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from resizable_search.build.journal import Journal
from resizable_search.build.report import BuildUsage
from resizable_search.build.workspace import BuildOptions
from resizable_search.embedders.base import Embedder
from resizable_search.embedders.request_pool import BatchResult, RequestPool
from resizable_search.engine import vectors
from resizable_search.errors import RefusedTextError
from resizable_search.progress import LoggedProgress

COMMIT_ROWS = 100
"""Recorded answers are committed once there are this many."""

GRACE_SECONDS = 5.0
"""How long a build that ends early waits for its open requests, because they are paid for."""

STOP_SECONDS = 0.2
"""How often a build that waits for answers checks whether it should stop."""

LOOK_AHEAD = 500
"""Waiting texts that are read from the journal at once."""

MOST_UNSAFE = 200
"""The most texts that may be requested and not yet recorded: what a killed process has paid for in vain."""


@dataclass(slots=True)
class Embedding:
    """Embeds what waits in the journal, and what `reading` brings into it, until nothing is left."""

    embedder: Embedder
    journal: Journal
    reading: Generator[int, None, None]
    progress: LoggedProgress
    stop: threading.Event
    options: BuildOptions
    usage: BuildUsage
    _done: int = 0
    _last: int = -1
    _uncommitted: int = 0
    _has_read_all: bool = False
    _waiting: deque[tuple[int, str]] = field(default_factory=deque)
    _records: bool = field(init=False)
    _pool: RequestPool = field(init=False)

    def __post_init__(self) -> None:
        embedder, log = self.embedder, self.progress.log
        # Answers that come in order and cost nothing need not be recorded first.
        self._records = embedder.remote or embedder.concurrency > 1 or self.journal.records_all
        wanted = self.options.concurrency
        most = max(1, MOST_UNSAFE // embedder.batch_size) if self._records else 1
        if self._records and wanted is not None and wanted > most:
            self.progress.note(
                f"{most} requests at once, not {wanted}: if this process died, more than {MOST_UNSAFE} texts "
                "would be paid for in vain"
            )
        self._pool = RequestPool(
            embedder,
            "search_document",
            concurrency=min(wanted or embedder.concurrency, most),
            requests_per_minute=self.options.requests_per_minute or embedder.requests_per_minute,
            on_retry=self.progress.note,
            on_repeat=lambda: log("the service is busy or failing (429 or 5xx): its client repeats"),
        )

    def run(self) -> int:
        """Embed everything; returns the number of texts.

        Raises EmbedderError or CorpusError; what was answered is kept in any case.
        """
        with closing(self.reading):
            try:
                self._loop()
            finally:
                # Unrecorded answers can only be kept in order, and losing them costs nothing.
                for result in self._pool.drain(GRACE_SECONDS if self._records else 0.0):
                    if self._records:
                        self._keep(result)
                self._commit()
        return self._done

    def _loop(self) -> None:
        while True:
            while self._pool.has_room and (batch := self._next_batch()):
                self._pool.submit([seq for seq, _ in batch], [text for _, text in batch])
            if self._pool.outstanding:
                result = self._pool.next(STOP_SECONDS)
                if result is not None:
                    self._take(result)
            elif self._has_read_all:
                return
            else:
                self.stop.wait(STOP_SECONDS)
            self.progress.status(self._pool.status())
            if self.stop.is_set():
                raise KeyboardInterrupt

    def _next_batch(self) -> list[tuple[int, str]]:
        """The texts of one request; none while the corpus has nothing yet, or if all are requested."""
        size = self.embedder.batch_size
        while len(self._waiting) < size:
            more = self.journal.waiting(self._last, LOOK_AHEAD)
            if more:
                self._waiting.extend(more)
                self._last = more[-1][0]
            elif self._has_read_all:
                break
            else:
                rows = next(self.reading, None)
                self._has_read_all = rows is None
                if rows == 0:
                    return []
        count = self.embedder.fit_in([text for _, text in islice(self._waiting, size)])
        return [self._waiting.popleft() for _ in range(count)]

    def _take(self, result: BatchResult) -> None:
        if result.vectors is not None:
            self._keep(result)
            if self._uncommitted >= COMMIT_ROWS:
                self._commit()
        elif result.refused is not None and len(result.keys) > 1:
            # One text spoils the batch: its halves tell which.
            middle = len(result.keys) // 2
            self._pool.submit(result.keys[:middle], result.texts[:middle])
            self._pool.submit(result.keys[middle:], result.texts[middle:])
        elif result.refused is not None:
            document = self.journal.id_of(result.keys[0])
            if self.options.on_bad_text == "fail":
                raise RefusedTextError(f"document {document!r}: {result.refused}")
            self.journal.leave_out(result.keys[0], str(result.refused))
            self.progress.log(f"document {document!r} is left out: {result.refused}")
            self.progress.advance(1)

    def _keep(self, result: BatchResult) -> None:
        seqs, raw = result.keys, result.vectors
        if raw is None:
            return
        if self._records:
            self.journal.record(seqs, result.texts, raw)
            self._uncommitted += len(seqs)
        else:
            self.journal.commit_rows(seqs, self._prepare(raw), raw.shape[1])
        self._done += len(seqs)
        self.progress.advance(len(seqs))

    def _commit(self) -> None:
        self.journal.commit(self.embedder.spec.width, self._prepare)
        self._uncommitted = 0
        self.usage.spent = self._pool.usage
        self.usage.save(self.journal)

    def _prepare(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        spec = self.embedder.spec
        return vectors.prepare(raw, spec.width, centred=spec.centred)
