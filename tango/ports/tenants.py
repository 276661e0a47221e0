"""The store of tenants: as declared, and what each has just now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from tango.domain.tenants import Tenant, TenantShare, TenantUse


class TenantStore(Protocol):
    """Tenants at the centre. Raises: StoreUnavailable, StoreError."""

    def put(self, tenants: Sequence[Tenant]) -> None:
        """Declare tenants, or put them in the place of those of the same names."""
        ...

    def declared(self) -> Mapping[str, Tenant]:
        """Those that are declared, by name, in order of the names."""
        ...

    def delete(self, name: str) -> None:
        """Withdraw the declaration: the tenant has the weight 1 and no quota from then on, and what it has goes on.

        Raises: UsageError for one that is not declared.
        """
        ...

    def uses(self) -> list[TenantUse]:
        """What each tenant has now, by tenant and service: those without any BE request under way are left out."""
        ...

    def in_flight(self) -> list[TenantUse]:
        """The same of what is in flight alone, `waiting` being 0: no more than the fleet holds, however much waits."""
        ...

    def tell(self, shares: Sequence[TenantShare]) -> None:
        """Put these in the place of all that were told before."""
        ...

    def told(self) -> list[TenantShare]:
        """What was told last, by tenant, `below_s` up to now; nothing that is older than `TOLD_S`."""
        ...


TOLD_S = 10.0
"""Seconds that told shares are shown: placements tell them once a second while anything waits."""
