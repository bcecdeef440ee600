"""Which plans are worth trying on an index: its first looks, second looks, and how many rows to keep.

Pure: it knows what an index stores and measures nothing. A first stage is a few sign bits, int8 codes
or floats of every row; what it keeps is scored at the full width, or by a second stage first.

Plans on trial: what they find of the true rows of many queries, and how long one query takes.

Look for fast plans that reach a wanted overlap, by measured time and overlap.

Every first stage is timed. From the fastest on, one pass over the queries tells at which of a stage's
ranks each true row comes, and so the overlap for every number of rows that it may keep. Where what
stands behind the first stage takes much of the time, second stages are tried in between. A first stage
that alone takes longer than the best plan so far is not looked into.
"""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine.plan import Plan, Stage
from resizable_search.engine.quantise import WORD
from resizable_search.engine.topk import NO_ROW
from resizable_search.evaluate.bench import Queries
from resizable_search.progress import SILENT, Progress
from resizable_search.search.index import Index
from resizable_search.statistics import lower_bound, upper_bound
from resizable_search.store.layout import NAMES

FACTORS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100)
"""How many times k a stage may keep."""

KEPT_AT_MOST = 4
"""A stage keeps no more than one row in so many: else the stage behind it has most of the work."""


@dataclass(frozen=True, slots=True)
class StoredTiers:
    """What an index offers to plans: dimensions ascending, those with int8 codes, whether sign bits."""

    dims: tuple[int, ...]
    codes: tuple[int, ...] = ()
    signs: bool = False

    @property
    def full(self) -> int:
        """The full dimension."""
        return self.dims[-1]


def keeps(k: int, rows: int) -> list[int]:
    """How many rows a stage may keep when k hits are wanted of so many rows, ascending."""
    return [k * factor for factor in FACTORS if k * factor * KEPT_AT_MOST <= rows]


def first_stages(stored: StoredTiers) -> list[Stage]:
    """The stages that may look at every row; an exact one may also be a whole plan."""
    words = range(WORD, stored.full + WORD, WORD) if stored.signs else ()
    bits = [Stage(min(dim, stored.full), precision="bits") for dim in words]
    int8 = [Stage(dim, precision="int8") for dim in stored.codes]
    return [*bits, *int8, *(Stage(dim) for dim in stored.dims[:-1])]


def second_stages(first: Stage, stored: StoredTiers) -> list[Stage]:
    """The stages that may thin out what `first` kept, each knowing more of a row than it does."""
    bits = [Stage(stored.full, precision="bits")] if stored.signs else []
    int8 = [Stage(dim, precision="int8") for dim in stored.codes if 4 * dim >= stored.full]
    found: list[Stage] = []
    if first.precision == "bits":
        found = [stage for stage in bits if stage.dim > first.dim] + int8
    elif first.precision == "int8":
        found = [stage for stage in int8 if stage.dim > first.dim]
    else:
        found = [stage for stage in int8 if stage.dim > first.dim]
        found += [Stage(dim) for dim in stored.dims[:-1] if dim > first.dim]
    return found


def chain(stages: Sequence[tuple[Stage, int]], full: int) -> Plan:
    """The plan of these stages, each with how many rows it keeps, and a rerank at the full dimension."""
    kept = (Stage(stage.dim, keep, stage.precision) for stage, keep in stages)
    return Plan((*kept, Stage(full)))


BATCH = 128
"""The most queries that are asked at once: a batch costs a query far less than asking it alone."""

BATCH_KEPT = 1 << 18
"""The most rows that a batch keeps in all, so that memory stays bounded."""

BURST = 3
"""A plan is timed by so many queries running, the first of which only brings its files near."""

NEVER = np.iinfo(np.int64).max
"""The rank of a true row that was not kept."""


def split(queries: Queries, first: int, seed: int) -> tuple[Queries, Queries]:
    """Two shares of the queries, drawn by the seed: `first` of them, and the others."""
    order = np.random.default_rng(seed).permutation(len(queries.vectors))
    return _take(queries, np.sort(order[:first])), _take(queries, np.sort(order[first:]))


def _take(queries: Queries, which: NDArray[np.int64]) -> Queries:
    own = None if queries.own_rows is None else queries.own_rows[which]
    return Queries(queries.vectors[which], queries.source, own, queries.seed)


@dataclass(slots=True)
class Trial:
    """Queries, and once they are answered exactly, their true rows: `truth` (m, k) int64, -1 for none."""

    index: Index
    queries: Queries
    k: int
    truth: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0), np.int64))

    def __len__(self) -> int:
        return len(self.queries.vectors)

    def answer(self, progress: Progress) -> None:
        """Have the full dimension answer the queries."""
        progress.stage("asking the full dimension", len(self), "queries")
        found = []
        for _, rows in self._answers(Plan((Stage(self.index.full_dim),)), self.k):
            found.append(rows)
            progress.advance(len(rows))
        self.truth = np.concatenate(found)

    def head(self, count: int) -> "Trial":
        """The first so many queries."""
        asked = _take(self.queries, np.arange(min(count, len(self))))
        return Trial(self.index, asked, self.k, self.truth[:count])

    def shares(self, plan: Plan) -> NDArray[np.float64]:
        """Of each query's true rows, the share that the plan finds: (m,) float64."""
        return self.shares_within(self.ranks(plan, self.k), self.k)

    def ranks(self, plan: Plan, kept: int) -> NDArray[np.int64]:
        """At which place, from 0, each true row comes among the `kept` best of the plan: (m, k) int64.

        NEVER for one that is not among them. The last stage may be of any precision here, and keeps `kept`.
        """
        out = np.full(self.truth.shape, NEVER, np.int64)
        for start, rows in self._answers(plan, kept):
            for i, own in enumerate(rows, start):
                order = np.argsort(own, kind="stable")
                places = np.searchsorted(own[order], self.truth[i]).clip(max=len(own) - 1)
                there = own[order[places]] == self.truth[i]
                there &= self.truth[i] != NO_ROW
                out[i, there] = order[places[there]]
        return out

    def shares_within(self, ranks: NDArray[np.int64], keep: int) -> NDArray[np.float64]:
        """Of each query's true rows, the share whose rank (m, k) is below `keep`: (m,) float64."""
        there = (self.truth != NO_ROW).sum(axis=1)
        shares: NDArray[np.float64] = np.where(
            there > 0, (ranks < keep).sum(axis=1) / np.maximum(there, 1), 1.0
        )
        return shares

    def _answers(self, plan: Plan, kept: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """The rows (b, kept) that batches of the queries get, each with its first query's number."""
        most = max(kept, *(stage.keep or 0 for stage in plan.stages))
        step = max(1, min(BATCH, BATCH_KEPT // most))
        vectors, own = self.queries.vectors, self.queries.own_rows
        for start in range(0, len(self), step):
            skip = None if own is None else own[start : start + step]
            top, _ = self.index.run(vectors[start : start + step], plan, kept, skip)
            yield start, top.rows

    def time(self, plans: Sequence[Plan], rounds: int, seconds: float) -> tuple[dict[Plan, list[float]], str]:
        """Milliseconds of single queries by each plan, and the engine that ran the first of them.

        The plans take turns, in another order each round, so that what disturbs the machine for a while
        disturbs them all. There are up to `rounds` rounds, fewer if they would take more than `seconds`,
        but three at least.
        """
        spent: dict[Plan, list[float]] = {plan: [] for plan in plans}
        engine, begin = "", time.perf_counter()
        for number in range(rounds):
            shift = number % len(plans)
            for plan in (*plans[shift:], *plans[:shift]):
                for turn in range(BURST):
                    asked = (number * BURST + turn) % len(self)
                    ms, ran = self._ask(plan, asked)
                    if turn:
                        spent[plan].append(ms)
                    engine = engine or ran
            if number >= 2 and time.perf_counter() - begin > seconds:
                break
        return spent, engine

    def _ask(self, plan: Plan, i: int) -> tuple[float, str]:
        own = None if self.queries.own_rows is None else self.queries.own_rows[i : i + 1]
        begin = time.perf_counter()
        _, runs = self.index.run(self.queries.vectors[i : i + 1], plan, self.k, own)
        return (time.perf_counter() - begin) * 1e3, runs[0].engine


ROUNDS, SECONDS = 3, 1.0
"""In how many rounds plans take turns to be timed while searching, and for how many seconds at most."""

GLANCE = 100
"""Queries that tell whether a first stage is hopeless, before the others are asked."""

SECONDS_TRIED = 2
"""Second stages that are looked into behind one first stage."""

LADDER = 6
"""Numbers of rows, from the least that reaches the target on, that are noted for a stage."""

HEAVY = 0.15
"""The share of a plan's time behind its first stage from which a second stage may be worth it."""


@dataclass(slots=True)
class PlanSearch:
    """What was tried: milliseconds and overlap of plans, and which of them reach the target.

    A plan reaches it if its lower bound would, had `proofs` queries answers like those of the trial's;
    `tail` is the chance that such a bound is wrong. `ms` are medians; the `least` that a plan took is
    steadier while it is asked a few times only, so the search goes by that. `best` is the plan of the
    highest overlap but for the exact one.
    """

    trial: Trial
    recall: float
    proofs: int
    tail: float
    ms: dict[Plan, float] = field(default_factory=dict)
    least: dict[Plan, float] = field(default_factory=dict)
    overlap: dict[Plan, float] = field(default_factory=dict)
    reaching: list[Plan] = field(default_factory=list)
    best: Plan | None = None
    engine: str = ""

    @property
    def exact(self) -> Plan:
        """The full scan."""
        return Plan((Stage(self.trial.index.full_dim),))

    def run(self, progress: Progress = SILENT) -> None:
        """Look for plans."""
        index, k = self.trial.index, self.trial.k
        self.overlap[self.exact] = 1.0
        stored = what_is_stored(index)
        grid = keeps(k, index.rows)
        # Where no row may be kept for a rerank, only what is a whole plan can come first.
        firsts = [stage for stage in first_stages(stored) if grid or stage.precision == "exact"]
        progress.stage("trying", len(firsts), "first stages")
        self.time([self.exact, *map(self._alone, firsts)], ROUNDS, SECONDS)
        cost = {first: self._cost(first, firsts) for first in firsts}
        limit = self.least[self.exact]
        for first in sorted(firsts, key=cost.__getitem__):
            if cost[first] < limit:
                limit = min(limit, self._try_first(first, grid, stored))
            progress.advance(1)

    def _cost(self, first: Stage, firsts: Sequence[Stage]) -> float:
        """Milliseconds of a first stage: no more than one like it takes that reads more of each row."""
        like = (s for s in firsts if s.precision == first.precision and s.dim >= first.dim)
        return min(self.least[self._alone(stage)] for stage in like)

    def time(self, plans: Sequence[Plan], rounds: int, seconds: float) -> None:
        """Have plans take turns to be timed."""
        spent, self.engine = self.trial.time(plans, rounds, seconds)
        for plan, each in spent.items():
            self.ms[plan] = statistics.median(each)
            self.least[plan] = min(each)

    def _alone(self, first: Stage) -> Plan:
        """The least that a plan with this first stage can be."""
        return Plan((first,)) if first.precision == "exact" else self._plan((first, self.trial.k))

    def _plan(self, *stages: tuple[Stage, int]) -> Plan:
        return chain(stages, self.trial.index.full_dim)

    def _try_first(self, first: Stage, grid: Sequence[int], stored: StoredTiers) -> float:
        """Try the plans that begin so; the milliseconds of the fastest that reaches the target."""
        k, alone = self.trial.k, self._alone(first)
        most = grid[-1] if grid else k
        widest = self._plan((first, most)) if grid else alone
        for trial in (self.trial.head(GLANCE), self.trial):
            ranks = trial.ranks(Plan((first,)), most)
            shares = trial.shares_within(ranks, most)
            if upper_bound(shares, self.tail) < self.recall:
                self._note(widest, shares)
                return math.inf
        found = [alone] if self._reaches(alone, self.trial.shares_within(ranks, k)) else []
        enough = self._enough(ranks, grid, [], first)
        found += [self._plan((first, keep)) for keep in enough]
        if not found:
            self._note(widest, shares)
            return math.inf
        self.time([alone, *found], ROUNDS, SECONDS)
        least = min(self.least[plan] for plan in found)
        if enough and least - self.least[alone] > HEAVY * least:
            more = self._try_seconds(first, enough, grid, stored, least)
            least = min([least, *(self.least[plan] for plan in more)])
        return least

    def _try_seconds(
        self, first: Stage, enough: Sequence[int], grid: Sequence[int], stored: StoredTiers, limit: float
    ) -> list[Plan]:
        """Plans that thin out what the first stage keeps by a second one, and reach the target.

        Those are looked into that would be the fastest, were it enough that the second keeps 2 k.
        """
        hoped = {
            self._plan((first, keep), (second, grid[1])): (keep, second)
            for second in second_stages(first, stored)
            for keep in enough
            if keep > grid[1]
        }
        if hoped:
            self.time(list(hoped), ROUNDS, SECONDS)
        fastest = sorted(hoped, key=self.least.__getitem__)[:SECONDS_TRIED]
        found = []
        for keep, second in (hoped[plan] for plan in fastest if self.least[plan] < limit):
            opening = Plan((Stage(first.dim, keep, first.precision), second))
            ranks = self.trial.ranks(opening, keep)
            fewer = [number for number in grid if number < keep]
            kept = self._enough(ranks, fewer, [(first, keep)], second)
            found += [self._plan((first, keep), (second, number)) for number in kept[:1]]
        if found:
            self.time(found, ROUNDS, SECONDS)
        return found

    def _enough(
        self, ranks: NDArray[np.int64], grid: Sequence[int], before: list[tuple[Stage, int]], last: Stage
    ) -> list[int]:
        """The least number of rows that `last` may keep to reach the target, and the next.

        Some beyond are noted too, to fall back upon: other queries may find these two too few.

        `ranks` (m, k) are the true rows' places among what it is given by the stages before it.
        """
        kept: list[int] = []
        for keep in grid:
            plan = self._plan(*before, (last, keep))
            if self._reaches(plan, self.trial.shares_within(ranks, keep)):
                kept.append(keep)
            if len(kept) == LADDER:
                break
        return kept[:2]

    def finalists(self, most: int) -> list[Plan]:
        """The fastest plans that reach the target, and those that keep more behind the fastest first look."""
        timed = sorted((plan for plan in self.reaching if plan in self.least), key=self.least.__getitem__)
        looks = {(plan.stages[0].dim, plan.stages[0].precision) for plan in timed[:1]}
        more = [plan for plan in self.reaching if plan not in self.least]
        return timed[:most] + [p for p in more if (p.stages[0].dim, p.stages[0].precision) in looks]

    def _reaches(self, plan: Plan, shares: NDArray[np.float64]) -> bool:
        self._note(plan, shares)
        if lower_bound(shares, self.tail, self.proofs) < self.recall:
            return False
        if plan not in self.reaching:
            self.reaching.append(plan)
        return True

    def _note(self, plan: Plan, shares: NDArray[np.float64]) -> None:
        self.overlap[plan] = float(shares.mean())
        if self.best is None or self.overlap[plan] > self.overlap[self.best]:
            self.best = plan


def what_is_stored(index: Index) -> StoredTiers:
    """What every part of an index offers to plans."""
    files = [part.files for part in index.manifest.parts]

    def has(name: str) -> bool:
        return all(name in own for own in files)

    codes = tuple(dim for dim in index.dims if has(NAMES.codes(dim)))
    return StoredTiers(index.dims, codes, has(NAMES.signs(index.full_dim)))
