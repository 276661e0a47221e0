"""Packing linear programmes solved by HiGHS, with a value that is an upper bound whatever the solver's tolerances are."""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np
from numpy.typing import NDArray

from tango.scheduling.highs import Solver

TIME_LIMIT_S = 15.0
"""Seconds after which HiGHS stops. The value is then still a bound, only a looser one, since `Packing.at_prices` accepts any prices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """The linear programme: maximise `gain` · x subject to 0 <= x <= `upper` and A x <= `capacity`; A is given as (row, column, value)."""

    gain: NDArray[np.float64]
    upper: NDArray[np.float64]
    capacity: NDArray[np.float64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    value: NDArray[np.float64]
    solver: str = "simplex"
    """HiGHS' method, `simplex` or `ipm` (interior point); which is faster depends on the programme."""

    def most(self) -> float:
        """An upper bound on the optimum, equal to it up to rounding."""
        idle = np.zeros(len(self.capacity))
        if not len(self.capacity) or not len(self.gain):
            return self.at_prices(idle)
        return min(self.at_prices(idle), self.at_prices(self._prices()))

    def at_prices(self, price: NDArray[np.float64]) -> float:
        """An upper bound on the optimum from any row prices, shape (rows,), those below 0 taken as 0.

        Weak duality: gain · x <= price · capacity + upper · max(0, gain - price A), with equality at the dual's optimum. So the prices that
        HiGHS returns need not be exact (`docs/bound.md`, "Certified value").
        """
        price = price.clip(0.0)
        charged = np.bincount(self.column, weights=self.value * price[self.row], minlength=len(self.gain))
        return float(price @ self.capacity + (self.gain - charged).clip(0.0) @ self.upper)

    def _prices(self) -> NDArray[np.float64]:
        """The dual values that HiGHS found, shape (rows,); zeros if it has none."""
        columns, rows = len(self.gain), len(self.capacity)
        order = np.argsort(self.column, kind="stable")
        starts = np.searchsorted(self.column[order], np.arange(columns + 1))
        solver = Solver()
        solver.silent()
        solver.setOptionValue("solver", self.solver)
        solver.setOptionValue("threads", 1)
        solver.setOptionValue("time_limit", TIME_LIMIT_S)
        solver.passModel(
            columns,
            rows,
            len(order),
            int(highspy.MatrixFormat.kColwise),
            int(highspy.ObjSense.kMaximize),
            0.0,
            self.gain,
            np.zeros(columns),
            self.upper,
            np.full(rows, -highspy.kHighsInf),
            self.capacity,
            starts.astype(np.int32),
            self.row[order].astype(np.int32),
            self.value[order],
            np.zeros(columns, np.int32),
        )
        solver.run()
        price = np.asarray(solver.getSolution().row_dual, np.float64)
        return price if len(price) == rows and bool(np.isfinite(price).all()) else np.zeros(rows)
