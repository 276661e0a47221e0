"""Paired differences and their intervals: Student's t over seeds, without a statistics library."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

CONFIDENCE = 0.95


def finite(value: object) -> float | None:
    """The value as a float; None where it is none, or not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


class Paired(NamedTuple):
    """The mean difference over pairs of seeds, and its 95 % interval: None for one pair, and everything None for none."""

    mean: float | None
    low: float | None
    high: float | None
    pairs: int
    relative: float | None
    """Mean difference over the size of the baseline's mean in the same pairs; None where that is 0."""


@cache
def t_quantile(degrees: int, share: float = 0.5 + CONFIDENCE / 2) -> float:
    """The quantile of Student's t for whole degrees of freedom, share in [0.5, 1).

    For whole degrees the distribution function is a finite sum; the quantile is found by halving the angle atan(t / sqrt(degrees)).
    Source: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4.
    Raises: ValueError for degrees below 1 or a share outside.
    """
    if degrees < 1 or not 0.5 <= share < 1.0:
        raise ValueError(f"degrees {degrees} and share {share:g}, expected 1 or more and 0.5 to 1")
    wanted, low, high = 2.0 * share - 1.0, 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if _t_mass(degrees, middle) < wanted:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _t_mass(degrees: int, angle: float) -> float:
    """P(|T| <= sqrt(degrees) tan(angle)), A(t|v) in the source."""
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


def paired_difference(values: Mapping[int, float | None], baseline: Mapping[int, float | None]) -> Paired:
    """System minus baseline, by seed; seeds that lack a finite number on either side are left out."""
    ours, theirs = ({seed: finite(value) for seed, value in side.items()} for side in (values, baseline))
    pairs = [(ours[s], theirs[s]) for s in sorted(ours) if ours[s] is not None and theirs.get(s) is not None]
    known = [(float(a), float(b)) for a, b in pairs if a is not None and b is not None]
    n = len(known)
    if not n:
        return Paired(None, None, None, 0, None)
    differences = [a - b for a, b in known]
    mean = math.fsum(differences) / n
    base = math.fsum(b for _, b in known) / n
    relative = mean / abs(base) if base else None
    if n == 1:
        return Paired(mean, None, None, 1, relative)
    deviation = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1))
    half = t_quantile(n - 1) * deviation / math.sqrt(n)
    return Paired(mean, mean - half, mean + half, n, relative)
