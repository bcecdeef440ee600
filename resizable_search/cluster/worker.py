"""What runs in a worker process of a Ray cluster: an embedder, or the scan of some parts of an index."""

import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from resizable_search import __version__
from resizable_search.embedders import registry
from resizable_search.embedders.base import Embedder, Task
from resizable_search.engine.base import NO_ROW, ScanResult
from resizable_search.engine.kernel_cache import Chooser
from resizable_search.engine.parts import Parts
from resizable_search.engine.plan import Precision
from resizable_search.engine.vectors import Floats, Rows
from resizable_search.errors import ClusterError, IndexFormatError, NoCredentialsError, RsearchError
from resizable_search.specs import EmbedderSpec
from resizable_search.store.executor import MOST_CUT, parts_of
from resizable_search.store.manifest import Manifest, read_manifest
from resizable_search.store.reader import PartReader


class Worker:
    """What all actors are. Raises ClusterError for another version of rsearch on the node that asks."""

    def __init__(self, version: str) -> None:
        if version != __version__:
            raise ClusterError(
                f"{socket.gethostname()} has rsearch {__version__}, and the node that asks {version}: "
                "install the same on all nodes"
            )

    def sign(self) -> None:
        """Give a sign of life."""


class EmbedWorker(Worker):
    """Embeds texts with the embedder of this spec (JSON), which it opens once."""

    # Each call has an `environment`, a list of one reference to variables such as keys: Ray may show
    # arguments, but not what a reference inside of them leads to.

    def __init__(self, version: str, spec: Mapping[str, Any]) -> None:
        super().__init__(version)
        self._spec = spec
        self._embedder: Embedder | None = None
        self._lock = threading.Lock()
        self._calls: list[tuple[str, tuple[Any, ...]]] = []

    def ready(self, environment: Sequence[Any], check: bool) -> tuple[str, int]:
        """Open the embedder, and `check` it; the host and the process. Raises RsearchError."""
        host = socket.gethostname()
        try:
            embedder = self._open(environment)
            if check:
                embedder.check()
        except RsearchError as error:
            error.args = (f"on {host}: {error.args[0]}",)
            if isinstance(error, NoCredentialsError):
                error.message = f"on {host}: {error.message}"
            raise
        return host, os.getpid()

    def embed(
        self, environment: Sequence[Any], texts: Sequence[str], task: Task
    ) -> tuple[Floats, list[tuple[str, tuple[Any, ...]]]]:
        """The (n, width) float32 vectors of the texts, and the calls of hooks since the last time."""
        vectors = self._open(environment).embed(texts, task)
        with self._lock:
            calls, self._calls = self._calls, []
        return vectors, calls

    def _open(self, environment: Sequence[Any]) -> Embedder:
        with self._lock:
            if self._embedder is None:
                import ray

                os.environ.update(ray.get(environment[0]))
                self._embedder = registry.reopen(EmbedderSpec.from_json(self._spec), Path())
                for hook in ("before_repeat", "on_usage", "on_note"):
                    setattr(self._embedder, hook, partial(self._called, hook))
            return self._embedder

    def _called(self, hook: str, *arguments: Any) -> None:
        with self._lock:
            self._calls.append((hook, arguments))


class ScanWorker(Worker):
    """Scans the parts `numbers` of one generation of the index in `folder`, each on so many threads."""

    def __init__(
        self, version: str, folder: str, generation: int, numbers: Sequence[int], threads: int
    ) -> None:
        super().__init__(version)
        self._folder, self._generation = Path(folder), generation
        self._numbers, self._threads = numbers, threads
        self._opened = cache(self._open)

    def scan(
        self, dim: int, queries: Floats, precision: Precision, k: int, masks: Sequence[Any] | None
    ) -> list[ScanResult | RsearchError]:
        """The ScanResult of `Engine.scan` of each part, with rows of the index; `masks` select its rows."""

        def scan(number: int, part: PartReader, parts: Parts) -> ScanResult:
            if masks is not None:
                parts = parts.narrowed([masks[self._numbers.index(number)]])
            engine = self._chooser.pick(len(queries) * part.rows * dim)
            writable = np.array(queries)  # as the kernels have them; what comes by Ray is not
            return engine.scan(parts, writable, precision, min(k, part.rows))

        return self._of_each(dim, scan)

    def rescore(
        self, dim: int, queries: Floats, precision: Precision, rows: Rows, k: int
    ) -> list[ScanResult | RsearchError]:
        """The ScanResult of `Engine.rescore` of each part, of those rows of the index that it has."""

        def rescore(_: int, part: PartReader, parts: Parts) -> ScanResult:
            own = rows - part.start
            own = np.sort(np.where((own >= 0) & (own < part.rows), own, NO_ROW), axis=1)
            empty = int(np.count_nonzero(own == NO_ROW, axis=1).min())
            own = own[:, min(empty, own.shape[1] - 1) :]  # without columns of no row, but the last
            engine = self._chooser.pick(own.size * dim)
            own, writable = np.ascontiguousarray(own), np.array(queries)
            return engine.rescore(parts, writable, precision, own, min(k, own.shape[1]))

        return self._of_each(dim, rescore)

    def _of_each(
        self, dim: int, scan: Callable[[int, PartReader, Parts], ScanResult]
    ) -> list[ScanResult | RsearchError]:
        found: list[ScanResult | RsearchError] = []
        for number in self._numbers:
            try:
                part, parts_at = self._opened(number)
                result = scan(number, part, parts_at(dim))
                rows = np.where(result.top.rows < 0, NO_ROW, result.top.rows + part.start)
                found.append(replace(result, top=replace(result.top, rows=rows)))
            except RsearchError as error:
                found.append(error)
        return found

    def _open(self, number: int) -> tuple[PartReader, Callable[[int], Parts]]:
        """A part, and what makes its `Parts` of one for a dimension."""
        manifest = self._manifest
        reader = PartReader(self._folder, manifest.parts[number], manifest.dims, manifest.starts[number])
        cached = lru_cache(len(manifest.dims) + MOST_CUT)
        return reader, cached(partial(parts_of, [reader], manifest.dims))

    @cached_property
    def _manifest(self) -> Manifest:
        manifest = read_manifest(self._folder)
        if manifest.generation != self._generation:
            raise IndexFormatError(f"{self._folder} has changed since it was opened: search again")
        return manifest

    @cached_property
    def _chooser(self) -> Chooser:
        rows = sum(self._manifest.parts[number].rows for number in self._numbers)
        return Chooser("auto", self._threads, numbers=rows * self._manifest.full_dim, stays=True)


def readable_parts(folder: str, generation: int) -> list[int]:
    """The parts, from 1, of this generation of the index in `folder` that can be read on this node."""
    found: list[int] = []
    with suppress(RsearchError):
        manifest = read_manifest(Path(folder))
        for number, part in enumerate(manifest.parts if manifest.generation == generation else (), 1):
            with suppress(RsearchError):
                PartReader(Path(folder), part, manifest.dims, 0).close()
                found.append(number)
    return found
