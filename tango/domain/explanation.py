"""What is known of a request at one instant, and the explanation of its state: the two ends of `tango.domain.why.explain`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tango.domain.changes import Change
from tango.domain.identity import NodeKey, RequestKey
from tango.domain.observations import InstanceState
from tango.domain.placement_question import PlacementQuestion
from tango.domain.reasons import StateReason
from tango.domain.refusals import RefusalState
from tango.domain.requests import BePending, RequestState
from tango.domain.runs import RunStatus
from tango.domain.services import ServiceClass
from tango.domain.shares import LcWait
from tango.domain.snapshot import FleetSnapshot

Place = Callable[[PlacementQuestion], NDArray[np.int32]]
"""What a placement decides: (k,) row of the snapshot's nodes for each pending request, -1 for none."""
NAMED_AHEAD = 3
"""Of those who are ahead, how many are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStanding:
    """A request as its rows have it. Times are wall seconds since its run's zero."""

    key: RequestKey
    service_class: ServiceClass
    service: str
    state: RequestState
    entry_cluster: str
    due_s: float
    run_status: RunStatus = RunStatus.RUNNING
    system: str = ""
    """Of its run."""
    now_s: float | None = None
    """None: the run has no zero yet."""
    target_s: float | None = None
    cpu_work_s: float = 0.0
    memory_mib: float = 0.0
    cluster: str = ""
    """Of its last attempt, as `node`; empty: none yet."""
    node: str = ""
    pod: str = ""
    epoch: int = 0
    attempts: int = 0
    late: bool = False
    """Whether it was dispatched although it was expected to be late."""
    released_s: float | None = None
    """When it was released, or announced or requeued last."""
    dispatched_s: float | None = None
    """When it was given to the cluster of its last attempt; None: not yet, or not known."""
    decision_id: int | None = None
    """The decision that did it; None likewise."""
    started_s: float | None = None
    finished_s: float | None = None
    reason: str = ""
    """Recorded with the end of its last attempt, or with its own."""
    tenant: str = ""
    """Whose it is."""

    @property
    def node_key(self) -> NodeKey | None:
        """Where it is, or was last; None: nowhere yet."""
        return NodeKey(self.cluster, self.node) if self.node else None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredResize:
    """A resize of the instance that serves it, which its node has not carried out."""

    pod: str
    node: NodeKey
    wanted_request_millicores: float
    actual_request_millicores: float
    actual_limit_millicores: float
    free_millicores: float
    """CPU that no pod requests on the node."""
    words: str = ""
    """The kubelet's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingFacts:
    """What is known of a BE request that waits for a node, beside its standing."""

    question: PlacementQuestion
    """What the next placement would decide on; the request is among its `pending` or behind them all."""
    mine: BePending | None
    """The request itself, one row; None where its service or entry cluster is not in the snapshot."""
    waiting_before: int = 0
    """Requests that wait before all that are considered together with it, for one that is behind them; counted up to a bound."""
    home_only: bool = False
    """Whether its policy looks at its entry cluster alone."""
    is_stood_for: bool = False
    """Whether what decides is not asked when a change is tried, since it would have to be loaded, and another policy stands for it: what
    fits is the same, but not where those go that come before. What is told has to hold wherever they go."""
    held_back: HeldBack | None = None
    """Why no placement looks at it, for a matter of its tenant; None: placements do."""
    overtaken_by: tuple[str, ...] = ()
    """Other tenants of which requests that are due later come before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """A request is not looked at because of what its tenant has or gets."""

    reason: StateReason
    words: str
    figures: Mapping[str, float | str] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LcFacts:
    """What is known of an LC request beside its standing."""

    snapshot: FleetSnapshot
    instances: tuple[tuple[str, InstanceState], ...] = ()
    """(cluster, instance) of its service, ready or not."""
    wait: LcWait = field(default_factory=LcWait)
    """Of its entry cluster."""
    home_only: bool = False
    """Whether its policy looks at its entry cluster alone."""
    is_stood_for: bool = False
    """Whether what decides is not asked when a change is tried, since it would have to be loaded, and another policy stands for it: what
    fits is the same, but not where those go that come before. What is told has to hold wherever they go."""
    resize: DeferredResize | None = None
    told_ready: NDArray[np.bool_] | None = None
    """As in `PlacementQuestion`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Everything that an explanation is made of. What is not known is left out, and the explanation says less then."""

    standing: RequestStanding
    is_declared: bool = True
    """Whether its service is declared."""
    away_s: Mapping[str, float] = field(default_factory=dict)
    """By cluster that is away, for how many seconds it has not been heard of."""
    refusals: tuple[RefusalState, ...] = ()
    """What is refused now, of any service."""
    pod_waits: str = ""
    """Why its pod has not started, in Kubernetes' words."""
    pending: PendingFacts | None = None
    lc: LcFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePlace:
    """Where a request stands among those that wait."""

    position: int
    """From 1."""
    considered: int
    """How many one placement looks at."""
    ahead: tuple[RequestKey, ...]
    """The nearest of those before it, at most `NAMED_AHEAD`."""
    rule: str
    """By what they are before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a request is in its state."""

    reason: StateReason
    words: str
    """In a sentence without a full stop."""
    figures: Mapping[str, float | str] = field(default_factory=dict)
    """What the words were made of; names with their units."""
    changes: tuple[Change, ...] = ()
    """What together would change it; empty: nothing keeps it, or nobody can tell."""
    queue: QueuePlace | None = None
    """None: it stands in no queue, or none is known."""

    @property
    def would_change(self) -> str:
        """`changes` in words; empty: none."""
        return ", and ".join(map(str, self.changes))
