"""A search whose parts are scanned by actors of a Ray cluster: an engine like the others.

Each actor opens some of the parts where they lie, a folder that all nodes see, and scans them with the
engines of one machine. A plan is run stage by stage as there. A row's score does not depend on the rows
beside it, so the best rows of all actors, merged as those of blocks are, are the answer of one machine.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from resizable_search.cluster.connection import RayOptions, connected
from resizable_search.cluster.worker import Reply, ScanWorker
from resizable_search.engine import vectors
from resizable_search.engine.base import NO_ROW, ScanResult, gather, select
from resizable_search.engine.parts import Parts
from resizable_search.engine.plan import Precision
from resizable_search.engine.vectors import Floats, Rows
from resizable_search.errors import ClusterError, RsearchError
from resizable_search.store.reader import IndexReader
from resizable_search.text import listed

DEATHS = 2
"""How often an actor may die at one scan before its parts are given up."""


@dataclass(eq=False, slots=True)
class _Actor:
    """An actor, and the parts that it scans by their numbers, which ascend."""

    numbers: list[int]
    handle: Any = None


class RayEngine:
    """Scans the parts of `reader` by actors; see `engine.base` for the contract.

    `partial`: parts that cannot be scanned are left out of an answer, and `on_missing` is called with words
    for them; else they are an error. Raises ClusterError.
    """

    name = "ray"
    made_by: "RayEngines | None" = None

    def __init__(
        self,
        ray: Any,
        reader: IndexReader,
        options: RayOptions,
        *,
        partial: bool = False,
        on_missing: Callable[[str], None] | None = None,
    ) -> None:
        manifest = reader.manifest
        nodes = sum(node["Alive"] for node in ray.nodes())
        count = min(options.workers or nodes, len(manifest.parts))
        shares: list[list[int]] = [[] for _ in range(count)]
        rows = [0] * count
        for number in sorted(range(len(manifest.parts)), key=lambda number: -manifest.parts[number].rows):
            least = rows.index(min(rows))
            shares[least].append(number)
            rows[least] += manifest.parts[number].rows
        self._ray, self._reader, self._options = ray, reader, options
        self._partial, self._on_missing = partial, on_missing
        self._lock = threading.Lock()
        self._class = ray.remote(ScanWorker)
        self._actors = [_Actor(sorted(share)) for share in shares]
        for actor in self._actors:
            actor.handle = self._new(actor)
        self._threads = ThreadPoolExecutor(2 * count)

    def scan(self, parts: Parts, queries: Floats, precision: Precision, k: int) -> ScanResult:
        """The k best rows for each of the queries (m, dim) float32."""

        def call(actor: _Actor) -> Any:
            masks = [parts.masks[number] for number in actor.numbers] if parts.is_narrowed else None
            return actor.handle.scan.remote(parts.dim, queries, precision, k, masks)

        return self._merged(call, len(queries), k)

    def rescore(self, parts: Parts, queries: Floats, precision: Precision, rows: Rows, k: int) -> ScanResult:
        """The k best of each query's own rows (m, c) int64, ascending."""

        def call(actor: _Actor) -> Any:
            return actor.handle.rescore.remote(parts.dim, queries, precision, rows, k)

        return self._merged(call, len(queries), k)

    def truncate(self, rows: Floats, dim: int) -> Floats:
        """`vectors.truncate` of queries (m, width) float32."""
        return vectors.truncate(rows, dim)

    def _merged(self, call: Callable[[_Actor], Any], m: int, k: int) -> ScanResult:
        """What all actors answer, as one result. Raises ClusterError, and what an actor raises."""
        found = self._threads.map(lambda actor: self._answer(actor, call), self._actors)
        results = [result for result in found if result is not None]
        best = []
        for i in range(m):
            scores = np.concatenate([np.empty(0, np.float32), *(one.top.scores[i] for one in results)])
            rows = np.concatenate([np.empty(0, np.int64), *(one.top.rows[i] for one in results)])
            is_row = rows != NO_ROW
            best.append(select(scores[is_row], rows[is_row], k))
        by = "+".join(sorted({one.by for one in results}))
        rescored, read = (sum(getattr(one, name) for one in results) for name in ("rescored", "read"))
        return ScanResult(gather(best, k), rescored, read, by)

    def _answer(self, actor: _Actor, call: Callable[[_Actor], Any]) -> ScanResult | None:
        """What one actor answers, which is replaced if it dies; None for parts that are left out."""
        errors = self._ray.exceptions
        problem: RsearchError | None = None
        for _ in range(DEATHS):
            handle = actor.handle
            try:
                reply: Reply = self._ray.get(call(actor))
                result: ScanResult = reply.result()
                for note in reply.notes:
                    self._tell_missing(note)
                return result
            except RsearchError as error:
                problem = error
                break
            except errors.RayTaskError as error:
                problem = ClusterError(f"it failed: {str(error).strip().splitlines()[-1][:300]}")
                break
            except errors.RayError:
                self._replace(actor, handle)
        names = listed([f"part {number + 1}" for number in actor.numbers], 4)
        why = str(problem) if problem is not None else f"its actor died {DEATHS} times"
        words = f"{names} cannot be scanned: {why}"
        if not self._partial:
            raise ClusterError(f"{self._reader.name}: {words}; or allow answers without it with `partial`")
        self._tell_missing(words)
        return None

    def _tell_missing(self, words: str) -> None:
        if self._on_missing is not None:
            self._on_missing(f"this answer of {self._reader.name} lacks documents: {words}")

    def _replace(self, actor: _Actor, dead: Any) -> None:
        with self._lock:
            if actor.handle is dead:
                with suppress(Exception):  # it may only be out of reach
                    self._ray.kill(dead)
                actor.handle = self._new(actor)

    def _new(self, actor: _Actor) -> Any:
        options = self._options.actor_options()
        folder = str(self._reader.folder.resolve())
        threads = max(1, int(options["num_cpus"]))
        generation = self._reader.manifest.generation
        new = self._class.options(**options)
        return new.remote(folder, generation, actor.numbers, threads, self._partial)


class RayEngines:
    """What `open_index(engine=…)` takes: it makes an engine of the cluster for each index that is opened.

    The cluster is joined at the first one, and left with the last.
    """

    def __init__(
        self,
        options: RayOptions,
        *,
        partial: bool = False,
        on_missing: Callable[[str], None] | None = None,
    ) -> None:
        self._options, self._partial, self._on_missing = options, partial, on_missing
        self._stack = ExitStack()

    def __call__(self, reader: IndexReader) -> RayEngine:
        """The engine of an open index."""
        ray = self._stack.enter_context(connected(self._options))
        engine = RayEngine(ray, reader, self._options, partial=self._partial, on_missing=self._on_missing)
        engine.made_by = self  # which stays in the cluster as long as the engine is there
        return engine
