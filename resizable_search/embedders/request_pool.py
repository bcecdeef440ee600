"""Many requests at once: concurrency, pace and retries around an embedder's `embed`.

Requests run on daemon threads, which keep no process alive. One that may succeed later is sent again after
growing pauses. If it fails each time while another text is embedded, its texts are at fault. Any other
failure ends the work. What a client repeats by itself is paced and counted alike.
"""

import math
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from resizable_search.embedders.base import Embedder, Task, ignore
from resizable_search.errors import (
    BadAnswerError,
    EmbedderError,
    RateLimitedError,
    RefusedTextError,
    ServiceError,
)
from resizable_search.text import counted

TRIES = 4  # how often a request is sent. Nomic's client tries several times inside each.
BUSY_TRIES = 8  # how often at a rate limit: a window of 5 minutes has passed by then
FIRST_PAUSE = 1.0  # seconds before the second try, with a jitter of one half; each further pause doubles
LONGEST_PAUSE = 60.0
OTHER_TEXT = "a tree"  # shows whether a service that fails is down, or fails on a text
QUERY_TRIES = 2
QUERY_PATIENCE = 20.0  # the longest Retry-After, in seconds, that a query waits for
FILL = 0.99  # share of the rate that is used: requests may arrive closer together than they were sent
CATCH_UP = 1.0  # seconds of missed turns that are made up for, so that late threads do not lower the rate


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of one request: (n, width) float32 vectors of its texts, or why the texts were refused."""

    keys: list[int]
    texts: Sequence[str]
    vectors: NDArray[np.float32] | None
    refused: RefusedTextError | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Requests sent to a service, how many were repeats, the tokens it billed (0 if unknown), and seconds."""

    requests: int = 0
    repeats: int = 0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def words(self) -> str:
        """The requests, those of them that were repeated, and the tokens."""
        repeated = f" ({self.repeats:,} repeated)" if self.repeats else ""
        tokens = f", {counted(self.tokens, 'token')}" if self.tokens else ""
        return f"{counted(self.requests, 'request')}{repeated}{tokens}"

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*map(sum, zip(astuple(self), astuple(other), strict=True)))


class Pacer:
    """Spaces requests evenly, `per_minute` of them (None: no limit), and so keeps it also across restarts."""

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 60.0 / (per_minute * FILL) if per_minute else 0.0
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def delay(self) -> float:
        """Take the next turn; the seconds until then."""
        with self._lock:
            now = time.monotonic()
            turn = max(now - CATCH_UP, self._next)
            self._next = turn + self._gap
            return max(0.0, turn - now)


