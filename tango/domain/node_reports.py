"""What the agent of a node tells of it, apart from other observations: an agent itself does without what those are made of."""

from __future__ import annotations

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
