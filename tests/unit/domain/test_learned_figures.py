"""Figures that nobody has declared, and what is measured in their place."""

from __future__ import annotations

import dataclasses

from tango.domain.learned_figures import learned
from tango.domain.observations import MeasuredService
from tests.fakes.pod_templates import api_service, job_service

API = dataclasses.replace(api_service(), assumed=("cpu_work_s", "memory_mib"))
JOB = dataclasses.replace(job_service(), assumed=("cpu_work_s", "memory_mib"))


def measured(cpu_s: float, requests: int, memory_mib: float = 0.0) -> MeasuredService:
    """Of one service."""
    return MeasuredService(service="x", cpu_s=cpu_s, requests=requests, memory_mib=memory_mib)


def test_work_of_a_request_is_usage_by_requests() -> None:
    """Four seconds of CPU over two hundred requests; memory of one LC request stays as assumed."""
    found = learned(API, measured(4.0, 200, 150.0))

    assert (found.cpu_work_s, found.memory_mib, found.assumed) == (0.02, API.memory_mib, API.assumed)


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