@dataclass(eq=False)
class RequestPool:
    """Embeds batches on threads. Submit batches, then take results."""

    embedder: Embedder
    task: Task
    _: KW_ONLY
    concurrency: int = 0  # the number of threads; 0: the embedder's
    requests_per_minute: float | None = None
    on_retry: Callable[[str], None] = ignore  # gets the reason of each retry
    on_repeat: Callable[[], None] = ignore  # is called when a client repeats a request itself
    for_query: bool = False

    def __post_init__(self) -> None:
        self.concurrency = self.concurrency or self.embedder.concurrency
        self.usage = Usage()
        self.outstanding = 0
        self._pacer = Pacer(self.requests_per_minute)
        self._tries, self._busy_tries = (QUERY_TRIES, QUERY_TRIES) if self.for_query else (TRIES, BUSY_TRIES)
        self._patience = QUERY_PATIENCE if self.for_query else math.inf
        self._batches: queue.SimpleQueue[tuple[list[int], Sequence[str]] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[BatchResult | BaseException | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(self.concurrency)  # of requests, and of results not yet safe
        self._unsafe = 0
        self.embedder.before_repeat, self.embedder.on_note = self._before_repeat, self.on_retry
        self.embedder.on_usage = lambda tokens: self._count(Usage(tokens=tokens))
        for number in range(self.concurrency):
            threading.Thread(target=self._work, name=f"embed-{number}", daemon=True).start()

    def status(self) -> str:
        """Repeats so far, in a few words; '' while all goes well."""
        return f"{self.usage.repeats:,} repeated" if self.usage.repeats else ""

    def submit(self, keys: list[int], texts: Sequence[str]) -> None:
        """Embed these texts, as many as one call of `embed` takes."""
        self.outstanding += 1
        self._batches.put((keys, texts))

    def next(self, timeout: float | None = None) -> list[BatchResult]:
        """The results so far, after at most `timeout` seconds. Raises what ended the work."""
        if self._unsafe:  # taking results says that those before them are safe
            self._slots.release(self._unsafe)
            self._unsafe = 0
        results: list[BatchResult] = []
        with suppress(queue.Empty):
            while True:
                result = self._results.get(timeout=0 if results else timeout)
                if isinstance(result, BaseException) and results:  # they come first
                    self._results.put(result)
                    break
                self.outstanding -= 1
                self._unsafe += 1
                if isinstance(result, BaseException):
                    raise result
                if result is not None:
                    results.append(result)
        return results

    def drain(self, seconds: float) -> list[BatchResult]:
        """Send nothing more; the results that requests under way bring within so many seconds."""
        self._stop.set()
        self._slots.release(self.concurrency)
        for _ in range(self.concurrency):
            self._batches.put(None)
        results = []
        until = time.monotonic() + seconds
        while self.outstanding:
            try:
                result = self._results.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            self.outstanding -= 1
            if isinstance(result, BatchResult):
                results.append(result)
        return results

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            keys, texts = batch
            result: BatchResult | BaseException | None = None
            self._slots.acquire()
            try:
                result = BatchResult(keys, texts, self._embed(texts))
            except RefusedTextError as error:
                result = BatchResult(keys, texts, None, error)
            except _StoppedError:
                pass
            except BaseException as error:  # raised again in the thread that takes results
                result = error
                self._stop.set()
                self._slots.release(self.concurrency)
            self._results.put(result)

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        pause = FIRST_PAUSE
        attempt = 0
        while True:
            attempt += 1
            self._take_turn(repeats=attempt > 1)
            try:
                return self.embedder.embed(texts, self.task)
            except (ServiceError, BadAnswerError) as error:
                asked = getattr(error, "retry_after", None) or 0.0
                tries = self._busy_tries if isinstance(error, RateLimitedError) else self._tries
                if not getattr(error, "again", True) or attempt >= tries or asked > self._patience:
                    self._blame_the_texts(error)
                    raise
                seconds = max(pause * (0.5 + random.random()), asked)
                self.on_retry(f"{error}; trying again in {seconds:.0f} s ({attempt} of {tries - 1})")
                self._wait(seconds)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _blame_the_texts(self, error: ServiceError | BadAnswerError) -> None:
        """Raise RefusedTextError if a service that fails on these texts embeds another one."""
        if self.for_query or isinstance(error, RateLimitedError) or not getattr(error, "again", True):
            return
        self._take_turn(repeats=True)
        try:
            self.embedder.embed([OTHER_TEXT], self.task)
        except EmbedderError:
            return
        what = str(error).partition("; ")[0]
        problem = f"{what}, but embeds other texts; correct the text, or skip it with `on_bad_text=skip`"
        raise RefusedTextError(problem) from None

    def _before_repeat(self) -> None:
        self.on_repeat()
        self._take_turn(repeats=True)

    def _take_turn(self, *, repeats: bool) -> None:
        self._wait(self._pacer.delay())
        self._count(Usage(requests=int(self.embedder.remote), repeats=int(repeats)))

    def _count(self, usage: Usage) -> None:
        with self._lock:
            self.usage += usage

    def _wait(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _StoppedError


class _StoppedError(Exception):
    """A request that was not sent, because the work has ended."""


def embed_all(embedder: Embedder, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
    """Embed any number of texts, in batches: (n, width) float32. Raises EmbedderError."""
    out = np.empty((len(texts), embedder.spec.width), np.float32)
    pool = RequestPool(
        embedder,
        task,
        concurrency=max(1, min(embedder.concurrency, len(texts))),
        requests_per_minute=embedder.requests_per_minute,
        for_query=True,
    )
    try:
        start = 0
        while start < len(texts):
            stop = start + embedder.fit_in(texts[start : start + embedder.batch_size])
            pool.submit(list(range(start, stop)), texts[start:stop])
            start = stop
        while pool.outstanding:
            for result in pool.next():
                if result.refused is not None:
                    raise result.refused
                out[result.keys] = result.vectors
    finally:
        pool.drain(0)
    return out
