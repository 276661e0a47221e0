"""What each tenant got of a simulated run, beside its fair share.

Shares are means over the placements of `TenantSeries`: those that found something waiting while requests of at least two tenants were under
way. All else is of the whole run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.analysis.metrics import Figure
from tango.domain.outcomes import RunOutcomes
from tango.domain.requests import RequestState
from tango.domain.services import ServiceClass
from tango.domain.tenant_shares import TenantSeries


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantFigures:
    """The figures of one tenant's BE requests, in trace time. Shares are None where tenants never competed."""

    tenant: str
    weight: float
    requests: int
    succeeded: int
    failed: int
    unfinished: int
    cpu_seconds: float
    """Work of the requests that succeeded."""
    wait_mean_s: float | None
    """From due time to the start of the attempt that counted, of those that succeeded."""
    share: float | None
    """The dominant share that it held, of what LC left."""
    fair_share: float | None
    """What it would have held of what it wanted, if everything could be divided."""
    below: float | None
    """Part of the placements after which it waited below its share."""
    withheld: float | None
    """Part of the placements in which it got nothing until another tenant had its next request."""
    over_quota: float | None
    """Part of the placements in which its quota held back any of its requests."""
    gave_way: int
    """Its pods that were asked to go for the shares of others."""

    def as_dict(self) -> dict[str, Figure]:
        """The figures by name, for tables and JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def tenant_figures(outcomes: RunOutcomes, series: TenantSeries) -> tuple[TenantFigures, ...]:
    """The figures of every tenant with BE requests, by name; `series.tenant` is in the order of the outcomes."""
    is_be = outcomes.service_class == ServiceClass.BE
    succeeded, failed = outcomes.in_state(RequestState.SUCCEEDED), outcomes.in_state(RequestState.FAILED)
    waited_s = (outcomes.started_s - outcomes.due_s) * outcomes.speed
    found = []
    for t, name in enumerate(series.tenants.names):
        mine = is_be & (series.tenant == t)
        done = mine & succeeded
        found.append(
            TenantFigures(
                tenant=name,
                weight=float(series.tenants.weight[t]),
                requests=int(np.count_nonzero(mine)),
                succeeded=int(np.count_nonzero(done)),
                failed=int(np.count_nonzero(mine & failed)),
                unfinished=int(np.count_nonzero(mine & ~succeeded & ~failed)),
                cpu_seconds=float(outcomes.cpu_work_s[done].sum()) * outcomes.speed,
                wait_mean_s=_mean(waited_s[done]),
                share=_mean(series.share[:, t]),
                fair_share=_mean(series.fair_share[:, t]),
                below=_mean(series.is_below[:, t]),
                withheld=_mean(series.is_withheld[:, t]),
                over_quota=_mean(series.is_over_quota[:, t]),
                gave_way=int(series.gave_way[t]),
            )
        )
    return tuple(found)


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
