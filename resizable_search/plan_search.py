"""Look for fast plans that reach a wanted overlap, by measured time and overlap.

Every first stage is timed. From the fastest on, one pass over the queries tells at which of a stage's
ranks each true row comes, and so the overlap for every number of rows that it may keep. Where what
stands behind the first stage takes much of the time, second stages are tried in between. A first stage
that alone takes longer than the best plan so far is not looked into.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resizable_search.candidates import Stored, chain, first_stages, keeps, second_stages
from resizable_search.confidence import lower_bound, upper_bound
from resizable_search.index.layout import NAMES
from resizable_search.plan import Plan, Stage
from resizable_search.progress import SILENT, Progress
from resizable_search.search import Index
from resizable_search.trial import Trial

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

    def _try_first(self, first: Stage, grid: Sequence[int], stored: Stored) -> float:
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
        self, first: Stage, enough: Sequence[int], grid: Sequence[int], stored: Stored, limit: float
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


def what_is_stored(index: Index) -> Stored:
    """What every part of an index offers to plans."""
    files = [part.files for part in index.manifest.parts]

    def has(name: str) -> bool:
        return all(name in own for own in files)

    codes = tuple(dim for dim in index.dims if has(NAMES.codes(dim)))
    return Stored(index.dims, codes, has(NAMES.signs(index.full_dim)))
