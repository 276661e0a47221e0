"""The budget of an LC request is its deadline less now: what cannot be answered in time any more is late, or shed before it costs others.

A plan is made for the whole target, as in the simulator, where a request is dispatched in the window in which it came. Live it may have
waited: for its message under overload, for another attempt after a node that hung. `late_or_shed` is the rule, request by request, for
the simulator's engine and a live dispatcher's batches too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place, inlined
from tango.domain.patience import patience_s
from tango.domain.plans import LcPlan
from tango.domain.requests import CalledArrivals, LcArrivals
from tango.domain.services import Service


@inlined
def late_or_shed(
    waited_s: float, expected_s: float, has_node: bool, late: bool, target_s: float, until_s: float, spare_s: float
) -> tuple[bool, bool]:
    """Whether a request is late, and whether it is shed; `late` is what its policy says.

    It has waited for `waited_s` since its due time. Its answer is expected `expected_s` from now, and may well come `spare_s` later; one
    without a node is waited with for as long as it may be. `until_s` is when it is given up, in seconds after its due time.
    """
    if not has_node:
        return False, waited_s > until_s
    answered_s = waited_s + expected_s
    shed = answered_s + spare_s > until_s
    return (late or answered_s > target_s) and not shed, shed


@in_place
def _count_in_what_is_left(
    now_s: float,
    due_s: NDArray[np.float64],
    expected_s: NDArray[np.float64],
    target_s: NDArray[np.float64],
    until_s: NDArray[np.float64],
    spare_s: NDArray[np.float64],
    node: NDArray[np.int32],
    late: NDArray[np.bool_],
    shed: NDArray[np.bool_],
) -> None:
    """`late_or_shed` for m requests; the last three columns are read and written."""
    for row in range(len(node)):
        if not shed[row]:
            waited_s = max(0.0, now_s - due_s[row])
            late[row], shed[row] = late_or_shed(
                waited_s, expected_s[row], node[row] >= 0, late[row], target_s[row], until_s[row], spare_s[row]
            )
        if shed[row]:
            node[row], late[row] = -1, False


def within_budget(
    plan: LcPlan, arrivals: LcArrivals, services: Sequence[Service], *, now_s: float, margin_s: NDArray[np.float64] | float = 0.0
) -> LcPlan:
    """The plan with what is left of each request's time counted in; `now_s` in wall seconds since the run began.

    A request is late whose answer is expected after its target, and shed where that is after `Service.shed_after_targets` targets or
    after its caller's patience, or where it has waited so long without a node. `margin_s`, (s,) or one for all, is how much later than
    expected an answer may well come; it counts where something is to be shed for that.
    """
    until_s = patience_s(arrivals.target_s, np.array([s.shed_after_targets for s in services])[arrivals.service])
    if isinstance(arrivals, CalledArrivals):
        until_s = np.minimum(until_s, arrivals.patience_s)
    spare_s = np.broadcast_to(np.asarray(margin_s, np.float64), len(services))[arrivals.service]
    # Copies of one type each, whatever a policy of somebody else's gave, so that the step is compiled once.
    node, late, shed = np.array(plan.node, np.int32), np.array(plan.late, np.bool_), np.array(plan.shed, np.bool_)
    expected_s = np.array(plan.expected_s, np.float64)
    _count_in_what_is_left(now_s, arrivals.due_s, expected_s, arrivals.target_s, until_s, spare_s, node, late, shed)
    return replace(plan, node=node, late=late, shed=shed)
