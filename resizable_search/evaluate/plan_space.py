"""The plans worth trying on an index, and the search for fast ones that reach a recall.

A first stage reads a bit of each dimension, int8 codes or floats of every row; its candidates are scored at
the full dimension, where int8 codes rule most of them out. Every first stage is timed. From the fastest on,
one pass over the queries gives the rank of each true row within a stage, and so the overlap for every number
of candidates. A first stage that alone is slower than the best plan so far is skipped.
"""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resizable_search.engine.base import NO_ROW
from resizable_search.engine.plan import Plan, Stage
from resizable_search.engine.vectors import WORD
from resizable_search.evaluate.bench import Queries, answer_batches
from resizable_search.progress import Progress
from resizable_search.search.index import Index
from resizable_search.statistics import lower_bound, upper_bound
from resizable_search.store.layout import NAMES

# Candidates to try, times k.
FACTORS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 35, 40, 45, 50, 60, 80, 100)
LEAST_REDUCTION = 4  # a stage keeps at most one row in this many: else the next stage has most of the work
BURST = 3  # queries in a row that time a plan; the first only loads its files
NEVER = np.iinfo(np.int64).max  # the rank of a true row that was not found
ROUNDS, SECONDS = 3, 1.0  # rounds of timing while searching, and their seconds at most
STEPS = (100, 300)  # after so many queries a first stage may be given up, before the others run
LADDER = 6  # numbers of candidates to record for a stage, from the least that reaches the recall
NEAR = 1.2  # times the fastest plan's milliseconds: minima of few runs may differ by so much
SLOWER = 1.5  # times the fastest plan's milliseconds: a slower one is no finalist


@dataclass(frozen=True, slots=True)
class StoredTiers:
    """What an index stores: dimensions ascending, those with int8 codes, and whether it has 1bit codes."""

    dims: tuple[int, ...]
    codes: tuple[int, ...] = ()
    one_bit: bool = False


def keeps(k: int, rows: int) -> list[int]:
    """The numbers of candidates that a stage may keep, ascending."""
    return [k * factor for factor in FACTORS if k * factor * LEAST_REDUCTION <= rows]


def first_stages(stored: StoredTiers) -> list[Stage]:
    """The stages that may read every row. An exact one, where there are no codes, may be a whole plan."""
    full = stored.dims[-1]
    words = range(WORD, full + WORD, WORD) if stored.one_bit else ()
    one_bit = [Stage(min(dim, full), precision="1bit") for dim in words]
    int8 = [Stage(dim, precision="int8") for dim in stored.codes]
    return [*one_bit, *int8, *(Stage(dim) for dim in stored.dims[:-1] if dim not in stored.codes)]


def reranked(first: Stage, keep: int, full: int) -> Plan:
    """The plan of a first stage that keeps so many rows, and a rerank at the full dimension."""
    return Plan((Stage(first.dim, keep, first.precision), Stage(full)))


def split(queries: Queries, first: int, seed: int) -> tuple[Queries, Queries]:
    """Two parts of the queries, drawn by the seed: `first` of them, and the others."""
    order = np.random.default_rng(seed).permutation(len(queries.vectors))
    return queries.take(np.sort(order[:first])), queries.take(np.sort(order[first:]))


