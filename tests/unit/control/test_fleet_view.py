"""The view's own thread, which reads while requests come."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from tango.control.fleet_view import RECORDED_WITHIN_S, SHEDDING_MAX_AGE_S, FleetView
from tango.domain.plans import LcPlan
from tango.domain.requests import LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.settings import LcSettings
from tests.fakes.control_world import control_world
from tests.fakes.store_world import LC_DECISION, WEB
from tests.fakes.worker_world import worker_world
from tests.waiting import until


def to_the_first_node(arrivals: LcArrivals, _snapshot: FleetSnapshot, _settings: LcSettings) -> LcPlan:
    """A policy that asks nothing."""
    n = len(arrivals)
    return LcPlan(node=np.zeros(n, np.int32), late=np.zeros(n, bool), shed=np.zeros(n, bool), expected_s=np.zeros(n))


def test_a_reading_that_breaks_does_not_end_the_thread_that_reads() -> None:
    """The second reading, the thread's first, meets a defect; the third is made all the same."""
    world, readings = control_world(), list[float]()

    def read() -> FleetSnapshot:
        readings.append(time.monotonic())
        if len(readings) == 2:
            raise ZeroDivisionError("a defect")
        return world.fleet.snapshot(at_s=0.0)

    view = FleetView(read, max_age_s=0.05)
    view.current()
    until(lambda: len(readings) >= 3, every_s=0.001)

    assert view.broken == 1


def test_a_plan_is_made_on_what_the_process_may_use_and_counted_in_what_it_knows() -> None:
    """A mask hides instances from the policy; what it gives out is in flight for the next plan all the same."""
    world = worker_world()
    run_id = world.released(WEB, WEB)
    seen: list[float] = []

    def masked(snapshot: FleetSnapshot) -> FleetSnapshot:
        return replace(snapshot, instance_count=np.zeros_like(snapshot.instance_count))

    def policy(arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
        assert snapshot.instance_count.sum() == 0
        seen.append(float(snapshot.in_flight.sum()))
        n = len(arrivals)
        return LcPlan(node=np.zeros(n, np.int32), late=np.zeros(n, bool), shed=np.zeros(n, bool), expected_s=np.zeros(n))

    view = FleetView(lambda: world.journal.snapshot(at_s=0.0), max_age_s=1000.0, masked=masked)
    for request_id in (0, 1):
        snapshot = view.current()
        view.plan(policy, world.journal.waiting_lc(run_id, [request_id], snapshot), snapshot, LcSettings(), cycle="test", now_s=0.0)

    assert seen == [0.0, 1.0]
    assert view.current().instance_count.sum() > 0


@pytest.mark.parametrize("shed", [False, True])
def test_while_requests_are_shed_each_batch_sees_what_others_have_sent_meanwhile(shed: bool) -> None:
    """Else a snapshot serves as long as its age allows."""
    world, now_s, readings = worker_world(), [1000.0], list[float]()
    run_id = world.released(WEB)

    def read() -> FleetSnapshot:
        readings.append(now_s[0])
        return world.journal.snapshot(at_s=0.0)

    def policy(arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
        n = len(arrivals)
        return LcPlan(
            node=np.full(n, -1 if shed else 0, np.int32), late=np.zeros(n, bool), shed=np.full(n, shed), expected_s=np.zeros(n)
        )

    view = FleetView(read, max_age_s=1000.0, monotonic=lambda: now_s[0])
    snapshot = view.current()
    view.plan(policy, world.journal.waiting_lc(run_id, [0], snapshot), snapshot, LcSettings(), cycle="test", now_s=0.0)
    now_s[0] += 2 * SHEDDING_MAX_AGE_S
    view.current()

    assert len(readings) == (2 if shed else 1)


def test_what_was_given_out_is_counted_once_before_and_after_it_is_recorded() -> None:
    """Of a reading only the view knows whether it can have a plan: not one that began before the plan was in the journal."""
    world, now_s = worker_world(), [1000.0]
    run_id = world.released(WEB)

    view = FleetView(lambda: world.journal.snapshot(at_s=0.0), max_age_s=1e6, monotonic=lambda: now_s[0])
    snapshot = view.current()
    arrivals = world.journal.waiting_lc(run_id, [0], snapshot)
    planned = view.plan(to_the_first_node, arrivals, snapshot, LcSettings(), cycle="test", now_s=0.0)
    counts = [view.current().in_flight.sum()]
    now_s[0] += 0.1
    view.refresh(if_older_than_s=0.0)
    counts.append(view.current().in_flight.sum())
    world.journal.record_dispatch(run_id, arrivals, planned.plan, planned.snapshot, LC_DECISION, lease_s=10.0)
    view.recorded(planned)
    for _ in range(2):
        now_s[0] += 0.1
        view.refresh(if_older_than_s=0.0)
        counts.append(view.current().in_flight.sum())

    assert counts == [1.0, 1.0, 1.0, 1.0]


def test_a_plan_that_is_never_recorded_is_forgotten() -> None:
    """Whoever made it has failed; its request is dispatched again."""
    world, now_s = worker_world(), [1000.0]
    run_id = world.released(WEB)

    view = FleetView(lambda: world.journal.snapshot(at_s=0.0), max_age_s=1e6, monotonic=lambda: now_s[0])
    snapshot = view.current()
    arrivals = world.journal.waiting_lc(run_id, [0], snapshot)
    view.plan(to_the_first_node, arrivals, snapshot, LcSettings(), cycle="test", now_s=0.0)
    now_s[0] += 2 * RECORDED_WITHIN_S
    view.refresh(if_older_than_s=0.0)

    assert view.current().in_flight.sum() == 0.0
