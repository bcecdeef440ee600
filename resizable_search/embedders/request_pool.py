"""Many requests at once: concurrency, pace and retries around an embedder's one method.

Requests run on daemon threads, so that neither a hung one nor Ctrl-C keeps the process alive. What
another try may cure is tried again with growing, jittered pauses; what it cannot cure is handed to
the caller, and no further request is sent after it: not even one that a client repeats by itself,
which has its place in the pace like any other.

Wait for a call no longer than one is willing to.

Some clients have no time-out, and a thread that hangs in a socket cannot be cancelled. What can be
done is to stop waiting: the call runs in a daemon thread, which is left alone once the deadline has
passed. A daemon thread keeps no process from ending.
"""

import math
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from threading import Thread
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.embedders.base import Embedder, Task
from resizable_search.errors import BadAnswerError, RateLimitedError, RefusedTextError, ServiceError

TRIES = 4
"""How often a request is sent before it is given up. The client tries several times inside each."""

BUSY_TRIES = 8
"""The same where the service wants fewer requests: its window of 5 minutes has passed by then."""

FIRST_PAUSE = 1.0
"""Seconds before the second try; doubled before each further one, with jitter of one half."""

LONGEST_PAUSE = 60.0
"""Seconds: pauses grow no further."""

PATIENCE = 20.0
"""Seconds that a query waits at most if a service asks it to; a build waits longer."""

FILL = 0.99
"""The share of a permitted rate that is used: requests may arrive closer together than they were sent."""

CATCH_UP = 1.0
"""Seconds of places that may be taken after their turn: a thread that wakes late loses none of the rate."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request: its keys and texts, and (n, width) float32 vectors or why they were refused."""

    keys: list[int]
    texts: Sequence[str]
    vectors: NDArray[np.float32] | None
    refused: RefusedTextError | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What was asked of a service: requests sent, how many of them repeated another, tokens it billed.

    A service that does not tell its tokens bills 0 here.
    """

    requests: int = 0
    repeats: int = 0
    tokens: int = 0


class Pacer:
    """Lets requests through at an even pace, so many a minute; None: at once.

    An even pace keeps any window's limit without remembering what was sent, also across restarts: what may
    be caught up is less than `FILL` leaves of a window of minutes.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 60.0 / (per_minute * FILL) if per_minute else 0.0
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def delay(self) -> float:
        """Take the next place; how many seconds until its turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(now - CATCH_UP, self._next)
            self._next = turn + self._gap
            return max(0.0, turn - now)


class Dispatcher:
    """Embeds batches on `concurrency` threads. Submit, then take answers in the order they come.

    Asking for the next answer says that the one before is safe: never more than `concurrency`
    requests have been sent whose answers are not.
    """

    def __init__(
        self,
        embedder: Embedder,
        task: Task,
        *,
        concurrency: int | None = None,
        requests_per_minute: float | None = None,
        on_retry: Callable[[str], None] | None = None,
        on_repeat: Callable[[], None] | None = None,
        tries: int = TRIES,
        busy_tries: int = BUSY_TRIES,
        patience: float = math.inf,
    ) -> None:
        """`on_retry` is told why a request is sent again, `on_repeat` that a client repeats one by itself."""
        self.concurrency = concurrency or embedder.concurrency
        self.spent = Usage()
        self.outstanding = 0
        self._embedder = embedder
        self._task = task
        self._pacer = Pacer(requests_per_minute)
        self._on_retry = on_retry
        self._on_repeat = on_repeat
        self._tries = tries
        self._busy_tries = busy_tries
        self._waiting_for_turn = 0
        self._pausing = 0
        self._patience = patience
        self._jobs: queue.SimpleQueue[tuple[list[int], Sequence[str]] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._places = threading.Semaphore(self.concurrency)
        self._unsafe = 0
        embedder.before_repeat, embedder.tell = self._before_repeat, on_retry
        embedder.on_usage = self._count_tokens
        for number in range(self.concurrency):
            threading.Thread(target=self._work, name=f"embed-{number}", daemon=True).start()

    @property
    def has_room(self) -> bool:
        """Whether another batch would be sent soon: two are held for each thread."""
        return self.outstanding < 2 * self.concurrency

    def status(self) -> str:
        """What has been met with and what is waited for, in a few words; '' while all goes well."""
        words = [f"{self.spent.repeats:,} repeated"] if self.spent.repeats else []
        if self._pausing:
            words.append(f"{self._pausing} pausing before another try")
        elif self._waiting_for_turn:
            words.append("at the rate limit")
        return ", ".join(words)

    def submit(self, keys: list[int], texts: Sequence[str]) -> None:
        """Have these texts embedded: at most the embedder's batch size, none blank."""
        self.outstanding += 1
        self._jobs.put((keys, texts))

    def next(self, timeout: float | None = None) -> Answer | None:
        """The next answer; None when `timeout` seconds bring none. Raises what ended the work."""
        if self._unsafe:
            self._unsafe = 0
            self._places.release()
        try:
            answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            return None
        self.outstanding -= 1
        self._unsafe = 1
        if answer is None and self._failure is not None:
            raise self._failure
        return answer

    def drain(self, seconds: float) -> list[Answer]:
        """End the work: send nothing more. Returns what requests under way answer within so many seconds."""
        self._stop.set()
        self._places.release(self.concurrency)
        for _ in range(self.concurrency):
            self._jobs.put(None)
        found = []
        until = time.monotonic() + seconds
        while self.outstanding:
            try:
                answer = self._answers.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            self.outstanding -= 1
            if answer is not None:
                found.append(answer)
        return found

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            keys, texts = job
            answer = None
            self._places.acquire()
            try:
                answer = Answer(keys, texts, self._embed(texts))
            except RefusedTextError as error:
                answer = Answer(keys, texts, None, error)
            except _StoppedError:
                pass
            except BaseException as error:  # it is raised again in the thread that waits
                with self._lock:
                    self._failure = self._failure or error
                self._stop.set()
                self._places.release(self.concurrency)
            self._answers.put(answer)

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        pause = FIRST_PAUSE
        attempt = 0
        while True:
            attempt += 1
            self._take_turn(repeats=attempt > 1)
            try:
                return self._embedder.embed(texts, self._task)
            except (ServiceError, BadAnswerError) as error:
                again = not isinstance(error, BadAnswerError) or error.again
                asked = getattr(error, "retry_after", None) or 0.0
                tries = self._busy_tries if isinstance(error, RateLimitedError) else self._tries
                if not again or attempt >= tries or asked > self._patience:
                    raise
                seconds = max(pause * (0.5 + random.random()), asked)
                if self._on_retry is not None:
                    self._on_retry(f"{error}; trying again in {seconds:.0f} s ({attempt} of {tries - 1})")
                self._pause(seconds)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _before_repeat(self) -> None:
        """A client is about to repeat a request by itself."""
        if self._on_repeat is not None:
            self._on_repeat()
        self._take_turn(repeats=True)

    def _take_turn(self, *, repeats: bool) -> None:
        seconds = self._pacer.delay()
        if seconds:
            self._count(turns=1)
        try:
            self._wait(seconds)
        finally:
            if seconds:
                self._count(turns=-1)
        with self._lock:
            spent = self.spent
            self.spent = replace(spent, requests=spent.requests + 1, repeats=spent.repeats + repeats)

    def _pause(self, seconds: float) -> None:
        self._count(pauses=1)
        try:
            self._wait(seconds)
        finally:
            self._count(pauses=-1)

    def _count(self, *, turns: int = 0, pauses: int = 0) -> None:
        with self._lock:
            self._waiting_for_turn += turns
            self._pausing += pauses

    def _count_tokens(self, tokens: int) -> None:
        with self._lock:
            self.spent = replace(self.spent, tokens=self.spent.tokens + tokens)

    def _wait(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _StoppedError


class _StoppedError(Exception):
    """A request that was not sent, because the work has ended."""


def embed_all(embedder: Embedder, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
    """Embed any number of texts, in batches: (n, width) float32. Raises EmbedderError."""
    out = np.empty((len(texts), embedder.spec.width), np.float32)
    batches: list[list[int]] = []
    while (start := batches[-1][-1] + 1 if batches else 0) < len(texts):
        count = embedder.fit_in(texts[start : start + embedder.batch_size])
        batches.append(list(range(start, start + count)))
    dispatcher = Dispatcher(
        embedder,
        task,
        concurrency=max(1, min(embedder.concurrency, len(batches))),
        requests_per_minute=embedder.requests_per_minute,
        tries=2,
        busy_tries=2,
        patience=PATIENCE,
    )
    try:
        for keys in batches:
            dispatcher.submit(keys, [texts[i] for i in keys])
        while dispatcher.outstanding:
            answer = dispatcher.next()
            if answer is not None and answer.refused is not None:
                raise answer.refused
            if answer is not None and answer.vectors is not None:
                out[answer.keys] = answer.vectors
    finally:
        dispatcher.drain(0)
    return out


T = TypeVar("T")


def call_with_deadline(function: Callable[[], T], seconds: float, who: str = "the service") -> T:
    """Run `function` in a daemon thread and return what it returns, or raise what it raises.

    After `seconds` the call is abandoned with a ServiceError that names `who`; what it returns or
    raises later is dropped. Ctrl-C ends the waiting at once.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            result = function()
        except BaseException as error:  # handed to the caller, whatever it is: nobody else would see it
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    Thread(target=run, name="rsearch-deadline", daemon=True).start()
    if not wait([outcome], timeout=seconds).done:
        raise ServiceError(f"{who} did not answer within {seconds:g} s; try again later")
    return outcome.result()
