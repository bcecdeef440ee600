"""How sure a mean is: bounds for the mean of shares that hold for any distribution and any number of them.

A normal approximation has no width where every query of a sample is answered in full, and counting
the hits of all queries as if each had been drawn by itself takes correlated judgements for
independent ones. These bounds do neither: the unit is the query, its share a number from 0 to 1.
"""

import numpy as np
from numpy.typing import NDArray

_BETS = np.array([0.1, 0.2, 0.4, 0.7, 0.9, 0.99])
_WEIGHTS = np.array([0.1, 0.1, 0.1, 0.1, 0.2, 0.4])
_STEPS = 40


def lower_bound(shares: NDArray[np.float64], tail: float, count: int | None = None) -> float:
    """What the mean that these shares (m,), each within 0 to 1, were drawn from is not below.

    It is above that mean with probability at most `tail`, whatever their distribution and however few
    they are; shares drawn without repetition from finitely many may be bounded by it too. `count`
    foretells the bound that so many shares of this kind would have.

    By betting (I. Waudby-Smith and A. Ramdas, Estimating means of bounded random variables by betting,
    JRSS B 86, 2024): whoever stakes the part c of his capital on each share x against a mean of mu
    multiplies it by 1 - c + c x / mu, which is 1 on average if mu is the mean and less if mu is above
    it. The capital, averaged over several fixed c, reaches 1 / tail with probability at most tail
    (Markov), and falls as mu grows: the bound is the mu at which it is 1 / tail. The largest c lets one
    share of 0 cost 99 % of the stake; small c serve means far below 1. Without repetition the factors
    are negatively associated, so that their product is no larger on average (K. Joag-Dev and F.
    Proschan, Annals of Statistics 11, 1983).
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
    """What the mean of such shares (m,) is not above: below it with probability at most `tail`."""
    return 1.0 - lower_bound(1.0 - np.asarray(shares, np.float64), tail)
