"""Choose the fastest plan whose overlap@k is proven to reach a recall, on this index and this machine.

Some of the queries choose (`plan_space`), the others confirm: the best of many candidates is partly lucky,
and only queries that had no part in the choice measure its overlap without bias. A plan must reach the
recall with the lower confidence bound of its overlap (`statistics`), not with the mean.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from resizable_search import __version__
from resizable_search.engine.base import NO_ROW
from resizable_search.engine.plan import Plan, check_recall
from resizable_search.errors import RsearchError, UsageError
from resizable_search.evaluate.bench import Queries, sample_queries
from resizable_search.evaluate.plan_space import MeasuredPlans, PlanSearch, split
from resizable_search.progress import SILENT, Progress
from resizable_search.search.index import Index
from resizable_search.search.planning import SearchOptions
from resizable_search.statistics import lower_bound, upper_bound
from resizable_search.store.tuned_plans import Candidate, TunedPlan, store_plan
from resizable_search.system import blas_threads
from resizable_search.text import counted

# The chance that a bound of the first plan to confirm is wrong; each later one has half of it. So the chance
# that any of them is wrong is below 5 %, and a plan alone has a 95 % interval.
TAIL = 0.025
CHOSEN_AT_MOST = 1000  # the most queries that choose; more may confirm
SAMPLE_AT_LEAST, SAMPLE_AT_MOST = 3000, 10_000  # limits of the sample, whatever the recall
FINALISTS = 8  # plans timed at the end, besides the exact one and safer ones
ROUNDS, SECONDS = 30, 2.0  # of timing them, the seconds at most


@dataclass(frozen=True, slots=True)
class TuneReport:
    """The tuned plan with its evidence."""

    index: str
    rows: int
    full_dim: int
    tuned: TunedPlan
    remark: str = ""  # why the exact plan was chosen, and how near the others came
    not_kept: str = ""  # why the index does not keep the plan


def tune(
    index: Index,
    recall: float,
    k: int = 10,
    queries: Queries | None = None,
    *,
    sample: int | None = None,
    titles: bool | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> TuneReport:
    """Choose the fastest plan for k hits that is proven to reach `recall`, and store it in the index.

    `queries` None: `sample` queries (None: as many as prove the recall) from the index itself, drawn by
    `seed`: half are titles of its documents, if it has titles, and the others its rows, each left out of its
    own hits. Rows are easier than real queries: their neighbours are nearer. Titles are embedded: None, if
    that costs nothing; `titles` True in any case, False never. For a read-only index `not_kept` of the report
    says why the plan is not stored. Raises UsageError, and EmbedderError for titles that were asked for.
    """
    check_recall(recall)
    SearchOptions(k)
    if sample is not None and sample < 2:
        raise UsageError(f"`sample` must be 2 or more, to choose and to confirm, not {sample}")
    if not index.rows:
        raise UsageError(f"{index.name} has no documents to tune on: build it again")
    index.warm()
    if index.remark:
        progress.note(index.remark)
    asked = queries or own_queries(index, sample or sample_size(recall), titles, seed, progress)
    count = len(asked.vectors)
    first, second = split(asked, max(1, min(count // 2, CHOSEN_AT_MOST)), seed)
    choosing, confirming = MeasuredPlans(index, first, k), MeasuredPlans(index, second, k)
    search = PlanSearch(choosing, recall, len(confirming), TAIL / 2)
    if recall == 1.0 or count < 2 or len(search.grid) < 2:
        search.time([search.exact], ROUNDS, SECONDS)
        certain = "only the exact plan is certain to find every row"
        choice = _Choice(search.exact, remark=certain if recall == 1.0 else "too few rows to choose by")
    else:
        choice = _choose(search, confirming, progress)
    known = sorted((plan for plan in search.ms if plan in search.overlap), key=search.ms.__getitem__)
    tuned = TunedPlan(
        plan=str(choice.plan),
        k=k,
        recall=recall,
        overlap=choice.overlap,
        overlap_ci=choice.interval,
        ms=search.ms[choice.plan],
        queries=choice.queries,
        chosen_on=len(choosing.truth),
        source=asked.source,
        seed=asked.seed,
        engine=search.engine,
        threads=blas_threads() if search.engine == "numpy" else index.threads,
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        candidates=tuple(Candidate(str(p), search.overlap[p], search.ms[p]) for p in known),
    )
    not_kept = ""
    try:
        store_plan(index.folder, index.manifest.generation, tuned)
        index.plans.read_again()
    except RsearchError as error:
        not_kept = str(error)
    return TuneReport(index.name, index.rows, index.full_dim, tuned, choice.remark, not_kept)


def sample_size(recall: float) -> int:
    """How many queries choose and confirm a plan for this recall.

    m queries without a miss prove at most about 1 - 4.2 / m. So many confirm that nine tenths of the allowed
    misses may occur: 4,000 for 0.99, where 1,680 would take half as many candidates more. 1,000 choose.
    """
    confirming = 40 / max(1.0 - recall, 1e-9)
    wanted = math.ceil(confirming) + math.ceil(min(confirming, CHOSEN_AT_MOST))
    return ROUNDS if recall == 1.0 else max(SAMPLE_AT_LEAST, min(wanted, SAMPLE_AT_MOST))


def own_queries(index: Index, count: int, titles: bool | None, seed: int, progress: Progress) -> Queries:
    """`count` queries from the index itself: rows, and titles for at most half. Raises as `tune` does."""
    rows = sample_queries(index, count, seed)
    if not (index.embeds_for_free if titles is None else titles):
        return rows
    drawn = np.random.default_rng(seed).choice(index.rows, min(2 * count, index.rows), replace=False)
    found = dict.fromkeys(document.title.strip() for document in index.documents(index.live_rows()[drawn]))
    texts = [title for title in found if title][: count // 2]
    if not texts:
        return rows
    if not index.embeds_for_free:
        kind, characters = index.manifest.embedder["kind"], sum(map(len, texts))
        progress.note(f"{counted(len(texts), 'title')}, {characters:,} characters, are embedded by {kind}")
    try:
        vectors, is_known = index.embed_known(texts)
    except RsearchError as error:
        if titles:
            raise
        progress.note(f"no title is a query here: {error}")
        return rows
    rows = rows.take(slice(count - int(is_known.sum())))
    assert rows.own_rows is not None
    own_rows = np.concatenate([np.full(int(is_known.sum()), NO_ROW), rows.own_rows])
    return Queries(np.concatenate([vectors[is_known], rows.vectors]), "own titles and rows", own_rows, seed)


@dataclass(frozen=True, slots=True)
class _Choice:
    """A plan, its overlap over so many queries with the interval; the exact plan needs no queries."""

    plan: Plan
    overlap: float = 1.0
    interval: tuple[float, float] = (1.0, 1.0)
    queries: int = 0
    remark: str = ""


def _choose(search: PlanSearch, confirming: MeasuredPlans, progress: Progress) -> _Choice:
    """The fastest plan that reaches the recall on both parts of the queries."""
    search.measured.answer(progress)
    search.run(progress)
    fast = search.finalists(FINALISTS)
    progress.stage("timing", len(fast) + 1, "plans")
    search.time([search.exact, *fast], ROUNDS, SECONDS)
    progress.advance(len(fast) + 1)
    limit = search.ms[search.exact]
    costs = {plan: _cost(plan, search.ms, fast) for plan in fast}
    order = sorted((plan for plan in fast if costs[plan][0] < limit), key=costs.__getitem__)
    if order:
        confirming.answer(progress)
    failed: list[_Choice] = []
    for plan in order:
        if any(search.overlap[plan] <= search.overlap[other.plan] for other in failed):
            continue  # no better than one that has failed
        shares, tail = confirming.shares(plan), TAIL / 2 ** len(failed)
        interval = lower_bound(shares, tail), upper_bound(shares, tail)
        choice = _Choice(plan, float(shares.mean()), interval, len(shares))
        if interval[0] >= search.recall:
            return choice
        failed.append(choice)
    return _Choice(search.exact, remark=_why_exact(search, failed, slower=bool(fast)))


def _cost(plan: Plan, ms: Mapping[Plan, float], plans: Sequence[Plan]) -> tuple[float, int]:
    """The milliseconds and candidates of a plan, which is as fast as those that keep more of its stage."""
    first = plan.stages[0]
    larger = [other for other in plans if other.stages[0]._replace(keep=first.keep) == first]
    kept = {other: other.stages[0].keep or 0 for other in larger}
    return min(ms[other] for other in larger if kept[other] >= kept[plan]), kept[plan]


def _why_exact(search: PlanSearch, failed: list[_Choice], *, slower: bool) -> str:
    """One line: why the exact plan was chosen, and how near the others came."""
    recall = f"{search.recall:g}"
    if failed:
        best = max(failed, key=lambda choice: choice.overlap)
        return (
            f"no other plan is proven to reach {recall}: the best is {best.plan} with {best.overlap:.4f}, "
            f"at least {best.interval[0]:.4f} (95 %)"
        )
    if slower:
        return f"the exact plan is the fastest here that reaches {recall}"
    if search.best is None:
        return "no other plan is faster than the exact one here"
    best_other = f"the best other plan is {search.best} with {search.overlap[search.best]:.4f}"
    possible = lower_bound(np.ones(search.proofs), search.tail)
    if possible < search.recall:
        return (
            f"{search.proofs:,} queries prove no more than {possible:.4f} of any plan: give more of them; "
            f"{best_other}"
        )
    return f"no plan faster than the exact one is proven to reach {recall}: {best_other}"
