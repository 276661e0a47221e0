"""BE placement: one scheduling cycle takes the lease, reads requests and fleet, decides, records, and only then calls Kubernetes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from tango.control.checkpoint_roles import RolesFollowed
from tango.control.shadow import shadow_decision
from tango.domain.checkpoints import ShadowDecision
from tango.domain.lifecycle import Event, Outcome
from tango.domain.plans import BePlan
from tango.domain.requests import BePending, Reason
from tango.domain.runs import DecisionRecord, Placement
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import as_seen
from tango.errors import CheckpointError, ClusterError, ConfigError, DependencyError, Fenced, TangoError, UsageError
from tango.ports.checkpoints import CheckpointStore
from tango.ports.clock import Clock
from tango.ports.clusters import ClusterGateway
from tango.ports.fleet import FleetStore
from tango.ports.leases import Fence, LeaseStore
from tango.ports.requests import RequestStore
from tango.settings import BeSettings, LeaseSettings
from tango.systems import BePolicy, decided_be, in_one_line

log = structlog.get_logger(__name__)

LEASE = "scheduler"


@dataclass(frozen=True, slots=True, kw_only=True)
class BePlacement:
    """BE placement by one scheduler process, one call per tick."""

    owner: str
    policy_of: Callable[[int], BePolicy]
    """The policy of a run's system."""
    fallback: BePolicy
    """The policy for runs whose own policy cannot be loaded, fails, or gives an invalid plan."""
    requests: RequestStore
    fleet: FleetStore
    leases: LeaseStore
    gateway: ClusterGateway
    clock: Clock
    settings: BeSettings
    lease: LeaseSettings
    roles: RolesFollowed | None = None
    """Followed before anything is gathered, so that loading a promoted checkpoint is no part of a decision; its candidate decides once
    all else is done."""
    checkpoints: CheckpointStore | None = None
    """Where decisions of the shadow are recorded."""

    def tick(self) -> dict[str, int]:
        """Run one scheduling cycle; give what it did.

        Beat may fire twice and a dead scheduler may come back: the lease keeps cycles single, and its epoch, checked in the
        transaction that records the plan, keeps an overtaken one from writing.
        """
        fence = self.leases.acquire(LEASE, owner=self.owner, ttl_s=self.settings.lease_ttl_s)
        if fence is None:
            return {"considered": 0, "placed": 0}
        if self.roles is not None:
            self.roles.follow()
        # 1. Gather.
        begin = time.perf_counter()
        batch = self.requests.pending_be(limit=self.settings.batch_limit)
        if len(batch.pending) == 0:
            return {"considered": 0, "placed": 0}
        snapshot = self.fleet.snapshot(at_s=self.clock.now_s())
        batch = as_seen(batch, snapshot)
        if len(batch.pending) == 0:
            return {"considered": 0, "placed": 0}
        gathered = time.perf_counter()
        # 2. Decide.
        plan = _planned(batch.pending, snapshot, self.settings, self.policy_of, self.fallback)
        decided = time.perf_counter()
        # 3. Apply: the rows first, the pods second. Pods are named after request and epoch, so a repeat meets itself.
        placed = int(np.count_nonzero(plan.node >= 0))
        decision = DecisionRecord(
            kind="be",
            cluster="",
            policy=plan.policy,
            checkpoint=plan.checkpoint,
            considered=len(batch.pending),
            placed=placed,
            unplaced=len(batch.pending) - placed,
            late=0,
            shed=0,
            snapshot_ms=(gathered - begin) * 1e3,
            decide_ms=(decided - gathered) * 1e3,
            note="; ".join(filter(None, (plan.fallback_reason, self.roles.remark if self.roles else ""))),
        )
        try:
            placements = self.requests.record_placement(
                batch, plan, snapshot, decision, fence=fence, lease_s=self.lease.placement_s
            )
        except Fenced:
            log.warning("placement_fenced", epoch=fence.epoch)
            return {"considered": len(batch.pending), "placed": 0}
        refused = _settle_refused(self.gateway.run_be_pods(placements), self.requests) if placements else 0
        log.info(
            "be_placed",
            considered=len(batch.pending),
            placed=len(placements),
            refused=refused,
            policy=plan.policy,
            decide_ms=round(decision.decide_ms, 2),
            kube_ms=round((time.perf_counter() - decided) * 1e3, 1),
        )
        # 4. Compare, when nothing waits for it any more.
        candidate = self.roles.candidate if self.roles is not None else None
        if candidate is not None and self.checkpoints is not None:
            shadow = shadow_decision(candidate, batch.pending, snapshot, plan, decision.decide_ms, self.settings)
            _record(shadow, self.checkpoints, fence)
        return {"considered": len(batch.pending), "placed": len(placements) - refused}


