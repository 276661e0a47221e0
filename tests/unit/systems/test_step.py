"""The step of both worlds: ask, check, refuse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tango.domain.plans import BePlan, LcPlan
from tango.domain.requests import BePending, LcArrivals
from tango.domain.smallest import smallest_arrivals, smallest_pending, smallest_snapshot
from tango.domain.snapshot import FleetSnapshot
from tango.errors import CheckpointError, ImpossiblePlan, PolicyFailed
from tango.scheduling.be_policies import place_load_greedy
from tango.settings import BeSettings, LcSettings
from tango.systems import LC_FALLBACK, decided_be, decided_lc
from tests.fakes.be_worlds import asking

BE, LC = BeSettings(), LcSettings()
PENDING, ARRIVALS = smallest_pending(), smallest_arrivals()


def to_node(node: object) -> Callable[[BePending, FleetSnapshot, BeSettings], BePlan]:
    """A BE policy that says this node, whatever it is."""

    def mine(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
        return BePlan(node=node, policy="mine")  # type: ignore[arg-type]

    return mine


def failing(error: Exception) -> Callable[..., BePlan]:
    """A policy that raises."""

    def mine(*given: object) -> BePlan:
        raise error

    return mine


def test_a_plan_that_can_be_carried_out_is_given_as_row_numbers() -> None:
    """Whatever type the policy wrote its nodes in."""
    plan = decided_be(to_node([0.0]), PENDING, smallest_snapshot(), BE, cycle="a test")

    assert (plan.node.tolist(), plan.node.dtype, plan.policy, plan.fallback_reason) == ([0], np.int32, "mine", "")


@pytest.mark.parametrize("node", [[1], [-2], [0.5], [0, 0], ["n"], None], ids=str)
def test_without_a_fallback_an_impossible_plan_is_raised(node: object) -> None:
    """As in a simulation, whose figures would be those of another policy."""
    with pytest.raises(ImpossiblePlan) as caught:
        decided_be(to_node(node), PENDING, smallest_snapshot(), BE, cycle="a test")
    assert (caught.value.policy, caught.value.cycle) == ("mine", "a test")


def test_with_a_fallback_an_impossible_plan_is_refused_and_the_reason_names_policy_and_rows() -> None:
    """As live, where requests wait: nothing of the plan is applied, and the decision says whose plan it was."""
    plan = decided_be(to_node([7]), PENDING, smallest_snapshot(), BE, cycle="a test", fallback=place_load_greedy)

    assert (plan.node.tolist(), plan.policy) == ([0], "load-greedy")
    assert "'mine'" in plan.fallback_reason
    assert "row 0 (request 0): node 7" in plan.fallback_reason
    assert "\n" not in plan.fallback_reason


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), CheckpointError("no such file"), KeyError()], ids=repr)
def test_a_policy_that_raises_is_treated_as_one_with_an_impossible_plan(error: Exception) -> None:
    """Also where it raises an error of Tango's own, such as a checkpoint that cannot be read."""
    plan = decided_be(failing(error), PENDING, smallest_snapshot(), BE, cycle="a test", fallback=place_load_greedy)

    assert (plan.node.tolist(), plan.policy) == ([0], "load-greedy")
    assert str(error) in plan.fallback_reason
    assert plan.fallback_reason


def test_without_a_fallback_what_a_policy_raises_names_the_policy() -> None:
    """By the name under which it was asked for, or by where it stands."""
    with pytest.raises(PolicyFailed, match=r"policy 'by-name' failed in a test, at .*test_step.py:\d+: ZeroDivisionError: by zero"):
        decided_be(failing(ZeroDivisionError("by zero")), PENDING, smallest_snapshot(), BE, cycle="a test", name="by-name")
    with pytest.raises(PolicyFailed, match=r"test_step:failing.*mine"):
        decided_be(failing(ZeroDivisionError("by zero")), PENDING, smallest_snapshot(), BE, cycle="a test")


def test_a_fallback_whose_plan_is_impossible_too_is_a_defect_and_is_raised() -> None:
    """Nothing is applied that was not checked."""
    with pytest.raises(ImpossiblePlan):
        decided_be(to_node([7]), PENDING, smallest_snapshot(), BE, cycle="a test", fallback=to_node([8]))


def test_what_a_policy_writes_into_what_it_was_shown_changes_nothing() -> None:
    """It may count down in its snapshot and its requests; the check, and whoever plans next, see what there was."""
    snapshot, pending = smallest_snapshot(), asking(PENDING, cpu_request=np.full(1, 400.0))

    def scribbling(own: BePending, seen: FleetSnapshot, settings: BeSettings) -> BePlan:
        seen.cpu_allocatable[...], own.cpu_request_millicores[...] = 1e9, 1e6
        return BePlan(node=np.zeros(1, np.int32), policy="mine")

    plan = decided_be(scribbling, pending, snapshot, BE, cycle="a test")

    assert plan.node.tolist() == [0]
    assert (snapshot.cpu_allocatable.tolist(), pending.cpu_request_millicores.tolist()) == ([1000.0], [400.0])


def test_an_lc_plan_is_asked_for_checked_and_refused_alike() -> None:
    """The built-in greedy dispatch stands in."""

    def mine(arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
        nobody = np.zeros(1, np.bool_)
        return LcPlan(node=np.full(1, 3, np.int32), late=nobody, shed=nobody, expected_s=np.zeros(1), policy="mine")

    plan = decided_lc(mine, ARRIVALS, smallest_snapshot(), LC, cycle="a test", fallback=LC_FALLBACK)

    assert (plan.node.tolist(), plan.policy) == ([0], "load-greedy")
    assert "'mine'" in plan.fallback_reason
    assert "node 3" in plan.fallback_reason
    with pytest.raises(ImpossiblePlan):
        decided_lc(mine, ARRIVALS, smallest_snapshot(), LC, cycle="a test")
