"""Statistics that assume nothing of how figures are distributed, as in benchstat."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

ALPHA = 0.05
_EXACT_INTERVAL = 1000  # values up to which the binomial distribution is summed
_EXACT = 40  # values in both samples together up to which all orders are counted


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(median, low, high): low to high holds the true median with 95 % confidence, by order
    statistics. Fewer than six values cannot say that: low and high are nan then."""
    ordered = sorted(values)
    n = len(ordered)
    k = _left_out(n)
    low, high = (ordered[k - 1], ordered[n - k]) if k else (math.nan, math.nan)
    return float(np.median(ordered)), low, high


def _left_out(n: int) -> int:
    """The greatest k for which the k-th of n values from either end leaves out no more than ALPHA."""
    if n > _EXACT_INTERVAL:  # 2^-n would be 0
        return math.floor((n - NormalDist().inv_cdf(1 - ALPHA / 2) * math.sqrt(n)) / 2)
    k, outside = 0, 2.0**-n
    tail = outside
    while 2 * tail <= ALPHA:
        k += 1
        outside *= (n - k + 1) / k
        tail += outside
    return k


def least_p(n: int, m: int) -> float:
    """The least p-value that samples of n and m values can have."""
    return 2 / math.comb(n + m, n)


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """The two-sided p-value of the Mann-Whitney U test, exact for small samples, ties or not."""
    ranks = _doubled_ranks([*a, *b])
    n, m = len(a), len(b)
    # doubled rank sums are whole numbers, with ties as well
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
    """Twice the rank of each value, counted from 1; equal values share the mean of theirs."""
    ordered = np.sort(values)
    first = np.searchsorted(ordered, values, "left")
    behind = np.searchsorted(ordered, values, "right")
    return [int(rank) for rank in first + behind + 1]


def geomean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan
