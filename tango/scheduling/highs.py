"""HiGHS, the solver of linear and integer programmes, as Tango calls it: for the bound, and for the placement that is a reference.

Imported where something is to be solved alone: no process that schedules needs it.
"""

from __future__ import annotations

import highspy


class Solver(highspy.Highs):  # type: ignore[misc]
    """HiGHS without callbacks: enabling them writes its banner to standard output, where a command's JSON goes."""

    def enableCallbacks(self) -> None:  # noqa: N802
        """Leave callbacks off."""
