"""Paired differences with their confidence intervals and tests: Student's t over seeds.

Written out here, since SciPy would be a dependency for two functions only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

CONFIDENCE = 0.95
"""Coverage of every interval."""


def finite(value: object) -> float | None:
    """The value as a float; None if it is not a number, or not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


class Mean(NamedTuple):
    """A mean over seeds with its 95 % interval; with one seed there is none."""

    mean: float
    low: float | None
    high: float | None


def mean_interval(values: Sequence[float]) -> Mean:
    """The mean of independent values, with its interval by Student's t. Raises: ValueError for none."""
    n = len(values)
    if not n:
        raise ValueError("no values, expected one at least")
    mean = math.fsum(values) / n
    if n == 1:
        return Mean(mean, None, None)
    half = t_quantile(n - 1) * math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)
    return Mean(mean, mean - half, mean + half)


class Paired(NamedTuple):
    """The mean difference over pairs of seeds, with its 95 % interval. With one pair there is no interval, without pairs no mean."""

    mean: float | None
    low: float | None
    high: float | None
    pairs: int
    relative: float | None
    """Mean difference divided by the absolute mean of the baseline over the same pairs; None if that is 0."""
    p: float | None = None
    """p value of the two-sided paired t test of no difference; None for fewer than two pairs, 1 if no pair differs."""


@cache
def t_quantile(degrees: int, share: float = 0.5 + CONFIDENCE / 2) -> float:
    """The quantile of Student's t distribution for a whole number of degrees of freedom; `share` is in [0.5, 1).

    The distribution function is then a finite sum; its inverse is found by bisection over the angle atan(t / sqrt(degrees)).
    Source: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4.
    Raises: ValueError for fewer than one degree or a share outside.
    """
    if degrees < 1 or not 0.5 <= share < 1.0:
        raise ValueError(f"degrees {degrees} and share {share:g}, expected 1 or more and 0.5 to 1")
    wanted, low, high = 2.0 * share - 1.0, 0.0, math.pi / 2
    for _ in range(60):  # halves pi/2 to below a double's precision
        middle = (low + high) / 2
        if _t_mass(degrees, middle) < wanted:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _t_mass(degrees: int, angle: float) -> float:
    """P(|T| <= sqrt(degrees) tan(angle)). Source: A(t|v) of Abramowitz and Stegun (1964), 26.7.3 for odd degrees, 26.7.4 for even."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2 == 1
    if degrees == 1:
        return 2.0 * angle / math.pi
    term = cosine if odd else 1.0
    total = term
    for k in range(3 if odd else 2, degrees - 1, 2):
        term *= (k - 1) / k * cosine * cosine
        total += term
    return 2.0 / math.pi * (angle + sine * total) if odd else sine * total


def t_test_p(degrees: int, t: float) -> float:
    """P(|T| >= |t|) of Student's t distribution for a whole number of degrees of freedom, to about twelve digits even if tiny.

    In the tail it is the incomplete beta function I_x(degrees / 2, 1/2) with x = degrees / (degrees + t^2), summed as a series of positive
    terms; 1 - A(t) would lose all digits below 1e-16. Source: Abramowitz and Stegun (1964), 26.5.4 and 26.7.1.
    Raises: ValueError for fewer than one degree.
    """
    if degrees < 1:
        raise ValueError(f"degrees {degrees}, expected 1 or more")
    if math.isinf(t):
        return 0.0
    x = degrees / (degrees + t * t)
    if x > 0.8:
        return max(0.0, 1.0 - _t_mass(degrees, math.atan2(abs(t), math.sqrt(degrees))))
    a = degrees / 2
    term = total = 1.0
    for k in range(2000):
        term *= (a + 0.5 + k) / (a + 1.0 + k) * x
        total += term
        if term < 1e-16 * total:
            break
    log_beta = math.lgamma(a) + math.lgamma(0.5) - math.lgamma(a + 0.5)
    return min(1.0, total * math.exp(a * math.log(x) + 0.5 * math.log1p(-x) - log_beta) / a)


def holm(ps: Sequence[float]) -> list[float]:
    """p values adjusted for multiple testing, in the order given: rejecting those of at most alpha keeps the family-wise error at alpha.

    The k-th smallest of m is multiplied by m - k + 1 and is at least as large as the one before. The tests may depend on each other.
    Source: Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979), 65-70.
    """
    adjusted, highest = [0.0] * len(ps), 0.0
    for k, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - k) * ps[place]))
        adjusted[place] = highest
    return adjusted


def paired_difference(values: Mapping[int, float | None], baseline: Mapping[int, float | None]) -> Paired:
    """The mean of system minus baseline over the seeds that have a finite value on both sides, with its interval and p value."""
    ours, theirs = ({seed: finite(value) for seed, value in side.items()} for side in (values, baseline))
    pairs = [(ours[s], theirs[s]) for s in sorted(ours) if ours[s] is not None and theirs.get(s) is not None]
    known = [(float(a), float(b)) for a, b in pairs if a is not None and b is not None]
    n = len(known)
    if not n:
        return Paired(mean=None, low=None, high=None, pairs=0, relative=None)
    differences = [a - b for a, b in known]
    mean = math.fsum(differences) / n
    base = math.fsum(b for _, b in known) / n
    relative = mean / abs(base) if base else None
    if n == 1:
        return Paired(mean=mean, low=None, high=None, pairs=1, relative=relative)
    deviation = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1))
    error = deviation / math.sqrt(n)
    half = t_quantile(n - 1) * error
    p = t_test_p(n - 1, mean / error) if error > 0.0 else float(mean == 0.0)
    return Paired(mean=mean, low=mean - half, high=mean + half, pairs=n, relative=relative, p=p)
