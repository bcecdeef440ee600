"""Choose the fastest plan whose overlap@k is proven to reach a target, on this index and this machine.

Some of the queries choose (`plan_search`), the others confirm: the best of many candidates owes its
place to luck too, and only queries that had no part in choosing it tell its overlap without a bias.
What a plan has to reach is a lower confidence bound (`confidence`), not its mean.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from resizable_search import __version__
from resizable_search.engine.plan import Plan
from resizable_search.errors import RsearchError, UsageError
from resizable_search.evaluate.bench import Queries, sample_queries
from resizable_search.evaluate.plan_space import PlanSearch, Trial, split
from resizable_search.progress import SILENT, Progress
from resizable_search.search.index import Index
from resizable_search.statistics import lower_bound, upper_bound
from resizable_search.store.tuned_plans import Candidate, TunedPlan, check_recall, keep_plan
from resizable_search.system import blas_threads

TAIL = 0.025
"""The chance that a bound is wrong, for the first plan that is put to the proof; each later one has half.

So all of them together are wrong with a chance below 5 %, and one alone has a 95 % interval.
"""

CHOSEN_AT_MOST = 1000
"""Queries that choose; those that confirm may be more."""

SAMPLE_AT_LEAST, SAMPLE_AT_MOST = 1000, 10_000
"""Queries that are drawn, however easy or hard the target is to prove."""

FINALISTS = 8
ROUNDS, SECONDS = 30, 4.0
"""Plans timed at the end, beside the exact one and safer ones; in how many rounds, and seconds at most."""


@dataclass(frozen=True, slots=True)
class TuneReport:
    """What `tune` found: the plan with its evidence, what to know about it, and if the index keeps it.

    `remark` says why the exact plan was chosen, if it was, and the best that others reached; `not_kept`
    why the index does not keep the plan. Each is '' otherwise.
    """

    index: str
    rows: int
    full_dim: int
    tuned: TunedPlan
    remark: str = ""
    not_kept: str = ""


def tune(
    index: Index,
    recall: float,
    k: int = 10,
    queries: Queries | None = None,
    *,
    sample: int | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> TuneReport:
    """Choose the fastest plan for k hits that is proven to reach `recall`, and have the index keep it.

    `queries` None: `sample` of the index's own rows (None: as many as the target takes to prove), drawn
    by `seed`, each left out of its own answers. A text's neighbours in its own corpus are nearer to it
    than to most questions, so own rows are easier than real queries. An index that cannot be written
    goes without: `not_kept` says why. Raises UsageError.
    """
    check_recall(recall)
    Plan.of(None, 0, k, index.full_dim)
    if sample is not None and sample < 2:
        raise UsageError(f"--sample must be 2 or more, to choose and to confirm, not {sample}")
    if not index.rows:
        raise UsageError(f"{index.name} has no documents to tune on: build it again")
    index.warm()
    if index.remark:
        progress.note(index.remark)
    asked = queries or sample_queries(index, sample or sample_size(recall), seed)
    count = len(asked.vectors)
    first, second = split(asked, max(1, min(count // 2, CHOSEN_AT_MOST)), seed)
    choosing, confirming = Trial(index, first, k), Trial(index, second, k)
    search = PlanSearch(choosing, recall, len(confirming), TAIL / 2)
    if recall == 1.0 or count < 2 or index.rows <= k:
        search.time([search.exact], ROUNDS, SECONDS)
        search.overlap[search.exact] = 1.0
        certain = "no other plan is certain to find every row"
        verdict = _Verdict(search.exact, _Proof(), certain if recall == 1.0 else "too few rows to choose by")
    else:
        verdict = _choose(search, confirming, progress)
    tuned = TunedPlan(
        plan=str(verdict.plan),
        k=k,
        recall=recall,
        overlap=verdict.proof.overlap,
        overlap_ci=verdict.proof.interval,
        ms=search.ms[verdict.plan],
        queries=verdict.proof.queries,
        chosen_on=len(choosing.truth),
        source=asked.source,
        seed=asked.seed,
        engine=search.engine,
        threads=blas_threads() if search.engine == "numpy" else index.threads,
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        candidates=_candidates(search),
    )
    not_kept = ""
    try:
        keep_plan(index.folder, index.manifest.generation, tuned)
        index.read_plans()
    except RsearchError as error:
        not_kept = str(error)
    return TuneReport(index.name, index.rows, index.full_dim, tuned, verdict.remark, not_kept)


def sample_size(recall: float) -> int:
    """How many queries a target takes, those that choose and those that confirm.

    m queries without a miss prove no more than about 1 - 4.2 / m; so many that confirm leave half of
    what the target allows to be missed: 840 for 0.99, and as many to choose by.
    """
    confirming = 8.4 / max(1.0 - recall, 1e-9)
    wanted = math.ceil(confirming) + math.ceil(min(confirming, CHOSEN_AT_MOST))
    return ROUNDS if recall == 1.0 else max(SAMPLE_AT_LEAST, min(wanted, SAMPLE_AT_MOST))


@dataclass(frozen=True, slots=True)
class _Proof:
    """The overlap of a plan over so many queries, and its interval; the exact plan needs none."""

    overlap: float = 1.0
    interval: tuple[float, float] = (1.0, 1.0)
    queries: int = 0

    @classmethod
    def of(cls, shares: NDArray[np.float64], tail: float) -> "_Proof":
        interval = lower_bound(shares, tail), upper_bound(shares, tail)
        return cls(float(shares.mean()), interval, len(shares))


@dataclass(frozen=True, slots=True)
class _Verdict:
    plan: Plan
    proof: _Proof
    remark: str = ""


def _choose(search: PlanSearch, confirming: Trial, progress: Progress) -> _Verdict:
    """The fastest plan that reaches the target on both shares of the queries."""
    search.trial.answer(progress)
    search.run(progress)
    fast = search.finalists(FINALISTS)
    progress.stage("timing", len(fast) + 1, "plans")
    search.time([search.exact, *fast], ROUNDS, SECONDS)
    progress.advance(len(fast) + 1)
    limit = search.ms[search.exact]
    order = sorted((plan for plan in fast if search.ms[plan] < limit), key=search.ms.__getitem__)
    if order:
        confirming.answer(progress)
    failed: list[tuple[Plan, _Proof]] = []
    for plan in order:
        if any(search.overlap[plan] <= search.overlap[other] for other, _ in failed):
            continue  # no better than one that has failed
        proof = _Proof.of(confirming.shares(plan), TAIL / 2 ** len(failed))
        if proof.interval[0] >= search.recall:
            return _Verdict(plan, proof)
        failed.append((plan, proof))
    return _Verdict(search.exact, _Proof(), _why_exact(search, failed, slower=bool(fast)))


def _why_exact(search: PlanSearch, failed: list[tuple[Plan, _Proof]], *, slower: bool) -> str:
    """One line: why no other plan was taken, and how far the others came."""
    target = f"{search.recall:g}"
    possible = lower_bound(np.ones(search.proofs), search.tail)
    if failed:
        plan, proof = max(failed, key=lambda pair: pair[1].overlap)
        low, _ = proof.interval
        return (
            f"no other plan is proven to reach {target}: the best was {plan} with {proof.overlap:.4f}, "
            f"surely {low:.4f}"
        )
    if slower:
        return f"the exact scan is the fastest here of those that reach {target}"
    if search.best is None:
        return "no other plan is faster than the exact scan here"
    reached = f"the best but the exact one is {search.best} with {search.overlap[search.best]:.4f}"
    if possible < search.recall:
        return (
            f"{search.proofs:,} queries prove no more than {possible:.4f} of any plan (give more, with "
            f"--sample or --queries); {reached}"
        )
    return f"no other plan faster than the exact scan is proven to reach {target}: {reached}"


def _candidates(search: PlanSearch) -> tuple[Candidate, ...]:
    """Every plan whose overlap and time are known, fastest first."""
    known = sorted((plan for plan in search.ms if plan in search.overlap), key=search.ms.__getitem__)
    return tuple(Candidate(str(plan), search.overlap[plan], search.ms[plan]) for plan in known)
