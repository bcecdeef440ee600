"""The middle of a build: texts that wait are embedded, answers are journalled and folded."""

import threading
from collections import deque
from collections.abc import Generator
from contextlib import closing
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from resizable_search import vectors
from resizable_search.embedders.base import Embedder
from resizable_search.embedders.dispatch import Answer, Dispatcher
from resizable_search.index.work import Work
from resizable_search.progress import Progress

FOLD_ROWS = 100
"""Journalled answers are folded whenever so many have come."""

GRACE_SECONDS = 5.0
"""How long a build that ends early waits for requests under way, since they are paid for."""

STOP_SECONDS = 0.2
"""How often a build that waits for answers looks whether it shall stop."""

LOOK_AHEAD = 500
"""Waiting texts that are taken from the unfinished build at once."""


class Embedding:
    """Embeds what waits in `work`, and what `reading` goes on bringing into it, until nothing is left."""

    def __init__(
        self,
        embedder: Embedder,
        work: Work,
        reading: Generator[int, None, None],
        progress: Progress,
        stop: threading.Event,
        *,
        concurrency: int | None,
        requests_per_minute: float | None,
        strict: bool,
    ) -> None:
        self.done = 0
        self._work = work
        self._reading = reading
        self._progress = progress
        self._stop = stop
        self._strict = strict
        self._batch_size = embedder.batch_size
        self._fit_in = embedder.fit_in
        self._spec = embedder.spec
        # Answers that come in order and cost nothing need no journal.
        self._journals = embedder.remote or embedder.concurrency > 1
        self._dispatcher = Dispatcher(
            embedder,
            "search_document",
            concurrency=concurrency if self._journals else 1,
            requests_per_minute=requests_per_minute or embedder.requests_per_minute,
            on_retry=progress.note,
        )
        self._last = -1
        self._waiting: deque[tuple[int, str]] = deque()
        self._unfolded = 0

    @property
    def requests(self) -> int:
        """Requests that were sent."""
        return self._dispatcher.requests

    def run(self) -> None:
        """Embed everything. Raises EmbedderError or CorpusError; what was answered is kept in any case."""
        with closing(self._reading):
            try:
                self._loop()
            finally:
                # Without a journal only the next rows in order can be kept, and what is lost cost nothing.
                for answer in self._dispatcher.drain(GRACE_SECONDS if self._journals else 0.0):
                    if self._journals:
                        self._keep(answer)
                self._fold()

    def _loop(self) -> None:
        while True:
            while self._dispatcher.has_room and (batch := self._next_batch()):
                self._dispatcher.submit([seq for seq, _ in batch], [text for _, text in batch])
            if not self._dispatcher.outstanding:
                return
            answer = self._dispatcher.next(STOP_SECONDS)
            if answer is not None:
                self._take(answer)
            if self._stop.is_set():
                raise KeyboardInterrupt

    def _next_batch(self) -> list[tuple[int, str]]:
        while len(self._waiting) < self._batch_size:
            more = self._work.waiting(self._last, LOOK_AHEAD)
            if more:
                self._waiting.extend(more)
                self._last = more[-1][0]
            elif next(self._reading, None) is None:
                break
        count = self._fit_in([text for _, text in islice(self._waiting, self._batch_size)])
        return [self._waiting.popleft() for _ in range(count)]

    def _take(self, answer: Answer) -> None:
        if answer.vectors is not None:
            self._keep(answer)
            if self._unfolded >= FOLD_ROWS:
                self._fold()
        elif answer.refused is not None and len(answer.keys) > 1:
            # One text spoils the batch: the halves tell which.
            middle = len(answer.keys) // 2
            self._dispatcher.submit(answer.keys[:middle], answer.texts[:middle])
            self._dispatcher.submit(answer.keys[middle:], answer.texts[middle:])
        elif answer.refused is not None:
            if self._strict:
                raise answer.refused
            self._work.leave_out(answer.keys[0], str(answer.refused))
            self._progress.advance(1)

    def _keep(self, answer: Answer) -> None:
        seqs, raw = answer.keys, answer.vectors
        if raw is None:
            return
        if self._journals:
            self._work.journal(seqs, answer.texts, raw)
            self._unfolded += len(seqs)
        else:
            self._work.append(seqs, self._prepare(raw), self._spec.width)
        self.done += len(seqs)
        self._progress.advance(len(seqs))

    def _fold(self) -> None:
        self._work.fold(self._spec.width, self._prepare)
        self._unfolded = 0

    def _prepare(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors.prepare(raw, self._spec.width, centred=self._spec.centred)
