"""Why a request, job or pod is in the state that it is in: one typed reason each, in order of precedence.

Where several hold, the one that stands first in `StateReason` is told: what concerns the run or the service comes before the nodes, a
node that is closed before one that is full, and what nobody has to change comes last. `OF_STATE` says which can hold in which state. The
names are written as Kubernetes writes reasons, and are the values of the label `reason` of metrics.

`tango.domain.explanations` finds the reason. Not to be mixed up with `tango.domain.requests.Reason`, which is recorded with the end of an
attempt and stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from tango.domain.refusal_kind import RefusalKind
from tango.domain.requests import RequestState
from tango.domain.services import ServiceClass


class StateReason(StrEnum):
    """Why something stands where it stands; earlier members win."""

    CANCELLING = "Cancelling"
    """Its run is being cancelled: it moves on no more, and will be cancelled."""
    RUN_NOT_STARTED = "RunNotStarted"
    """Its run has no zero yet: clusters are taking their shares of it."""
    NOT_DUE_YET = "NotDueYet"
    """Its due time is to come."""
    SERVICE_WITHDRAWN = "ServiceWithdrawn"
    """Its service is declared no more, so that nobody knows what to run."""
    CLUSTER_AWAY = "ClusterAway"
    """The cluster that would take it, has it, or has entered it, has not been heard of for too long."""
    FITS_NO_NODE = "FitsNoNode"
    """No node could hold it, even without any other BE pod."""
    NODE_NOT_READY = "NodeNotReady"
    """The node with room for it is not Ready."""
    NODE_CLOSED = "NodeClosed"
    """The node with room takes no new pods of its service: cordoned, under pressure, tainted, or by its selectors."""
    OVER_QUOTA = "OverQuota"
    """A quota in the cluster with room refuses more pods of its service, or its tenant holds what its own quota allows."""
    CLUSTER_REFUSES = "ClusterRefuses"
    """The cluster with room refuses it: credentials, permission, namespace, admission."""
    BACKING_OFF = "BackingOff"
    """The cluster or node with room refused a pod a moment ago, or did not answer: it is asked again after a pause, with one pod."""
    NODE_PRESSED = "NodePressed"
    """LC on the node with room lacks CPU, or its memory is short, as its node agent tells: it gets no more BE until that is over."""
    LC_FIRST = "LcFirst"
    """LC waits in the cluster with room, so that BE has to; for a time that is a setting."""
    WAITING_FOR_CPU = "WaitingForCpu"
    """No open node has so much CPU free."""
    WAITING_FOR_MEMORY = "WaitingForMemory"
    """No open node has so much memory free."""
    WAITING_FOR_PODS = "WaitingForPods"
    """The open nodes admit no further pod."""
    WAITING_FOR_DEVICE = "WaitingForDevice"
    """No open node has so much of an extended resource free, such as of its GPUs."""
    WAITING_FOR_NODE = "WaitingForNode"
    """It waits for a node with room; what the nodes have is not known to whoever was asked."""
    NO_INSTANCE_READY = "NoInstanceReady"
    """There is no instance of its LC service that it may go to."""
    INSTANCE_NOT_READY = "InstanceNotReady"
    """There are instances of its LC service, and none is ready."""
    BEHIND_SHARE = "BehindShare"
    """Requests of tenants with smaller shares come first and take what there is, or it is kept for one."""
    BEHIND_IN_QUEUE = "BehindInQueue"
    """It could be served, but others come first and take what there is."""
    UNCLAIMED = "Unclaimed"
    """It has been due for long, and no worker has taken it: none is at work, or those that are have fallen behind."""
    ABOUT_TO_BE_RELEASED = "AboutToBeReleased"
    """It is due and will be released within a moment."""
    ABOUT_TO_BE_ADMITTED = "AboutToBeAdmitted"
    """It is released, and the scheduler will admit it within a moment."""
    ABOUT_TO_BE_PLACED = "AboutToBePlaced"
    """A node has room for it, and the next placement gives it one."""
    ABOUT_TO_BE_DISPATCHED = "AboutToBeDispatched"
    """An instance is ready, and the next dispatch sends it there."""
    RESIZE_DEFERRED = "ResizeDeferred"
    """It is at an instance that should have more CPU, which its node has not free."""
    WAITING_FOR_CALL = "WaitingForCall"
    """It is dispatched, and waits for a worker of its cluster to call the instance."""
    POD_WAITS = "PodWaits"
    """Its pod has not started, for the reason that Kubernetes tells."""
    POD_STARTING = "PodStarting"
    """Its pod is being started."""
    RUNNING = "Running"
    """It is being served."""
    SUCCEEDED = "Succeeded"
    """It was served, LC within its target."""
    LATE = "Late"
    """It was served after its target."""
    FAILED = "Failed"
    """It failed; the reason of its end is recorded."""
    SHED = "Shed"
    """It was given up on purpose, because it could not be answered in time."""
    CANCELLED = "Cancelled"
    """It was cancelled, with its run or by its caller."""

    @property
    def rank(self) -> int:
        """Its place in the order of precedence."""
        return _RANK[self]


_RANK: dict[StateReason, int] = {reason: place for place, reason in enumerate(StateReason)}

_R, _S = StateReason, RequestState
_LC, _BE = ServiceClass.LC, ServiceClass.BE

OF_REFUSAL: Mapping[RefusalKind, StateReason] = {
    kind: _R.OVER_QUOTA
    if kind is RefusalKind.QUOTA
    else _R.BACKING_OFF
    if kind in (RefusalKind.THROTTLED, RefusalKind.UNREACHABLE, RefusalKind.NODE)
    else _R.CLUSTER_REFUSES
    for kind in RefusalKind
}
"""What a refusal of each kind means for those that it keeps waiting. What passes by itself is a pause; what somebody has to mend is not."""

OF_NODES = (
    _R.CLUSTER_AWAY,
    _R.FITS_NO_NODE,
    _R.NODE_NOT_READY,
    _R.NODE_CLOSED,
    _R.OVER_QUOTA,
    _R.CLUSTER_REFUSES,
    _R.BACKING_OFF,
    _R.NODE_PRESSED,
    _R.LC_FIRST,
    _R.WAITING_FOR_CPU,
    _R.WAITING_FOR_MEMORY,
    _R.WAITING_FOR_PODS,
    _R.WAITING_FOR_DEVICE,
    _R.WAITING_FOR_NODE,
)
"""Why no node takes a BE request."""

_ENDS: Mapping[RequestState, tuple[StateReason, ...]] = {
    _S.SUCCEEDED: (_R.SUCCEEDED, _R.LATE),
    _S.FAILED: (_R.FAILED,),
    _S.SHED: (_R.SHED,),
    _S.CANCELLED: (_R.CANCELLED,),
}
OF_STATE: Mapping[ServiceClass, Mapping[RequestState, tuple[StateReason, ...]]] = {
    _LC: {
        _S.ACCEPTED: (_R.CANCELLING, _R.RUN_NOT_STARTED, _R.NOT_DUE_YET, _R.CLUSTER_AWAY, _R.UNCLAIMED, _R.ABOUT_TO_BE_RELEASED),
        _S.RELEASED: (
            _R.CANCELLING,
            _R.SERVICE_WITHDRAWN,
            _R.CLUSTER_AWAY,
            _R.NODE_NOT_READY,
            _R.NO_INSTANCE_READY,
            _R.INSTANCE_NOT_READY,
            _R.BEHIND_IN_QUEUE,
            _R.ABOUT_TO_BE_DISPATCHED,
        ),
        _S.DISPATCHED: (_R.CANCELLING, _R.CLUSTER_AWAY, _R.RESIZE_DEFERRED, _R.WAITING_FOR_CALL),
        _S.RUNNING: (_R.CANCELLING, _R.CLUSTER_AWAY, _R.RESIZE_DEFERRED, _R.RUNNING),
        **_ENDS,
    },
    _BE: {
        _S.ACCEPTED: (_R.CANCELLING, _R.RUN_NOT_STARTED, _R.NOT_DUE_YET, _R.UNCLAIMED, _R.ABOUT_TO_BE_RELEASED),
        _S.RELEASED: (_R.CANCELLING, _R.SERVICE_WITHDRAWN, _R.ABOUT_TO_BE_ADMITTED),
        _S.PENDING: (_R.CANCELLING, _R.SERVICE_WITHDRAWN, *OF_NODES, _R.BEHIND_SHARE, _R.BEHIND_IN_QUEUE, _R.ABOUT_TO_BE_PLACED),
        _S.PLACED: (_R.CANCELLING, _R.CLUSTER_AWAY, _R.POD_WAITS, _R.POD_STARTING),
        _S.RUNNING: (_R.CANCELLING, _R.CLUSTER_AWAY, _R.RUNNING),
        **_ENDS,
    },
}
"""By class and state, the reasons that can hold, in order of precedence."""
