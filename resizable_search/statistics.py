"""Bounds for the mean of shares from 0 to 1, one a query, that hold for any distribution and any number.

A normal approximation has no width where every query has the share 1, and counting the hits of all queries
takes correlated judgements for independent ones.
"""

import numpy as np
from numpy.typing import NDArray

_BETS = np.array([0.1, 0.2, 0.4, 0.7, 0.9, 0.99])
_WEIGHTS = np.array([0.1, 0.1, 0.1, 0.1, 0.2, 0.4])
_STEPS = 40

_DRAWN_AT_ONCE = 4_000_000
RESAMPLES = 5_000  # of `paired_intervals`: its ends move by some hundredths of its width


def lower_bound(shares: NDArray[np.float64], tail: float, count: int | None = None) -> float:
    """A lower bound of the mean of the distribution that these shares (m,), from 0 to 1, were drawn from.

    It is above that mean with probability at most `tail`, also for shares drawn without repetition from
    finitely many. `count` predicts the bound for so many.

    By betting (I. Waudby-Smith and A. Ramdas, Estimating means of bounded random variables by betting,
    JRSS B 86, 2024): a stake of the part c of the capital on each share x against a mean of mu multiplies
    it by 1 - c + c x / mu, which is 1 on average if mu is the mean. The capital, averaged over several
    fixed c, reaches 1 / tail with probability at most tail (Markov), and falls as mu grows: the bound is
    the mu at which it is 1 / tail. Without repetition the factors are negatively associated, so their
    product is no larger on average (K. Joag-Dev and F. Proschan, Annals of Statistics 11, 1983).
    """
    values, each = np.unique(np.asarray(shares, np.float64), return_counts=True)
    if not len(values) or values[-1] <= 0.0:
        return 0.0
    times = each * ((count or len(shares)) / len(shares))
    low, high = 0.0, float(values @ each) / len(shares)
    for _ in range(_STEPS):
        mean = (low + high) / 2
        growth = np.log1p(_BETS[:, None] * (values / mean - 1.0)) @ times
        if np.logaddexp.reduce(growth + np.log(_WEIGHTS)) >= -np.log(tail):
            low = mean
        else:
            high = mean
    return low


def upper_bound(shares: NDArray[np.float64], tail: float) -> float:
    """An upper bound of that mean: below it with probability at most `tail`."""
    return 1.0 - lower_bound(1.0 - np.asarray(shares, np.float64), tail)


def paired_intervals(
    differences: NDArray[np.float64], seed: int = 0, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """95 % intervals (c, 2) of the means of c columns of differences (m, c), a row a query.

    The percentile bootstrap: the queries are drawn again with repetition, the same for every column, and
    the middle 95 % of the means taken. It assumes no distribution, and agrees with Fisher's randomisation
    and the t-test on such data (M. D. Smucker, J. Allan and B. Carterette, A comparison of statistical
    significance tests for information retrieval evaluation, CIKM 2007). Each interval holds by itself.
    """
    count = len(differences)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, differences.shape[1]))
    step = max(1, _DRAWN_AT_ONCE // max(1, count))
    for start in range(0, resamples, step):
        some = min(step, resamples - start)
        drawn = rng.integers(count, size=(some, count)) + np.arange(some)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=some * count).reshape(some, count)
        means[start : start + some] = times @ differences / count
    low, high = np.percentile(means, (2.5, 97.5), axis=0)
    return np.stack([low, high], axis=1)
