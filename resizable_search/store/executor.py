"""Run a plan: its first stage over every row of every part, each later one over what was kept."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine import vectors
from resizable_search.engine.base import Engine, Top, gather, merge, result_width
from resizable_search.engine.parts import Parts, View
from resizable_search.engine.plan import Plan, Stage
from resizable_search.errors import UsageError
from resizable_search.store.filter import Selection
from resizable_search.store.reader import IndexReader

MOST_CUT = 4
"""Dimensions that are not stored whose views are kept."""

ROWS_AT_ONCE = 1 << 20
"""Rows, over all queries, that are gathered together: 8 MB of their numbers."""


@dataclass(frozen=True, slots=True)
class StageStats:
    """How one stage of a plan went: what it rescored at, what it kept, and seconds.

    `read` is bytes of the index's files that one query rescored at; `rescored` how many rows, over all
    queries, were scored by the definition; `by` what was read (float32, int8 or bits).
    """

    stage: str
    rows_in: int
    rows_out: int
    seconds: float
    read: int
    rescored: int
    by: str
    engine: str


class Executor:
    """Runs plans over the parts of one generation of an index, from any thread.

    `choose` says which engine runs a plan, given how many numbers a plain float32 scan would multiply.
    """

    def __init__(self, reader: IndexReader, choose: Callable[[int], Engine], *, centred: bool) -> None:
        self._reader = reader
        self._width = reader.manifest.full_dim
        self._rows = reader.manifest.documents
        self._choose = choose
        self._centred = centred
        self._parts: dict[int, Parts] = {}
        self._cut: list[int] = []
        self._lock = threading.Lock()

    def run(
        self,
        queries: NDArray[Any],
        plan: Plan,
        k: int,
        skip: NDArray[np.int64] | None = None,
        selection: Selection | None = None,
    ) -> tuple[Top, list[StageStats]]:
        """Run a checked plan for raw queries (m, full_dim). Returns the best rows and what each stage did.

        The result has `result_width(k, rows of the index)` columns.
        `skip` (m,) names one row a query that its answer leaves out. `selection` limits the rows for all.
        """
        k = result_width(k, self._rows)
        width = self._width
        raw = np.atleast_2d(np.asarray(queries))
        if raw.ndim != 2 or raw.shape[1] != width:
            raise UsageError(f"query vectors have shape (m, {width}) here, not {np.shape(queries)}")
        full = vectors.tamed(raw)
        if not np.isfinite(full).all():
            raise UsageError("a query vector has NaN or infinity in it")
        if self._centred:
            full = vectors.centre(full)
        runs: list[StageStats] = []
        rows_in = self._rows if selection is None else selection.count
        is_gathered = selection is not None and selection.rows is not None
        engine = self._choose(len(full) * (rows_in if is_gathered else self._rows) * plan.stages[0].dim)
        if skip is None and not is_gathered and (both := self._both_stages(engine, full, plan, k, selection)):
            return both
        top = Top(np.empty((len(full), 0), np.float32), np.empty((len(full), 0), np.int64))
        for stage, keep in zip(plan.stages, plan.keeps(k), strict=True):
            begin = time.perf_counter()
            # Signs are those of the vector as it is: no length matters to them.
            cut = full[:, : stage.dim] if stage.precision == "bits" else engine.truncate(full, stage.dim)
            kept = min(rows_in, keep)
            read, rescored, by = 0, 0, ""
            if len(full) and kept and runs:
                top, read, rescored, by = self._rescore(engine, stage, cut, kept, np.sort(top.rows, axis=1))
            elif len(full) and kept:
                top, read, rescored, by = self._look(engine, stage, cut, kept, skip, selection)
            seconds = time.perf_counter() - begin
            runs.append(StageStats(str(stage), rows_in, kept, seconds, read, rescored, by, engine.name))
            rows_in = kept
        return _widen(top, k), runs

    def _both_stages(
        self, engine: Engine, full: NDArray[np.float32], plan: Plan, k: int, selection: Selection | None
    ) -> tuple[Top, list[StageStats]] | None:
        """As `run`, of sign bits and an exact stage, which engines may do as one."""
        if [stage.precision for stage in plan.stages] != ["bits", "exact"]:
            return None
        (first, second), (keep, _) = plan.stages, plan.keeps(k)
        rows_in = self._rows if selection is None else selection.count
        keep, k_in = min(keep, rows_in), min(k, rows_in)
        if not (k_in and len(full)):
            return None
        begin = time.perf_counter()
        bits, exact = self._parts_at(first.dim), self._parts_at(second.dim)
        if selection is not None:
            bits = bits.narrowed(selection.allowed)
        both = engine.scan_and_rescore(bits, keep, exact, full, k_in)
        if both is None:
            return None
        one, two, seconds = both
        reread = two.read + two.rescored * 4 * second.dim // len(full)
        rest = time.perf_counter() - begin - seconds
        return _widen(two.top, k), [
            StageStats(str(first), rows_in, keep, seconds, one.read, one.rescored, one.by, engine.name),
            StageStats(str(second), keep, k_in, rest, reread, two.rescored, two.by, engine.name),
        ]

    def _look(
        self,
        engine: Engine,
        stage: Stage,
        queries: NDArray[np.float32],
        keep: int,
        skip: NDArray[np.int64] | None,
        selection: Selection | None,
    ) -> tuple[Top, int, int, str]:
        """A plan's first stage: over every row, or over those selected."""
        more = keep + (skip is not None)
        if selection is None or selection.rows is None:
            best, read, rescored, by = self._scan(engine, stage, queries, more, selection)
        else:
            best, read, rescored, by = self._gather(engine, stage, queries, more, selection.rows)
        if skip is None:
            return best, read, rescored, by
        # Take the row itself out of its own answer, or the last one where it is not among them.
        own = best.rows == skip[:, None]
        place = np.where(own.any(axis=1), own.argmax(axis=1), keep)
        columns = np.arange(keep) + (np.arange(keep) >= place[:, None])
        scores, rows = np.take_along_axis(best.scores, columns, 1), np.take_along_axis(best.rows, columns, 1)
        return Top(scores, rows), read, rescored, by

    def _scan(
        self,
        engine: Engine,
        stage: Stage,
        queries: NDArray[np.float32],
        keep: int,
        selection: Selection | None,
    ) -> tuple[Top, int, int, str]:
        parts = self._parts_at(stage.dim)
        if selection is not None:
            parts = parts.narrowed(selection.allowed)
        found = engine.scan(parts, queries, stage.precision, min(keep, len(parts)))
        best = found.top if found.top.rows.shape[1] == keep else merge([found.top], keep)
        return best, found.read + found.rescored * 4 * stage.dim // len(queries), found.rescored, found.by

    def _gather(
        self, engine: Engine, stage: Stage, queries: NDArray[np.float32], keep: int, rows: NDArray[np.int64]
    ) -> tuple[Top, int, int, str]:
        """As `_scan`, of few rows (c,) of the index, ascending: each is rescored at by itself."""
        tops, read, rescored, by = [], 0, 0, ""
        step = max(1, ROWS_AT_ONCE // len(rows))
        for start in range(0, len(queries), step):
            some = queries[start : start + step]
            own = np.repeat(rows[None], len(some), axis=0)
            top, read, again, by = self._rescore(engine, stage, some, keep, own)
            tops.append(top)
            rescored += again
        scores = np.concatenate([top.scores for top in tops])
        return Top(scores, np.concatenate([top.rows for top in tops])), read, rescored, by

    def _rescore(
        self,
        engine: Engine,
        stage: Stage,
        queries: NDArray[np.float32],
        keep: int,
        rows: NDArray[np.int64],
    ) -> tuple[Top, int, int, str]:
        """The best of each query's own rows (m, c), ascending, so that a cold file is read forwards."""
        found = engine.rescore(self._parts_at(stage.dim), queries, stage.precision, rows, keep)
        read = found.read + found.rescored * 4 * stage.dim // len(queries)
        return found.top, read, found.rescored, found.by

    def _parts_at(self, dim: int) -> Parts:
        """Every part as a scan at this dimension sees it, kept: one that is not stored costs a pass.

        Of those that are not stored, which cost memory too, the few last used are kept.
        """
        with self._lock:
            if dim not in self._reader.dims:
                self._cut = [d for d in self._cut if d != dim][1 - MOST_CUT :] + [dim]
                for gone in set(self._parts) - {*self._reader.dims, *self._cut}:
                    del self._parts[gone]
            if dim not in self._parts:
                stored = min(d for d in self._reader.dims if d >= dim)
                self._parts[dim] = Parts(
                    [
                        View(part.arrays[stored], dim, part.allowed, part.tiers.get(stored), part.signs)
                        for part in self._reader.parts
                    ]
                )
            return self._parts[dim]


def _widen(top: Top, k: int) -> Top:
    """The same answer in k columns, where there were fewer rows than that."""
    if top.rows.shape[1] == k:
        return top
    return gather(list(zip(top.scores, top.rows, strict=True)), k)
