"""Tenants in memory: implements `tango.ports.tenants.TenantStore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tango.domain.lifecycle import IN_FLIGHT, Event, states_before
from tango.domain.runs import OPEN
from tango.domain.services import ServiceClass
from tango.domain.tenants import Tenant, TenantShare, TenantUse
from tango.errors import UsageError
from tango.ports.tenants import TOLD_S
from tests.fakes.memory_state import MemoryState


class MemoryTenants:
    """Over what the other stores of a test have."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state
        self._told: tuple[float, list[TenantShare]] = 0.0, []

    def put(self, tenants: Sequence[Tenant]) -> None:
        """By name."""
        self._state.tenants |= {tenant.name: tenant for tenant in tenants}

    def declared(self) -> Mapping[str, Tenant]:
        """In order."""
        return dict(sorted(self._state.tenants.items()))

    def delete(self, name: str) -> None:
        """Where there is one."""
        if self._state.tenants.pop(name, None) is None:
            raise UsageError(f"tenant {name!r} is not declared")

    def uses(self) -> list[TenantUse]:
        """Counted row by row."""
        found: dict[tuple[str, str], list[float]] = {}
        with self._state.lock:
            for row in self._state.holding():
                is_open = self._state.runs[row.run_id].info.status in OPEN
                waits, holds = row.state in states_before(Event.PLACE) and is_open, row.state in IN_FLIGHT
                if row.service_class is ServiceClass.BE and (waits or holds):
                    sums = found.setdefault((self._state.tenant_of(row), row.service), [0, 0, 0.0])
                    for k, more in enumerate((waits, holds, row.memory_mib if holds else 0.0)):
                        sums[k] += more
        return [TenantUse(*key, int(waiting), int(pods), memory) for key, (waiting, pods, memory) in sorted(found.items())]

    def in_flight(self) -> list[TenantUse]:
        """Of those what is in flight."""
        return [use._replace(waiting=0) for use in self.uses() if use.pods]

    def tell(self, shares: Sequence[TenantShare]) -> None:
        """In place of all."""
        self._told = self._state.now_s(), list(shares)

    def told(self) -> list[TenantShare]:
        """While it is new."""
        at_s, shares = self._told
        old_s = self._state.now_s() - at_s
        found = sorted(shares, key=lambda s: s.tenant) if old_s < TOLD_S else []
        return [replace(s, below_s=None if s.below_s is None else s.below_s + old_s) for s in found]
