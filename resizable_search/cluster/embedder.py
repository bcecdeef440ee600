"""An embedder whose work is done by actors of a Ray cluster; everything else stays with the build.

A worker takes a few requests at once, so that it always has the next one. One that dies is replaced, and
its requests go to others. A request at which workers die again and again is run by itself: the others that
were lost with it are not to blame. If it still kills its worker it is refused, and the build finds its text
by halving.
"""

import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search import __version__
from resizable_search.cluster.connection import (
    SILENT,
    RayOptions,
    actor_class,
    connected,
    last_line,
    start_problem,
    without_sign,
)
from resizable_search.cluster.worker import EmbedWorker, Reply
from resizable_search.embedders import nomic, openai
from resizable_search.embedders.base import Embedder, Task
from resizable_search.embedders.request_pool import OTHER_TEXT
from resizable_search.errors import ClusterError, EmbedderError, RefusedTextError, RsearchError, UsageError
from resizable_search.specs import EmbedderSpec

PASSED = (nomic.KEY_VARIABLE, nomic.ADDRESS_VARIABLE, openai.DEFAULT_VARIABLE, openai.URL_VARIABLE)
"""Variables of hosted embedders that workers get from here, if they are set here."""

LOCAL_REQUESTS = 2
"""Requests that a worker with a model of its own has: one that it embeds, and the next one."""

MOST_TEXTS = 200
"""The most texts under way at a worker."""

STARTS = 3
"""How often each worker, and one more, may die before any is ready."""

DEATHS = 3
"""How often workers may die at a request before it is run by itself, and at one text before it is refused."""

NOTE_SECONDS = 20.0
"""A note appears each time a worker has taken so long to start."""

POLL_SECONDS = 0.2


@dataclass(eq=False, slots=True)
class _Worker:
    """An actor that is ready."""

    number: int
    actor: Any
    host: str
    pid: int
    is_lost: bool = False


