"""The paired test: two models, the same items, right or wrong. Exact, and of pure numbers."""

from __future__ import annotations

from math import comb


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided exact p of the paired test: were the items on which the two differ a fair coin?"""
    return min(1.0, 2 * tail(min(wins, losses), wins + losses))


def tail(k: int, n: int) -> float:
    """P(X <= k) of X ~ Binomial(n, 1/2), exactly."""
    return sum(comb(n, i) for i in range(k + 1)) / 2**n
