"""The step of a live dispatcher's batches: the compiled planner is asked, checked and refused as any other policy is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tango.bench.worlds import arrivals_for, busy_snapshot, fleet_of_size
from tango.domain.plans import LcPlan
from tango.domain.requests import LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.budget import within_budget
from tango.scheduling.lc.batch_plan import BatchPlanner
from tango.scheduling.lc.rule import LC_RULES
from tango.scheduling.plan_checks import check_lc_plan, lc_nodes_are_possible
from tango.settings import LcSettings
from tango.systems import LC_FALLBACK
from tango.systems.batch_step import BatchStep

FLEET = fleet_of_size(8)
SEEN = busy_snapshot(FLEET)
ARRIVALS = arrivals_for(FLEET, 12, entry=0)
NO_MARGIN = np.zeros(len(SEEN.services))
NOW_S = 0.01


class Planner(BatchPlanner):
    """The real one, whose plans go wrong."""

    def __init__(self, spoil: Callable[[LcPlan], LcPlan]) -> None:
        super().__init__()
        self._spoil = spoil

    def plan(self, *given: object, **named: object) -> LcPlan:
        """As spoilt."""
        return self._spoil(super().plan(*given, **named))  # type: ignore[arg-type]


def to_node(node: int) -> Callable[[LcPlan], LcPlan]:
    """Its third request to this node."""

    def spoil(plan: LcPlan) -> LcPlan:
        changed = plan.node.copy()
        changed[2] = node
        return replace(plan, node=changed)

    return spoil


def failing(plan: LcPlan) -> LcPlan:
    """No plan at all."""
    raise ZeroDivisionError("by zero")


def decided(step: BatchStep, seen: FleetSnapshot = SEEN) -> LcPlan:
    """Of `dss-lc`."""
    return step.decided(LC_RULES["dss-lc"], ARRIVALS, seen, LcSettings(), cycle="a test", now_s=NOW_S, margin_s=NO_MARGIN)


def by_fallback(seen: FleetSnapshot = SEEN) -> LcPlan:
    """What is expected where the planner's plan is refused."""
    plan = LC_FALLBACK(ARRIVALS, seen, LcSettings())
    return within_budget(plan, ARRIVALS, seen.services, now_s=NOW_S)


def without_instances_on(node: int) -> FleetSnapshot:
    """The fleet, where nothing is ready on one node."""
    limit = SEEN.instance_limit.copy()
    limit[:, node] = 0.0
    return replace(SEEN, instance_limit=limit)


def test_a_plan_that_can_be_carried_out_is_the_planners_own() -> None:
    """And nothing of the snapshot has been written."""
    before = SEEN.in_flight.copy(), SEEN.in_flight_work_s.copy()

    plan = decided(BatchStep())

    assert (plan.policy, plan.fallback_reason) == ("dss-lc", "")
    assert (plan.node >= 0).all()
    np.testing.assert_array_equal(SEEN.in_flight, before[0])
    np.testing.assert_array_equal(SEEN.in_flight_work_s, before[1])


@pytest.mark.parametrize("node", [8, -2, 3])
def test_an_impossible_plan_is_refused_with_policy_and_row_and_the_fallback_decides(node: int) -> None:
    """A node that there is not, or one without a ready instance of the service."""
    seen = without_instances_on(3)

    plan = decided(BatchStep(Planner(to_node(node))), seen)

    assert plan.policy == LC_FALLBACK.name == "load-greedy"  # type: ignore[attr-defined]
    assert "policy 'dss-lc'" in plan.fallback_reason
    assert f"row 2 (request {ARRIVALS.request_id[2]})" in plan.fallback_reason
    expected = by_fallback(seen)
    for column in ("node", "late", "shed", "expected_s"):
        np.testing.assert_array_equal(getattr(plan, column), getattr(expected, column))


def test_a_planner_that_raises_is_refused_with_what_it_raised() -> None:
    """As a policy of anybody else's is; requests wait for a plan."""
    plan = decided(BatchStep(Planner(failing)))

    assert plan.policy == "load-greedy"
    assert "'dss-lc' failed in a test" in plan.fallback_reason
    assert "ZeroDivisionError: by zero" in plan.fallback_reason
    np.testing.assert_array_equal(plan.node, by_fallback().node)


@pytest.mark.parametrize("node", [-2, -1, 0, 3, 7, 8])
@pytest.mark.parametrize("is_ready", [True, False])
def test_the_quick_look_at_a_plan_finds_what_the_check_finds(node: int, is_ready: bool) -> None:
    """It stands before the check that names the rows, for the price of one call."""
    seen = replace(without_instances_on(3), node_ready=np.array([True] * 7 + [is_ready]))
    plan = to_node(node)(by_fallback(without_instances_on(7)))

    quick = lc_nodes_are_possible(plan.node, ARRIVALS.service, seen.node_ready, seen.instance_limit)

    assert quick == _passes(plan, ARRIVALS, seen)
    assert quick == (node in (-1, 0) or (node == 7 and is_ready))


def _passes(plan: LcPlan, arrivals: LcArrivals, seen: FleetSnapshot) -> bool:
    try:
        check_lc_plan(plan, arrivals, seen, cycle="a test")
    except Exception:
        return False
    return True
