"""A candidate beside the live policy: it sees the same requests and the same fleet, and nothing comes of its plan but a row."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import structlog
from numpy.typing import NDArray

from tango.control.checkpoint_roles import ShadowCandidate
from tango.domain.checkpoints import SHORT, ShadowDecision
from tango.domain.plans import BePlan
from tango.domain.requests import BePending
from tango.domain.snapshot import FleetSnapshot
from tango.settings import BeSettings
from tango.systems import decided_be, in_one_line

log = structlog.get_logger(__name__)


def shadow_decision(
    candidate: ShadowCandidate, pending: BePending, snapshot: FleetSnapshot, done: BePlan, done_ms: float, settings: BeSettings
) -> ShadowDecision:
    """The decision of the candidate for the same requests and fleet for which `done` was decided.

    Skipped, with the reason, where the candidate could not be loaded, failed, or rests because it was slower than the budget of live
    decisions in three ticks running.
    """
    beside = ShadowDecision(
        run_ids=tuple(sorted({int(run) for run in pending.run_id})),
        policy=done.policy,
        live=done.checkpoint,
        candidate=candidate.digest,
        considered=len(pending),
        live_placed=int(np.count_nonzero(done.node >= 0)),
        live_ms=done_ms,
    )
    if candidate.policy is None:
        return replace(beside, skipped=True, reason=candidate.refused)
    began_s = time.perf_counter()
    try:
        plan = decided_be(candidate.policy, pending, snapshot, settings, cycle="the shadow's placement of BE")
    except Exception as error:  # whatever it is, the tick has been carried out and the next one comes
        log.warning("candidate_failed", digest=candidate.digest[:SHORT], error=str(error))
        return replace(beside, skipped=True, reason=in_one_line(error)[:200])
    if plan.fallback_reason:
        return replace(beside, skipped=True, reason=plan.fallback_reason)
    return replace(
        beside,
        candidate_ms=(time.perf_counter() - began_s) * 1e3,
        candidate_placed=int(np.count_nonzero(plan.node >= 0)),
        different=int(np.count_nonzero(plan.node != done.node)),
        live_cpu_share=cpu_share(pending, snapshot, done.node),
        candidate_cpu_share=cpu_share(pending, snapshot, plan.node),
    )


def cpu_share(pending: BePending, snapshot: FleetSnapshot, node: NDArray[np.int32]) -> float | None:
    """Mean share of its CPU limit that a placed request may expect on its node; None where none was placed.

    What LC leaves now over the limits of all BE there, this plan's included, and at most 1: what `load-greedy` looks at.
    """
    rows = node[node >= 0]
    if len(rows) == 0:
        return None
    leaves = np.maximum(0.0, snapshot.cpu_allocatable - snapshot.lc_cpu_in_use)
    wanted = np.maximum(1.0, snapshot.with_placed(pending, node).be_cpu_limit)
    return float(np.minimum(1.0, leaves / wanted)[rows].mean())
