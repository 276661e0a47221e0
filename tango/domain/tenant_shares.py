"""Whose the requests of a run are, and what tenants held over a simulated one, beside what would have been fair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.domain.tenant_columns import TenantColumns


class RequestTenants(NamedTuple):
    """Whose the requests of a run are."""

    tenant: NDArray[np.int32]
    """(n,) index into `tenants`, in the order of the requests."""
    tenants: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantSeries:
    """t tenants at k placements of BE: at each that found something waiting while requests of at least two of them were under way, or of
    the only one there is."""

    tenants: TenantColumns
    tenant: NDArray[np.int32]
    """(m,) column of each request's tenant, LC too; -1: it has no BE request in the run."""
    at_s: NDArray[np.float64]
    """(k,)"""
    share: NDArray[np.float64]
    """(k, t) the dominant share that each held after the placement, of what LC left."""
    fair_share: NDArray[np.float64]
    """(k, t) what each would have held of what it wanted, if everything could be divided (`tango.scheduling.fair_shares.fair_shares`)."""
    is_below: NDArray[np.bool_]
    """(k, t) whether it waited below its share."""
    is_withheld: NDArray[np.bool_]
    """(k, t) whether it got nothing until another one had its next request."""
    is_over_quota: NDArray[np.bool_]
    """(k, t) whether a quota held back any of its requests."""
    gave_way: NDArray[np.int64]
    """(t,) pods of each that were asked to go for the shares of others."""
