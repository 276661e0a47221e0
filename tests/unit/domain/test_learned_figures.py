"""Figures that nobody has declared, and what is measured in their place."""

from __future__ import annotations

import dataclasses

import pytest

from tango.domain.learned_figures import learned, request_memory_mib
from tango.domain.memory_by_load import FittedLine, MeasuredInstance, MemoryByLoad
from tango.domain.observations import MeasuredService
from tests.fakes.pod_templates import api_service, job_service

API = dataclasses.replace(api_service(), assumed=("cpu_work_s", "memory_mib"))
JOB = dataclasses.replace(job_service(), assumed=("cpu_work_s", "memory_mib"))


def measured(cpu_s: float, requests: int, memory_mib: float = 0.0) -> MeasuredService:
    """Of one service."""
    return MeasuredService(service="x", cpu_s=cpu_s, requests=requests, memory_mib=memory_mib)


def test_work_of_a_request_is_usage_by_requests() -> None:
    """Four seconds of CPU over two hundred requests; memory of one LC request stays as assumed without samples of its load."""
    found = learned(API, measured(4.0, 200, 150.0))

    assert (found.cpu_work_s, found.memory_mib, found.assumed) == (0.02, API.memory_mib, API.assumed)


def test_memory_of_a_request_is_learned_where_its_instances_follow_their_load() -> None:
    """Of 256 MiB 56 are its own; at 8 MiB a request, and a quarter more, 20 fit beside them, so that one counts as a twentieth of it."""
    instance, by_load = MeasuredInstance(), MemoryByLoad()
    for k in range(100):
        by_load += instance.sample(k % 10, 56.0 + 8.0 * (k % 10))
    seen = dataclasses.replace(measured(0.0, 0), by_load=by_load)
    api = dataclasses.replace(API, instance_memory_mib=256, memory_mib=32)

    found = learned(api, seen)

    assert (found.memory_mib, found.concurrency) == (13, 19)
    assert learned(dataclasses.replace(api, assumed=("cpu_work_s",)), seen).memory_mib == 32
    assert learned(api, measured(0.0, 0)) is api


@pytest.mark.parametrize(
    ("line", "expected"), [(FittedLine(300.0, 10.0), 256), (FittedLine(1.0, 300.0), 256), (FittedLine(0.001, 10.0), 1)]
)
def test_a_request_counts_as_something_between_one_mib_and_its_instance(line: FittedLine, expected: int) -> None:
    """An instance serves one at a time at the least, whatever was measured."""
    assert request_memory_mib(256, line) == expected


def test_a_job_is_learned_with_its_memory() -> None:
    """A quarter more than the most that one was seen to hold."""
    found = learned(JOB, measured(30.0, 3, 100.0))

    assert (found.cpu_work_s, found.memory_mib) == (10.0, 125)


def test_what_is_declared_is_not_learned() -> None:
    """Whatever is measured."""
    declared = dataclasses.replace(API, assumed=())

    assert learned(declared, measured(4.0, 200)) is declared


def test_few_requests_and_small_changes_are_no_news() -> None:
    """Every change goes to all clusters."""
    assert learned(API, measured(4.0, 19)) is API
    assert learned(API, measured(API.cpu_work_s * 200 * 1.05, 200)) is API
    assert learned(API, measured(0.0, 200)) is API


def test_learning_does_not_replace_instances() -> None:
    """A figure of the scheduler's is no new declaration of pods."""
    assert learned(API, measured(4.0, 200)).revision == API.revision
