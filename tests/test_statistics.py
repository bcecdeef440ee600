import numpy as np
import pytest

from resizable_search.statistics import lower_bound, paired_intervals, upper_bound

RNG_SEED = 7


def bernoulli(rng, m):
    """Hardly ever a miss, but then of everything: what a normal approximation takes for certainty."""
    return (rng.random(m) < 0.99).astype(float), 0.99


def tenths(rng, m):
    return rng.binomial(10, 0.97, m) / 10, 0.97


def correlated(rng, m):
    """The ten judgements of a query go together: one query in ten loses half of them or more."""
    hard = rng.random(m) < 0.1
    return np.where(hard, rng.binomial(10, 0.3, m), 10) / 10, 0.9 + 0.1 * 0.3


def middling(rng, m):
    return rng.beta(2, 3, m), 0.4


@pytest.mark.parametrize("draw", [bernoulli, tenths, correlated, middling], ids=lambda draw: draw.__name__)
@pytest.mark.parametrize("m", [30, 400])
def test_the_bounds_miss_the_mean_no_more_often_than_they_say(draw, m):
    rng = np.random.default_rng(RNG_SEED)
    tail, rounds = 0.05, 150
    above = below = 0
    for _ in range(rounds):
        shares, mean = draw(rng, m)
        above += lower_bound(shares, tail) > mean
        below += upper_bound(shares, tail) < mean
    assert above <= tail * rounds
    assert below <= tail * rounds


def test_sampling_a_finite_index_without_repetition_keeps_the_promise():
    rng = np.random.default_rng(RNG_SEED)
    population = (rng.random(300) < 0.9).astype(float)
    missed = sum(
        lower_bound(rng.choice(population, 100, replace=False), 0.05) > population.mean() for _ in range(150)
    )
    assert missed <= 0.05 * 150


@pytest.mark.parametrize("m", [1, 10, 500, 5000])
def test_perfect_answers_are_no_certainty(m):
    """Of m queries without a miss, Clopper and Pearson's bound is tail ** (1 / m): ours is near and below."""
    bound = lower_bound(np.ones(m), 0.025)
    exact = 0.025 ** (1 / m)
    assert bound < exact
    assert bound > 1 - 1.3 * (1 - exact)
    assert upper_bound(np.ones(m), 0.025) == 1.0


def test_the_bounds_enclose_the_mean_of_the_sample_and_narrow():
    shares = np.random.default_rng(0).binomial(10, 0.98, 4000) / 10
    widths = []
    for m in (50, 400, 4000):
        low, high = lower_bound(shares[:m], 0.025), upper_bound(shares[:m], 0.025)
        assert low <= shares[:m].mean() <= high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.01


def test_a_smaller_tail_is_a_lower_bound():
    shares = np.array([1.0] * 90 + [0.5] * 10)
    assert lower_bound(shares, 0.001) < lower_bound(shares, 0.025) < lower_bound(shares, 0.2)


def test_a_bound_is_foretold_for_another_number_of_shares():
    shares = np.array([1.0] * 9 + [0.8])
    assert lower_bound(shares, 0.025, 1000) == pytest.approx(lower_bound(np.tile(shares, 100), 0.025))


@pytest.mark.parametrize("shares", [[], [0.0], [0.0] * 40])
def test_nothing_found_is_bounded_by_nothing(shares):
    assert lower_bound(np.array(shares), 0.025) == 0.0


def test_paired_intervals_hold_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(RNG_SEED)
    held = 0
    for _ in range(20):
        differences = rng.choice([-0.5, 0.0, 0.2], (60, 10), p=[0.2, 0.5, 0.3])
        low, high = paired_intervals(differences, resamples=500).T
        held += int(((low <= -0.04) & (high >= -0.04)).sum())
    assert 180 <= held <= 198  # of 200, 190 on average


def test_paired_intervals_are_those_of_the_seed_and_columns_are_drawn_together():
    differences = np.random.default_rng(1).standard_normal((50, 2))
    differences[:, 1] = 2 * differences[:, 0]
    intervals = paired_intervals(differences, 3)
    assert intervals.tolist() == paired_intervals(differences, 3).tolist()
    assert intervals.tolist() != paired_intervals(differences, 4).tolist()
    np.testing.assert_allclose(intervals[1], 2 * intervals[0])
    assert paired_intervals(np.full((5, 1), 0.25)).tolist() == [[0.25, 0.25]]
