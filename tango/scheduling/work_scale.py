"""By how much a run scales its CPU work: an LC policy expects of a request its service's mean work, scaled as the run scales targets.

A dispatcher does not know the work of a single request. `--speed X` divides targets and works alike, so the targets of the arrivals
tell the scale of their works.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tango.domain.requests import CalledArrivals, LcArrivals
from tango.domain.services import Service


def work_scale(arrivals: LcArrivals, services: Sequence[Service]) -> NDArray[np.float64]:
    """(s,) what to multiply each service's mean work by; 1 for services without arrivals."""
    count = len(services)
    if isinstance(arrivals, CalledArrivals):
        return np.ones(count)
    arrived = np.bincount(arrivals.service, minlength=count)
    target_s = np.array([(s.target_ms or np.inf) / 1e3 for s in services])
    # Each is divided before they are added: of a run that scales nothing the sum is then whole, and the scale is 1 to the last bit.
    scales = np.bincount(arrivals.service, weights=arrivals.target_s / target_s[arrivals.service], minlength=count)
    known = (arrived > 0) & np.isfinite(target_s)
    scale = np.ones(count)
    scale[known] = scales[known] / arrived[known]
    return scale
