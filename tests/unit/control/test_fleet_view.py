"""The view's own thread, which reads while requests come."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from tango.control.fleet_view import FleetView
from tango.domain.plans import LcPlan
from tango.domain.requests import LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.settings import LcSettings
from tests.fakes.control_world import control_world
from tests.fakes.store_world import WEB
from tests.fakes.worker_world import worker_world


def test_a_reading_that_breaks_does_not_end_the_thread_that_reads() -> None:
    """The second reading, the thread's first, meets a defect; the third is made all the same."""
    world, readings = control_world(), list[float]()

    def read() -> FleetSnapshot:
        readings.append(time.monotonic())
        if len(readings) == 2:
            raise ZeroDivisionError("a defect")
        return world.fleet.snapshot(at_s=0.0)

    view = FleetView(read, max_age_s=0.05)
    deadline_s = time.monotonic() + 10.0
    view.current()
    while len(readings) < 3 and time.monotonic() < deadline_s:
        time.sleep(0.001)

    assert len(readings) >= 3
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
