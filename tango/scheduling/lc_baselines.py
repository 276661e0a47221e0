"""LC policies to compare with; each sees the same snapshot and counts what it gives out in the tick."""

from __future__ import annotations

import numpy as np

from tango.domain.plans import LcPlan
from tango.domain.requests import LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.completion import LcView, lc_view
from tango.scheduling.lc_flow import marginal_s, plan_dss_lc, plan_entry_only
from tango.settings import LcSettings


def plan_load_greedy(arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
    """Least expected completion within the latency budget, one request at a time, anywhere in the fleet."""
    plan = plan_dss_lc(arrivals, snapshot, settings)
    return LcPlan(node=plan.node, late=plan.late, shed=plan.shed, expected_s=plan.expected_s, policy="load-greedy")


def plan_ceres(arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
    """Least loaded instance of the entry cluster."""
    return plan_entry_only(arrivals, snapshot, settings, "ceres")


def plan_round_robin(arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
    """Ready endpoints of the entry cluster in turn, as kube-proxy spreads over a Service; the turn follows the request's id."""
    m = len(arrivals)
    node, expected_s = np.full(m, -1, np.int32), np.full(m, np.inf)
    for entry in np.unique(arrivals.entry_cluster):
        view = lc_view(arrivals, snapshot, int(entry))
        for row in np.flatnonzero(arrivals.entry_cluster == entry):
            s = arrivals.service[row]
            ready = np.flatnonzero((view.limit_cores[s] > 0) & (snapshot.node_cluster == entry))
            if len(ready):
                chosen = ready[int(arrivals.request_id[row]) % len(ready)]
                node[row], expected_s[row] = chosen, _expected(view, s, chosen)
    late = (node >= 0) & (expected_s > arrivals.deadline_s - arrivals.due_s)
    return LcPlan(node=node, late=late, shed=np.zeros(m, bool), expected_s=expected_s, policy="round-robin")


def plan_scoring(arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
    """Highest weighted score of free CPU, free memory, nearness and short queue, each scaled to 0..1 over the fleet."""
    m = len(arrivals)
    node, expected_s = np.full(m, -1, np.int32), np.full(m, np.inf)
    free_cpu = 1 - snapshot.cpu_used / np.maximum(1.0, snapshot.cpu_allocatable)
    free_memory = snapshot.memory_free / np.maximum(1.0, snapshot.memory_allocatable)
    for entry in np.unique(arrivals.entry_cluster):
        view = lc_view(arrivals, snapshot, int(entry))
        for row in np.flatnonzero(arrivals.entry_cluster == entry):
            s = arrivals.service[row]
            queue = view.in_flight[s] / np.maximum(1e-9, view.limit_cores[s])
            near = view.network_s[s] / max(1e-9, float(view.network_s[s].max()))
            score = (
                0.3 * free_cpu
                + 0.1 * free_memory
                - 0.3 * near
                - 0.3 * queue / max(1.0, float(queue[view.limit_cores[s] > 0].max(initial=0)))
            )
            score = np.where(view.limit_cores[s] > 0, score, -np.inf)
            if np.isfinite(score).any():
                chosen = int(np.argmax(score))
                node[row], expected_s[row] = chosen, _expected(view, s, chosen)
                view.in_flight[s, chosen] += 1
    late = (node >= 0) & (expected_s > arrivals.deadline_s - arrivals.due_s)
    return LcPlan(node=node, late=late, shed=np.zeros(m, bool), expected_s=expected_s, policy="scoring")


def _expected(v: LcView, s: int, n: int) -> float:
    return float(marginal_s(v.work_s[s], v.network_s[s, n], v.limit_cores[s, n], v.places[s, n], v.in_flight[s, n]))
