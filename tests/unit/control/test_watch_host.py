"""The look at the host's CPU: shares of the time between two looks, told only while there is something to serve."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tango.bootstrap.host_cpu import cpu_times
from tango.control.watch_host import HostWatch
from tango.domain.host_use import CpuTimes, HostUse
from tango.errors import StoreUnavailable


def watch(readings: Iterator[CpuTimes], told: list[HostUse], busy: Iterator[bool]) -> HostWatch:
    """On these readings, while busy as said."""
    return HostWatch(host="edge-1", read=lambda: next(readings), is_busy=lambda: next(busy), note=told.append, every_s=1.0)


def test_a_sample_is_of_the_time_since_the_look_before() -> None:
    """Two CPUs for a second: of two CPU-seconds half a one was idle, and a tenth of one somebody else's."""
    told: list[HostUse] = []
    readings = iter([CpuTimes(100.0, 40.0, 1.0), CpuTimes(102.0, 40.5, 1.1), CpuTimes(104.0, 42.5, 1.1)])
    step = watch(readings, told, iter([True] * 3)).step

    waits = [step() for _ in range(3)]

    assert waits == [1.0] * 3
    assert told == [("edge-1", pytest.approx(0.75), pytest.approx(0.05)), ("edge-1", 0.0, 0.0)]


def test_nothing_is_told_while_nothing_is_to_be_served_nor_of_that_time_afterwards() -> None:
    """What the host did in between is not of the run that begins."""
    told: list[HostUse] = []
    readings = iter([CpuTimes(100.0, 40.0, 0.0), CpuTimes(200.0, 41.0, 0.0), CpuTimes(201.0, 41.5, 0.0)])
    step = watch(readings, told, iter([True, False, True, True])).step

    for _ in range(4):
        step()

    assert told == [("edge-1", pytest.approx(0.5), 0.0)]


def test_two_looks_within_a_tick_of_the_kernel_are_one() -> None:
    """Nothing has passed by its count: no share can be told, and none is made up."""
    told: list[HostUse] = []
    step = watch(iter([CpuTimes(1.0, 1.0, 0.0)] * 2), told, iter([True] * 2)).step

    step()
    step()

    assert told == []


def test_what_could_not_be_told_is_part_of_the_next_sample() -> None:
    """The centre was away for a second, in which the host was full."""
    told: list[HostUse] = []
    readings = iter([CpuTimes(0.0, 0.0, 0.0), CpuTimes(1.0, 0.0, 0.0), CpuTimes(2.0, 1.0, 0.0)])
    one = watch(readings, told, iter([True] * 3))

    def away(use: HostUse) -> None:
        raise StoreUnavailable("away")

    one.step()
    one.note = away
    with pytest.raises(StoreUnavailable):
        one.step()
    one.note = told.append
    one.step()

    assert told == [("edge-1", 0.5, 0.0)]


def test_the_kernels_count_grows_and_idle_time_is_a_part_of_it() -> None:
    """By psutil, on the machine of this test."""
    first, second = cpu_times(), cpu_times()

    assert 0.0 <= first.stolen_s <= first.total_s
    assert 0.0 < first.idle_s < first.total_s <= second.total_s