def _record(shadow: ShadowDecision, checkpoints: CheckpointStore, fence: Fence) -> None:
    """Record the shadow's decision. A store that fails here is logged and does not fail the cycle."""
    try:
        checkpoints.record_shadow(shadow, fence=fence)
    except TangoError as error:
        log.warning("shadow_not_recorded", reason=str(error))


def _planned(
    pending: BePending, snapshot: FleetSnapshot, settings: BeSettings, policy_of: Callable[[int], BePolicy], fallback: BePolicy
) -> BePlan:
    """Let each run's policy place its requests, run after run; a later one sees the fleet with the placements of earlier ones."""
    cycle = "the placement of BE"
    policies, refused = _policies(np.unique(pending.run_id).tolist(), policy_of, fallback)
    distinct = list(dict.fromkeys(policies.values()))
    node = np.full(len(pending), -1, np.int32)
    plans = []
    for policy in distinct:
        rows = np.flatnonzero([policies[run] is policy for run in pending.run_id.tolist()])
        own = pending.rows(rows) if len(distinct) > 1 else pending
        plan = decided_be(policy, own, snapshot, settings, cycle=cycle, fallback=fallback)
        if len(distinct) == 1 and not refused:
            return plan
        node[rows] = plan.node
        snapshot = snapshot.with_placed(own, plan.node)
        plans.append(plan)
    return BePlan(
        node=node,
        policy="+".join(p.policy for p in plans),
        checkpoint="".join(p.checkpoint for p in plans),
        fallback_reason="; ".join((*refused, *(p.fallback_reason for p in plans if p.fallback_reason))),
    )


def _policies(
    runs: Sequence[int], policy_of: Callable[[int], BePolicy], fallback: BePolicy
) -> tuple[dict[int, BePolicy], list[str]]:
    """The policy of each run, and why `fallback` replaces some: a policy that cannot be loaded must not stop the other runs."""
    found, refused = {}, []
    for run in runs:
        try:
            found[run] = policy_of(run)
        except (ConfigError, UsageError, CheckpointError) as error:
            log.warning("policy_not_loaded", run_id=run, error=str(error))
            found[run] = fallback
            refused.append(in_one_line(error))
    return found, refused


def _settle_refused(results: dict[Placement, Exception | None], requests: RequestStore) -> int:
    """Requeue placements whose pod a cluster refused or could not create.

    An answer is certain (refused: no pod runs), a silence is not: what was not answered keeps its lease, and the agent or the
    lease's end decides, so that no second pod is made while the first may be running.
    """
    refused = []
    for placement, error in results.items():
        if error is None:
            continue
        log.warning("pod_not_placed", pod=placement.pod, cluster=placement.cluster, error=str(error))
        if isinstance(error, ClusterError) and not isinstance(error, DependencyError):
            refused.append(
                Outcome(
                    run_id=placement.run_id,
                    request_id=placement.request_id,
                    epoch=placement.epoch,
                    event=Event.REQUEUE,
                    reason=Reason.POD_FAILED,
                )
            )
    return requests.settle(refused) if refused else 0
