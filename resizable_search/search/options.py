"""How to search an index, as one value: the only place that lists the options of a search."""

from dataclasses import dataclass, replace

from resizable_search.engine.plan import Plan
from resizable_search.errors import UsageError
from resizable_search.store.tuned_plans import check_recall


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search. Equal options may share a scan. Raises UsageError for values that make no sense.

    `k`: hits wanted. `dim`: scan the first so many dimensions (None: all). `rerank`: score rerank x k
    candidates again at the full dimension (0: none). `plan`: the stages themselves, in place of these two;
    a text is parsed. `recall`: the plan that was tuned for this overlap and k, in place of all three.
    `where`: an SQL expression over id, title, url and metadata; it selects rows before the ranking.
    `group`: only the best chunk of each document.
    """

    k: int = 10
    dim: int | None = None
    rerank: int = 0
    plan: Plan | str | None = None
    recall: float | None = None
    where: str | None = None
    group: bool = False

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UsageError(f"k must be 1 or more, not {self.k}")
        if self.rerank < 0:
            raise UsageError(f"rerank must be 0 (none) or more, not {self.rerank}")
        has_stages = self.dim is not None or self.rerank > 0
        if self.recall is not None:
            check_recall(self.recall)
            if has_stages or self.plan is not None:
                raise UsageError("recall names a tuned plan: give either it or a dimension, rerank or plan")
        if self.plan is not None:
            if has_stages:
                raise UsageError("a plan says dimension and rerank itself: give either it or them")
            if isinstance(self.plan, str):
                object.__setattr__(self, "plan", Plan.parse(self.plan))

    def with_plan(self, plan: Plan | str | None) -> "SearchOptions":
        """The same search by another plan; None: an exact scan at the full dimension."""
        return replace(self, dim=None, rerank=0, plan=plan, recall=None)
