"""By how much a run scales its CPU work: an LC policy expects of a request its service's mean work, scaled as the run scales targets.

A dispatcher does not know the work of a single request. `--speed X` divides targets and works alike, so the targets of the arrivals
tell the scale of their works.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tango.domain.requests import LcArrivals
from tango.domain.services import Service


def work_scale(arrivals: LcArrivals, services: Sequence[Service]) -> NDArray[np.float64]:
    """(s,) what to multiply each service's mean work by; 1 for services without arrivals."""
    count = len(services)
    arrived = np.bincount(arrivals.service, minlength=count)
    mean_budget_s = np.bincount(arrivals.service, weights=arrivals.deadline_s - arrivals.due_s, minlength=count)
    target_s = np.array([(s.target_ms or np.inf) / 1e3 for s in services])
    known = (arrived > 0) & np.isfinite(target_s)
    scale = np.ones(count)
    scale[known] = mean_budget_s[known] / arrived[known] / target_s[known]
    return scale