class RayEmbedder(Embedder):
    """`inner`, run by the workers of a cluster that is joined when it is first needed.

    `stop`, once set, ends waiting for workers. Raises UsageError for an embedder that is fitted.
    """

    def __init__(self, inner: Embedder, options: RayOptions, stop: threading.Event | None = None) -> None:
        if inner.needs_fit:
            raise UsageError(f"{inner.kind} is fitted, and embeds on this machine: leave `ray` out")
        self.kind, self.remote, self.embeds = inner.kind, inner.remote, inner.embeds  # type: ignore[misc]  # of this one, not of the class
        self.remark, self.check_costs = inner.remark, inner.check_costs  # type: ignore[misc]  # likewise
        self.remark_on = inner.remark_on  # type: ignore[method-assign]  # likewise
        self.batch_size, self.requests_per_minute = inner.batch_size, inner.requests_per_minute
        self.inner, self.options = inner, options
        each = inner.concurrency if inner.remote else LOCAL_REQUESTS
        self.requests_per_worker = max(1, min(each, MOST_TEXTS // inner.batch_size))
        self.lost = 0
        """Workers that died while they were needed."""
        self._stillborn = 0
        self._stop = stop or threading.Event()
        self._is_closed = threading.Event()
        self._stack = ExitStack()
        self._ray: Any = None
        self._free: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        """A worker for each request that it can take; None after a failure."""
        self._failure: RsearchError | None = None
        self._lock = threading.Lock()
        self._alone = threading.Lock()
        self._suspects: set[str] = set()
        self._ready: dict[int, _Worker] = {}
        self._done: dict[int, int] = {}

    @property
    def spec(self) -> EmbedderSpec:
        """That of the embedder."""
        return self.inner.spec

    @property
    def key_destination(self) -> tuple[str, str] | None:
        """That of the embedder."""
        return self.inner.key_destination

    def fit_in(self, texts: Sequence[str]) -> int:
        """As the embedder says."""
        return self.inner.fit_in(texts)

    def check(self) -> str:
        """Start the workers, and wait until one of them can work. Raises EmbedderError, UsageError."""
        if self._ray is None:
            self._start()
            self._free.put(self._take())
        return f"{self.inner.kind} runs in {self.workers} workers of the Ray cluster"

    def status(self) -> str:
        """How many texts each worker has embedded, and how many are lost or starting."""
        with self._lock:
            done = " ".join(str(self._done.get(number, 0)) for number in range(self.workers))
            starting = self.workers - len(self._ready)
        words = [f"texts by worker {done}"]
        words += [f"{starting} starting"] if starting else []
        return ", ".join([*words, f"{self.lost} lost"] if self.lost else words)

    def embed(self, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
        """Embed texts in a worker; in another one if it dies. Raises EmbedderError."""
        self.check()
        for _ in range(0 if texts[0] in self._suspects else DEATHS):
            with suppress(_LostError):
                return self._embedded(texts, task)
        with self._alone:
            for _ in range(DEATHS if len(texts) == 1 else 1):
                with suppress(_LostError):
                    return self._embedded(texts, task)
            if len(texts) == 1:
                try:
                    self._embedded([OTHER_TEXT], task)
                except _LostError:
                    raise ClusterError(
                        "workers die whatever they embed: look at Ray's logs, and give each more memory"
                    ) from None
        self._suspects.update(texts)
        raise RefusedTextError(
            "workers of the cluster die at it (of too little memory, say): correct the text, or skip it with "
            "`on_bad_text=skip`"
        )

    def close(self) -> None:
        """End the workers, and leave the cluster."""
        self._is_closed.set()
        self._free.put(None)
        with self._lock:
            workers, self._ready = list(self._ready.values()), {}
        for worker in workers:
            with suppress(Exception):  # it may be dead already
                self._ray.kill(worker.actor)
        self._stack.close()

    def _embedded(self, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
        """The texts, embedded by one worker. Raises _LostError if it dies."""
        worker = self._take()
        try:
            call = worker.actor.embed.remote(list(texts), task)
            if without_sign(self._ray, {call: worker.actor}):
                raise self._ray.exceptions.RayError(SILENT)
            reply: Reply = self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            self._free.put(worker)
            raise EmbedderError(f"a worker on {worker.host} failed: {last_line(error)}") from None
        except Exception as error:  # of an actor, a node or an object that is gone
            if not isinstance(error, self._ray.exceptions.RayError) or self._is_closed.is_set():
                raise
            self._replace(worker)
            raise _LostError from None
        self._free.put(worker)
        for note in reply.notes:
            self.on_note(note)
        if reply.tokens:
            self.on_usage(reply.tokens)
        for _ in range(reply.repeats):
            self.before_repeat()
        vectors: NDArray[np.float32] = reply.result()
        with self._lock:
            self._done[worker.number] = self._done.get(worker.number, 0) + len(texts)
        return vectors

    def _take(self) -> _Worker:
        """A worker that has room. Raises what ended all of them."""
        while True:
            try:
                worker = self._free.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if self._stop.is_set():
                    raise KeyboardInterrupt from None
                continue
            if worker is None:
                self._free.put(None)
                raise self._failure or KeyboardInterrupt
            if not worker.is_lost:
                return worker

    # -- workers

    def _start(self) -> None:
        self._ray = ray = self._stack.enter_context(connected(self.options))
        self._actor_class = actor_class(ray, EmbedWorker)
        gpus = self.options.gpus
        per_gpu = int(ray.cluster_resources().get("GPU", 0) / gpus) if gpus else 0
        nodes = sum(node["Alive"] for node in ray.nodes())
        self.workers = self.options.workers or per_gpu or nodes
        self.concurrency = self.workers * self.requests_per_worker
        names = (*PASSED, str(self.spec.options.get("api_key_env", "")))
        passed = {name: os.environ[name] for name in names if self.remote and os.environ.get(name)}
        self._environment = ray.put(passed)
        for number in range(self.workers):
            self._start_worker(number, check=True)

    def _start_worker(self, number: int, *, check: bool) -> None:
        run = threading.Thread(target=self._bring_up, args=(number, check), daemon=True)
        run.start()

    def _replace(self, worker: _Worker) -> None:
        with self._lock:
            is_known, worker.is_lost = worker.is_lost, True
            if is_known:
                return
            self.lost += 1
            self._ready.pop(worker.number, None)
        self.on_note(
            f"worker {worker.number} on {worker.host} died: others take its texts, and it is replaced"
        )
        with suppress(Exception):  # it is dead, or cannot be reached
            self._ray.kill(worker.actor)
        self._start_worker(worker.number, check=False)

    def _bring_up(self, number: int, check: bool) -> None:
        """Start a worker, and offer it once it is ready."""
        try:
            while not self._is_closed.is_set():
                with suppress(_LostError):
                    self._offer(number, check)
                    return
                with self._lock:
                    self._stillborn += 1
                if self._stillborn >= STARTS * (self.workers + 1):
                    raise ClusterError("workers die before they are ready: look at Ray's logs")
        except BaseException as error:  # raised again where a worker is wanted
            if not self._is_closed.is_set():
                ours = error if isinstance(error, RsearchError) else None
                self._failure = ours or ClusterError(f"no worker starts: {last_line(error)}")
                self._free.put(None)

    def _offer(self, number: int, check: bool) -> None:
        ray, at_once = self._ray, self.requests_per_worker if self.remote else 1
        new = self._actor_class.options(**self.options.actor_options(), max_concurrency=at_once)
        actor = new.remote(__version__, self.spec.to_json(), [self._environment])
        asked, began = actor.ready.remote(check), time.monotonic()
        next_note = NOTE_SECONDS
        while not self._is_closed.is_set() and not ray.wait([asked], timeout=POLL_SECONDS)[0]:
            if time.monotonic() - began >= next_note:
                self.on_note(
                    f"worker {number} has not started for {next_note:.0f} s: it loads its model, or the "
                    "cluster has no room for it (`ray status`)"
                )
                next_note *= 2
        if self._is_closed.is_set():
            ray.kill(actor)
            return
        try:
            reply: Reply = ray.get(asked)
        except ray.exceptions.RayTaskError as error:
            raise ClusterError(f"a worker fails: {last_line(error)}") from None
        except ray.exceptions.RayActorError as error:
            if "creation task" in str(error):
                raise ClusterError(f"workers cannot start: {start_problem(error)}") from None
            raise _LostError from None
        host, pid = reply.result()
        worker = _Worker(number, actor, host, pid)
        with self._lock:
            self._ready[number], self._stillborn = worker, 0
        for _ in range(self.requests_per_worker):
            self._free.put(worker)


class _LostError(Exception):
    """A worker died."""


@contextmanager
def on_cluster(
    embedder: Embedder, options: RayOptions | None, stop: threading.Event | None = None
) -> Iterator[Embedder]:
    """The embedder, run by a cluster if there are options for one; the workers end with the block."""
    if options is None:
        yield embedder
        return
    with closing(RayEmbedder(embedder, options, stop)) as spread:
        yield spread
