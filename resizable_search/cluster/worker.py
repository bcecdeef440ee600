"""What runs in a worker process of a Ray cluster: an embedder, or the scan of some parts of an index.

Its answers are plain values, also where it fails: an error that crosses processes may not be what it was.
"""

import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resizable_search import __version__, errors
from resizable_search.embedders import registry
from resizable_search.embedders.base import Embedder, Task
from resizable_search.engine.base import NO_ROW, ScanResult
from resizable_search.engine.kernel_cache import Chooser
from resizable_search.engine.parts import Parts
from resizable_search.engine.plan import Precision
from resizable_search.engine.vectors import Floats, Rows
from resizable_search.errors import IndexFormatError, RsearchError
from resizable_search.specs import EmbedderSpec
from resizable_search.store.executor import MOST_CUT, parts_of
from resizable_search.store.manifest import read_manifest
from resizable_search.store.reader import PartReader


class Reply(NamedTuple):
    """The value of a call, or the error (its class's name, message and fields), and what was counted."""

    value: Any
    error: tuple[str, str, dict[str, Any]] | None = None
    tokens: int = 0
    repeats: int = 0
    notes: tuple[str, ...] = ()

    def result(self) -> Any:
        """The value. Raises the RsearchError."""
        if self.error is None:
            return self.value
        name, message, fields = self.error
        cls = getattr(errors, name, RsearchError)
        error = cls.__new__(cls)
        Exception.__init__(error, message)
        error.__dict__.update(fields)
        raise error


class EmbedWorker:
    """Embeds texts with the embedder of this spec (JSON), which it opens once.

    `environment` holds one reference to variables such as keys: Ray shows the arguments of an actor, but not
    what a reference inside of them leads to.
    """

    def __init__(self, spec: Mapping[str, Any], environment: Sequence[Any]) -> None:
        import ray

        os.environ.update(ray.get(environment[0]))
        self._spec = spec
        self._embedder: Embedder | None = None
        self._lock = threading.Lock()
        self._tokens = self._repeats = 0
        self._notes: list[str] = []

    def ready(self, check: bool) -> Reply:
        """Open the embedder, and `check` it; (version of rsearch, host, process)."""
        reply = self._replied(lambda: self._opened(check))
        if reply.error is None:
            return reply
        name, message, fields = reply.error
        words = f"on {socket.gethostname()}: "
        fields |= {"message": words + fields["message"]} if "message" in fields else {}
        return reply._replace(error=(name, words + message, fields))

    def embed(self, texts: Sequence[str], task: Task) -> Reply:
        """The (n, width) float32 vectors of the texts."""
        return self._replied(lambda: self._open().embed(texts, task))

    def _opened(self, check: bool) -> tuple[str, str, int]:
        if check:
            self._open().check()
        return __version__, socket.gethostname(), os.getpid()

    def _open(self) -> Embedder:
        with self._lock:
            if self._embedder is None:
                self._embedder = registry.reopen(EmbedderSpec.from_json(self._spec), Path())
                self._embedder.before_repeat = self._repeated
                self._embedder.on_usage = self._billed
                self._embedder.on_note = self._notes.append
            return self._embedder

    def _repeated(self) -> None:
        with self._lock:
            self._repeats += 1

    def _billed(self, tokens: int) -> None:
        with self._lock:
            self._tokens += tokens

    def _replied(self, work: Callable[[], Any]) -> Reply:
        reply = replied(work)
        with self._lock:
            reply = reply._replace(tokens=self._tokens, repeats=self._repeats, notes=tuple(self._notes))
            self._tokens = self._repeats = 0
            self._notes.clear()
        return reply


