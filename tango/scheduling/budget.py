"""The budget of an LC request is its deadline less now: what cannot be answered in time any more is late, or shed before it costs others.

A plan is made for the whole target, as in the simulator, where a request is dispatched in the window in which it came. Live it may have
waited: for its message under overload, for another attempt after a node that hung.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tango.domain.patience import patience_s
from tango.domain.plans import LcPlan
from tango.domain.requests import CalledArrivals, LcArrivals
from tango.domain.services import Service


def within_budget(
    plan: LcPlan, arrivals: LcArrivals, services: Sequence[Service], *, now_s: float, margin_s: NDArray[np.float64] | float = 0.0
) -> LcPlan:
    """The plan with what is left of each request's time counted in; `now_s` in wall seconds since the run began.

    A request is late whose answer is expected after its target, and shed where that is after `Service.shed_after_targets` targets or
    after its caller's patience, or where it has waited so long without a node. `margin_s`, (s,) or one for all, is how much later than
    expected an answer may well come; it counts where something is to be shed for that.
    """
    waited_s = np.maximum(0.0, now_s - arrivals.due_s)
    without_node = (plan.node < 0) & ~plan.shed
    answered_s = waited_s + np.where(without_node, 0.0, plan.expected_s)
    late = plan.late | (answered_s > arrivals.target_s)
    shed_after_targets = np.array([service.shed_after_targets for service in services])[arrivals.service]
    until_s = patience_s(arrivals.target_s, shed_after_targets)
    if isinstance(arrivals, CalledArrivals):
        until_s = np.minimum(until_s, arrivals.patience_s)
    spare_s = np.where(without_node, 0.0, np.broadcast_to(margin_s, len(services))[arrivals.service])
    shed = plan.shed | (answered_s + spare_s > until_s)
    return replace(plan, node=np.where(shed, -1, plan.node).astype(np.int32), late=late & ~shed & ~without_node, shed=shed)
