"""Why a decision has left requests without a node, in words for its note.

Words without figures: how many there were stands beside the note, and equal reasons are counted together.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from tango.domain.plans import LcPlan
from tango.domain.requests import BePending, LcArrivals
from tango.domain.snapshot import FleetSnapshot


def lc_left_waiting(arrivals: LcArrivals, plan: LcPlan, snapshot: FleetSnapshot) -> str:
    """An LC policy gives no node only where no instance of the service is ready within reach; empty: every request has one."""
    left = np.unique(arrivals.service[(plan.node < 0) & ~plan.shed])
    return f"no ready instance of {', '.join(snapshot.services[s].name for s in left.tolist())}" if len(left) else ""


def be_left_waiting(
    pending: BePending, node: NDArray[np.int32], snapshot: FleetSnapshot, crowded: Collection[str], barred: NDArray[np.bool_]
) -> str:
    """Of BE requests without a node, shape (k,), by what else has been placed: what no open node has free; clusters whose LC they wait
    for; or that the policy chose so. `barred` is (s, n): where pods of a service are not to go."""
    left = np.flatnonzero(node < 0)
    if not len(left):
        return ""
    free = snapshot.with_placed(pending, node).free
    is_crowded = np.array([name in crowded for name in snapshot.clusters], np.bool_)[snapshot.node_cluster]
    short, behind, beside = set[str](), set[str](), False
    # A batch has few sizes: one look for each.
    for size in np.unique(np.vstack([pending.service[left], pending.requests[:, left]]), axis=1).T:
        fits = free >= size[1:, None]
        is_open = snapshot.node_ready & ~barred[int(size[0])]
        if not is_open.any():
            short.add("no node is open to them")
        elif (behind_lc := fits.all(axis=0) & is_open).any():
            behind |= {snapshot.clusters[c] for c in np.unique(snapshot.node_cluster[behind_lc & is_crowded]).tolist()}
            beside |= not is_crowded[behind_lc].all()
        else:
            lacks = [name for name, has in zip(snapshot.resources.names, fits[:, is_open].any(axis=1), strict=True) if not has]
            short.add(f"no node has the {' nor the '.join(lacks)}" if lacks else "no node has all of what they ask for")
    reasons = sorted(short)
    if behind:
        reasons.append(f"LC comes first in {', '.join(sorted(behind))}")
    if beside:
        reasons.append("the policy left room unused")
    return f"left waiting: {'; '.join(reasons)}"
