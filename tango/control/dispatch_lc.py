"""Dispatch: choose node and cluster for a batch of LC arrivals, record the choice, then tell the chosen clusters."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from tango.domain.plans import LcPlan
from tango.domain.requests import LcArrivals
from tango.domain.runs import DecisionRecord
from tango.domain.snapshot import FleetSnapshot
from tango.errors import BrokerUnavailable
from tango.ports import EventLog, Publisher, RequestStore
from tango.settings import LcSettings, LeaseSettings

log = structlog.get_logger(__name__)

LcPolicy = Callable[[LcArrivals, FleetSnapshot, LcSettings], LcPlan]


@dataclass(slots=True)
class SnapshotCache:
    """The last snapshot of this process, reused for a moment, with what this process has dispatched since counted in.

    Not locked: the caller holds its own lock around a dispatch, because planning and counting belong together.
    """

    read: Callable[[], FleetSnapshot]
    max_age_s: float
    monotonic: Callable[[], float] = time.monotonic
    _snapshot: FleetSnapshot | None = None
    _read_at_s: float = 0.0

    def current(self) -> FleetSnapshot:
        """A snapshot not older than `max_age_s`."""
        now_s = self.monotonic()
        if self._snapshot is None or now_s - self._read_at_s > self.max_age_s:
            self._snapshot, self._read_at_s = self.read(), now_s
        return self._snapshot

    def count_in(self, arrivals: LcArrivals, plan: LcPlan) -> None:
        """Add planned requests to the snapshot's in-flight columns, so that the next plan sees them."""
        if self._snapshot is None:
            return
        sent = plan.node >= 0
        where = (arrivals.service[sent], plan.node[sent])
        np.add.at(self._snapshot.in_flight, where, 1.0)
        np.add.at(self._snapshot.in_flight_work_s, where, arrivals.cpu_work_s[sent])


def dispatch_waiting_lc(
    run_id: int,
    cluster: str,
    request_ids: Sequence[int],
    *,
    policy: LcPolicy,
    requests: RequestStore,
    events: EventLog,
    snapshots: SnapshotCache,
    publisher: Publisher,
    settings: LcSettings,
    lease: LeaseSettings,
) -> dict[str, int]:
    """Plan and record one batch. Twice: the rows are no longer `released`, so the second finds nothing to do."""
    # 1. Gather. Nothing below reads the database again.
    begin = time.perf_counter()
    snapshot = snapshots.current()
    arrivals = requests.waiting_lc(run_id, request_ids, snapshot)
    if len(arrivals) == 0:
        return {"considered": 0, "dispatched": 0}
    gathered = time.perf_counter()
    # 2. Decide.
    plan = policy(arrivals, snapshot, settings)
    decided = time.perf_counter()
    # 3. Apply: recorded before sent, so that the reconciler can send again.
    dispatched = requests.record_dispatch(run_id, arrivals, plan, snapshot, lease_s=lease.dispatch_s)
    snapshots.count_in(arrivals, plan)
    try:
        publisher.executions(run_id, dispatched)
    except BrokerUnavailable as error:
        log.warning("executions_not_published", run_id=run_id, cluster=cluster, error=str(error))
    applied = time.perf_counter()
    won = sum(len(ids) for ids, _ in dispatched.by_cluster.values())
    record = DecisionRecord(
        kind="lc",
        cluster=cluster,
        policy=plan.policy,
        checkpoint="",
        considered=len(arrivals),
        placed=won,
        unplaced=int(np.count_nonzero((plan.node < 0) & ~plan.shed)),
        late=int(np.count_nonzero(plan.late)),
        shed=int(np.count_nonzero(plan.shed)),
        snapshot_ms=(gathered - begin) * 1e3,
        decide_ms=(decided - gathered) * 1e3,
        apply_ms=(applied - decided) * 1e3,
    )
    events.decision(record, run_ids=(run_id,))
    return {"considered": len(arrivals), "dispatched": won}
