"""Plans on trial: what they find of the true rows of many queries, and how long one query takes."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resizable_search.bench import Queries
from resizable_search.plan import Plan, Stage
from resizable_search.progress import Progress
from resizable_search.search import Index
from resizable_search.topk import NO_ROW

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