@dataclass(slots=True)
class MeasuredPlans:
    """Measures plans on queries. `truth` (m, k) int64: the rows of their exact answers, -1 for none."""

    index: Index
    queries: Queries
    k: int
    truth: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0), np.int64))

    def __len__(self) -> int:
        return len(self.queries.vectors)

    def answer(self, progress: Progress) -> None:
        """Answer the queries exactly."""
        progress.stage("scanning the full dimension", len(self), "queries")
        batches = []
        for rows in answer_batches(self.index, self.queries, Plan((Stage(self.index.full_dim),)), self.k):
            batches.append(rows)
            progress.advance(len(rows))
        self.truth = np.concatenate(batches)

    def part(self, which: slice) -> "MeasuredPlans":
        """The same on some of the queries."""
        return MeasuredPlans(self.index, self.queries.take(which), self.k, self.truth[which])

    def shares(self, plan: Plan) -> NDArray[np.float64]:
        """The share of each query's true rows that the plan finds: (m,) float64."""
        return self.shares_within(self.ranks(plan, self.k), self.k)

    def ranks(self, plan: Plan, depth: int) -> NDArray[np.int64]:
        """Each true row's rank among the `depth` best rows of the plan, from 0, or NEVER: (m, k) int64."""
        out = np.full(self.truth.shape, NEVER, np.int64)
        batches = answer_batches(self.index, self.queries, plan, depth)
        for i, rows in enumerate(rows for batch in batches for rows in batch):
            order = np.argsort(rows, kind="stable")
            at = np.searchsorted(rows[order], self.truth[i]).clip(max=len(rows) - 1)
            is_found = (rows[order[at]] == self.truth[i]) & (self.truth[i] != NO_ROW)
            out[i, is_found] = order[at[is_found]]
        return out

    def shares_within(self, ranks: NDArray[np.int64], keep: int) -> NDArray[np.float64]:
        """The share of the true rows of the first queries whose rank (m, k) is below `keep`: (m,) float64."""
        count = (self.truth[: len(ranks)] != NO_ROW).sum(axis=1)
        shares: NDArray[np.float64] = (ranks < keep).sum(axis=1) / np.maximum(count, 1)
        shares[count == 0] = 1.0
        return shares

    def time(self, plans: Sequence[Plan], rounds: int, seconds: float) -> tuple[dict[Plan, list[float]], str]:
        """Milliseconds of single queries by each plan, and the engine.

        The plans take turns, so that a disturbance of the machine affects them all. There are up to `rounds`
        rounds; fewer after `seconds`, but at least three.
        """
        spent: dict[Plan, list[float]] = {plan: [] for plan in plans}
        engine, begin = "", time.perf_counter()
        for number in range(rounds):
            shift = number % len(plans)
            for plan in (*plans[shift:], *plans[:shift]):
                for turn in range(BURST):
                    ms, ran = self._ask(plan, (number * BURST + turn) % len(self))
                    if turn:
                        spent[plan].append(ms)
                    engine = engine or ran
            if number >= 2 and time.perf_counter() - begin > seconds:
                break
        return spent, engine

    def _ask(self, plan: Plan, i: int) -> tuple[float, str]:
        query = self.queries.take(slice(i, i + 1))
        begin = time.perf_counter()
        _, runs = self.index.run(query.vectors, plan, self.k)  # as a user's query, which leaves out no row
        return (time.perf_counter() - begin) * 1e3, runs[0].engine


