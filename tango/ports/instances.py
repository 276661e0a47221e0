"""The calls of LC requests to instances: those of traces, and those that callers sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from tango.domain.calls import Answer, CalledWork
from tango.domain.observations import InstanceState
from tango.domain.requests import LcWork, Reason

WORK_PATH = "/v1/work"
"""Where instances of the synthetic workload are called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """When an LC instance served a request, in Unix seconds, the network excluded."""

    started_at_s: float
    finished_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Served):
    """How an instance answered a call: its answer has gone to whoever waits for it, and this is what can be kept of it."""

    answer: Answer


class ServiceCalls(Protocol):
    """Calls of callers to instances, and the way of the answers back."""

    async def call(
        self,
        instance: InstanceState,
        work: LcWork,
        called: CalledWork,
        *,
        may_try_again: bool,
        over_tls: bool,
        timeout_s: float,
        answers: Callable[[], None],
        traceparent: str = "",
    ) -> Answered:
        """Send the call, and its answer on as it comes. An answer of 500 and above counts as a failure while it `may_try_again`.
        `over_tls`: the instance has a certificate of its service's name.
        `answers` is called when its answer has begun to come. `traceparent`: in place of what the call has; empty: as it has it.

        Raises: CallFailed with the reason instance-unreachable, service-error, answer-cut or timed-out.
        """
        ...

    async def tell_failed(self, called: CalledWork, work: LcWork, reason: Reason) -> None:
        """Tell whoever waits that there will be no answer. A hint: raises nothing."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class InstanceCalls(Protocol):
    """LC requests over HTTP to an instance's pod address."""

    def call(
        self, instance: InstanceState, work: LcWork, *, payload_kib: float, timeout_s: float, traceparent: str = ""
    ) -> Awaitable[Served]:
        """Send one request; who awaits it has the answer. Never retried here: a retry is a new epoch. `traceparent`: in which trace it is;
        empty: in none.

        Raises: InstanceFailed with the reason instance-unreachable, instance-refused or timed-out.
        """
        ...

    async def probe(self, instance: InstanceState, *, timeout_s: float) -> bool:
        """Whether the instance says within that time that it is well; raises nothing."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
