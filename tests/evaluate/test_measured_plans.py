import math

import numpy as np
import pytest

from resizable_search.engine.plan import Plan, Stage
from resizable_search.evaluate.bench import Queries, sample_queries
from resizable_search.evaluate.plan_space import NEVER, MeasuredPlans, PlanSearch, split
from resizable_search.progress import SILENT
from tests.support import index_of

FULL = 96
K = 5


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((700, FULL)).astype(np.float32)
    rows[300:320] = rows[:20]
    with index_of(rows, tmp_path_factory.mktemp("home"), dims=(16, 64, FULL)) as opened:
        yield opened


@pytest.fixture(scope="module")
def measured(index):
    made = MeasuredPlans(index, sample_queries(index, 150, 1), K)
    made.answer(SILENT)
    return made


def expected_shares(measured, plan):
    """One query at a time, by sets."""
    index, queries = measured.index, measured.queries
    overlaps = []
    for i in range(len(measured)):
        vector, own = queries.vectors[i : i + 1], queries.own_rows[i : i + 1]
        true = set(index.run(vector, Plan.parse(str(FULL)), K, own)[0].rows[0].tolist())
        got = set(index.run(vector, Plan.parse(plan), K, own)[0].rows[0].tolist())
        overlaps.append(len(true & got) / len(true))
    return np.array(overlaps)


@pytest.mark.parametrize("plan", ["16", "64", "16:20,96", "96:bits:10,96", "64:bits:40,64:int8:10,96"])
def test_a_plans_shares_are_those_of_its_answers(measured, plan):
    np.testing.assert_allclose(measured.shares(Plan.parse(plan)), expected_shares(measured, plan))


@pytest.mark.parametrize("first", ["16", "96:bits", "64:bits", "64:int8"])
def test_the_ranks_of_a_first_stage_tell_the_overlap_of_every_number_kept(measured, first):
    ranks = measured.ranks(Plan.parse(first), 100)
    for keep in (5, 10, 50, 100):
        shares = measured.shares_within(ranks, keep)
        np.testing.assert_allclose(shares, measured.shares(Plan.parse(f"{first}:{keep},96")))


def test_the_ranks_of_a_second_stage_tell_the_overlap_of_every_number_kept(measured):
    ranks = measured.ranks(Plan.parse("64:bits:60,96:int8"), 60)
    for keep in (5, 20, 59):
        np.testing.assert_allclose(
            measured.shares_within(ranks, keep), measured.shares(Plan.parse(f"64:bits:60,96:int8:{keep},96"))
        )


def test_the_exact_plan_finds_everything_in_order(measured):
    ranks = measured.ranks(Plan.parse("96"), K)
    assert (ranks == np.arange(K)).all()


def test_true_rows_that_are_not_there_are_no_misses(tmp_path):
    rows = np.random.default_rng(0).standard_normal((4, FULL)).astype(np.float32)
    with index_of(rows, tmp_path) as few:
        measured = MeasuredPlans(few, sample_queries(few, 4), K)
        measured.answer(SILENT)
        assert (measured.truth == -1).sum() == 4 * 2
        ranks = measured.ranks(Plan.parse("96"), K)
        assert (ranks == NEVER).sum() == 4 * 2
        assert (measured.shares(Plan.parse("96")) == 1).all()


def test_a_part_is_some_of_the_queries(measured):
    shares, part = measured.shares(Plan.parse("16")), measured.part(slice(20, 50))
    np.testing.assert_array_equal(part.shares(Plan.parse("16")), shares[20:50])
    first = measured.part(slice(20)).ranks(Plan.parse("16"), K)
    np.testing.assert_array_equal(measured.shares_within(first, K), shares[:20])
    assert len(measured.part(slice(0, 10**6))) == len(measured)


def test_a_first_stage_is_given_up_once_it_cannot_be_the_choice(measured):
    search = PlanSearch(measured, 0.99, len(measured), 0.01)
    assert search._try_first(Stage(16), math.inf) == math.inf
    assert search.overlap == {search.exact: 1.0, Plan.parse("16:175,96"): pytest.approx(0.6, abs=0.3)}
    assert search._try_first(Stage(96, precision="int8"), 0.0) == math.inf  # all others are faster
    assert search.reaching == []


def test_queries_are_split_by_the_seed_and_none_is_in_both():
    vectors = np.arange(10, dtype=np.float32)[:, None]
    queries = Queries(vectors, "own rows", np.arange(10), 3)
    first, second = split(queries, 4, 3)
    assert len(first.vectors) == 4
    assert sorted([*first.own_rows, *second.own_rows]) == list(range(10))
    np.testing.assert_array_equal(split(queries, 4, 3)[0].own_rows, first.own_rows)
    assert split(queries, 4, 4)[0].own_rows.tolist() != first.own_rows.tolist()
    assert split(Queries(vectors, "a file"), 5, 0)[1].own_rows is None


def test_plans_take_turns_and_each_is_timed_alike_often(measured):
    plans = [Plan.parse("16"), Plan.parse("96")]
    spent, engine = measured.time(plans, 4, 60)
    assert [len(spent[plan]) for plan in plans] == [8, 8]
    assert all(ms > 0 for each in spent.values() for ms in each)
    assert engine in ("numpy", "numba")
    assert len(measured.time(plans, 1000, 0.0)[0][plans[0]]) == 6
