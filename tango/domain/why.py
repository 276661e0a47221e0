"""`explain`: the one function that says why a request, a job or its pod is in the state that it is in.

    rows, fleet, queue, refusals ─► Known ─► explain ─► Explanation: reason, words, figures, place in the queue, what would change it

It is pure. Whoever knows less gives less: without the fleet a pending job "waits for a node with room for it", which is what a gateway
tells; the scheduler's books have all of it. The reason is always one of `OF_STATE[class][state]`.
"""

from __future__ import annotations

from collections.abc import Iterable

from tango.domain.changes import Change, ChangeKind
from tango.domain.explanation import Explanation, Known, Place, RequestStanding
from tango.domain.patience import UNCLAIMED_AFTER_S
from tango.domain.reasons import OF_REFUSAL, StateReason
from tango.domain.refusals import RefusalState
from tango.domain.requests import RequestState
from tango.domain.runs import RunStatus
from tango.domain.services import ServiceClass
from tango.domain.why_lc import away_words, why_released, why_resize_is_deferred
from tango.domain.why_pending import why_pending

_R, _S = StateReason, RequestState


def explain(known: Known, place: Place | None = None) -> Explanation:
    """Why a request stands where it stands.

    `place`: the decision by which what would change a pending BE request is tried out before it is stated; None: it is stated untried.
    """
    standing = known.standing
    if standing.run_status in (RunStatus.CANCELLING, RunStatus.CANCELLED) and standing.state in _BEFORE_ITS_END:
        return Explanation(reason=_R.CANCELLING, words="its run is being cancelled, and it with it")
    match standing.state:
        case _S.ACCEPTED:
            return _accepted(known)
        case _S.RELEASED if standing.service_class is ServiceClass.BE:
            words = "it waits for the scheduler to admit it"
            return _withdrawn(known) or Explanation(reason=_R.ABOUT_TO_BE_ADMITTED, words=words)
        case _S.RELEASED:
            return _withdrawn(known) or _away(known, standing.entry_cluster) or _released(known)
        case _S.PENDING:
            return _withdrawn(known) or _pending(known, place)
        case _S.DISPATCHED | _S.RUNNING | _S.PLACED:
            return _away(known, standing.cluster) or _in_flight(known)
        case _:
            return _ended(standing)


_BEFORE_ITS_END = frozenset(RequestState) - {_S.SUCCEEDED, _S.FAILED, _S.SHED, _S.CANCELLED}


def refused_words(refusals: Iterable[RefusalState], service: str) -> str:
    """What clusters refuse of a service, in their words; empty: nothing."""
    return "; ".join(
        f"{state.cluster}{'/' if state.node else ''}{state.node} refuses it, {state}"
        for state in refusals
        if state.service in ("", service)
    )


def _accepted(known: Known) -> Explanation:
    standing = known.standing
    if standing.now_s is None:
        return Explanation(reason=_R.RUN_NOT_STARTED, words="its run has not begun: the clusters are taking their shares of it")
    left_s = standing.due_s - standing.now_s
    if left_s > 0:
        return Explanation(
            reason=_R.NOT_DUE_YET,
            words=f"it is due in {left_s:.1f} s",
            figures={"due_s": standing.due_s, "now_s": standing.now_s},
            changes=(Change(kind=ChangeKind.TIME, amount=left_s),),
        )
    if standing.service_class is ServiceClass.LC and (away := _away(known, standing.entry_cluster)) is not None:
        return away
    figures: dict[str, float | str] = {"due_s": standing.due_s, "now_s": standing.now_s}
    if -left_s > UNCLAIMED_AFTER_S:
        words = f"it was due {-left_s:.0f} s ago and waits for {who_releases(standing.service_class, standing.entry_cluster)}"
        return Explanation(reason=_R.UNCLAIMED, words=words, figures=figures)
    return Explanation(reason=_R.ABOUT_TO_BE_RELEASED, words="it is due and is being released", figures=figures)


def who_releases(service_class: ServiceClass, cluster: str) -> str:
    """What a request that is due and was not released waits for, in words."""
    who, queue = (
        (f"a worker of {cluster}", f"lc.{cluster}") if service_class is ServiceClass.LC else ("the replay worker", "replay")
    )
    return f"{who} (queue {queue}): none is at work, or it has fallen behind"


