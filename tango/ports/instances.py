"""The calls of LC requests to instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tango.domain.observations import InstanceState
from tango.domain.requests import LcWork


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """When an LC instance served a request, in Unix seconds, the network excluded."""

    started_at_s: float
    finished_at_s: float


class InstanceCalls(Protocol):
    """LC requests over HTTP to an instance's pod address."""

    async def call(self, instance: InstanceState, work: LcWork, *, payload_kib: float, timeout_s: float) -> Served:
        """Send one request and wait for its answer. Never retried here: a retry is a new epoch.

        Raises: InstanceFailed with the reason instance-unreachable, instance-refused or timed-out.
        """
        ...

    async def probe(self, instance: InstanceState, *, timeout_s: float) -> bool:
        """Whether the instance says within that time that it is well; raises nothing."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
