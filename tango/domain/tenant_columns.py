"""Tenants as columns, by which their shares are decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.domain.resource_axis import ResourceAxis
from tango.domain.tenants import Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantColumns:
    """t tenants as columns, over r resources: what `tango.scheduling.fair_shares` decides by."""

    names: tuple[str, ...]
    weight: NDArray[np.float64]
    """(t,)"""
    quota: NDArray[np.float64]
    """(r, t) the most that each may hold; infinite where nothing is said."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def any_quota(self) -> bool:
        """Whether a quota of these can hold anything back."""
        return bool(np.isfinite(self.quota).any())

    @classmethod
    def of(cls, names: Sequence[str], declared: Mapping[str, Tenant], resources: ResourceAxis) -> TenantColumns:
        """The tenants of these names, in this order; those that nobody declared have the weight 1 and no quota."""
        known = [declared.get(name) for name in names]
        quota = np.full((len(resources), len(names)), np.inf)
        for column, tenant in enumerate(known):
            for resource, amount in tenant.quota if tenant else ():
                if resource in resources.names:
                    quota[resources.names.index(resource), column] = amount
        return cls(names=tuple(names), weight=np.array([t.weight if t else 1.0 for t in known], np.float64), quota=quota)
