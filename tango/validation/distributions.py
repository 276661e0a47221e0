"""How much work requests bring: distributions with a mean of 1, so that loads and formulas need no unit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkLaw:
    """One distribution; its names are those of `DRAWN`."""

    name: str
    shape: float = 0.0
    """Lognormal: the coefficient of variation. Pareto: the exponent of the tail, above 1."""

    @property
    def text(self) -> str:
        """As tables have it."""
        return {"lognormal": f"lognormal, cv {self.shape:g}", "pareto": f"Pareto, tail {self.shape:g}"}.get(self.name, self.name)

    @property
    def cv(self) -> float:
        """Standard deviation over mean; infinity where the tail has no variance."""
        if self.name == "pareto":
            return 1.0 / math.sqrt(self.shape * (self.shape - 2.0)) if self.shape > 2.0 else math.inf
        return {"exponential": 1.0, "deterministic": 0.0, "lognormal": self.shape}[self.name]

    def drawn(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """(count,) works."""
        if self.name == "exponential":
            return rng.exponential(1.0, count)
        if self.name == "lognormal":
            variance = math.log1p(self.shape * self.shape)
            return rng.lognormal(-0.5 * variance, math.sqrt(variance), count)
        if self.name == "pareto":
            return (self.shape - 1.0) / self.shape * (1.0 + rng.pareto(self.shape, count))
        return np.ones(count)

    def quantile(self, share: float) -> float:
        """The work that this share of the requests stays below; `share` is in (0, 1)."""
        if self.name == "exponential":
            return -math.log1p(-share)
        if self.name == "lognormal":
            variance = math.log1p(self.shape * self.shape)
            return math.exp(-0.5 * variance + math.sqrt(variance) * NormalDist().inv_cdf(share))
        if self.name == "pareto":
            return float((self.shape - 1.0) / self.shape * (1.0 - share) ** (-1.0 / self.shape))
        return 1.0


EXPONENTIAL = WorkLaw(name="exponential")
DETERMINISTIC = WorkLaw(name="deterministic")
LOGNORMAL = WorkLaw(name="lognormal", shape=3.0)
"""A few requests bring most of the work, as in traces of services."""
PARETO = WorkLaw(name="pareto", shape=2.5)
"""The variance is finite, the third moment is not."""
DRAWN = (EXPONENTIAL, DETERMINISTIC, LOGNORMAL, PARETO)
