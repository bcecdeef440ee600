"""A search whose parts are scanned by actors of a Ray cluster: an engine like the others.

Each actor opens some of the parts where they lie, a folder that all nodes see, and scans them with the
engines of one machine. A plan is run stage by stage as there. A row's score does not depend on the rows
beside it, so the best rows of all parts, merged as those of blocks are, are the answer of one machine.

Ray restarts an actor that dies, on another node if its own is lost, and repeats its scan once.
"""

import atexit
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from resizable_search import __version__
from resizable_search.cluster.connection import (
    PATIENCE,
    SILENT,
    RayOptions,
    actor_class,
    as_raised,
    connected,
    start_problem,
    without_sign,
)
from resizable_search.cluster.worker import ScanWorker, readable_parts
from resizable_search.engine import vectors
from resizable_search.engine.base import NO_ROW, Engine, ScanResult, gather, select
from resizable_search.engine.parts import Parts
from resizable_search.engine.plan import Precision
from resizable_search.engine.vectors import Floats, Rows
from resizable_search.errors import ClusterError, RsearchError
from resizable_search.store.reader import IndexReader
from resizable_search.text import listed

DEATHS = 2  # how often an actor may die at one scan before its parts are given up

DIED = f"its actor died {DEATHS} times: look at memory and disk of its node"


class RayEngine(Engine):
    """Scans the parts of `reader` by actors; see `engine.base` for the contract. Raises ClusterError."""

    name = "ray"

    def __init__(self, ray: Any, reader: IndexReader, options: RayOptions, *, partial: bool = False) -> None:
        parts = reader.manifest.parts
        nodes = sum(node["Alive"] for node in ray.nodes())
        count = min(options.workers or nodes, len(parts))
        self._shares: list[list[int]] = [[] for _ in range(count)]
        rows = [0] * count
        for number in sorted(range(len(parts)), key=lambda number: -parts[number].rows):
            least = rows.index(min(rows))
            self._shares[least].append(number)
            rows[least] += parts[number].rows
        self._ray, self._reader, self._options, self._partial = ray, reader, options, partial
        self._class = actor_class(ray, ScanWorker)
        self._lock = threading.Lock()
        self._first_signs: dict[int, Any] = {}
        self._actors = [self._new(share) for share in self._shares]

    def scan(self, parts: Parts, queries: Floats, precision: Precision, k: int) -> ScanResult:
        """The k best rows for each of the queries (m, dim) float32."""

        def call(actor: Any, share: Sequence[int]) -> Any:
            masks = [parts.masks[number] for number in share] if parts.is_narrowed else None
            return actor.scan.remote(parts.dim, queries, precision, k, masks)

        return self._merged(call, len(queries), k)

    def rescore(self, parts: Parts, queries: Floats, precision: Precision, rows: Rows, k: int) -> ScanResult:
        """The k best of each query's own rows (m, c) int64, ascending."""

        def call(actor: Any, _: Sequence[int]) -> Any:
            return actor.rescore.remote(parts.dim, queries, precision, rows, k)

        return self._merged(call, len(queries), k)

    def truncate(self, rows: Floats, dim: int) -> Floats:
        """`vectors.truncate_queries`."""
        return vectors.truncate_queries(rows, dim)

    def _merged(self, call: Callable[[Any, Sequence[int]], Any], m: int, k: int) -> ScanResult:
        """What all actors answer, as one result. Raises ClusterError."""
        results: list[ScanResult] = []
        missing: list[str] = []
        for share, outcome in zip(self._shares, self._outcomes(call), strict=True):
            if isinstance(outcome, str):
                names = listed([f"part {number + 1}" for number in share], 4)
                missing.append(f"{names} cannot be scanned: {outcome}")
                continue
            for number, result in zip(share, outcome, strict=True):
                if isinstance(result, RsearchError):
                    missing.append(f"part {number + 1} cannot be scanned: {result}")
                else:
                    results.append(result)
        if missing and not self._partial:  # else the answer names the parts that it does without
            raise ClusterError(
                f"{self._reader.name}: {'; '.join(missing)}; or allow answers without it with `partial`"
            )
        best = []
        for i in range(m):
            scores = np.concatenate([np.empty(0, np.float32), *(one.top.scores[i] for one in results)])
            rows = np.concatenate([np.empty(0, np.int64), *(one.top.rows[i] for one in results)])
            is_row = rows != NO_ROW
            best.append(select(scores[is_row], rows[is_row], k))
        by = "+".join(sorted({one.by for one in results}))
        rescored, read = (sum(getattr(one, name) for one in results) for name in ("rescored", "read"))
        return ScanResult(gather(best, k), rescored, read, by, tuple(missing))

    def _outcomes(
        self, call: Callable[[Any, Sequence[int]], Any]
    ) -> Iterator[Sequence[ScanResult | RsearchError] | str]:
        """What each actor replies for its parts, or why it does not."""
        actors, ray = list(self._actors), self._ray
        scans = {
            number: call(actor, self._shares[number])
            for number, actor in enumerate(actors)
            if not self._is_waited_for(number)
        }
        silent = without_sign(ray, {scan: actors[number] for number, scan in scans.items()})
        for number, actor in enumerate(actors):
            scan = scans.get(number)
            if scan is None or scan in silent:
                if scan is not None:
                    self._replace(number, actor, is_silent=True)
                yield f"its actor gives {SILENT}"
                continue
            try:
                yield ray.get(scan)
            except ray.exceptions.RayTaskError as error:
                yield str(as_raised(error, "its actor"))
            except ray.exceptions.RayError as error:
                self._replace(number, actor, is_silent=False)
                yield start_problem(error) if "creation task" in str(error) else DIED

    def _replace(self, number: int, actor: Any, *, is_silent: bool) -> None:
        with self._lock:
            if self._actors[number] is actor:
                with suppress(Exception):  # it may only be out of reach
                    self._ray.kill(actor)
                self._actors[number] = new = self._new(self._shares[number])
                if is_silent:
                    self._first_signs[number] = new.sign.remote()

    def _is_waited_for(self, number: int) -> bool:
        """Whether an actor that replaces a silent one has not started yet: scans do without it."""
        sign = self._first_signs.get(number)
        return sign is not None and not self._ray.wait([sign], timeout=0, fetch_local=False)[0]

    def _new(self, share: Sequence[int]) -> Any:
        options = self._options.actor_options()
        folder = str(self._reader.folder.resolve())
        threads = max(1, int(options["num_cpus"]))
        new = self._class.options(**options, max_restarts=-1, max_task_retries=DEATHS - 1)
        return new.remote(__version__, folder, self._reader.manifest.generation, share, threads)