class ScanWorker:
    """Scans the parts `numbers` of one generation of the index in `folder`, on so many threads.

    `partial`: parts that cannot be read are left out, and each reply notes them.
    """

    def __init__(
        self, folder: str, generation: int, numbers: Sequence[int], threads: int, partial: bool
    ) -> None:
        self._folder, self._generation = Path(folder), generation
        self._numbers, self._threads, self._is_partial = numbers, threads, partial
        self._parts: dict[int, PartReader] = {}
        self._missing: list[str] = []

    def scan(
        self, dim: int, queries: Floats, precision: Precision, k: int, masks: Sequence[Any] | None
    ) -> Reply:
        """The ScanResult of `Engine.scan`, with rows of the whole index; `masks` as for `Parts.narrowed`."""

        def work() -> ScanResult:
            parts = self._at(dim)
            if masks is not None:
                allowed = dict(zip(self._numbers, masks, strict=True))
                parts = parts.narrowed([allowed[number] for number in self._parts])
            engine = self._chooser.pick(len(queries) * len(parts) * dim)
            writable = np.array(queries)  # as the kernels have them; what comes by Ray is not
            return self._of_index(engine.scan(parts, writable, precision, min(k, len(parts))))

        return replied(work)._replace(notes=tuple(self._missing))

    def rescore(self, dim: int, queries: Floats, precision: Precision, rows: Rows, k: int) -> Reply:
        """The ScanResult of `Engine.rescore`, of the rows of the index that are here."""

        def work() -> ScanResult:
            parts = self._at(dim)
            own: Rows = np.full(rows.shape, NO_ROW, np.int64)
            for part, start in zip(self._parts.values(), parts.starts, strict=True):
                is_here = (rows >= part.start) & (rows < part.start + part.rows)
                own[is_here] = rows[is_here] - part.start + start
            own = np.sort(own, axis=1)
            empty = int(np.count_nonzero(own == NO_ROW, axis=1).min())
            own = own[:, min(empty, own.shape[1] - 1) :]  # without columns of no row, but the last
            engine = self._chooser.pick(own.size * dim)
            own, writable = np.ascontiguousarray(own), np.array(queries)
            return self._of_index(engine.rescore(parts, writable, precision, own, min(k, own.shape[1])))

        return replied(work)

    def _at(self, dim: int) -> Parts:
        if not self._parts:
            self._open()
        return self._parts_at(dim)

    def _open(self) -> None:
        manifest = read_manifest(self._folder)
        if manifest.generation != self._generation:
            raise IndexFormatError(f"{self._folder} has changed since it was opened: search again")
        rows = sum(manifest.parts[number].rows for number in self._numbers)
        self._chooser = Chooser("auto", self._threads, numbers=rows * manifest.full_dim, stays=True)
        opened, self._missing = {}, []
        for number in self._numbers:
            part, start = manifest.parts[number], manifest.starts[number]
            try:
                opened[number] = PartReader(self._folder, part, manifest.dims, start)
            except RsearchError as error:
                if not self._is_partial or len(self._missing) == len(self._numbers) - 1:
                    raise
                self._missing.append(f"part {number + 1} cannot be scanned: {error}")
        parts, cached = list(opened.values()), len(manifest.dims) + MOST_CUT
        self._parts_at = lru_cache(cached)(partial(parts_of, parts, manifest.dims))
        self._parts = opened

    def _of_index(self, result: ScanResult) -> ScanResult:
        """The result with the numbers of rows in the index."""
        rows, whole = result.top.rows, np.full_like(result.top.rows, NO_ROW)
        first = 0
        for part in self._parts.values():
            is_here = (rows >= first) & (rows < first + part.rows)
            whole[is_here] = rows[is_here] - first + part.start
            first += part.rows
        return replace(result, top=replace(result.top, rows=whole))


def replied(work: Callable[[], Any]) -> Reply:
    """The value of a call, or its RsearchError."""
    try:
        return Reply(work())
    except RsearchError as raised:
        cls = next(cls for cls in type(raised).__mro__ if cls.__module__ == errors.__name__)
        return Reply(None, (cls.__name__, str(raised), dict(raised.__dict__)))
