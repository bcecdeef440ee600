"""Run a plan: its first stage over every row of every part, each later one over what was kept."""

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search import vectors
from resizable_search.errors import UsageError
from resizable_search.index.reader import IndexReader
from resizable_search.plan import Plan
from resizable_search.scan.base import Engine, View
from resizable_search.topk import NO_ROW, Top, gather, merge, select


@dataclass(frozen=True, slots=True)
class StageRun:
    """How one stage of a plan went: what it looked at, what it kept, and seconds."""

    stage: str
    rows_in: int
    rows_out: int
    seconds: float


class Executor:
    """Runs plans over the parts of one generation of an index, from any thread."""

    def __init__(self, reader: IndexReader, engine: Engine, *, centred: bool) -> None:
        self.engine = engine
        self._reader = reader
        self._centred = centred
        self._views: dict[int, list[View]] = {}
        self._lock = threading.Lock()

    def run(
        self, queries: NDArray[Any], plan: Plan, k: int, skip: NDArray[np.int64] | None = None
    ) -> tuple[Top, list[StageRun]]:
        """Execute a checked plan for raw queries (m, full_dim): the best rows, and how each stage went.

        `skip` (m,) names a row for each query that is left out of its answer, as if it were not there.
        """
        width = self._reader.manifest.full_dim
        raw = np.atleast_2d(np.asarray(queries))
        if raw.ndim != 2 or raw.shape[1] != width:
            raise UsageError(f"query vectors have shape (m, {width}) here, not {np.shape(queries)}")
        full = vectors.tamed(raw)
        if not np.isfinite(full).all():
            raise UsageError("a query vector has NaN or infinity in it")
        if self._centred:
            full = vectors.centre(full)
        runs: list[StageRun] = []
        rows_in = self._reader.manifest.documents
        top = Top(np.empty((0, 0), np.float32), np.empty((0, 0), np.int64))
        for stage, keep in zip(plan.stages, plan.keeps(k), strict=True):
            begin = time.perf_counter()
            cut = vectors.truncate(full, stage.dim)
            top = self._rescore(stage.dim, cut, keep, top) if runs else self._scan(stage.dim, cut, keep, skip)
            kept = min(rows_in, keep)
            runs.append(StageRun(str(stage), rows_in, kept, time.perf_counter() - begin))
            rows_in = kept
        return top, runs

    def _scan(self, dim: int, queries: NDArray[np.float32], keep: int, skip: NDArray[np.int64] | None) -> Top:
        more = keep + (skip is not None)
        tops = []
        for view, start in zip(self._views_at(dim), self._reader.starts, strict=True):
            top = self.engine.top(view, queries, min(more, len(view.stored)))
            tops.append(Top(top.scores, np.where(top.rows == NO_ROW, NO_ROW, top.rows + start)))
        best = merge(tops, more)
        if skip is None:
            return best
        found = []
        for scores, rows, own in zip(best.scores, best.rows, skip, strict=True):
            others = (rows != own) & (rows != NO_ROW)
            found.append((scores[others][:keep], rows[others][:keep]))
        return gather(found, keep)

    def _rescore(self, dim: int, queries: NDArray[np.float32], keep: int, top: Top) -> Top:
        views = self._views_at(dim)
        found = []
        for query, kept in zip(queries, top.rows, strict=True):
            # In row order, so that a file that is not in memory is read forwards.
            rows = np.sort(kept[kept != NO_ROW])
            scores = np.empty(len(rows), np.float32)
            for view, start in zip(views, self._reader.starts, strict=True):
                mine = (rows >= start) & (rows < start + len(view.stored))
                scores[mine] = view.defined_scores(query, rows[mine] - start)
            found.append(select(scores, rows, keep))
        return gather(found, keep)

    def _views_at(self, dim: int) -> list[View]:
        """Every part as a scan at this dimension sees it, kept: one that is not stored costs a pass."""
        with self._lock:
            if dim not in self._views:
                stored = min(d for d in self._reader.dims if d >= dim)
                parts = self._reader.parts
                self._views[dim] = [View.of(part.arrays[stored], dim, part.allowed) for part in parts]
            return self._views[dim]
