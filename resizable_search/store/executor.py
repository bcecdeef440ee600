"""Run a plan: its first stage over every row of every part, each later one over the rows that were kept."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine import vectors
from resizable_search.engine.base import Engine, ScanResult, Top, gather, result_width, without
from resizable_search.engine.parts import Parts, View
from resizable_search.engine.plan import Plan, Stage
from resizable_search.errors import UsageError
from resizable_search.store.filter import Selection
from resizable_search.store.reader import IndexReader

MOST_CUT = 4  # dimensions that are not stored and whose parts are cached, which costs memory
ROWS_AT_ONCE = 1 << 20  # gathered at once, over all queries: 8 MB of row numbers


@dataclass(frozen=True, slots=True)
class StageStats:
    """How one stage of a plan went.

    `read`: bytes of the index's files that one query read. `rescored`: rows, over all queries, that were
    scored by the definition, from float32. `by`: what was scanned (float32, int8, 1bit or bits).
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

    `choose` picks the engine by the multiplications of a plain float32 scan.
    """

    def __init__(self, reader: IndexReader, choose: Callable[[int], Engine], *, centred: bool) -> None:
        self._reader = reader
        self._width = reader.manifest.full_dim
        self._rows = reader.manifest.documents
        self._choose = choose
        self._centred = centred
        self._has_one_bit = all(part.one_bit is not None for part in reader.parts)
        self._stored_parts = cache(partial(_parts_of, reader))
        self._cut_parts = lru_cache(MOST_CUT)(partial(_parts_of, reader))
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
        stats: list[StageStats] = []
        rows_in = self._rows if selection is None else selection.count
        is_gathered = selection is not None and selection.rows is not None
        engine = self._choose(len(full) * (rows_in if is_gathered else self._rows) * plan.stages[0].dim)
        none = Top(np.empty((len(full), 0), np.float32), np.empty((len(full), 0), np.int64))
        result = ScanResult(none, 0, 0, "")
        for stage, keep in zip(self._stages(plan), plan.keeps(k), strict=True):
            begin = time.perf_counter()
            cut = engine.truncate(full, stage.dim)
            rows_out = min(rows_in, keep)
            if len(full) and rows_out:
                if stats:
                    ordered = np.sort(result.top.rows, axis=1)  # so that a cold file is read forwards
                    result = engine.rescore(
                        self._parts_at(stage.dim), cut, stage.precision, ordered, rows_out
                    )
                else:
                    result = self._first_stage(engine, stage, cut, rows_out, skip, selection)
            seconds = time.perf_counter() - begin
            read = result.read + result.rescored * 4 * stage.dim // max(1, len(full))
            done = str(stage), rows_in, rows_out, seconds, read, result.rescored, result.by, engine.name
            stats.append(StageStats(*done))
            rows_in = rows_out
        return _widen(result.top, k), stats

    def _stages(self, plan: Plan) -> Sequence[Stage]:
        """The stages of a plan, with one-bit codes in place of the sign bits that they have replaced."""
        if not self._has_one_bit:
            return plan.stages
        return [replace(s, precision="1bit") if s.precision == "bits" else s for s in plan.stages]

    def _first_stage(
        self,
        engine: Engine,
        stage: Stage,
        queries: NDArray[np.float32],
        keep: int,
        skip: NDArray[np.int64] | None,
        selection: Selection | None,
    ) -> ScanResult:
        """The first stage of a plan, over every row or the selected ones."""
        more = keep + (skip is not None)
        if selection is None or selection.rows is None:
            parts = self._parts_at(stage.dim)
            if selection is not None:
                parts = parts.narrowed(selection.allowed)
            result = engine.scan(parts, queries, stage.precision, min(more, len(parts)))
            if result.top.rows.shape[1] != more:
                result = replace(result, top=_widen(result.top, more))
        else:
            result = self._gather(engine, stage, queries, more, selection.rows)
        return result if skip is None else replace(result, top=without(result.top, skip, keep))

    def _gather(
        self, engine: Engine, stage: Stage, queries: NDArray[np.float32], keep: int, rows: NDArray[np.int64]
    ) -> ScanResult:
        """Score few rows (c,) of the index, ascending, each by itself."""
        parts, step = self._parts_at(stage.dim), max(1, ROWS_AT_ONCE // len(rows))
        results = []
        for start in range(0, len(queries), step):
            some = queries[start : start + step]
            own = np.repeat(rows[None], len(some), axis=0)
            results.append(engine.rescore(parts, some, stage.precision, own, keep))
        scores = np.concatenate([result.top.scores for result in results])
        top = Top(scores, np.concatenate([result.top.rows for result in results]))
        return replace(results[-1], top=top, rescored=sum(result.rescored for result in results))

    def _parts_at(self, dim: int) -> Parts:
        """Every part at this dimension, cached: one that is not stored costs a pass over the rows."""
        with self._lock:
            return self._stored_parts(dim) if dim in self._reader.dims else self._cut_parts(dim)


def _parts_of(reader: IndexReader, dim: int) -> Parts:
    stored = min(d for d in reader.dims if d >= dim)
    return Parts(
        [
            View(part.arrays[stored], dim, part.allowed, part.tiers.get(stored), part.signs, part.one_bit)
            for part in reader.parts
        ]
    )


def _widen(top: Top, k: int) -> Top:
    """The same answer in k columns, if the index has fewer rows."""
    if top.rows.shape[1] == k:
        return top
    return gather(list(zip(top.scores, top.rows, strict=True)), k)
