"""The view's own thread, which reads while requests come."""

from __future__ import annotations

import time

from tango.control.fleet_view import FleetView
from tango.domain.snapshot import FleetSnapshot
from tests.fakes.control_world import control_world


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
