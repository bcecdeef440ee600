"""What a benchmark is asked: which plans, in batches of which sizes, on how many threads, warm or cold."""

from collections.abc import Iterator
from dataclasses import dataclass

from resizable_search.engine.plan import Plan, Precision, Stage
from resizable_search.errors import UsageError

MOST_BATCH = 10_000
"""The most queries of one batch: their vectors and answers are held at once."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure.

    `dims` None: every stored one. Each dimension is measured in each of `precisions`, with each of
    `reranks` (and exact and float32 without one, too). `plans` are measured beside those. `batches`:
    how many queries a call brings; 1 is a single query. `threads`: how many a scan runs on, one set
    of measurements for each; empty: as the index was opened. `cold`: each run finds none of the
    index's files in memory.
    """

    dims: tuple[int, ...] | None = None
    reranks: tuple[int, ...] = ()
    precisions: tuple[Precision, ...] = ("exact",)
    plans: tuple[str, ...] = ()
    k: int = 10
    batches: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = ()
    cold: bool = False

    def check(self) -> "BenchOptions":
        """The options themselves, if they make sense on some index; else UsageError."""
        if not 1 <= self.k <= MOST_HITS:
            raise UsageError(f"k must be 1 to {MOST_HITS:,} to be measured, not {self.k}")
        for batch in self.batches:
            if not 1 <= batch <= MOST_BATCH:
                raise UsageError(f"--batch must be 1 to {MOST_BATCH:,} queries, not {batch}")
        if self.cold and self.batches != (1,):
            raise UsageError("--cold measures single queries: leave --batch out")
        return self

    def chosen_plans(self, full_dim: int, stored: tuple[int, ...]) -> list[Plan]:
        """What is to be measured on an index of these dimensions, without repetition.

        The full dimension comes first, asked or not: the others are compared with it. Raises UsageError.
        """
        plans = [Plan.of(full_dim, 0, self.k, full_dim)]
        dims = sorted(stored, reverse=True) if self.dims is None else self.dims
        for dim in dims:
            for precision in self.precisions:
                plans += self._plans_at(dim, precision, full_dim)
        plans += [Plan.parse(text) for text in self.plans]
        return list(dict.fromkeys(plan.check(self.k, full_dim) for plan in plans))

    def _plans_at(self, dim: int, precision: Precision, full: int) -> Iterator[Plan]:
        rough = precision in ("int8", "bits")
        if not rough:
            yield Plan((Stage(dim, precision=precision),))
        reranks = [rerank for rerank in self.reranks if rerank]
        if rough:
            reranks = reranks or [ROUGH_RERANK]
        elif dim == full:  # what was scanned in floats at the full dimension, no rerank makes better
            reranks = []
        for rerank in reranks:
            yield Plan((Stage(dim, rerank * self.k, precision), Stage(full)))


MOST_HITS = 10_000
"""The most hits a query: each batch holds so many for each of its queries."""


ROUGH_RERANK = 10
"""int8 and bits must be followed by an exact stage: how many times k they keep, if no rerank is given."""
