"""BE placement: one scheduling cycle takes the lease, reads requests and fleet, decides, records, and only then calls Kubernetes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import structlog

from tango.control.be_deciders import BeDeciders
from tango.control.be_tracing import BeTracing
from tango.control.be_turns import BeTurns
from tango.control.candidates import WeighingRate, be_candidates
from tango.control.lease_holder import LeaseHolder
from tango.control.left_waiting import be_left_waiting
from tango.control.pressed_nodes import PressedNodes
from tango.control.tenant_shares import TenantShares
from tango.control.waiting_reasons import WaitingReasons
from tango.domain.jobs import JobEnd
from tango.domain.lifecycle import Event, Outcome
from tango.domain.placement_question import PlacementQuestion
from tango.domain.plans import BePlan
from tango.domain.refusal_kind import RefusalKind
from tango.domain.refusals import Pauses, Refusal
from tango.domain.requests import BePending, Reason
from tango.domain.runs import DecisionRecord, PendingRequests, Placement
from tango.domain.shares import LcWait
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import as_seen
from tango.errors import ClusterError, ClusterUnavailable, DependencyError, Fenced, Invalid
from tango.ports.clusters import ClusterCalls
from tango.ports.jobs import JobStore
from tango.ports.leases import Fence
from tango.ports.refusals import RefusalStore
from tango.ports.requests import BeRequests
from tango.scheduling.tenant_turns import Considered, as_read
from tango.settings import BeSettings, NodeAgentSettings
from tango.systems.be_waits import planned
from tango.systems.weighing import AskedBe

log = structlog.get_logger(__name__)

LEASE = "scheduler"
MOST_TICK_S = 2.0
"""Seconds after which a tick begins no further cycle: what else the process does has its turn, and the next tick is at hand."""
ROLE = "scheduler"
"""Who has met a refusal, in the rows of `tango.domain.refusals`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recorded:
    """A decision whose rows are written, and whose pods are still to be made."""

    fence: Fence
    pending: BePending
    snapshot: FleetSnapshot
    pauses: Pauses
    plan: BePlan
    placements: Sequence[Placement]
    decide_ms: float
    at_s: float
    """When it was decided, by `time.perf_counter`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BePlacement:
    """BE placement by one scheduler process, one call per tick."""

    deciders: BeDeciders
    requests: BeRequests
    jobs: JobStore
    refusals: RefusalStore
    snapshot: Callable[[], FleetSnapshot]
    """The fleet as it is now."""
    clusters: ClusterCalls
    holder: LeaseHolder
    settings: BeSettings
    reserved: Callable[[FleetSnapshot], FleetSnapshot] = lambda snapshot: snapshot
    """A snapshot without the CPU that is kept for LC instances which are about to grow (`ReservedCpu.taken_off`)."""
    lc_waits: Callable[[], Mapping[str, LcWait]] = dict
    """By cluster, how much LC waits there, as the agents last told."""
    turns: BeTurns = field(default_factory=BeTurns)
    pressed: PressedNodes = field(default_factory=lambda: PressedNodes(NodeAgentSettings()))
    reasons: WaitingReasons = field(default_factory=WaitingReasons)
    shares: TenantShares | None = None
    """Whose requests come first where there are several tenants; None: they come by age."""
    tracing: BeTracing | None = None
    """Makes the spans of placements; None: nobody wants any."""
    sampling: WeighingRate | None = None
    """Of how many requests the candidates are kept; None: of none."""

    def tick(self) -> dict[str, int]:
        """Run scheduling cycles as long as each places all of a full batch, and `MOST_TICK_S` at the most; give what they did.

        After a full batch more is waiting, and the next tick would come later than it could be placed. A cycle that leaves
        something unplaced has met a fleet that is full, and ends the tick: the same requests would be asked about again.
        """
        began_s, done = time.perf_counter(), self._cycle()
        last = done
        while last["placed"] == last["considered"] >= self.settings.batch_limit and time.perf_counter() - began_s < MOST_TICK_S:
            last = self._cycle()
            done = {key: done[key] + last[key] for key in done}
        if self.shares is not None:
            self.shares.reclaimed()
        return done

    def _cycle(self) -> dict[str, int]:
        """One scheduling cycle.

        Beat may fire twice and a dead scheduler may come back: the lease keeps cycles single, and its epoch, checked in the
        transaction that records the plan, keeps an overtaken one from writing.
        """
        with self.holder.at_work(LEASE, ttl_s=self.settings.lease_ttl_s) as fence:
            considered, done = (0, None) if fence is None else self._recorded(fence)
        if fence is None:
            self.reasons.nothing_waits()
            if self.shares is not None:
                self.shares.forget()
        if done is None:
            return {"considered": considered, "placed": 0}
        # An API server that is slow holds up its own pods and not the next cycle: another thread may be in it already.
        refused = self._settle_refused(self.clusters.run_be_pods(done.placements), done.pauses) if done.placements else 0
        log.info(
            "be_placed",
            considered=considered,
            placed=len(done.placements),
            refused=refused,
            policy=done.plan.policy,
            decide_ms=round(done.decide_ms, 2),
            kube_ms=round((time.perf_counter() - done.at_s) * 1e3, 1),
        )
        # 4. Compare, when nothing waits for it any more.
        self.deciders.decide_beside(done.plan, done.decide_ms, done.pending, done.snapshot, self.settings, fence=done.fence)
        return {"considered": considered, "placed": len(done.placements) - refused}

    def _recorded(self, fence: Fence) -> tuple[int, _Recorded | None]:
        """Gather, decide and record: how many requests were considered, and what was recorded, if anything was."""
        self.deciders.follow()
        # 1. Gather.
        begin = time.perf_counter()
        limit = self.settings.batch_limit
        if self.shares is not None and self.shares.is_giving:
            self.turns.stay()
        behind = self.turns.behind
        read = self.requests.pending_be(limit=limit, behind=behind)
        if len(read.pending) == 0:
            return self._nothing_waits(read, is_behind=bool(behind)), None
        snapshot, waits = self.reserved(self.snapshot()), self.lc_waits()
        seen = as_seen(read, snapshot)
        if len(seen.pending) == 0:
            return self._nothing_waits(read, is_behind=bool(behind)), None
        pauses = self.refusals.pauses()
        question = PlacementQuestion(
            pending=seen.pending,
            snapshot=snapshot,
            pauses=pauses,
            pressed=self.pressed.follow(snapshot),
            waits=waits,
            lc_late_share=self.settings.lc_late_share,
            lc_first_s=self.settings.lc_first_s,
        )
        looked_at = (
            as_read(seen, limit=limit)
            if self.shares is None
            else self.shares.considered(seen, question, limit=limit, is_behind=bool(behind))
        )
        batch, question = looked_at.batch, replace(question, pending=looked_at.batch.pending)
        if len(batch.pending) == 0:  # quotas hold back all of it
            self._held_back(looked_at, question, is_behind=bool(behind))
            return len(seen.pending), None
        gathered = time.perf_counter()
        # 2. Decide.
        may = 0 if self.sampling is None else self.sampling.take()
        noted: list[AskedBe] | None = [] if may else None
        plan = planned(lambda asked, seen: self.deciders.plan(asked, seen, self.settings, noted=noted), question)
        decided = time.perf_counter()
        weighed, used = be_candidates(noted, question, plan, most=may) if noted else ("", 0)
        if self.sampling is not None:
            self.sampling.give_back(may - used)
        # 3. Apply: the rows first, the pods second. Pods are named after request and epoch, so a repeat meets itself.
        placed = int(np.count_nonzero(plan.node >= 0))
        is_any_left = placed < len(batch.pending) or bool(looked_at.held_back)
        self.turns.end(batch.reached, is_full=looked_at.is_full, is_any_left=is_any_left)
        left = be_left_waiting(batch.pending, plan.node, snapshot, question.crowded, question.barred)
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
            note="; ".join(filter(None, (plan.fallback_reason, self.deciders.remark, self.pressed.remark, looked_at.remark, left))),
            weighed=weighed,
        )
        try:
            placements = self.requests.record_placement(
                batch, plan, snapshot, decision, fence=fence, lease_s=self.holder.settings.placement_s
            )
        except Fenced:
            log.warning("placement_fenced", epoch=fence.epoch)
            return len(batch.pending), None
        self.reasons.note(question, plan.node, looked_at.held_back)
        if self.shares is not None:
            self.shares.ended(looked_at, question, plan.node, is_behind=bool(behind))
        if self.tracing is not None:
            began_s = time.time() - (time.perf_counter() - begin)
            placements = list(self.tracing.placed(placements, began_s=began_s, policy=plan.policy))
        return len(batch.pending), _Recorded(
            fence=fence,
            pending=batch.pending,
            snapshot=snapshot,
            pauses=pauses,
            plan=plan,
            placements=placements,
            decide_ms=decision.decide_ms,
            at_s=decided,
        )

    def _nothing_waits(self, read: PendingRequests, *, is_behind: bool) -> int:
        """Nothing was there to be considered, though before what it looked at there may be; gives how many there were."""
        self.turns.end(read.reached, is_full=False, is_any_left=False)
        if not is_behind:
            self.reasons.nothing_waits()
            if self.shares is not None:
                self.shares.nothing_waits()
        return 0

    def _held_back(self, looked_at: Considered, question: PlacementQuestion, *, is_behind: bool) -> None:
        """Nothing of what waits may be placed, which is no decision of a policy."""
        nobody = np.zeros(0, np.int32)
        self.turns.end(looked_at.batch.reached, is_full=looked_at.is_full, is_any_left=True)
        self.reasons.note(question, nobody, looked_at.held_back)
        if self.shares is not None:
            self.shares.ended(looked_at, question, nobody, is_behind=is_behind)

    def _settle_refused(self, results: dict[Placement, Exception | None], pauses: Pauses) -> int:
        """Take back placements whose pod a cluster refused or could not create; gives how many were not placed after all.

        An answer is certain (refused: no pod runs), a silence is not: what was not answered keeps its lease, and the agent or the
        lease's end decides, so that no second pod is made while the first may be running. An answer that is about the cluster, or about
        the service there, pauses that, and costs the request no attempt. A job's pod that is invalid, as by its template, would be so
        anywhere: the job fails, with what the cluster said.
        """
        back, hopeless, noted, taken = list[Outcome](), list[JobEnd](), list[Refusal](), defaultdict[str, list[str]](list)
        for placement, error in results.items():
            if error is None:
                taken[placement.cluster].append(placement.service)
                continue
            log.warning("pod_not_placed", pod=placement.pod, cluster=placement.cluster, error=str(error))
            if (refusal := _refusal(placement, error)) is not None:
                noted.append(refusal)
            if not isinstance(error, ClusterError) or isinstance(error, DependencyError):
                continue
            is_final = not error.refusal and placement.job is not None and isinstance(error, Invalid)
            event = Event.RETURN if error.refusal else Event.FAIL if is_final else Event.REQUEUE
            reason = Reason.CLUSTER_REFUSED if error.refusal else Reason.NEVER_STARTED if is_final else Reason.POD_FAILED
            outcome = Outcome(
                run_id=placement.run_id,
                request_id=placement.request_id,
                epoch=placement.epoch,
                event=event,
                reason=reason,
                words=f"{refusal.cluster}: {refusal.words}" if error.refusal and refusal is not None else "",
            )
            if is_final:
                hopeless.append(JobEnd(outcome=outcome, message=str(error)))
            else:
                back.append(outcome)
        ended = self.requests.settle(back) if back else 0
        ended += self.jobs.end(hopeless) if hopeless else 0
        if self.tracing is not None:
            self.tracing.settled((o.run_id, o.request_id) for o in (*back, *(end.outcome for end in hopeless)))
        for cluster, services in taken.items():
            if any(state.role == ROLE for state in pauses.of(cluster)):
                self.refusals.clear(cluster, sorted(set(services)), role=ROLE)
        if noted:
            self.refusals.note(noted, role=ROLE)
        return ended


def _refusal(placement: Placement, error: Exception) -> Refusal | None:
    """What an error of a placement says of its cluster, or of its service there; None: nothing."""
    if isinstance(error, ClusterUnavailable):
        return Refusal.of(RefusalKind.UNREACHABLE, cluster=placement.cluster, service=placement.service, words=str(error))
    if isinstance(error, ClusterError) and error.refusal:
        return Refusal.of(
            RefusalKind(error.refusal),
            cluster=error.cluster or placement.cluster,  # another one, where an older epoch may still run there
            service=placement.service,
            namespace=error.namespace,
            words=error.words or str(error),
            at_least_s=error.retry_after_s,
        )
    return None
