"""The plan that the options of a search mean on an index, and whether its words counted."""

from collections.abc import Callable, Sequence

from resizable_search.engine.lexical import words
from resizable_search.engine.plan import BY_WORDS, WORDS_WEIGHT, Plan
from resizable_search.errors import UsageError
from resizable_search.search.results import ScoredDocument, SearchOptions
from resizable_search.store.tuned_plans import StoredPlans, plan_key, tune_command
from resizable_search.text import STOP_WORDS, listed

MOST_ASKED = 500  # characters of a query whose words are looked up one by one


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
