"""LC instances that answer by a script, on whatever event loop calls them."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from tango.domain.observations import InstanceState
from tango.domain.requests import LcWork
from tango.ports.instances import Served


class Call(NamedTuple):
    """One call that an instance got."""

    instance: InstanceState
    work: LcWork
    payload_kib: float
    timeout_s: float
    traceparent: str


class ScriptedCalls:
    """Implements `tango.ports.instances.InstanceCalls`: every request is served over `served`, or fails as `failures` has it by request id.

    While `holding`, calls stay under way until `let_go`.
    """

    def __init__(self, served: Served, *, holding: bool = False) -> None:
        self.served = served
        self.holding = holding
        self.failures: dict[int, Exception] = {}
        self.calls: list[Call] = []
        self.closed = False
        self.well = True
        self.probes: list[InstanceState] = []
        self._held: list[asyncio.Future[None]] = []

    async def call(
        self, instance: InstanceState, work: LcWork, *, payload_kib: float, timeout_s: float, traceparent: str = ""
    ) -> Served:
        """Note the call, then answer."""
        held = asyncio.get_running_loop().create_future() if self.holding else None
        if held is not None:
            self._held.append(held)
        self.calls.append(Call(instance, work, payload_kib, timeout_s, traceparent))
        if held is not None:
            await held
        if work.request_id in self.failures:
            raise self.failures[work.request_id]
        return self.served

    async def probe(self, instance: InstanceState, *, timeout_s: float) -> bool:
        """As `well` has it."""
        self.probes.append(instance)
        return self.well

    async def close(self) -> None:
        """Nothing is open."""
        self.closed = True

    def let_go(self, calls: int = 1_000_000) -> None:
        """Answer the first of the calls under way; from any thread, and as soon as they stand in `calls`."""
        going, self._held = self._held[:calls], self._held[calls:]
        for held in going:
            held.get_loop().call_soon_threadsafe(held.set_result, None)