def nodes_of(options: RayOptions, folder: Path, generation: int) -> list[tuple[str, list[int]]]:
    """The nodes of the cluster, each with the parts of an index, from 1, that it can read there."""
    with connected(options) as ray:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        function, calls = ray.remote(num_cpus=0)(readable_parts), {}
        for node in ray.nodes():
            if node["Alive"]:
                where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                call = function.options(scheduling_strategy=where).remote(str(folder.resolve()), generation)
                calls[call] = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        done, _ = ray.wait(list(calls), num_returns=len(calls), timeout=PATIENCE)
        readable: dict[Any, list[int]] = {}
        for call in done:
            with suppress(ray.exceptions.RayError):  # of a node without rsearch
                readable[call] = ray.get(call)
        return sorted((name, readable.get(call, [])) for call, name in calls.items())


class RayEngines:
    """What `open_index(engine=…)` takes: it makes an engine of the cluster for each index that is opened."""

    def __init__(self, options: RayOptions, *, partial: bool = False) -> None:
        self._options, self._partial = options, partial
        self._stack = ExitStack()

    def __call__(self, reader: IndexReader) -> RayEngine:
        """The engine of an open index. The first one joins the cluster."""
        ray = self._stack.enter_context(connected(self._options))
        atexit.register(self.close)
        return RayEngine(ray, reader, self._options, partial=self._partial)

    def close(self) -> None:
        """Leave the cluster, as the end of the process does; the actors end."""
        atexit.unregister(self.close)
        self._stack.close()