@dataclass(slots=True)
class PlanSearch:
    """The plans tried, their milliseconds and overlaps, and which of them reach the recall.

    A plan reaches it if the lower bound of its overlap would, with `proofs` queries like the measured ones;
    `tail` is the chance that a bound is wrong. `ms` are medians. `least` are minima, which are steadier for
    few runs: the search goes by them.
    """

    measured: MeasuredPlans
    recall: float
    proofs: int
    tail: float
    ms: dict[Plan, float] = field(default_factory=dict)
    least: dict[Plan, float] = field(default_factory=dict)
    overlap: dict[Plan, float] = field(default_factory=dict)
    reaching: list[Plan] = field(default_factory=list)
    engine: str = ""
    stored: StoredTiers = field(init=False)
    grid: list[int] = field(init=False)

    def __post_init__(self) -> None:
        index = self.measured.index
        files = set.intersection(*(set(part.files) for part in index.manifest.parts))
        codes = tuple(dim for dim in index.dims if NAMES.tier(dim)[0] in files)
        self.stored = StoredTiers(index.dims, codes, NAMES.one_bit(index.full_dim) in files)
        self.grid = keeps(self.measured.k, index.rows)
        self.overlap[self.exact] = 1.0

    @property
    def exact(self) -> Plan:
        """The exact scan at the full dimension."""
        return Plan((Stage(self.measured.index.full_dim),))

    @property
    def best(self) -> Plan | None:
        """The plan with the highest overlap apart from the exact one."""
        others = [plan for plan in self.overlap if plan != self.exact]
        return max(others, key=self.overlap.__getitem__, default=None)

    def run(self, progress: Progress) -> None:
        """Try plans."""
        firsts = first_stages(self.stored)
        progress.stage("trying", len(firsts), "first stages")
        self.time([self.exact, *map(self._alone, firsts)], ROUNDS, SECONDS)
        # A first stage costs at most what one that reads more of each row does.
        cost = {
            first: min(
                self.least[self._alone(wider)]
                for wider in firsts
                if wider.precision == first.precision and wider.dim >= first.dim
            )
            for first in firsts
        }
        limit = self.least[self.exact]
        for first in sorted(firsts, key=cost.__getitem__):
            if cost[first] < limit:
                limit = min(limit, self._try_first(first, limit))
            progress.advance(1)

    def time(self, plans: Sequence[Plan], rounds: int, seconds: float) -> None:
        """Time plans in turns."""
        spent, self.engine = self.measured.time(plans, rounds, seconds)
        for plan, each in spent.items():
            self.ms[plan] = statistics.median(each)
            self.least[plan] = min(each)

    def _alone(self, first: Stage) -> Plan:
        """The smallest plan with this first stage."""
        return Plan((first,)) if first.precision == "exact" else self._plan(first, self.measured.k)

    def _plan(self, first: Stage, keep: int) -> Plan:
        return reranked(first, keep, self.measured.index.full_dim)

    def _try_first(self, first: Stage, limit: float) -> float:
        """Try plans with this first stage. Returns the least milliseconds that reach the recall.

        Ever more queries tell how many candidates it needs at least. It is given up when even the most
        cannot be enough, or when a plan with so many is much slower than `limit`.
        """
        measured, alone, most = self.measured, self._alone(first), self.grid[-1]
        widest = self._plan(first, most)
        ranks = np.empty((0, measured.truth.shape[1]), np.int64)
        for stop in (*(step for step in STEPS if step < len(measured)), len(measured)):
            part = measured.part(slice(len(ranks), stop))
            ranks = np.concatenate([ranks, part.ranks(Plan((first,)), most)])
            fewest = next((keep for keep in self.grid if self._may_reach(ranks, keep)), None)
            if fewest is None:
                self.overlap[widest] = float(measured.shares_within(ranks, most).mean())
                return math.inf
            plan = self._plan(first, fewest)
            self.time([alone, plan], ROUNDS, SECONDS)
            if self.least[plan] >= NEAR * limit:
                return math.inf
        reaching = [alone] if self._reaches(alone, measured.shares_within(ranks, measured.k)) else []
        reaching += self._enough(ranks, first)
        if not reaching:
            return math.inf
        self.time([alone, *reaching], ROUNDS, SECONDS)
        return min(self.least[plan] for plan in reaching)

    def _enough(self, ranks: NDArray[np.int64], first: Stage) -> list[Plan]:
        """The plan with the least number of candidates that reaches the recall, and the next one.

        Some larger ones are recorded too: for other queries these two may be too few. `ranks` (m, k): ranks
        of the true rows after `first`.
        """
        enough: list[Plan] = []
        for keep in self.grid:
            plan = self._plan(first, keep)
            if self._reaches(plan, self.measured.shares_within(ranks, keep)):
                enough.append(plan)
            if len(enough) == LADDER:
                break
        return enough[:2]

    def finalists(self, most: int) -> list[Plan]:
        """The fastest plans that reach the recall, and larger ones with the fastest first stage."""
        timed = sorted((plan for plan in self.reaching if plan in self.least), key=self.least.__getitem__)
        if not timed:
            return []
        fastest = timed[0].stages[0]._replace(keep=None)
        timed = [plan for plan in timed if self.least[plan] <= SLOWER * self.least[timed[0]]]
        more = [plan for plan in self.reaching if plan not in self.least]
        return timed[:most] + [plan for plan in more if plan.stages[0]._replace(keep=None) == fastest]

    def _may_reach(self, ranks: NDArray[np.int64], keep: int) -> bool:
        return upper_bound(self.measured.shares_within(ranks, keep), self.tail) >= self.recall

    def _reaches(self, plan: Plan, shares: NDArray[np.float64]) -> bool:
        self.overlap[plan] = float(shares.mean())
        if lower_bound(shares, self.tail, self.proofs) < self.recall:
            return False
        if plan not in self.reaching:
            self.reaching.append(plan)
        return True
