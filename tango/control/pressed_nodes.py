"""Nodes that are short of something for LC, so that no more BE is sent there until it is over.

What an agent can do on its node is to hold back the BE that is there; more of it would be held back too, and wait there instead of running
elsewhere. Thresholds are the agents' own, and differ by direction, so that a node whose pressure is about one of them does not open and
close with each report.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tango.domain.identity import NodeKey
from tango.domain.snapshot import FleetSnapshot
from tango.settings import NodeAgentSettings

NAMED = 3
"""Nodes that a remark names; the others are counted."""


@dataclass(slots=True)
class PressedNodes:
    """Of one process that places. One that begins knows none and finds those above the upper thresholds with its first snapshot."""

    settings: NodeAgentSettings
    _pressed: dict[NodeKey, str] = field(default_factory=dict)
    """Each with the reason."""

    def follow(self, snapshot: FleetSnapshot) -> NDArray[np.bool_]:
        """(n,) whether each node is pressed now. A node of which nothing is told any more is not."""
        was = np.array([key in self._pressed for key in snapshot.node_keys], np.bool_) if self._pressed else None
        found = np.zeros(len(snapshot.nodes), np.bool_)
        why: dict[NodeKey, list[str]] = {}
        s = self.settings
        for column, words, low, high in (
            (snapshot.lc_cpu_pressure, "LC lacks CPU", s.cpu_pressure_low, s.cpu_pressure_high),
            (snapshot.memory_pressure, "memory is short", s.memory_pressure_low, s.memory_pressure_high),
        ):
            if column is None:
                continue
            over = column > high if was is None else column > np.where(was, low, high)
            for n in np.flatnonzero(over).tolist():
                why.setdefault(snapshot.node_key(n), []).append(f"{words} {column[n]:.0%}")
            found |= over
        self._pressed = {key: ", ".join(reasons) for key, reasons in why.items()}
        return found

    @property
    def remark(self) -> str:
        """Which nodes get no BE and why, for the record of a decision; empty: none."""
        if not self._pressed:
            return ""
        named = [f"{key} ({reason})" for key, reason in list(self._pressed.items())[:NAMED]]
        more = len(self._pressed) - len(named)
        return "no BE to " + ", ".join(named) + (f" and {more} more" if more else "")
