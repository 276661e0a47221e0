"""Dispatch: choose node and cluster for a batch of LC arrivals, record the choice, then tell the chosen clusters."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import structlog

from tango.control.fleet_view import FleetView, LcPolicy
from tango.domain.runs import DecisionRecord
from tango.errors import BrokerUnavailable
from tango.ports import EventLog, Publisher, RequestStore
from tango.settings import LcSettings, LeaseSettings

log = structlog.get_logger(__name__)


def dispatch_waiting_lc(
    run_id: int,
    cluster: str,
    request_ids: Sequence[int],
    *,
    policy: LcPolicy,
    requests: RequestStore,
    events: EventLog,
    view: FleetView,
    publisher: Publisher,
    settings: LcSettings,
    lease: LeaseSettings,
) -> dict[str, int]:
    """Plan and record one batch. Twice: the rows are no longer `released`, so the second finds nothing to do."""
    # 1. Gather. Nothing below reads the database again.
    begin = time.perf_counter()
    seen = view.current()
    arrivals = requests.waiting_lc(run_id, request_ids, seen)
    if len(arrivals) == 0:
        return {"considered": 0, "dispatched": 0}
    gathered = time.perf_counter()
    # 2. Decide.
    plan, snapshot = view.plan(policy, arrivals, seen, settings)
    decided = time.perf_counter()
    # 3. Apply: recorded before sent, so that the reconciler can send again.
    dispatched = requests.record_dispatch(run_id, arrivals, plan, snapshot, lease_s=lease.dispatch_s)
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
