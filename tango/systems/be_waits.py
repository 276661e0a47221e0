"""BE gives way to LC that waits: where it may be placed meanwhile, in both worlds."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from tango.domain.plans import BePlan
from tango.domain.requests import BePending
from tango.domain.snapshot import FleetSnapshot


def planned_behind_lc(
    ask: Callable[[BePending, FleetSnapshot], BePlan],
    pending: BePending,
    snapshot: FleetSnapshot,
    crowded: Collection[str],
    *,
    lc_first_s: float,
) -> BePlan:
    """What goes to clusters that are not crowded by LC; then, what has given way for `lc_first_s`, to the others too.

    The policy sees nodes that are not open to a request as not ready.
    """
    is_crowded = np.array([name in crowded for name in snapshot.clusters], np.bool_)[snapshot.node_cluster]
    if not is_crowded.any():
        return ask(pending, snapshot)
    plan = ask(pending, replace(snapshot, node_ready=snapshot.node_ready & ~is_crowded))
    held = np.flatnonzero((plan.node < 0) & (pending.waited_s >= lc_first_s))
    if len(held):
        # Only where the first plan has put nothing, so that no headroom is given twice.
        full = replace(snapshot, node_ready=snapshot.node_ready & is_crowded)
        node = plan.node.copy()
        node[held] = ask(pending.rows(held), full).node
        plan = replace(plan, node=node)
    return plan
