"""`tango explain`: gather what is known of a request, a pod, a node or a decision, and have it explained."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.control.pressed_nodes import PressedNodes
from tango.control.tenant_order import considered_now, held_back, overtaken_by
from tango.domain.candidates import Weighed
from tango.domain.explanation import DeferredResize, Explanation, Known, LcFacts, PendingFacts, Place, RequestStanding
from tango.domain.identity import NodeKey, RequestKey, parts_of_pod
from tango.domain.lifecycle import TERMINAL
from tango.domain.observations import InstanceState
from tango.domain.placement_question import PlacementQuestion
from tango.domain.reasons import StateReason
from tango.domain.refusals import Pauses
from tango.domain.request_history import Moment, history
from tango.domain.requests import BePending, RequestState
from tango.domain.resource_axis import CPU, MAY_RUN, quantity
from tango.domain.services import ServiceClass
from tango.domain.shares import LcWait
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import as_seen, pending_columns
from tango.domain.why import explain
from tango.domain.why_lc import why_resize_is_deferred
from tango.domain.why_pending import obstacles
from tango.errors import UsageError
from tango.ports.explanations import ExplanationStore, RecordedFleet, RecordedRequest
from tango.ports.refusals import RefusalStore
from tango.ports.requests import BeRequests
from tango.ports.tenants import TenantStore
from tango.settings import BeSettings, ExplainSettings, NodeAgentSettings
from tango.systems.be_waits import planned
from tango.systems.registry import AtHome, at_home, unlearned_be
from tango.systems.weighing import TELLING_BE, TELLING_LC

MOST_AHEAD = 1_000
"""Requests before one that waits, of each run, up to which they are counted: each thousand costs a millisecond."""
MOST_ON_NODE = 50
"""BE requests that are listed of a node."""
OF_FEW = (
    "which decision it was is not known; a simulated run keeps the candidates of some requests a second (TANGO_EXPLAIN_WEIGHED_PER_S), and "
    "of LC those of few policies"
)
"""Why an ended request without a decision has no candidates."""
_BE_POD = re.compile(r"be-r(\d+)-(\d+)-e\d+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedRequest:
    """A request with why it stands where it stands, and its way to there."""

    standing: RequestStanding
    explanation: Explanation
    history: tuple[Moment, ...]
    weighed: tuple[Weighed, ...] = ()
    """Of its attempts the candidates that their decisions have kept."""
    not_kept: str = ""
    """Why there are none; empty: there are, or nothing has been decided yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedNode:
    """What a node has and holds, and what keeps new BE pods away from it."""

    node: NodeKey
    resources: tuple[Mapping[str, str], ...]
    """For each resource: what pods may have, and of that LC, BE and others hold and is free, as Kubernetes writes amounts."""
    closed_to: Mapping[str, tuple[str, ...]]
    """By BE service, what keeps it from there, in order of precedence, in words; those that nothing keeps are left out."""
    reasons: Mapping[str, str]
    """By BE service that is kept from there, the typed reason."""
    instances: tuple[InstanceState, ...]
    running: tuple[Mapping[str, Any], ...]
    """BE requests there, at most `MOST_ON_NODE`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explainer:
    """Explanations as of now, one call each. Reads only."""

    store: ExplanationStore
    requests: BeRequests
    refusals: RefusalStore
    tenants: TenantStore
    be: BeSettings = field(default_factory=BeSettings)
    node_agent: NodeAgentSettings = field(default_factory=NodeAgentSettings)
    kept: ExplainSettings = field(default_factory=ExplainSettings)

    def request(self, key: RequestKey) -> ExplainedRequest:
        """Raises: UsageError if there is no such request."""
        recorded, known = self.store.together(lambda: self._gathered(key))
        place = place_of(recorded.standing.system, self.be) if known.pending is not None else None
        return ExplainedRequest(
            standing=recorded.standing,
            explanation=explain(known, place),
            history=history(recorded.standing, recorded.attempts),
            weighed=recorded.weighed,
            not_kept="" if recorded.weighed else self._not_kept(recorded),
        )

    def request_of_pod(self, name: str) -> RequestKey | None:
        """The request of a BE pod by its name, with or without a namespace; None for any other pod."""
        found = _BE_POD.fullmatch(parts_of_pod(name)[1])
        return RequestKey(int(found[1]), int(found[2])) if found else None

    def instances_named(self, pod: str) -> list[tuple[str, InstanceState]]:
        """(cluster, instance) of the LC pods of this name. Raises: UsageError if there is none."""
        found = [(cluster, instance) for cluster, instance in self.store.instances() if instance.pod == pod]
        if not found:
            raise UsageError(
                f"no pod {pod!r} is known: BE pods are called be-rRUN-REQUEST-eEPOCH, LC pods are those of `tango service list`"
            )
        return found

    def instance(self, cluster: str, instance: InstanceState) -> dict[str, Any]:
        """What there is of an LC instance: whether it answers, what it has, and what it waits for."""
        fleet, key = self.store.fleet(), NodeKey(cluster, instance.node)
        resize = self.deferred(key, instance.service, fleet.snapshot)
        refused = [str(s) for s in self.refusals.pauses().of(cluster) if s.service in ("", instance.service)]
        if cluster in fleet.away_s:
            reason, words = StateReason.CLUSTER_AWAY, f"cluster {cluster} has not been heard of for {fleet.away_s[cluster]:.0f} s"
        elif resize is not None and resize.pod == instance.pod:
            deferred = why_resize_is_deferred(LcFacts(snapshot=fleet.snapshot, resize=resize))
            reason, words = StateReason.RESIZE_DEFERRED, deferred.words if deferred is not None else ""
        elif not instance.ready:
            reason = StateReason.INSTANCE_NOT_READY
            words = "; ".join((f"it is not ready, after {instance.restarts} restarts", *refused))
        else:
            reason, words = StateReason.RUNNING, "it is ready"
        return {
            "pod": f"{cluster}/{instance.pod}",
            "class": ServiceClass.LC.label,
            "service": instance.service,
            "node": str(key),
            "reason": str(reason),
            "words": words,
            "cpu_request_millicores": instance.cpu_request_millicores,
            "cpu_limit_millicores": instance.cpu_limit_millicores,
            "memory_limit_mib": instance.memory_limit_mib,
            "restarts": instance.restarts,
        }

    def node(self, key: NodeKey) -> ExplainedNode:
        """Raises: UsageError if there is no such node."""
        fleet = self.store.fleet()
        snapshot = fleet.snapshot
        if key not in snapshot.node_keys:
            raise UsageError(f"there is no node {key}; `tango node list` has them, as CLUSTER/NODE")
        n = snapshot.node_keys.index(key)
        question = self._question(fleet, self.refusals.pauses(), _nobody(snapshot))
        kept = {
            service.name: found
            for s, service in enumerate(snapshot.services)
            if service.service_class is ServiceClass.BE and (found := obstacles(question, s, 0.0, n))
        }
        return ExplainedNode(
            node=key,
            resources=tuple(_resources(snapshot, n)),
            closed_to={name: tuple(o.words for o in found) for name, found in kept.items()},
            reasons={name: str(found[0].reason) for name, found in kept.items()},
            instances=tuple(instance for _, instance in self.store.instances(node=key)),
            running=tuple(
                {"request": str(of.key), "service": of.service, "state": of.state, "pod": of.pod, "memory_mib": of.memory_mib}
                for of in self.store.running_on(key, limit=MOST_ON_NODE)
            ),
        )

    def decision(self, decision_id: int | None) -> Mapping[str, Any]:
        """A decision's row, and what it weighed; of None the latest placement. Raises: UsageError if there is none."""
        return self.store.decision(decision_id)

    def _not_kept(self, recorded: RecordedRequest) -> str:
        """Why there are no candidates of a request; empty: nothing has been decided yet, or it is told where it waits."""
        is_lc = recorded.standing.service_class is ServiceClass.LC
        if not recorded.decided_by:
            was_decided = recorded.standing.attempts > 0 and recorded.standing.state in TERMINAL
            return OF_FEW if was_decided else ""
        if not set(recorded.decided_by) <= (TELLING_LC if is_lc else TELLING_BE):
            return f"{' and '.join(recorded.decided_by)} does not tell what it weighs"
        return (
            f"those of its decision were not kept: each process keeps those of {self.kept.weighed_per_s:g} requests a second, and the "
            f"centre those of the {self.kept.kept_decisions:,} newest decisions (TANGO_EXPLAIN_WEIGHED_PER_S, "
            "TANGO_EXPLAIN_KEPT_DECISIONS)"
        )

    # ---- gathering -----------------------------------------------------------------------------------------------------

    def _gathered(self, key: RequestKey) -> tuple[RecordedRequest, Known]:
        recorded = self.store.request(key)
        return recorded, self._known(recorded, at_home(recorded.standing.system))

    def _known(self, recorded: RecordedRequest, home: AtHome) -> Known:
        """Only what the state asks for is read."""
        standing = recorded.standing
        if standing.state in TERMINAL:
            return Known(standing=standing, is_declared=recorded.is_declared)
        fleet, pauses = self.store.fleet(), self.refusals.pauses()
        known = Known(
            standing=standing,
            is_declared=recorded.is_declared,
            away_s=fleet.away_s,
            refusals=tuple(state for state in pauses.states if state.service in ("", standing.service)),
            pod_waits=recorded.pod_waits if standing.state is RequestState.PLACED else "",
            pending=self._pending(recorded, fleet, pauses, home) if standing.state is RequestState.PENDING else None,
            lc=self._lc(recorded, fleet, home) if standing.service_class is ServiceClass.LC else None,
        )
        return known

    def _pending(self, recorded: RecordedRequest, fleet: RecordedFleet, pauses: Pauses, home: AtHome) -> PendingFacts | None:
        if not recorded.is_declared:
            return None
        standing, snapshot = recorded.standing, fleet.snapshot
        seen = as_seen(self.requests.pending_be(limit=self.be.batch_limit), snapshot)
        looked_at = considered_now(seen, snapshot, self.tenants, limit=self.be.batch_limit)
        batch = looked_at.batch.pending
        question = self._question(fleet, pauses, batch)
        is_behind = question.row(*standing.key) < 0 and len(batch) >= self.be.batch_limit
        before = self.store.waiting_before(standing, most=MOST_AHEAD) - len(batch) if is_behind else 0
        return PendingFacts(
            question=question,
            mine=_row_of(standing, snapshot),
            waiting_before=max(0, before),
            home_only=home.be,
            is_stood_for=unlearned_be(standing.system)[1],
            held_back=held_back(looked_at, standing.key),
            overtaken_by=overtaken_by(looked_at, standing.key),
        )

    def _question(self, fleet: RecordedFleet, pauses: Pauses, pending: BePending) -> PlacementQuestion:
        return PlacementQuestion(
            pending=pending,
            snapshot=fleet.snapshot,
            pauses=pauses,
            pressed=PressedNodes(self.node_agent).follow(fleet.snapshot),
            waits=fleet.waits,
            lc_late_share=self.be.lc_late_share,
            lc_first_s=self.be.lc_first_s,
            away=frozenset(fleet.away_s),
            told_ready=fleet.told_ready,
        )

    def _lc(self, recorded: RecordedRequest, fleet: RecordedFleet, home: AtHome) -> LcFacts | None:
        standing = recorded.standing
        if not recorded.is_declared:
            return None
        return LcFacts(
            snapshot=fleet.snapshot,
            instances=tuple(self.store.instances(standing.service)) if standing.state is RequestState.RELEASED else (),
            wait=fleet.waits.get(standing.entry_cluster, LcWait()),
            home_only=home.lc,
            resize=self.deferred(standing.node_key, standing.service, fleet.snapshot),
            told_ready=fleet.told_ready,
        )

    def deferred(self, node: NodeKey | None, service: str, snapshot: FleetSnapshot) -> DeferredResize | None:
        """The resize that the instances of a service on a node wait for; None: none."""
        if node is None or node not in snapshot.node_keys or (found := self.store.resize(node, service)) is None:
            return None
        return DeferredResize(
            pod=found.pod,
            node=node,
            wanted_request_millicores=found.wanted_request_millicores,
            actual_request_millicores=found.actual_request_millicores,
            actual_limit_millicores=found.actual_limit_millicores,
            free_millicores=float(snapshot.free[CPU, snapshot.node_keys.index(node)]),
            words=found.words,
        )


