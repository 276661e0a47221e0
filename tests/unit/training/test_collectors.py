"""Processes that play: order, failures, and that they go."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest
import torch

from tango.errors import Deadlock
from tango.training.collectors import Collectors, PlayFailed


def _square(unit: int) -> tuple[int, int]:
    return unit * unit, os.getpid()


def _fails(unit: int) -> int:
    if unit == 2:
        raise Deadlock(at_s=3.0, waiting=["one request"])
    return unit


def _dies(unit: int) -> int:
    if unit == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return unit


def _threads(_unit: int) -> int:
    return torch.get_num_threads()


@pytest.fixture(scope="module")
def collectors() -> Iterator[Collectors]:
    """Two processes for all tests that leave them well: each of them imports torch at its start."""
    found = Collectors(2)
    yield found
    found.close()


def test_units_come_back_in_order_from_other_processes(collectors: Collectors) -> None:
    """The first of all is played here, before the processes are there; torch has one thread in each."""
    played: list[None] = []
    found = collectors.map(_square, range(6), lambda: played.append(None))
    threads = collectors.map(_threads, range(4))

    assert [value for value, _ in found] == [0, 1, 4, 9, 16, 25]
    assert found[0][1] == os.getpid() not in {pid for _, pid in found[1:]}
    assert set(threads) == {1}
    assert len(played) == 6


def test_an_error_in_another_process_is_told_in_its_words(collectors: Collectors) -> None:
    """Also one whose class has data of its own and would not come through as it is."""
    with pytest.raises(PlayFailed, match="deadlock at 3 s"):
        collectors.map(_fails, range(4))


def test_closed_they_leave_no_process(collectors: Collectors) -> None:
    """Whatever they have played, and whatever has failed there."""
    processes = [psutil.Process(pid) for pid in {pid for _, pid in collectors.map(_square, range(6))} - {os.getpid()}]

    collectors.close()

    assert processes
    assert psutil.wait_procs(processes, timeout=10)[1] == []


def test_a_process_that_dies_ends_the_training_with_what_to_do() -> None:
    """Its unit is lost; the last state is there to go on from."""
    collectors = Collectors(2)
    try:
        with pytest.raises(PlayFailed, match="continue with --resume"):
            collectors.map(_dies, range(4))
    finally:
        collectors.close()
