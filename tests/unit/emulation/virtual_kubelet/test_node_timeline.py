"""The timeline puts arrivals, model events and answers on one timeline, exact however late its timers fire."""

from __future__ import annotations

import pytest

from tango.emulation.virtual_kubelet.node_timeline import NodeTimeline
from tests.fakes.manual_clock import ManualClock

Ends = list[tuple[str, float, float]]


def timeline_on(clock: ManualClock, cores: float = 4.0) -> NodeTimeline:
    """One node on a clock turned by hand; the wall clock stands a thousand seconds ahead."""
    return NodeTimeline([cores], beta=0.0, call_later=clock.call_later, clock=clock, wall=lambda: clock.now_s + 1000.0)


def test_late_timers_do_not_make_service_late() -> None:
    """Timers that fire 0.7 ms late leave starts and ends where the model has them."""
    clock = ManualClock(late_s=0.0007)
    timeline = timeline_on(clock)
    row = timeline.add_instance(0, limit_cores=1.0, memory_mib=100.0, concurrency=1)
    ends: Ends = []

    def arrive(name: str) -> None:
        timeline.at(
            {"a": 0.0101, "b": 0.0102}[name],
            lambda at_s: timeline.submit(0, row, 0.01, 1.0, at_s, lambda s, f: ends.append((name, s, f))) and None,
        )

    arrive("b")
    arrive("a")
    clock.run_to(1.0)

    assert [name for name, _, _ in ends] == ["a", "b"]
    assert [t for _, *times in ends for t in times] == pytest.approx([0.0101, 0.0201, 0.0201, 0.0301], abs=1e-12)


def test_steps_run_in_order_of_time_whatever_order_they_are_set_in() -> None:
    """Ties go by the order of asking."""
    clock = ManualClock()
    timeline = timeline_on(clock)
    seen: list[float] = []

    for at_s in (3.0, 1.0, 2.0, 1.0):
        timeline.at(at_s, seen.append)
    clock.run_to(10.0)

    assert seen == [1.0, 1.0, 2.0, 3.0]


def test_an_idle_timeline_sets_no_timers() -> None:
    """Nothing wakes the process when nothing runs."""
    clock = ManualClock()
    timeline = timeline_on(clock)
    timeline.add_instance(0, limit_cores=1.0, memory_mib=100.0, concurrency=1)

    clock.run_to(1000.0)

    assert clock.fired == 0


def test_a_step_may_change_the_node_it_is_about() -> None:
    """A pod that ends may start the next one from its own callback."""
    clock = ManualClock()
    timeline = timeline_on(clock)
    ends: list[float] = []

    def start(left: int) -> None:
        def ended(_started: float, finished: float) -> None:
            ends.append(finished)
            if left:
                start(left - 1)

        timeline.add_pod(0, weight=1.0, limit_cores=1.0, work_s=1.0, memory_mib=1.0, ended=ended)

    start(2)
    clock.run_to(10.0)

    assert ends == pytest.approx([1.0, 2.0, 3.0], abs=0.003)


def test_a_cancelled_request_never_ends_and_frees_its_place() -> None:
    """The request behind it starts at once."""
    clock = ManualClock()
    timeline = timeline_on(clock)
    row = timeline.add_instance(0, limit_cores=1.0, memory_mib=100.0, concurrency=1)
    ends: Ends = []
    first = timeline.submit(0, row, 5.0, 1.0, 0.0, lambda s, f: ends.append(("first", s, f)))
    timeline.submit(0, row, 1.0, 1.0, 0.0, lambda s, f: ends.append(("second", s, f)))

    clock.run_to(2.0)
    timeline.cancel(0, first)
    clock.run_to(10.0)

    assert ends == [("second", 2.0, 3.0)]


def test_a_request_that_ended_before_its_cancel_leaves_others_alone() -> None:
    """Its row in the model may be another request's by then."""
    clock = ManualClock(late_s=5.0)
    timeline = timeline_on(clock)
    row = timeline.add_instance(0, limit_cores=1.0, memory_mib=100.0, concurrency=4)
    ends: Ends = []
    first = timeline.submit(0, row, 1.0, 1.0, 0.0, lambda s, f: ends.append(("first", s, f)))
    timeline.at(1.5, lambda at_s: timeline.submit(0, row, 3.0, 1.0, at_s, lambda s, f: ends.append(("second", s, f))) and None)

    clock.run_to(2.0)
    timeline.cancel(0, first)
    clock.run_to(20.0)

    assert ends == [("first", 0.0, 1.0), ("second", 1.5, 4.5)]


def test_unix_times_follow_the_wall_clock() -> None:
    """A wall clock that is set anew is followed within a second."""
    clock = ManualClock()
    ahead = [1000.0]
    timeline = NodeTimeline([1.0], beta=0.0, call_later=clock.call_later, clock=clock, wall=lambda: clock.now_s + ahead[0])

    first = timeline.unix_s(0.0)
    clock.run_to(5.0)
    ahead[0] = 2000.0

    assert first == 1100.0
    assert timeline.unix_s(5.0) == 2105.0


def test_a_step_or_an_end_that_raises_takes_nobody_else_along() -> None:
    """Two steps of one moment and two ends of another, the first of each broken: the second is called all the same, and what follows."""
    clock = ManualClock()
    timeline = timeline_on(clock)
    row = timeline.add_instance(0, limit_cores=2.0, memory_mib=100.0, concurrency=2)
    seen: list[str] = []

    def broken(*_: float) -> None:
        raise ZeroDivisionError("a defect")

    timeline.at(1.0, broken)
    timeline.at(1.0, lambda at_s: seen.append("step"))
    timeline.at(2.0, lambda at_s: timeline.submit(0, row, 1.0, 1.0, at_s, broken) and None)
    timeline.at(2.0, lambda at_s: timeline.submit(0, row, 1.0, 1.0, at_s, lambda s, f: seen.append("end")) and None)
    timeline.at(4.0, lambda at_s: seen.append("later"))
    clock.run_to(5.0)

    assert seen == ["step", "end", "later"]
    assert timeline.broken == 2
