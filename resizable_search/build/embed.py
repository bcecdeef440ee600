"""The middle of a build: texts that wait are embedded, answers are journalled and folded."""

import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from resizable_search.build.journal import Work
from resizable_search.embedders.base import Embedder
from resizable_search.embedders.request_pool import Answer, Dispatcher, Usage
from resizable_search.engine import vectors
from resizable_search.errors import RefusedTextError
from resizable_search.progress import LoggedProgress

FOLD_ROWS = 100
"""Journalled answers are folded whenever so many have come."""

GRACE_SECONDS = 5.0
"""How long a build that ends early waits for requests under way, since they are paid for."""

STOP_SECONDS = 0.2
"""How often a build that waits for answers looks whether it shall stop."""

LOOK_AHEAD = 500
"""Waiting texts that are taken from the unfinished build at once."""

MOST_UNSAFE = 200
"""Texts that may be asked for and not journalled yet: what a process that is killed has paid in vain."""


class Embedding:
    """Embeds what waits in `work`, and what `reading` goes on bringing into it, until nothing is left."""

    def __init__(
        self,
        embedder: Embedder,
        work: Work,
        reading: Generator[int, None, None],
        progress: LoggedProgress,
        stop: threading.Event,
        *,
        concurrency: int | None,
        requests_per_minute: float | None,
        strict: bool,
    ) -> None:
        self.done = 0
        self.on_fold: Callable[[], None] = lambda: None
        """Called whenever answers have become rows, and at the end, whatever that is."""
        self._work = work
        self._reading = reading
        self._has_read_all = False
        self._progress = progress
        self._stop = stop
        self._strict = strict
        self._batch_size = embedder.batch_size
        self._fit_in = embedder.fit_in
        self._spec = embedder.spec
        # Answers that come in order and cost nothing need no journal.
        self._journals = embedder.remote or embedder.concurrency > 1 or work.journals_all
        self._dispatcher = Dispatcher(
            embedder,
            "search_document",
            concurrency=self._at_once(embedder, concurrency),
            requests_per_minute=requests_per_minute or embedder.requests_per_minute,
            on_retry=progress.note,
            on_repeat=lambda: progress.log("the service is busy or failing (429 or 5xx): its client repeats"),
        )
        self._last = -1
        self._waiting: deque[tuple[int, str]] = deque()
        self._unfolded = 0

    def _at_once(self, embedder: Embedder, wanted: int | None) -> int:
        """How many requests may be under way: no more than a kill may cost."""
        if not self._journals:
            return 1
        most = max(1, MOST_UNSAFE // embedder.batch_size)
        if wanted is not None and wanted > most:
            self._progress.note(
                f"{most} requests are under way at most, not {wanted}: more than {MOST_UNSAFE} texts would "
                "be paid in vain if this process died"
            )
        return min(wanted or embedder.concurrency, most)

    @property
    def spent(self) -> Usage:
        """What this run has sent."""
        return self._dispatcher.spent

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
            if self._dispatcher.outstanding:
                answer = self._dispatcher.next(STOP_SECONDS)
                if answer is not None:
                    self._take(answer)
            elif self._has_read_all:
                return
            else:
                self._stop.wait(STOP_SECONDS)
            self._progress.status(self._dispatcher.status())
            if self._stop.is_set():
                raise KeyboardInterrupt

    def _next_batch(self) -> list[tuple[int, str]]:
        """Texts of one request; none while the corpus keeps one waiting, and when all are under way."""
        while len(self._waiting) < self._batch_size:
            more = self._work.waiting(self._last, LOOK_AHEAD)
            if more:
                self._waiting.extend(more)
                self._last = more[-1][0]
            elif self._has_read_all:
                break
            else:
                rows = next(self._reading, None)
                self._has_read_all = rows is None
                if rows == 0:
                    return []
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
            document = self._work.id_of(answer.keys[0])
            if self._strict:
                raise RefusedTextError(f"document {document!r}: {answer.refused}")
            self._work.leave_out(answer.keys[0], str(answer.refused))
            self._progress.log(f"document {document!r} is left out: {answer.refused}")
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
        self.on_fold()

    def _prepare(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors.prepare(raw, self._spec.width, centred=self._spec.centred)
