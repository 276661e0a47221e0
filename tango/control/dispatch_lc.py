"""Dispatch: choose node and cluster for a batch of LC arrivals, record the choice in the journal, then start the calls.

The worker that dispatches starts what it dispatches itself: the row goes from released to running in the transaction that records the
plan, and no message comes between decision and service. A request that another cluster serves is called there over the line between
the two; its row stays in the journal of the cluster that it entered. What this process has no free place for waits in the cluster's
own `exec` queue for whichever of its workers has one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import structlog

from tango.control.candidates import MOST_A_DECISION, DecidedLc, WeighingRate, lc_candidates
from tango.control.fleet_view import FleetView
from tango.control.lc_tracing import LcTracing
from tango.control.left_waiting import lc_left_waiting
from tango.domain.requests import LcWork
from tango.domain.runs import DecisionRecord
from tango.errors import BrokerUnavailable, PolicyFailed
from tango.ports.messages import Publisher
from tango.ports.requests import LcRequests, StartHere
from tango.settings import LcSettings
from tango.systems import LC_FALLBACK, LcPolicy, in_one_line

log = structlog.get_logger(__name__)


class LcStarter(Protocol):
    """The part of this process's executor that dispatch uses."""

    def reserve(self, wanted: int) -> int:
        """Reserve places for up to `wanted` calls without waiting; gives how many."""
        ...

    def start(self, works: Sequence[LcWork], *, reserved: int) -> None:
        """Start claimed requests in `reserved` places, and give back the places that are not used."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LcDeciders:
    """What decides where LC requests go, and on what view of the fleet."""

    policy_of: Callable[[int], LcPolicy]
    """The policy of a run's system. Raises: PolicyFailed where it cannot be loaded."""
    view: FleetView
    settings: LcSettings
    run_now_s: Callable[[int], float]
    """The time of a run: wall seconds since it began."""

    def policy(self, run_id: int) -> tuple[LcPolicy, str]:
        """The policy that is asked for a run, and why it is the fallback where its own cannot be loaded; empty where it can."""
        try:
            return self.policy_of(run_id), ""
        except PolicyFailed as error:
            return LC_FALLBACK, in_one_line(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStart:
    """How this process itself starts the requests that it dispatches."""

    starter: LcStarter
    owner: str
    """This process, as `HOST:PID`."""
    lease_s: float
    """Seconds that they stand without a heartbeat of this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LcDispatch:
    """LC dispatch for one cluster by one worker process, one call per batch."""

    deciders: LcDeciders
    requests: LcRequests
    publisher: Publisher
    local: LocalStart | None
    """None: everything goes through the `exec` queue."""
    lease_s: float
    """Seconds from the record of a dispatch until a request whose execution nobody has begun is released again."""
    tracing: LcTracing | None = None
    """Makes the spans of what is dispatched; None: nobody wants any."""
    sampling: WeighingRate | None = None
    """Of how many requests the candidates are kept; None: of none."""

    def dispatch(self, run_id: int, cluster: str, request_ids: Sequence[int]) -> dict[str, int]:
        """Plan and record one batch. A second delivery finds no row `released` any more and does nothing."""
        policy, refused = self.deciders.policy(run_id)
        # 1. Gather. Nothing below reads the database again.
        begin = time.perf_counter()
        seen = self.deciders.view.current()
        arrivals = self.requests.waiting_lc(run_id, request_ids, seen)
        if len(arrivals) == 0:
            return {"considered": 0, "dispatched": 0}
        gathered = time.perf_counter()
        # 2. Decide.
        cycle = f"the dispatch of cluster {cluster} for run {run_id}"
        now_s = self.deciders.run_now_s(run_id)
        may = 0 if self.sampling is None else self.sampling.take(min(len(arrivals), MOST_A_DECISION))
        planned = self.deciders.view.plan(
            policy, arrivals, seen, self.deciders.settings, cycle=cycle, now_s=now_s, keeps_asked=may > 0
        )
        plan, snapshot, asked = planned.plan, planned.snapshot, planned.asked
        decided = time.perf_counter()
        weighed, used = "", 0
        if asked is not None:
            as_decided = DecidedLc(
                run_id=run_id, policy=policy, plan=plan, arrivals=arrivals, snapshot=asked, settings=self.deciders.settings
            )
            weighed, used = lc_candidates(as_decided, most=may)
        if self.sampling is not None and used < may:
            self.sampling.give_back(may - used)
        # 3. Apply: recorded before sent, so that the keeper can send again.
        decision = DecisionRecord(
            kind="lc",
            cluster=cluster,
            policy=plan.policy,
            checkpoint="",
            considered=len(arrivals),
            placed=int(np.count_nonzero(plan.node >= 0)),
            unplaced=int(np.count_nonzero((plan.node < 0) & ~plan.shed)),
            late=int(np.count_nonzero(plan.late)),
            shed=int(np.count_nonzero(plan.shed)),
            snapshot_ms=(gathered - begin) * 1e3,
            decide_ms=(decided - gathered) * 1e3,
            note="; ".join(filter(None, (refused, plan.fallback_reason, lc_left_waiting(arrivals, plan, snapshot)))),
            weighed=weighed,
        )
        here, reserved = None, 0
        if self.local is not None:
            rows = np.flatnonzero((plan.node >= 0) & ~plan.shed)
            reserved = self.local.starter.reserve(len(rows))
            starts = np.zeros(len(arrivals), bool)
            starts[rows[:reserved]] = True
            here = StartHere(rows=starts, owner=self.local.owner, lease_s=self.local.lease_s, planned_s=now_s)
        started: Sequence[LcWork] = ()
        try:
            dispatched = self.requests.record_dispatch(run_id, arrivals, plan, snapshot, decision, lease_s=self.lease_s, here=here)
            started = dispatched.started
        finally:
            self.deciders.view.recorded(planned)
            if self.local is not None:
                self.local.starter.start(started, reserved=reserved)
        handing_s, handed = time.time(), time.perf_counter()
        if dispatched.request_ids:
            try:
                self.publisher.executions(run_id, cluster, dispatched)
            except BrokerUnavailable as error:
                log.warning("executions_not_published", run_id=run_id, cluster=cluster, error=str(error))
        if self.tracing is not None:  # after the calls have begun, which need not wait for it
            began_s = handing_s - (handed - begin)
            shed = arrivals.request_id[plan.shed].tolist()
            self.tracing.dispatched(run_id, request_ids, dispatched, shed, began_s=began_s, policy=plan.policy)
            if dispatched.request_ids:
                self.tracing.handed_on(run_id, dispatched, began_s=handing_s)
        return {"considered": len(arrivals), "dispatched": len(dispatched.request_ids) + len(started)}