def _withdrawn(known: Known) -> Explanation | None:
    if known.is_declared:
        return None
    service = known.standing.service
    return Explanation(
        reason=_R.SERVICE_WITHDRAWN,
        words=f"service {service} is declared no more, so that nobody knows what to run",
        changes=(Change(kind=ChangeKind.SERVICE_DECLARED, service=service),),
    )


def _away(known: Known, cluster: str) -> Explanation | None:
    if cluster not in known.away_s:
        return None
    runs_on = known.standing.state in (_S.RUNNING, _S.PLACED) and known.standing.service_class is ServiceClass.BE
    return Explanation(
        reason=_R.CLUSTER_AWAY,
        words=f"it is in cluster {cluster}, {away_words(cluster, known.away_s)}; "
        + ("its pod runs on there" if runs_on else "what is known of it is as old"),
        figures={"away_s": known.away_s[cluster]},
        changes=(Change(kind=ChangeKind.CLUSTER_BACK, cluster=cluster),),
    )


def _released(known: Known) -> Explanation:
    if known.lc is None:
        return Explanation(reason=_R.ABOUT_TO_BE_DISPATCHED, words="it waits for its dispatch")
    return why_released(known, known.lc)


def _pending(known: Known, place: Place | None) -> Explanation:
    if known.pending is not None:
        return why_pending(known.pending, place)
    kinds = [OF_REFUSAL[state.kind] for state in known.refusals if state.service in ("", known.standing.service)]
    if not kinds:
        return Explanation(reason=_R.WAITING_FOR_NODE, words="it waits for a node with room for it")
    words = refused_words(known.refusals, known.standing.service)
    return Explanation(reason=min(kinds, key=lambda reason: reason.rank), words=words)


def _in_flight(known: Known) -> Explanation:
    standing = known.standing
    where = f"{standing.cluster}/{standing.node}"
    if standing.state is _S.PLACED:
        if known.pod_waits:
            return Explanation(reason=_R.POD_WAITS, words=known.pod_waits, figures={"node": where, "pod": standing.pod})
        words = f"it waits for node {where} to start its pod"
        return Explanation(reason=_R.POD_STARTING, words=words, figures={"node": where, "pod": standing.pod})
    if known.lc is not None and (deferred := why_resize_is_deferred(known.lc)) is not None:
        return deferred
    if standing.state is _S.DISPATCHED:
        words = f"it is dispatched to {where} and waits for a worker of {standing.entry_cluster} to call the instance"
        return Explanation(reason=_R.WAITING_FOR_CALL, words=words, figures={"node": where})
    late = ", later than its target allows, as was expected" if standing.late else ""
    return Explanation(reason=_R.RUNNING, words=f"it runs on {where}{late}", figures={"node": where, "attempt": standing.attempts})


def _ended(standing: RequestStanding) -> Explanation:
    figures: dict[str, float | str] = {"attempts": standing.attempts}
    if standing.finished_s is not None:
        figures["latency_s"] = standing.finished_s - standing.due_s
    if standing.target_s is not None:
        figures["target_s"] = standing.target_s
    why = f": {standing.reason}" if standing.reason else ""
    match standing.state:
        case _S.SUCCEEDED:
            latency, target = figures.get("latency_s"), standing.target_s
            if isinstance(latency, float) and target is not None and latency > target:
                words = f"it was answered {latency - target:.3f} s after its target of {target:.3f} s"
                return Explanation(reason=_R.LATE, words=words, figures=figures)
            return Explanation(reason=_R.SUCCEEDED, words="it was served", figures=figures)
        case _S.SHED:
            return Explanation(
                reason=_R.SHED, words=f"it was given up, because no answer would have come in time{why}", figures=figures
            )
        case _S.CANCELLED:
            return Explanation(reason=_R.CANCELLED, words=f"it was cancelled{why}", figures=figures)
        case _:
            return Explanation(reason=_R.FAILED, words=f"it failed{why}", figures=figures)
