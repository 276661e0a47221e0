"""Where BE may be placed: not where it is barred, and not where LC waits, for as long as it has to give way. In both worlds."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from tango.domain.placement_question import PlacementQuestion
from tango.domain.plans import BePlan
from tango.domain.requests import BePending
from tango.domain.snapshot import FleetSnapshot

Ask = Callable[[BePending, FleetSnapshot], BePlan]
"""A BE policy as it is asked here."""


def planned(ask: Ask, question: PlacementQuestion) -> BePlan:
    """The plan of one placement, with no pod of a service where it is barred, and one pod at the most where a pause is just over.

    Services that are barred alike are planned together, those with the oldest request first, and every policy sees the nodes that are not
    open to them as not ready.
    """
    plan = _planned_where_open(ask, question)
    if question.pauses.states:
        plan = replace(plan, node=question.pauses.one_of_each(question.pending.service, plan.node, question.snapshot))
    return plan


def _planned_where_open(ask: Ask, question: PlacementQuestion) -> BePlan:
    pending, snapshot, crowded, barred = question.pending, question.snapshot, question.crowded, question.barred
    if not barred.any():
        return planned_behind_lc(ask, pending, snapshot, crowded, lc_first_s=question.lc_first_s)
    masks, first, alike = np.unique(barred[pending.service], axis=0, return_index=True, return_inverse=True)
    node, plans = np.full(len(pending), -1, np.int32), list[BePlan]()
    # Whose oldest request is the oldest comes first: by the masks, services that are barred somewhere would always come last.
    for k in np.argsort(first).tolist():
        mask, rows = masks[k], np.flatnonzero(alike.reshape(-1) == k)
        own = pending.rows(rows)
        open_to_them = replace(snapshot, node_ready=snapshot.node_ready & ~mask)
        plan = planned_behind_lc(ask, own, open_to_them, crowded, lc_first_s=question.lc_first_s)
        node[rows] = plan.node
        snapshot = snapshot.with_placed(own, plan.node)
        plans.append(plan)
    return BePlan(
        node=node,
        policy="+".join(dict.fromkeys(p.policy for p in plans)),
        checkpoint="".join(dict.fromkeys(p.checkpoint for p in plans)),
        fallback_reason="; ".join(dict.fromkeys(p.fallback_reason for p in plans if p.fallback_reason)),
    )


def planned_behind_lc(
    ask: Ask,
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
