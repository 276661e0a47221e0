"""What the agent of a node tells of it, apart from other observations: an agent itself does without what those are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAgentReport:
    """What the agent of a node has told of it: pressure, throttling, real use, what does not hold (docs/operations/node-agent.md)."""

    node: str
    at: str
    """When, as Kubernetes writes times, by the node's clock."""
    report: Mapping[str, Any]
    """Plain JSON."""
    valid_s: float = 40.0
    """Seconds after which it says nothing any more: four of those that agents report at."""

    @property
    def lc_cpu_pressure(self) -> float | None:
        """As `NodeState` has it."""
        return _share(self.report.get("lc"), "cpu_pressure")

    @property
    def lc_throttled(self) -> float | None:
        """As `NodeState` has it."""
        return _share(self.report.get("lc"), "throttled")

    @property
    def memory_pressure(self) -> float | None:
        """As `NodeState` has it."""
        known = [_share(self.report, "node_memory_pressure"), _share(self.report.get("lc"), "memory_pressure")]
        return max((value for value in known if value is not None), default=None)


def _share(part: object, name: str) -> float | None:
    """A number from 0 to 1; None for what is none: an annotation is what anybody with the right to leases has written."""
    value = part.get(name) if isinstance(part, Mapping) else None
    # Compared before it becomes a float, for which a whole number may be too large; NaN is in no range.
    if not isinstance(value, int | float) or isinstance(value, bool) or not -math.inf < value < math.inf:
        return None
    return float(min(1, max(0, value)))