def place_of(system: str, settings: BeSettings) -> Place:
    """What a change is tried by: no network is loaded for it, another policy stands for it (`PendingFacts.is_stood_for`)."""
    policy, _ = unlearned_be(system)

    def placed(question: PlacementQuestion) -> NDArray[np.int32]:
        return planned(lambda pending, seen: policy(pending, seen, settings), question).node

    return placed


def _row_of(standing: RequestStanding, snapshot: FleetSnapshot) -> BePending | None:
    """The request as a placement sees it; None where its service or cluster is not in the snapshot."""
    names = [service.name for service in snapshot.services]
    if standing.service not in names or standing.entry_cluster not in snapshot.clusters:
        return None
    return pending_columns(
        snapshot.services,
        run_id=np.array([standing.key.run_id], np.int64),
        request_id=np.array([standing.key.request_id], np.int64),
        service=np.array([names.index(standing.service)], np.int32),
        entry_cluster=np.array([snapshot.clusters.index(standing.entry_cluster)], np.int32),
        waited_s=np.array([max(0.0, (standing.now_s or 0.0) - standing.due_s)]),
        cpu_work_s=np.array([standing.cpu_work_s]),
        memory_mib=np.array([standing.memory_mib]),
        epoch=np.array([standing.epoch], np.int32),
    )


def _nobody(snapshot: FleetSnapshot) -> BePending:
    nothing = np.zeros(0)
    return pending_columns(
        snapshot.services,
        run_id=nothing.astype(np.int64),
        request_id=nothing.astype(np.int64),
        service=nothing.astype(np.int32),
        entry_cluster=nothing.astype(np.int32),
        waited_s=nothing,
        cpu_work_s=nothing,
        memory_mib=nothing,
        epoch=nothing.astype(np.int32),
    )


def _resources(snapshot: FleetSnapshot, node: int) -> list[dict[str, str]]:
    found = []
    for j, name in enumerate(snapshot.resources.names):
        if name.startswith(MAY_RUN):
            continue
        others = 0.0 if snapshot.others is None else float(snapshot.others[j, node])
        amounts = {
            "allocatable": float(snapshot.allocatable[j, node]) + others,
            "lc": float(snapshot.lc_requests[j, node]),
            "be": float(snapshot.be_requests[j, node]),
            "others": others,
            "free": float(snapshot.free[j, node]),
        }
        found.append({"resource": name} | {key: quantity(name, round(amount, 3)) for key, amount in amounts.items()})
    return found
