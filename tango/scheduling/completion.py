"""What an LC policy expects: the completion time of one more request of a service on a node.

    expected = round trip + transfer + work x max(1, (in flight + 1) / limit in cores)      while it is in memory
               + waiting for a place in memory, where more are in flight than the instances hold

Processor sharing (docs/decisions/0003): k requests in an instance of limit L get min(1, L / k) cores each. The work is the service's
mean, scaled as the run scales its targets, since a dispatcher does not know the work of a single request.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.domain.requests import LcArrivals
from tango.domain.snapshot import FleetSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class LcView:
    """The columns an LC policy needs, for arrivals of one entry cluster. Seconds and cores."""

    service: NDArray[np.int32]
    """(m,) row of the service."""
    budget_s: NDArray[np.float64]
    """(m,) target."""
    work_s: NDArray[np.float64]
    """(s,) mean work of a request."""
    network_s: NDArray[np.float64]
    """(s, n) round trip and transfer from the entry to the node."""
    limit_cores: NDArray[np.float64]
    """(s, n) CPU of the ready instances; 0: no instance."""
    places: NDArray[np.float64]
    """(s, n) requests that the instances hold in memory."""
    in_flight: NDArray[np.float64]
    """(s, n)"""


def lc_view(arrivals: LcArrivals, snapshot: FleetSnapshot, entry: int) -> LcView:
    """Arrange a snapshot for arrivals that entered at cluster row `entry`."""
    services = snapshot.services
    target_s = np.array([(s.target_ms or np.inf) / 1e3 for s in services])
    budget_s = arrivals.deadline_s - arrivals.due_s
    mean_s = np.array([s.cpu_work_s for s in services])
    scale = np.ones(len(services))
    for row in np.unique(arrivals.service):
        # Speed divides targets and works alike, so the target of the rows tells the scale of their work.
        if np.isfinite(target_s[row]):
            scale[row] = float(np.mean(budget_s[arrivals.service == row])) / target_s[row]
    payload_mbit = np.array([s.payload_kib for s in services]) * 8192 / 1e6
    rtt_s = snapshot.rtt_ms[entry][snapshot.node_cluster] / 1e3
    transfer_s = payload_mbit[:, None] / snapshot.bandwidth_mbit_per_s[entry][snapshot.node_cluster][None, :]
    usable = snapshot.node_ready[None, :]
    return LcView(
        service=arrivals.service,
        budget_s=budget_s,
        work_s=mean_s * scale,
        network_s=rtt_s[None, :] + transfer_s,
        limit_cores=np.where(usable, snapshot.instance_limit / 1e3, 0.0),
        places=snapshot.instance_count * np.array([s.concurrency for s in services])[:, None],
        in_flight=snapshot.in_flight.copy(),
    )
