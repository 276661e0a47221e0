"""Figures of a service that nobody has declared, learned from what its pods were measured to use."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from tango.domain.memory_by_load import FittedLine
from tango.domain.observations import MeasuredService
from tango.domain.services import Service, ServiceClass

LEARNED_FROM = {ServiceClass.LC: 20, ServiceClass.BE: 3}
"""Requests of a service from which on its measured work is taken for one nobody has declared."""
NEWS = 0.1
"""Least part by which a learned figure changes: every change is published to all clusters."""
HEADROOM = 1.25
"""What a BE pod requests, over the most that one was seen to hold; and what an LC request counts as, over what it was measured to hold."""
LEAST_WORK_S = 1e-4
"""Least work that is learned, CPU-seconds: an idle instance's usage over few requests says no more."""


def learned(service: Service, measured: MeasuredService) -> Service:
    """The service with what was measured in place of what is assumed: the work of a request, of BE the memory of a pod, and of LC that of a
    request, where its instances' memory follows the requests that they have in flight (`memory_by_load`).

    Limits are not learned: what a pod may use has to be said.
    """
    found: dict[str, Any] = {}
    if measured.requests >= LEARNED_FROM[service.service_class]:
        if "cpu_work_s" in service.assumed and measured.cpu_work_s is not None:
            found["cpu_work_s"] = round(max(LEAST_WORK_S, measured.cpu_work_s), 6)
        if "memory_mib" in service.assumed and service.service_class is ServiceClass.BE and measured.memory_mib > 0:
            found["memory_mib"] = math.ceil(measured.memory_mib * HEADROOM)
    if (
        "memory_mib" in service.assumed
        and service.service_class is ServiceClass.LC
        and (line := measured.by_load.line()) is not None
    ):
        found["memory_mib"] = request_memory_mib(service.instance_memory_mib, line)
    news = {name: value for name, value in found.items() if abs(value - getattr(service, name)) > NEWS * getattr(service, name)}
    return dataclasses.replace(service, **news) if news else service


def request_memory_mib(instance_mib: int, line: FittedLine) -> int:
    """What one request counts as, so that as many as its instance is given at a time (`Service.concurrency`) fit beside what the instance
    holds without any: MiB, from 1 to all of it."""
    at_once = math.floor((instance_mib - line.idle) / (HEADROOM * line.per_request))
    return max(1, math.ceil(instance_mib / max(1, at_once)))
