"""The one compiled step of live dispatch is held to the steps that it is made of."""

from __future__ import annotations

import copy
from dataclasses import fields, replace

import numpy as np
import pytest

from tango.bench.worlds import arrivals_for, busy_snapshot, fleet_of_size
from tango.control.answer_margin import AnswerMargin
from tango.control.fleet_view import FleetView
from tango.domain.plans import LcPlan
from tango.domain.requests import CalledArrivals, LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.lc.rule import LC_RULES, LcRule
from tango.settings import LcSettings

FLEET = fleet_of_size(40)
SERVICES = tuple(replace(s, shed_after_targets=1.0 if k % 2 else 0.0) if s.target_ms else s for k, s in enumerate(FLEET.services))
BUSY = replace(busy_snapshot(FLEET), services=SERVICES)


def margin() -> AnswerMargin:
    """Of a process whose answers have come late."""
    found = AnswerMargin()
    for service in SERVICES:
        for _ in range(10):
            found.answered(service.name, late_by_s=1.0, target_s=(service.target_ms or 0.0) / 1e3)
    return found


def batches(entry: int) -> list[LcArrivals]:
    """Requests of all services, some of them late already, under a run that is twice as fast; callers' own; and none that is in time."""
    plain = arrivals_for(FLEET, 60, entry=entry)
    due_s = np.linspace(0.0, 1.0, len(plain))
    fast = replace(plain, due_s=due_s, target_s=plain.target_s / 2)
    own = {f.name: getattr(plain, f.name) for f in fields(LcArrivals)} | {"due_s": due_s}
    called = CalledArrivals(**own, patience_s=np.full(len(plain), 0.7), last_node=np.full(len(plain), -1, np.int32))
    return [fast, called, replace(plain, due_s=due_s - 100.0), fast]


@pytest.mark.parametrize("keep_late", [True, False])
@pytest.mark.parametrize("name", LC_RULES)
def test_a_batch_is_planned_and_counted_as_by_its_parts(name: str, keep_late: bool) -> None:
    """One batch after the other, on what those before it have left: by the step, and by the same rule where it is no rule of Tango's."""
    rule, settings = LC_RULES[name], LcSettings(keep_late=keep_late)

    def foreign(arrivals: LcArrivals, snapshot: FleetSnapshot, asked: LcSettings) -> LcPlan:
        return rule(arrivals, snapshot, asked)

    found = []
    for policy in (rule, foreign):
        # By a clock that stands still: while requests are shed, a view that is older than 20 ms would be read anew.
        view = FleetView(lambda: copy.deepcopy(BUSY), max_age_s=1e9, margin=margin(), monotonic=lambda: 0.0)
        seen = view.current()
        plans = [
            view.plan(policy, arrivals, seen, settings, cycle="a test", now_s=1.0)[0]
            for entry in (0, 3)
            for arrivals in batches(entry)
        ]
        found.append((plans, view.current()))
    (step, of_step), (parts, of_parts) = found

    assert isinstance(rule, LcRule)
    for one, other in zip(step, parts, strict=True):
        for column in ("node", "late", "shed", "expected_s"):
            np.testing.assert_array_equal(getattr(one, column), getattr(other, column))
            assert getattr(one, column).dtype == getattr(other, column).dtype
        assert one.policy == other.policy
    np.testing.assert_array_equal(of_step.in_flight, of_parts.in_flight)
    np.testing.assert_allclose(of_step.in_flight_work_s, of_parts.in_flight_work_s)
    assert any(plan.shed.any() for plan in step)
    assert any((plan.node >= 0).any() for plan in step)
