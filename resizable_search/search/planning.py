"""The options of a search, the plan that they mean on an index, and whether its words counted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from resizable_search.engine.lexical import words
from resizable_search.engine.plan import BY_WORDS, MODES, WORDS_WEIGHT, Plan, check_recall
from resizable_search.errors import UsageError
from resizable_search.search.results import ScoredDocument
from resizable_search.store.tuned_plans import StoredPlans, plan_key, tune_command
from resizable_search.text import STOP_WORDS, listed, quoted

MOST_ASKED = 500  # characters of a query whose words are looked up one by one


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search. Equal options may share a scan. Raises UsageError for values that make no sense.

    `k`: hits wanted. `dim`: scan the first so many dimensions (None: all). `rerank`: score
    rerank x max(k, 10) candidates again at the full dimension (0: none); it does nothing without `dim`.
    `plan`: the stages themselves, in place of these two; a text is parsed. `recall`: the plan that was tuned
    for this overlap and k, in place of all three. `where`: an SQL expression over id, title, url and
    metadata; it selects rows before the ranking. `group`: of each document only the best chunk, and of equal
    texts only the first; False: every row. `mode`: `dense` ranks by meaning, `lexical` by words, `hybrid` by
    both; None: as the plan says, else the index's default, else dense.
    """

    k: int = 10
    dim: int | None = None
    rerank: int = 0
    plan: Plan | str | None = None
    recall: float | None = None
    where: str | None = None
    group: bool = True
    mode: str | None = None

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
        if self.mode is not None:
            self._check_mode(self.mode)

    def _check_mode(self, mode: str) -> None:
        """Raise UsageError unless the mode agrees with the other options."""
        if mode not in MODES:
            raise UsageError(f"mode must be one of {', '.join(MODES)}, not {quoted(mode)}")
        if mode == "lexical" and (self.dim, self.rerank, self.recall) != (None, 0, None):
            raise UsageError("mode lexical ranks by words alone: leave dimension, rerank and recall out")
        if (
            isinstance(self.plan, Plan)
            and self.plan.mode != mode
            and (self.plan.mode, mode) != ("dense", "hybrid")
        ):
            raise UsageError(f"plan {self.plan} is {self.plan.mode}, not {mode}: give either it or the mode")

    @property
    def wants_words(self) -> bool:
        """Whether the mode or the plan says that words count."""
        plan_has_words = isinstance(self.plan, Plan) and self.plan.words is not None
        return plan_has_words or self.mode not in (None, "dense")

    def without_words(self) -> "SearchOptions":
        """The options of a search by vectors. Raises UsageError if words are to count."""
        if self.wants_words:
            raise UsageError("a search by vectors has no words: search a text, or leave mode and lexical out")
        return replace(self, mode="dense")

    def by_meaning(self) -> "SearchOptions":
        """The same search without words."""
        plan = self.plan.in_mode("dense") if isinstance(self.plan, Plan) and self.plan.stages else None
        return replace(self, plan=plan, mode="dense")

    def with_plan(self, plan: Plan | str | None) -> "SearchOptions":
        """The same search by another plan; None: an exact scan at the full dimension."""
        mode = "dense" if plan is None else None
        return replace(self, dim=None, rerank=0, plan=plan, recall=None, mode=mode)


def plan_of(
    options: SearchOptions, name: str, full_dim: int, tuned: StoredPlans, *, has_words: bool | None
) -> Plan:
    """The plan that the options mean on the index `name`; a tuned mode counts if they name none.

    `has_words`: whether there is a lexical tier; None: a search by vectors, so words are refused. Raises
    UsageError.
    """
    if has_words is None:
        options.without_words()
    mode, weight = options.mode, WORDS_WEIGHT
    if (default := tuned.mode) is not None:
        weight = default.weight if default.mode == "hybrid" else weight
        has_stages = (options.dim, options.rerank, options.recall) != (None, 0, None)
        if mode is None and options.plan is None and not (has_stages and default.mode == "lexical"):
            mode = default.mode
    plan = BY_WORDS if mode == "lexical" else _dense_plan(options, name, full_dim, tuned)
    if mode == "hybrid" and plan.words is None:
        plan = plan._replace(words=weight)
    if plan.words is None or has_words:
        return plan
    return plan._replace(words=None) if plan.stages else Plan.of(None, 0, options.k, full_dim)


def _dense_plan(options: SearchOptions, name: str, full_dim: int, tuned: StoredPlans) -> Plan:
    """The plan that the options mean apart from the mode."""
    k, recall = options.k, options.recall
    if recall is not None:
        plan = tuned.get(k, recall)
        if plan is None:
            command = tune_command(name, plan_key(k, recall))
            what = f"no plan tuned for recall {recall:g} at k {k}"
            raise UsageError(f"{name} has {what}: measure one with `{command}`")
        return Plan.parse(plan.plan)
    if isinstance(options.plan, Plan):
        return options.plan.check(k, full_dim)
    return Plan.of(options.dim, options.rerank, k, full_dim)


def remark_on(
    query: str,
    plan: Plan,
    options: SearchOptions,
    scored: Sequence[ScoredDocument],
    name: str,
    knows: Callable[[str], bool],
) -> str:
    """Which words of a query did not count, and why; '' if all did. `knows`: whether the index has a word."""
    if plan.words is None:
        remedy = f"so this is by meaning alone: derive it with `warm {name}`"
        return f"{name} has no lexical tier, {remedy}" if options.wants_words else ""
    if not (any(one.ranks and one.ranks["lexical"] for one in scored) or knows(query)):
        none = "none of its words is in the index"
        return f"{none}: this is by meaning alone" if plan.stages else f"no hit: {none}"
    asked = [word for word in dict.fromkeys(words(query[:MOST_ASKED])) if word.casefold() not in STOP_WORDS]
    unknown = [word for word in asked if len(word) > 2 and not knows(word)]
    return f"not in the index: {listed(unknown, 5)}" if unknown else ""
