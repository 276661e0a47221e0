"""Processes that play: order, failures, and that they go."""

from __future__ import annotations

import os
import signal

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


def test_units_come_back_in_order_from_other_processes_which_end_with_the_collectors() -> None:
    """The first is played here, before the processes are there; closed, none of them is left."""
    collectors = Collectors(2)
    found = collectors.map(_square, range(6))
    others = {pid for _, pid in found[1:]}
    processes = [psutil.Process(pid) for pid in others]

    threads = collectors.map(_threads, range(4))
    collectors.close()

    assert [value for value, _ in found] == [0, 1, 4, 9, 16, 25]
    assert found[0][1] == os.getpid() not in others
    assert set(threads) == {1}
    assert psutil.wait_procs(processes, timeout=10)[1] == []


def test_an_error_in_another_process_is_told_in_its_words() -> None:
    """Also one whose class has data of its own and would not come through as it is."""
    collectors = Collectors(2)
    try:
        with pytest.raises(PlayFailed, match="deadlock at 3 s"):
            collectors.map(_fails, range(4))
    finally:
        collectors.close()


def test_a_process_that_dies_ends_the_training_with_what_to_do() -> None:
    """Its unit is lost; the last state is there to go on from."""
    collectors = Collectors(2)
    try:
        with pytest.raises(PlayFailed, match="continue with --resume"):
            collectors.map(_dies, range(4))
    finally:
        collectors.close()
