"""Packing programmes for HiGHS, with a value that is an upper bound whatever the solver's tolerances were."""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np
from numpy.typing import NDArray

TIME_LIMIT_S = 25.0
"""HiGHS stops then. What it gives is still a bound, since `Packing.most` takes any prices; only a looser one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Maximise `gain` · x over 0 <= x <= `upper` and A x <= `room`; A as (row, column, value) triples."""

    gain: NDArray[np.float64]
    upper: NDArray[np.float64]
    room: NDArray[np.float64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    value: NDArray[np.float64]

    def most(self) -> float:
        """An upper bound on the optimum, equal to it up to rounding.

        By weak duality every vector of row prices p >= 0 gives one: p · room + sum of upper x max(0, gain - p A). So the prices
        that HiGHS returns need not be exact, and those of zero stand by.
        """
        without_rows = float(self.gain.clip(0.0) @ self.upper)
        if not len(self.room) or not len(self.gain):
            return without_rows
        price = self._prices().clip(0.0)
        charged = np.bincount(self.column, weights=self.value * price[self.row], minlength=len(self.gain))
        return min(without_rows, float(price @ self.room + (self.gain - charged).clip(0.0) @ self.upper))

    def _prices(self) -> NDArray[np.float64]:
        """(rows,) duals as HiGHS leaves them, zeros if it has none."""
        columns, rows = len(self.gain), len(self.room)
        order = np.argsort(self.column, kind="stable")
        starts = np.searchsorted(self.column[order], np.arange(columns + 1))
        solver = highspy.Highs()
        solver.setOptionValue("output_flag", False)
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
            self.room,
            starts.astype(np.int32),
            self.row[order].astype(np.int32),
            self.value[order],
            np.zeros(columns, np.int32),
        )
        solver.run()
        price = np.asarray(solver.getSolution().row_dual, np.float64)
        return price if len(price) == rows and bool(np.isfinite(price).all()) else np.zeros(rows)
