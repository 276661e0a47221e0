"""A call that failed on one node goes to another one: what a policy does not know, since it sees nodes and not what they have answered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tango.domain.plans import LcPlan
from tango.domain.requests import CalledArrivals, LcArrivals
from tango.domain.snapshot import FleetSnapshot


def tried_elsewhere(plan: LcPlan, arrivals: LcArrivals, snapshot: FleetSnapshot) -> LcPlan:
    """The plan with each caller's request that would go to the node of its last attempt sent to another one that has its service.

    That is the one with the shortest way and queue: round trip, and what is in flight there over the CPU of its instances. Where no other
    node has the service it goes to the same once more.
    """
    if not isinstance(arrivals, CalledArrivals):
        return plan
    again = np.flatnonzero((plan.node >= 0) & (plan.node == arrivals.last_node))
    if not len(again):
        return plan
    node = plan.node.copy()
    for k in again.tolist():
        service = int(arrivals.service[k])
        cores = snapshot.instance_limit[service] / 1e3
        usable = (cores > 0) & snapshot.node_ready
        usable[node[k]] = False
        if usable.any():
            way_s = snapshot.rtt_ms[int(arrivals.entry_cluster[k])][snapshot.node_cluster] / 1e3
            queue_s = snapshot.in_flight_work_s[service] / np.where(usable, cores, 1.0)
            node[k] = np.argmin(np.where(usable, way_s + queue_s, np.inf))
    return replace(plan, node=node)
