"""What replications say of a mean, and whether that agrees with a formula."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from tango.analysis.intervals import t_quantile

CONFIDENCE = 0.99
"""Coverage of every interval. One in a hundred misses by chance; `Agreement.CLOSE` is for those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean with its 99 % interval."""

    mean: float
    half_width: float

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half_width


def estimate(values: NDArray[np.float64], controls: NDArray[np.float64]) -> Estimate:
    """The mean of independent replications, (r,) values, with an interval by Student's t.

    `controls` (r, q) are figures of the same replications whose mean is known to be 0, such as how much more work came than was expected:
    what they explain of the values by linear regression is taken off, which halves the variance or better, at the cost of q degrees of
    freedom. Controls that are the same in all replications explain nothing and are left out.
    Raises: ValueError for too few replications.
    Source: Lavenberg and Welch, "A perspective on the use of control variables to increase the efficiency of Monte Carlo simulations",
    Management Science 27 (1981), section 3; Law, Simulation Modeling and Analysis, section 11.4.
    """
    used = controls[:, np.ptp(controls, axis=0) > 0.0] if controls.size else np.zeros((len(values), 0))
    free = len(values) - 1 - used.shape[1]
    if free < 1:
        raise ValueError(
            f"{len(values)} replications and {used.shape[1]} controls, expected at least {used.shape[1] + 2} replications"
        )
    terms = np.column_stack((np.ones(len(values)), used))
    inverse = np.linalg.pinv(terms.T @ terms)
    fitted = inverse @ terms.T @ values
    left = values - terms @ fitted
    error = math.sqrt(max(0.0, float(left @ left) / free * float(inverse[0, 0])))
    return Estimate(mean=float(fitted[0]), half_width=t_quantile(free, 0.5 + CONFIDENCE / 2) * error)


class Agreement(StrEnum):
    """Whether the simulated world agrees with a formula."""

    HOLDS = "holds"
    """The interval holds the formula's value and is no wider than was asked for."""
    CLOSE = "close"
    """The interval does not hold it, or is wider, but lies wholly within the tolerance of it."""
    UNPROVEN = "unproven"
    """The interval holds it, and more than is tolerated besides: too few replications."""
    FAILS = "fails"
    """The interval does not hold it and reaches beyond the tolerance; or work was lost or invented."""


AGREE = (Agreement.HOLDS, Agreement.CLOSE)


def verdict(found: Estimate, expected: float, tolerance: float) -> Agreement:
    """What an estimate says of a formula's value; `tolerance` is relative to that."""
    allowed = tolerance * abs(expected)
    holds = found.low <= expected <= found.high
    if holds and found.half_width <= allowed:
        return Agreement.HOLDS
    if expected - allowed <= found.low and found.high <= expected + allowed:
        return Agreement.CLOSE
    return Agreement.UNPROVEN if holds else Agreement.FAILS


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedFigure:
    """One cell of the table of `tango validate`: a figure of a model, simulated or live, beside its formula."""

    group: str
    model: str
    figure: str
    source: str
    """Whose formula it is."""
    expected: float
    """By the formula."""
    measured: float
    low: float
    high: float
    """Ends of the 99 % interval."""
    error: float
    """(measured - expected) / expected."""
    half_width: float
    """Of the interval, over expected."""
    tolerance: float
    verdict: Agreement
    replications: int
    requests: int
    """Of all replications together."""
