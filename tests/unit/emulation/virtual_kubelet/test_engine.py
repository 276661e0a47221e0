"""The engine puts arrivals, model events and answers on one timeline, exact however late its timers fire."""

from __future__ import annotations

import pytest

from tango.emulation.virtual_kubelet.engine import Engine
from tests.fakes.manual_clock import ManualClock

Ends = list[tuple[str, float, float]]


def engine_on(clock: ManualClock, cores: float = 4.0) -> Engine:
    """One node on a clock turned by hand; the wall clock stands a thousand seconds ahead."""
    return Engine([cores], beta=0.0, call_later=clock.call_later, clock=clock, wall=lambda: clock.now_s + 1000.0)


def test_late_timers_do_not_make_service_late() -> None:
    """Timers that fire 0.7 ms late leave starts and ends where the model has them."""
    clock = ManualClock(late_s=0.0007)
    engine = engine_on(clock)
    row = engine.add_instance(0, limit_cores=1.0, memory_mib=100.0, concurrency=1)
    ends: Ends = []

    def arrive(name: str) -> None:
        engine.at(
            {"a": 0.0101, "b": 0.0102}[name],
            lambda at_s: engine.submit(0, row, 0.01, 1.0, at_s, lambda s, f: ends.append((name, s, f))) and None,
        )

    arrive("b")
    arrive("a")
    clock.run_to(1.0)

    assert [name for name, _, _ in ends] == ["a", "b"]
    assert [t for _, *times in ends for t in times] == pytest.approx([0.0101, 0.0201, 0.0201, 0.0301], abs=1e-12)


def test_steps_run_in_order_of_time_whatever_order_they_are_set_in() -> None:
    """Ties go by the order of asking."""
    clock = ManualClock()
    engine = engine_on(clock)
    seen: list[float] = []

    for at_s in (3.0, 1.0, 2.0, 1.0):
        engine.at(at_s, seen.append)
    clock.run_to(10.0)

    assert seen == [1.0, 1.0, 2.0, 3.0]


def test_an_idle_engine_sets_no_timers() -> None:
    """Nothing wakes the process when nothing runs."""
    clock = ManualClock()
    engine = engine_on(clock)
    engine.add_instance(0, limit_cores=1.0, memory_mib=100.0, concurrency=1)

    clock.run_to(1000.0)

    assert clock.fired == 0


def test_a_step_may_change_the_node_it_is_about() -> None:
    """A pod that ends may start the next one from its own callback."""
    clock = ManualClock()
    engine = engine_on(clock)
    ends: list[float] = []

    def start(left: int) -> None:
        def ended(_started: float, finished: float) -> None:
            ends.append(finished)
            if left:
                start(left - 1)

        engine.add_pod(0, weight=1.0, limit_cores=1.0, work_s=1.0, memory_mib=1.0, ended=ended)

    start(2)
    clock.run_to(10.0)

    assert ends == pytest.approx([1.0, 2.0, 3.0], abs=0.003)


def test_a_cancelled_request_never_ends_and_frees_its_place() -> None:
    """The request behind it starts at once."""
    clock = ManualClock()
    engine = engine_on(clock)
    row = engine.add_instance(0, limit_cores=1.0, memory_mib=100.0, concurrency=1)
    ends: Ends = []
    first = engine.submit(0, row, 5.0, 1.0, 0.0, lambda s, f: ends.append(("first", s, f)))
    engine.submit(0, row, 1.0, 1.0, 0.0, lambda s, f: ends.append(("second", s, f)))

    clock.run_to(2.0)
    engine.cancel(0, first)
    clock.run_to(10.0)

    assert ends == [("second", 2.0, 3.0)]


def test_a_request_that_ended_before_its_cancel_leaves_others_alone() -> None:
    """Its row in the model may be another request's by then."""
    clock = ManualClock(late_s=5.0)
    engine = engine_on(clock)
    row = engine.add_instance(0, limit_cores=1.0, memory_mib=100.0, concurrency=4)
    ends: Ends = []
    first = engine.submit(0, row, 1.0, 1.0, 0.0, lambda s, f: ends.append(("first", s, f)))
    engine.at(1.5, lambda at_s: engine.submit(0, row, 3.0, 1.0, at_s, lambda s, f: ends.append(("second", s, f))) and None)

    clock.run_to(2.0)
    engine.cancel(0, first)
    clock.run_to(20.0)

    assert ends == [("first", 0.0, 1.0), ("second", 1.5, 4.5)]


def test_unix_times_follow_the_wall_clock() -> None:
    """A wall clock that is set anew is followed within a second."""
    clock = ManualClock()
    ahead = [1000.0]
    engine = Engine([1.0], beta=0.0, call_later=clock.call_later, clock=clock, wall=lambda: clock.now_s + ahead[0])

    first = engine.unix_s(0.0)
    clock.run_to(5.0)
    ahead[0] = 2000.0

    assert first == 1100.0
    assert engine.unix_s(5.0) == 2105.0
