"""What benchmarks do when what they measure fails, pauses or never starts."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from tango.bench.live import added_ms
from tango.bench.process_use import CpuMeter, memory_mib
from tango.bench.waiting import wait_until
from tango.errors import TangoError


def test_a_benchmark_does_not_wait_for_ever() -> None:
    """What never comes ends as an error that says what was waited for."""
    with pytest.raises(TangoError, match="the workers took no tasks"):
        wait_until(lambda: False, timeout_s=0.01, failure="the workers took no tasks", every_s=0.001)


def test_waiting_ends_as_soon_as_the_condition_holds() -> None:
    """The condition is asked until it holds, and no more often."""
    answers = [False, False, True]

    wait_until(lambda: answers.pop(0), timeout_s=5.0, failure="", every_s=0.0)

    assert answers == []


def test_a_process_between_two_starts_costs_no_cpu(tmp_path: Path) -> None:
    """It has no process id, and the benchmark's own time must not be counted in its place."""
    (tmp_path / "run").mkdir()
    row = {"name": "postgres", "role": "store", "pid": None, "state": "backing off", "restarts": 1}
    (tmp_path / "run" / "status.json").write_text(json.dumps({"expected": 1, "processes": [row]}))

    assert CpuMeter(tmp_path).percent() == {}


def test_memory_is_told_by_role_and_process(tmp_path: Path) -> None:
    """Every live process of a role by itself, the largest first; one between two starts has none."""
    (tmp_path / "run").mkdir()
    rows = [
        {"name": f"worker-{k}", "role": "cluster worker", "pid": pid, "state": "running", "restarts": 0}
        for k, pid in enumerate((os.getppid(), os.getpid(), None))
    ]
    (tmp_path / "run" / "status.json").write_text(json.dumps({"expected": 3, "processes": rows}))

    sizes = memory_mib(tmp_path)["cluster worker"]

    assert len(sizes) == 2
    assert sizes[0] >= sizes[1] > 0


def test_latency_of_a_class_that_never_started_is_unknown() -> None:
    """An overloaded trial may start no BE request at all: PostgreSQL then gives no quantiles."""
    assert added_ms([0.001, 0.002, 0.003]) == (1.0, 2.0, 3.0)
    assert all(math.isnan(value) for value in added_ms(None))
