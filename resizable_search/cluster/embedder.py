"""An embedder whose work is done by actors of a Ray cluster; everything else stays with the build.

A worker takes a few requests at once, so that it always has the next one. Ray restarts one that dies, on
another node if its own is lost. Its requests are tried again, by other workers, as those of a service that
fails (`request_pool`): a text that kills its worker each time is found and left out in the same way, too.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from resizable_search import __version__
from resizable_search.cluster.connection import (
    SILENT,
    RayOptions,
    actor_class,
    as_raised,
    connected,
    start_problem,
    without_sign,
)
from resizable_search.cluster.worker import EmbedWorker
from resizable_search.embedders import nomic, openai
from resizable_search.embedders.base import Embedder, Task
from resizable_search.errors import ClusterError, ServiceError, UsageError
from resizable_search.specs import EmbedderSpec

PASSED = (nomic.KEY_VARIABLE, nomic.ADDRESS_VARIABLE, openai.DEFAULT_VARIABLE, openai.URL_VARIABLE)
"""Variables of hosted embedders that workers get from here, if they are set here."""

LOCAL_REQUESTS = 2  # requests that a worker with a model of its own has: one that it embeds, and the next one
MOST_TEXTS = 200  # the most texts under way at a worker
STARTS = 5  # how often a worker may die before it is ready for the first time
NOTE_SECONDS = 20.0  # a note appears when no worker is ready for so long, and again after twice the time

POLL_SECONDS = 0.2


@dataclass(eq=False, slots=True)
class _Worker:
    """An actor, and its call of `ready`; `under_way`: the requests that it has."""

    actor: Any
    ready: Any
    is_ready: bool = False
    host: str = ""
    pid: int = 0
    under_way: int = 0
    texts: int = 0


class RayEmbedder(Embedder):
    """`inner`, run by workers of a cluster that is joined when needed. Raises UsageError if it is fitted."""

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
        self._stop = stop or threading.Event()  # once set, it ends waiting for workers
        self._is_closed = False
        self._stack = ExitStack()
        self._ray: Any = None
        self._lock, self._alone = threading.Lock(), threading.Lock()
        self._deaths: Counter[str] = Counter()
        """How often workers died at a text."""
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
        with self._worker():
            return f"{self.inner.kind} runs in {self.workers} workers of the Ray cluster"

    def status(self) -> str:
        """How many texts each worker has embedded, and how many are starting or lost. Raises ClusterError."""
        with self._lock:
            starting = len(self._workers) - len(self._ready_workers())
        words = [f"texts by worker {' '.join(str(worker.texts) for worker in self._workers)}"]
        words += [f"{starting} starting"] if starting else []
        return ", ".join([*words, f"{self.lost} lost"] if self.lost else words)

    def embed(self, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
        """Embed texts in a worker. Raises EmbedderError, ServiceError for a worker that dies meanwhile."""
        # Where workers die again and again, one request at a time shows which text is to blame.
        alone = self._alone if self._deaths[texts[0]] > 1 else nullcontext()
        with alone, self._worker() as worker:
            try:
                call = worker.actor.embed.remote(self._environment, list(texts), task)
                if without_sign(self._ray, {call: worker.actor}):
                    raise self._lost(worker, texts, f"gives {SILENT}")
                vectors, calls = self._ray.get(call)
            except self._ray.exceptions.RayTaskError as error:
                raise as_raised(error, f"a worker on {worker.host}") from None
            except self._ray.exceptions.RayError as error:  # of an actor, a node or an object that is gone
                if self._is_closed:
                    raise
                if "creation task" in str(error):
                    raise ClusterError(f"workers cannot start: {start_problem(error)}") from None
                raise self._lost(
                    worker, texts, "died; look at Ray's logs, and give each more memory"
                ) from None
            worker.texts += len(texts)
        for hook, arguments in calls:
            getattr(self, hook)(*arguments)
        return cast("NDArray[np.float32]", vectors)

    def close(self) -> None:
        """End the workers, and leave the cluster."""
        self._is_closed = True
        for worker in self._workers:
            with suppress(Exception):  # it may be dead already
                self._ray.kill(worker.actor)
        self._stack.close()

    def _start(self) -> None:
        self._ray = ray = self._stack.enter_context(connected(self.options))
        gpus = self.options.gpus
        per_gpu = int(ray.cluster_resources().get("GPU", 0) / gpus) if gpus else 0
        nodes = sum(node["Alive"] for node in ray.nodes())
        self.workers = self.options.workers or per_gpu or nodes
        self.concurrency = self.workers * self.requests_per_worker
        names = (*PASSED, str(self.spec.options.get("api_key_env", "")))
        passed = {name: os.environ[name] for name in names if self.remote and os.environ.get(name)}
        self._environment = [ray.put(passed)]
        at_once = self.requests_per_worker if self.remote else 1
        options = {**self.options.actor_options(), "max_restarts": -1, "max_concurrency": at_once}
        new = actor_class(ray, EmbedWorker).options(**options)
        for actor in [new.remote(__version__, self.spec.to_json()) for _ in range(self.workers)]:
            ready = actor.ready.options(max_task_retries=STARTS - 1)
            self._workers.append(_Worker(actor, ready.remote(self._environment, check=True)))

    @contextmanager
    def _worker(self) -> Iterator[_Worker]:
        """Wait for a worker; the one that has the fewest requests. Raises what keeps one from working."""
        began, next_note = time.monotonic(), NOTE_SECONDS
        while True:
            with self._lock:
                if self._ray is None:
                    self._start()
                if ready := self._ready_workers():
                    worker = min(ready, key=lambda worker: worker.under_way)
                    worker.under_way += 1
                    break
            if self._stop.wait(POLL_SECONDS):
                raise KeyboardInterrupt
            if time.monotonic() - began >= next_note:
                self.on_note(
                    f"no worker is ready for {next_note:.0f} s: they load their model, or the cluster "
                    "has no room for them (`ray status`)"
                )
                next_note *= 2
        try:
            yield worker
        finally:
            with self._lock:
                worker.under_way -= 1

    def _ready_workers(self) -> list[_Worker]:
        """Those that are ready. Raises what keeps one from it."""
        for worker in self._workers:
            if not worker.is_ready and self._ray.wait([worker.ready], timeout=0)[0]:
                try:
                    worker.host, worker.pid = self._ray.get(worker.ready)
                except self._ray.exceptions.RayTaskError as error:
                    raise as_raised(error, "a worker that starts") from None
                except self._ray.exceptions.RayError as error:
                    raise ClusterError(f"workers cannot start: {start_problem(error)}") from None
                worker.is_ready = True
        return [worker for worker in self._workers if worker.is_ready]

    def _lost(self, worker: _Worker, texts: Sequence[str], what: str) -> ServiceError:
        """The error of a worker that is lost. It gets no requests until it is ready again."""
        with self._lock:
            self._deaths.update(texts)
            if worker.is_ready:
                worker.is_ready = False
                self.lost += 1
                ready = worker.actor.ready.options(max_task_retries=-1)
                worker.ready = ready.remote(self._environment, check=False)
        return ServiceError(f"a worker on {worker.host} {what}")


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
