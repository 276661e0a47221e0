"""Whether a plan can be carried out at all. A policy may come from anywhere; what it returns is looked at before anything is applied."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place
from tango.domain.plans import BePlan, LcPlan
from tango.domain.requests import BePending, LcArrivals
from tango.domain.resource_axis import lacks, quantity
from tango.domain.snapshot import FleetSnapshot
from tango.errors import ImpossiblePlan


def check_be_plan(plan: BePlan, pending: BePending, snapshot: FleetSnapshot, *, cycle: str) -> NDArray[np.int32]:
    """The nodes of a BE plan as row numbers, -1 for what stays pending.

    Raises: ImpossiblePlan for a wrong shape, a node that does not exist or is not ready, or more than a node can hold.
    """
    node = _nodes(plan.node, len(pending), snapshot, plan.policy, cycle, lambda k: f"request {pending.request_id[k]}")
    placed = np.flatnonzero(node >= 0)
    rows = node[placed]
    bad = [
        f"row {k} (request {pending.request_id[k]}): node {snapshot.node_key(node[k])} is not ready"
        for k in placed[~snapshot.node_ready[rows]].tolist()
    ]
    for name, size, free in zip(snapshot.resources.names, pending.requests, snapshot.free, strict=True):
        given = np.bincount(rows, weights=size[placed], minlength=len(free)).astype(np.float64)
        for n in np.flatnonzero(lacks(given, free)).tolist():
            whose = ", ".join(str(k) for k in placed[rows == n][:8].tolist())
            bad.append(
                f"rows {whose}: {name} requests of {quantity(name, given[n])} for node {snapshot.node_key(n)}, "
                f"which has {quantity(name, free[n])} free"
            )
    if bad:
        raise ImpossiblePlan(policy=plan.policy, cycle=cycle, rows=bad)
    return node


def check_lc_plan(plan: LcPlan, arrivals: LcArrivals, snapshot: FleetSnapshot, *, cycle: str) -> NDArray[np.int32]:
    """The nodes of an LC plan as row numbers, -1 where the plan has none.

    Raises: ImpossiblePlan for a wrong shape, a node that does not exist or has no ready instance of the service.
    """
    node = _nodes(plan.node, len(arrivals), snapshot, plan.policy, cycle, lambda k: f"request {arrivals.request_id[k]}")
    for name, column in (("late", np.asarray(plan.late)), ("shed", np.asarray(plan.shed))):
        if column.shape != (len(arrivals),) or column.dtype.kind != "b":
            found = f"{name} has shape {column.shape} and type {column.dtype}, expected true or false for each of {len(arrivals)} requests"
            raise ImpossiblePlan(policy=plan.policy, cycle=cycle, rows=[found])
    placed = np.flatnonzero(node >= 0)
    ready = snapshot.node_ready[node[placed]] & (snapshot.instance_limit[arrivals.service[placed], node[placed]] > 0)
    bad = [
        f"row {k} (request {arrivals.request_id[k]}): node {snapshot.node_key(node[k])} has no ready instance of "
        f"{snapshot.services[arrivals.service[k]].name}"
        for k in placed[~ready].tolist()
    ]
    if bad:
        raise ImpossiblePlan(policy=plan.policy, cycle=cycle, rows=bad)
    return node


@in_place
def lc_nodes_are_possible(
    node: NDArray[np.int32], service: NDArray[np.int32], node_ready: NDArray[np.bool_], instance_limit: NDArray[np.float64]
) -> bool:
    """Whether `check_lc_plan` would pass these nodes (m,) of requests of these services (m,), by columns of the snapshot: some hundred
    nanoseconds, for plans that are made many times a second."""
    for row in range(len(node)):
        n = node[row]
        if n == -1:
            continue
        if n < 0 or n >= len(node_ready) or not node_ready[n] or not instance_limit[service[row], n] > 0.0:
            return False
    return True


def _nodes(
    node: object, count: int, snapshot: FleetSnapshot, policy: str, cycle: str, who: Callable[[int], str]
) -> NDArray[np.int32]:
    values = np.asarray(node)
    if values.shape != (count,) or values.dtype.kind not in "iuf":
        found = f"node has shape {values.shape} and type {values.dtype}, expected one row number for each of {count} requests"
        raise ImpossiblePlan(policy=policy, cycle=cycle, rows=[found])
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
        bad = (whole != values) | (whole < -1) | (whole >= len(snapshot.nodes))
    if bad.any():
        texts = [
            f"row {k} ({who(k)}): node {values[k]}, expected a row from 0 to {len(snapshot.nodes) - 1}, or -1"
            for k in np.flatnonzero(bad).tolist()
        ]
        raise ImpossiblePlan(policy=policy, cycle=cycle, rows=texts[:32], total=len(texts))
    return whole.astype(np.int32)
