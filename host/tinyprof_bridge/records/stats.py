"""Statistics that assume no distribution, those that benchstat uses (golang.org/x/perf/benchmath)."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

ALPHA = 0.05  # significance level; intervals have a confidence of 1 - ALPHA
_EXACT_INTERVAL = 1000  # up to this many values, the binomial distribution is summed exactly
_EXACT = 40  # up to this many values in both samples, the p-value counts all possible orders


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Returns (median, low, high); low to high is a 95 % confidence interval of the median, by order statistics.

    Fewer than six values have no such interval; low and high are NaN then."""
    ordered = sorted(values)
    n = len(ordered)
    k = _left_out(n)
    low, high = (ordered[k - 1], ordered[n - k]) if k else (math.nan, math.nan)
    return float(np.median(ordered)), low, high


def _left_out(n: int) -> int:
    """Returns the greatest k for which the k-th lowest to the k-th highest of n values is a 1 - ALPHA interval."""
    if n > _EXACT_INTERVAL:  # by the normal approximation, because 2^-n would become 0
        return math.floor((n - NormalDist().inv_cdf(1 - ALPHA / 2) * math.sqrt(n)) / 2)
    k, outside = 0, 2.0**-n
    tail = outside
    while 2 * tail <= ALPHA:
        k += 1
        outside *= (n - k + 1) / k
        tail += outside
    return k


def least_p(n: int, m: int) -> float:
    """Returns the lowest p-value that mann_whitney can give for samples of n and m different values."""
    return 2 / math.comb(n + m, n)


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """Returns the two-sided p-value of the Mann-Whitney U test.

    Exact for up to 40 values in all, with ties too; above that the normal approximation with corrections for ties and
    continuity."""
    ranks = _doubled_ranks([*a, *b])
    n, m = len(a), len(b)
    # Twice a rank is a whole number even where values are equal.
    mean = n * (n + m + 1)
    off = abs(sum(ranks[:n]) - mean)
    if n + m <= _EXACT:
        ways = np.zeros((n + 1, sum(ranks) + 1))  # ways[k][s]: choices of k ranks with sum s
        ways[0, 0] = 1
        for rank in ranks:
            ways[1:, rank:] = ways[1:, rank:] + ways[:-1, :-rank]
        sums = np.arange(ways.shape[1])
        return float(ways[n][abs(sums - mean) >= off].sum() / ways[n].sum())
    _, ties = np.unique(ranks, return_counts=True)
    together = n + m
    tied = float((ties**3.0 - ties).sum()) / (together * (together - 1))
    deviation = math.sqrt(n * m / 12 * (together + 1 - tied))
    return 1.0 if deviation == 0 else math.erfc(max(off / 2 - 0.5, 0) / deviation / math.sqrt(2))


def _doubled_ranks(values: list[float]) -> list[int]:
    """Returns twice the rank of each value, counted from 1; equal values share the mean of their ranks."""
    ordered = np.sort(values)
    first = np.searchsorted(ordered, values, "left")
    end = np.searchsorted(ordered, values, "right")
    return [int(rank) for rank in first + end + 1]


def geomean(ratios: Sequence[float]) -> float:
    """Returns the geometric mean of positive numbers; NaN for none."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan
