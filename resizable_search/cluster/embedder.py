"""An embedder whose work is done by actors of a Ray cluster; everything else stays with the build.

A worker takes a few requests at once, so that it always has the next one. Ray restarts one that dies, on
another node if its own is lost, and its requests go to others. A request at which workers die again and again
is run by itself: the others that were lost with it are not to blame. If it still kills its worker it is
refused, and the build finds its text by halving.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn

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

STARTS = 5
"""How often a worker may die before it is ready for the first time."""

DEATHS = 3
"""How often workers may die at a request before it is run by itself, and at one text before it is refused."""

NOTE_SECONDS = 20.0
"""A note appears when no worker is ready for so long, and again after twice the time."""

POLL_SECONDS = 0.2


@dataclass(eq=False, slots=True)
class _Worker:
    """An actor; `under_way`: the requests that it has."""

    number: int
    actor: Any
    under_way: int = 0
    texts: int = 0
    is_ready: bool = False
    host: str = ""
    pid: int = 0


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
        self._stop = stop or threading.Event()
        self._is_closed = threading.Event()
        self._stack = ExitStack()
        self._ray: Any = None
        self._failure: RsearchError | None = None
        self._change = threading.Condition()
        self._alone = threading.Lock()
        self._suspects: set[str] = set()
        self._workers: list[_Worker] = []

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
        with self._change:
            if self._ray is None:
                self._start()
        self._ready_worker()
        return f"{self.inner.kind} runs in {self.workers} workers of the Ray cluster"

    def status(self) -> str:
        """How many texts each worker has embedded, and how many are lost or starting."""
        starting = sum(not worker.is_ready for worker in self._workers)
        words = [f"texts by worker {' '.join(str(worker.texts) for worker in self._workers)}"]
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
        for worker in self._workers:
            with suppress(Exception):  # it may be dead already
                self._ray.kill(worker.actor)
        self._stack.close()

    def _embedded(self, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
        """The texts, embedded by one worker. Raises _LostError if it dies."""
        errors = self._ray.exceptions
        with self._change:
            worker = self._ready_worker()
            worker.under_way += 1
        try:
            call = worker.actor.embed.remote([self._environment], list(texts), task)
            if without_sign(self._ray, {call: worker.actor}):
                self._lose(worker, f"gives {SILENT}")
            reply: Reply = self._ray.get(call)
        except errors.RayTaskError as error:
            raise EmbedderError(f"a worker on {worker.host} failed: {last_line(error)}") from None
        except errors.RayError as error:  # of an actor, a node or an object that is gone
            if self._is_closed.is_set():
                raise
            if "creation task" in str(error):
                raise ClusterError(f"workers cannot start: {start_problem(error)}") from None
            self._lose(worker, "died")
        finally:
            with self._change:
                worker.under_way -= 1
        for note in reply.notes:
            self.on_note(note)
        if reply.tokens:
            self.on_usage(reply.tokens)
        for _ in range(reply.repeats):
            self.before_repeat()
        vectors: NDArray[np.float32] = reply.result()
        with self._change:
            worker.texts += len(texts)
        return vectors

    # -- workers

    def _start(self) -> None:
        self._ray = ray = self._stack.enter_context(connected(self.options))
        gpus = self.options.gpus
        per_gpu = int(ray.cluster_resources().get("GPU", 0) / gpus) if gpus else 0
        nodes = sum(node["Alive"] for node in ray.nodes())
        self.workers = self.options.workers or per_gpu or nodes
        self.concurrency = self.workers * self.requests_per_worker
        names = (*PASSED, str(self.spec.options.get("api_key_env", "")))
        passed = {name: os.environ[name] for name in names if self.remote and os.environ.get(name)}
        self._environment = ray.put(passed)
        at_once = self.requests_per_worker if self.remote else 1
        options = {**self.options.actor_options(), "max_restarts": -1, "max_concurrency": at_once}
        new = actor_class(ray, EmbedWorker).options(**options)
        for number in range(self.workers):
            actor = new.remote(__version__, self.spec.to_json())
            self._workers.append(_Worker(number, actor))
        for worker in self._workers:
            self._await(worker, check=True)

    def _ready_worker(self) -> _Worker:
        """Wait for a worker; the one that has the fewest requests. Raises what ended all of them."""
        seconds, next_note = 0.0, NOTE_SECONDS
        with self._change:
            while self._failure is None:
                if ready := [worker for worker in self._workers if worker.is_ready]:
                    return min(ready, key=lambda worker: worker.under_way)
                self._change.wait(POLL_SECONDS)
                seconds += POLL_SECONDS
                if self._stop.is_set():
                    raise KeyboardInterrupt
                if seconds >= next_note:
                    self.on_note(
                        f"no worker is ready for {next_note:.0f} s: they load their model, or the cluster "
                        "has no room for them (`ray status`)"
                    )
                    next_note *= 2
        raise self._failure

    def _await(self, worker: _Worker, *, check: bool) -> None:
        """Note when a worker is ready, or why none of them will be."""

        def note(answer: "Future[Reply]") -> None:
            failure: RsearchError | None = None
            try:
                host, pid = answer.result().result()
            except RsearchError as error:
                failure = error
            except Exception as error:
                failure = ClusterError(f"workers cannot start: {start_problem(error)}")
            with self._change:
                if failure is not None:
                    self._failure = failure
                else:
                    worker.host, worker.pid, worker.is_ready = host, pid, True
                self._change.notify_all()

        ready = worker.actor.ready.options(max_task_retries=STARTS - 1 if check else -1)
        ready.remote([self._environment], check).future().add_done_callback(note)

    def _lose(self, worker: _Worker, what: str) -> NoReturn:
        """Give no requests to a worker until it is ready again. Raises _LostError."""
        with self._change:
            was_ready, worker.is_ready = worker.is_ready, False
            self.lost += was_ready
        if was_ready:
            self.on_note(
                f"worker {worker.number} on {worker.host} {what}: others take its texts, and it is restarted"
            )
            self._await(worker, check=False)
        raise _LostError


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
