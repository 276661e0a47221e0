"""By how much a run scales its CPU work: an LC policy expects of a request its service's mean work, scaled as the run scales targets.

A dispatcher does not know the work of a single request. `--speed X` divides targets and works alike, so the targets of the arrivals
tell the scale of their works.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tango.compiled import inlined
from tango.domain.requests import CalledArrivals, LcArrivals
from tango.domain.services import Service
from tango.domain.snapshot_assembly import expected_work_s


def work_scale(arrivals: LcArrivals, services: Sequence[Service]) -> NDArray[np.float64]:
    """(s,) what to multiply each service's mean work by; 1 for services without arrivals."""
    scale, arrived = np.ones(len(services)), np.zeros(len(services))
    if not isinstance(arrivals, CalledArrivals):  # targets of callers do not tell it
        target_s = np.array([(s.target_ms or np.inf) / 1e3 for s in services])
        set_work_scale(arrivals.service, arrivals.target_s, target_s, scale, arrived)
    return scale


def work_at_scale_s(arrivals: LcArrivals, services: Sequence[Service]) -> NDArray[np.float64]:
    """(s,) what each service's requests are expected to need, in CPU-seconds."""
    return expected_work_s(np.array([s.cpu_work_s for s in services]), work_scale(arrivals, services))


@inlined
def set_work_scale(
    service: NDArray[np.int32],
    target_s: NDArray[np.float64],
    declared_target_s: NDArray[np.float64],
    scale: NDArray[np.float64],
    arrived: NDArray[np.float64],
) -> None:
    """Fill `scale` (s,) by services and targets (m,) of arrivals; `declared_target_s` (s,) has infinity for BE, `arrived` is scratch."""
    for s in range(len(scale)):
        scale[s] = arrived[s] = 0.0
    # Each is divided before they are added: of a run that scales nothing the sum is then whole, and the scale is 1 to the last bit.
    for row in range(len(service)):
        arrived[service[row]] += 1.0
        scale[service[row]] += target_s[row] / declared_target_s[service[row]]
    for s in range(len(scale)):
        known = arrived[s] > 0.0 and np.isfinite(declared_target_s[s])
        scale[s] = scale[s] / arrived[s] if known else 1.0
