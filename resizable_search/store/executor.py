"""Run a plan: its first stage over every row of every part, each later one over the rows that were kept."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine import vectors
from resizable_search.engine.base import (
    NO_ROW,
    Engine,
    Narrowing,
    ScanResult,
    Top,
    gather,
    ordered,
    result_width,
    room_for,
    select,
    without,
)
from resizable_search.engine.lexical import LexicalIndex
from resizable_search.engine.parts import Parts, View
from resizable_search.engine.plan import Plan, Precision, Stage
from resizable_search.engine.vectors import Floats, Rows
from resizable_search.errors import IndexFormatError, UsageError
from resizable_search.store.filter import Selection
from resizable_search.store.reader import IndexReader, PartReader

MOST_CUT = 4  # dimensions that are not stored and whose parts are cached, which costs memory
MOST_PLANS = 100  # whose steps are kept
ROWS_AT_ONCE = 1 << 20  # gathered at once, over all queries: 8 MB of row numbers
FLOAT32 = np.dtype(np.float32)

Step = tuple[str, int, Precision, int]  # of a plan: its name, dimension and precision, and the rows it keeps
EngineMaker = Callable[[IndexReader], Engine]  # makes the engine of an index that is opened


@dataclass(slots=True)
class StageStats:
    """How one stage of a plan went.

    `read`: bytes of the index's files that one query read. `rescored`: rows, over all queries, that were
    scored by the definition, from float32. `by`: what was scanned (float32, int8, 4bit, 1bit or words).
    `missing`: the parts that were left out, and why. `prepare_seconds`: what deriving a dimension took.
    """

    stage: str
    rows_in: int
    rows_out: int
    seconds: float
    read: int
    rescored: int
    by: str
    engine: str
    missing: Sequence[str] = ()
    prepare_seconds: float = 0.0


class Executor:
    """Runs plans over the parts of one generation, from any thread; `choose` is as `Chooser.pick`."""

    def __init__(self, reader: IndexReader, choose: Callable[[int], Engine], *, centred: bool) -> None:
        self._reader = reader
        self._width = reader.manifest.full_dim
        self._rows = reader.manifest.documents
        self._choose = choose
        self._centred = centred
        has_one_bit = all(part.one_bit is not None for part in reader.parts)
        self._bits: Precision = "1bit" if has_one_bit else "int8"  # what the older tier `bits` means here
        postings = [part.postings for part in reader.parts if part.postings is not None]
        masks = [part.allowed for part in reader.parts]
        self._lexical = LexicalIndex(postings, masks) if len(postings) == len(masks) else None
        self._stored_parts = cache(partial(parts_of, reader.parts, reader.dims))
        self._cut_parts = lru_cache(MOST_CUT)(partial(parts_of, reader.parts, reader.dims))
        self._steps = lru_cache(MOST_PLANS)(partial(_steps_of, self._bits))
        self._narrowings: dict[tuple[Plan, int], Narrowing] = {}
        self._lock = threading.Lock()

    def run(
        self,
        queries: NDArray[Any],
        plan: Plan,
        k: int,
        skip: Rows | None = None,
        selection: Selection | None = None,
        texts: Sequence[str] = (),
    ) -> tuple[Top, list[StageStats]]:
        """Run a checked plan for raw queries (m, full_dim). Returns the best rows and what each stage did.

        The result has `result_width(k, rows of the index)` columns.
        `skip` (m,) names one row a query that its answer leaves out. `selection` limits the rows for all.
        `texts` (m) are those of the queries, for a plan with words; one of words alone takes no vectors.
        """
        k = result_width(k, self._rows)
        if plan.words is None:
            return self._run_stages(self._prepared(queries), plan, k, skip, selection)
        full = self._prepared(queries if plan.stages else np.zeros((len(texts), self._width)))
        if not 0 < len(texts) == len(full):
            raise UsageError(f"plan {plan} counts words: give `queries`, which are texts")
        top = Top(np.empty((len(full), 0), np.float32), np.empty((len(full), 0), np.int64))
        stats: list[StageStats] = []
        if plan.stages:
            depth = result_width(plan.fused_depth(k), self._rows)
            top, stats = self._run_stages(full, plan, depth, skip, selection)
        top, stage = self._add_words(full, texts, top, plan, k, skip, selection)
        return top, [*stats, stage]

    def knows_words(self, text: str) -> bool:
        """Whether a row has a word of the text. Raises IndexFormatError."""
        with self._sound_words() as lexical:
            return bool(lexical.terms(text))

    @property
    def has_words(self) -> bool:
        """Whether every part has a lexical tier."""
        return self._lexical is not None

    @contextmanager
    def _sound_words(self) -> Iterator[LexicalIndex]:
        """The lexical tier. Raises UsageError if it is missing, IndexFormatError if it is damaged."""
        name = self._reader.name
        if self._lexical is None:
            raise UsageError(f"{name} has no lexical tier: derive it with `warm {name}`")
        try:
            yield self._lexical
        except (ValueError, IndexError) as error:
            raise IndexFormatError(
                f"the lexical tier of {name} is damaged ({error}): `repair {name}` rebuilds it"
            ) from None

    def _add_words(
        self,
        full: Floats,
        texts: Sequence[str],
        dense: Top,
        plan: Plan,
        k: int,
        skip: Rows | None,
        selection: Selection | None,
    ) -> tuple[Top, StageStats]:
        """The k best rows by both scores, from the best by either; by one score if there is no other."""
        begin = time.perf_counter()
        weight, depth, read = plan.words or 0.0, plan.fused_depth(k), 0
        selected = None if selection is None else selection.allowed
        best, ranks = [], np.zeros((len(full), k, 2), np.int64)
        for i, text in enumerate(texts):
            by_meaning = dense.rows[i][dense.rows[i] != NO_ROW]
            with self._sound_words() as lexical:
                terms = lexical.terms(text)
                own = NO_ROW if skip is None else int(skip[i])
                scores, by_words = lexical.best(terms, depth, selected, own)
                rows = np.union1d(by_meaning, by_words)
                lexical_scores = lexical.scores(terms, rows) if plan.stages else scores
            read += sum(part.rows.nbytes + part.counts.nbytes for term in terms for part in term.parts)
            if not plan.stages:
                best.append((scores[:k], by_words[:k]))
            elif not terms:
                best.append((dense.scores[i, : len(by_meaning)][:k], by_meaning[:k]))
            else:
                fused = (1 - weight) * self._similarities(full[i], plan.stages[-1], rows)
                reached = np.isfinite(fused)
                both = (fused + weight * lexical_scores).astype(np.float32)
                best.append(select(both[reached], rows[reached], k))
            hits = best[-1][1]
            ranks[i, : len(hits)] = np.stack([_ranks(hits, by_meaning), _ranks(hits, by_words)], axis=1)
        seconds, m = time.perf_counter() - begin, max(1, len(full))
        stage = str(plan).rpartition("+")[2]
        rows_in = self._rows if selection is None else selection.count
        stats = StageStats(stage, rows_in, min(rows_in, k), seconds, read // m, 0, "words", "numpy")
        return replace(gather(best, k), ranks=ranks), stats

    def _similarities(self, query: Floats, stage: Stage, rows: Rows) -> NDArray[np.float64]:
        """The similarities of a query (full_dim,) and ascending rows (c,); -inf for a row out of reach."""
        engine = self._choose(0)
        cut = engine.truncate(query[None], stage.dim)
        top = engine.rescore(self._parts_at(stage.dim), cut, stage.precision, rows[None], len(rows)).top
        is_scored = top.rows[0] != NO_ROW
        similarities = np.full(len(rows), -np.inf)
        similarities[np.searchsorted(rows, top.rows[0][is_scored])] = top.scores[0][is_scored]
        return similarities

    def _prepared(self, queries: NDArray[Any]) -> Floats:
        """Raw queries as full query vectors (m, full_dim). Raises UsageError."""
        width = self._width
        raw = queries if isinstance(queries, np.ndarray) else np.array(queries)
        raw = raw[None] if raw.ndim == 1 else raw
        if raw.ndim != 2 or raw.shape[1] != width:
            raise UsageError(f"query vectors have shape (m, {width}) here, not {np.shape(queries)}")
        full = raw if raw.dtype == FLOAT32 and not self._centred else vectors.tamed(raw)
        return vectors.centre(full) if self._centred else full

    def _run_stages(
        self, full: Floats, plan: Plan, k: int, skip: Rows | None, selection: Selection | None
    ) -> tuple[Top, list[StageStats]]:
        stats: list[StageStats] = []
        rows_in = self._rows if selection is None else selection.count
        is_gathered = selection is not None and selection.rows is not None
        engine = self._choose(len(full) * (rows_in if is_gathered else self._rows) * plan.dim)
        if len(full) == 1 and len(plan.stages) == 2 and skip is None and selection is None:
            answer = self._narrowed(engine, full, plan, k)
            if answer is not None:
                return answer
        cut_dim, cut = 0, full
        for name, dim, precision, keep in self._steps(plan, k):
            parts = self._parts_at(dim)
            may_prepare = dim < self._width  # at the full dimension nothing is derived
            begin, prepared = time.perf_counter(), parts.prepare_seconds if may_prepare else 0.0
            if cut_dim != dim:
                cut_dim, cut = dim, engine.truncate(full, dim)
            rows_out = min(rows_in, keep)
            if not (len(full) and rows_out):
                result = ScanResult(room_for(len(full), 0), 0, 0, "")
            elif stats:
                rows = result.top.rows
                rows.sort(axis=1)  # so that a cold file is read forwards
                result = engine.rescore(parts, cut, precision, rows, rows_out)
            else:
                result = self._first_stage(engine, parts, precision, cut, rows_out, skip, selection)
            seconds = time.perf_counter() - begin
            if may_prepare:  # another search may derive it, too
                prepared = min(seconds, parts.prepare_seconds - prepared)
            read = result.read + result.rescored * 4 * dim // max(1, len(full))
            done = name, rows_in, rows_out, seconds - prepared, read, result.rescored
            stats.append(StageStats(*done, result.by, engine.name, result.missing, prepared))
            rows_in = rows_out
        top = _widen(result.top, k)
        if precision == "1bit":  # no plan ends so but those that `tune` looks at
            top = ordered(top)
        if any([stage.missing for stage in stats]):
            top.missing = list(dict.fromkeys(part for stage in stats for part in stage.missing))
        return top, stats

    def _narrowed(
        self, engine: Engine, query: Floats, plan: Plan, k: int
    ) -> tuple[Top, list[StageStats]] | None:
        """Both stages by `Engine.narrowing`; None if there is none."""
        narrowing = self._narrowings.get((plan, k))
        if narrowing is None:
            (_, dim, precision, keep), (_, later, exact, _) = self._steps(plan, k)
            if (precision, exact) != ("1bit", "exact") or not k <= keep <= self._rows:
                return None
            narrowing = engine.narrowing(self._parts_at(dim), keep, self._parts_at(later), k)
            if narrowing is None:
                return None
            if len(self._narrowings) >= MOST_CUT:  # each holds the parts of a dimension
                self._narrowings.clear()
            self._narrowings[plan, k] = narrowing
        results = narrowing(query)
        if results is None:
            return None
        stats, rows_in = [], self._rows
        for (name, dim, _, keep), (result, seconds) in zip(self._steps(plan, k), results, strict=True):
            read = result.read + result.rescored * 4 * dim
            done = name, rows_in, keep, seconds, read, result.rescored
            stats.append(StageStats(*done, result.by, engine.name))
            rows_in = keep
        return results[-1][0].top, stats

    def _first_stage(
        self,
        engine: Engine,
        parts: Parts,
        precision: Precision,
        queries: Floats,
        keep: int,
        skip: Rows | None,
        selection: Selection | None,
    ) -> ScanResult:
        more = keep + (skip is not None)
        if selection is None or selection.rows is None:
            if selection is not None:
                parts = parts.narrowed(selection.allowed)
            result = engine.scan(parts, queries, precision, min(more, len(parts)))
            result.top = _widen(result.top, more)
        else:
            result = _gather(engine, parts, precision, queries, more, selection.rows)
        return result if skip is None else replace(result, top=without(result.top, skip, keep))

    def _parts_at(self, dim: int) -> Parts:
        """Every part at this dimension, cached: one that is not stored costs a pass over the rows."""
        with self._lock:
            return self._stored_parts(dim) if dim in self._reader.dims else self._cut_parts(dim)


def _steps_of(bits: Precision, plan: Plan, k: int) -> list[Step]:
    """The steps of a plan; `bits` is what that means here."""
    return [
        (str(stage), stage.dim, bits if stage.precision == "bits" else stage.precision, keep)
        for stage, keep in zip(plan.stages, plan.keeps(k), strict=True)
    ]


def _gather(
    engine: Engine, parts: Parts, precision: Precision, queries: Floats, keep: int, rows: Rows
) -> ScanResult:
    """Score few rows (c,) of the index, ascending, each by itself."""
    results, step = [], max(1, ROWS_AT_ONCE // len(rows))
    for start in range(0, len(queries), step):
        some = queries[start : start + step]
        own = np.repeat(rows[None], len(some), axis=0)
        results.append(engine.rescore(parts, some, precision, own, keep))
    scores = np.concatenate([result.top.scores for result in results])
    top = Top(scores, np.concatenate([result.top.rows for result in results]))
    return replace(results[-1], top=top, rescored=sum(result.rescored for result in results))


def parts_of(parts: Sequence[PartReader], dims: Sequence[int], dim: int) -> Parts:
    """These parts of an index that stores `dims`, for a scan at any dimension."""
    stored, views = min(d for d in dims if d >= dim), []
    for part in parts:
        tier, four_bit = part.tiers.get(stored), part.four_bit if dim == dims[-1] else None
        views.append(View(part.arrays[stored], dim, part.allowed, tier, part.one_bit, four_bit))
    return Parts(views)


def _ranks(hits: Rows, ranked: Rows) -> Rows:
    """The rank of each hit among the ranked rows, from 1; 0 if it is not there."""
    ranks = {row: rank for rank, row in enumerate(ranked.tolist(), 1)}
    return np.array([ranks.get(row, 0) for row in hits.tolist()], np.int64)


def _widen(top: Top, k: int) -> Top:
    """The same answer in k columns, if the index has fewer rows."""
    if top.rows.shape[1] == k:
        return top
    return gather(list(zip(top.scores, top.rows, strict=True)), k)
