"""What would change the state of a request: a counterfactual that can be checked, since it says exactly what would have to be other.

An explanation states some of these, which together suffice. `tango.domain.placement_question` and `dispatch_question` apply them to what
was recorded, so that whoever doubts can decide again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from tango.domain.identity import NodeKey
from tango.domain.resource_axis import quantity


class ChangeKind(StrEnum):
    """What would have to be other."""

    TIME = "time"
    """`amount` seconds later."""
    HEADROOM = "headroom"
    """`amount` of `resource` more is free on the node."""
    CLUSTER_BACK = "cluster-back"
    """The cluster's agent is heard of again."""
    NODE_READY = "node-ready"
    """The node is Ready."""
    NODE_OPENED = "node-opened"
    """The node takes pods of the service."""
    REFUSAL_LIFTED = "refusal-lifted"
    """What the cluster refuses (of the service, on the node) it takes: a quota one pod larger, the permission given."""
    PRESSURE_OVER = "pressure-over"
    """The node is not under pressure any more."""
    LC_CAUGHT_UP = "lc-caught-up"
    """`amount` LC requests fewer are late in the cluster."""
    FIRST_IN_LINE = "first-in-line"
    """It is considered before all others that wait."""
    QUOTA_RAISED = "quota-raised"
    """The quota of `tenant` is `amount` of `resource` larger."""
    SHARE_REACHED = "share-reached"
    """`tenant`, which waits below its share, has its next request, so that others get something again."""
    SERVICE_DECLARED = "service-declared"
    """The service is declared as it was."""
    INSTANCE_READY = "instance-ready"
    """An instance of the service is ready on the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that would have to be other."""

    kind: ChangeKind
    cluster: str = ""
    node: str = ""
    service: str = ""
    tenant: str = ""
    resource: str = ""
    """Name of a row of the resource axis, in whose units `amount` is."""
    amount: float = 0.0
    """0: the change has no size."""

    @classmethod
    def at(cls, kind: ChangeKind, node: NodeKey, *, service: str = "", resource: str = "", amount: float = 0.0) -> Change:
        """A change on a node."""
        return cls(kind=kind, cluster=node.cluster, node=node.name, service=service, resource=resource, amount=amount)

    @property
    def has_amount(self) -> bool:
        """Whether less of it would be another change."""
        return self.amount > 0

    def halved(self) -> Change:
        """Half of it, of what is counted the whole part of a half; a change without an amount stays as it is."""
        half = self.amount / 2
        return replace(self, amount=math.floor(half) if self.kind is ChangeKind.LC_CAUGHT_UP else half)

    def __str__(self) -> str:
        """In words that follow "it would change if"."""
        where = f"{self.cluster}/{self.node}" if self.node else self.cluster
        of = f" of {self.service}" if self.service else ""
        match self.kind:
            case ChangeKind.TIME:
                return f"{self.amount:.1f} s have passed"
            case ChangeKind.HEADROOM:
                return f"{quantity(self.resource, self.amount)} more {self.resource} is free on {where}"
            case ChangeKind.CLUSTER_BACK:
                return f"cluster {where} is back"
            case ChangeKind.NODE_READY:
                return f"node {where} is ready"
            case ChangeKind.NODE_OPENED:
                return f"node {where} takes pods{of}"
            case ChangeKind.REFUSAL_LIFTED:
                return f"{where} takes one more pod{of}"
            case ChangeKind.PRESSURE_OVER:
                return f"{where} is under pressure no more"
            case ChangeKind.LC_CAUGHT_UP:
                return f"{self.amount:.0f} fewer LC requests are late in {where}"
            case ChangeKind.FIRST_IN_LINE:
                return "it is first in line"
            case ChangeKind.QUOTA_RAISED:
                return f"the quota of tenant {self.tenant} is {quantity(self.resource, self.amount)} of {self.resource} larger"
            case ChangeKind.SHARE_REACHED:
                return f"tenant {self.tenant}, which waits below its share, has its next request"
            case ChangeKind.SERVICE_DECLARED:
                return f"service {self.service} is declared again"
            case ChangeKind.INSTANCE_READY:
                return f"an instance{of} is ready on {where}"


def halved(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """All of them, with half of each amount. Where none has an amount there is no half: they are given as they are."""
    return tuple(change.halved() for change in changes)
