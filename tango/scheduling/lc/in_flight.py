"""What a dispatcher has given out is in flight for its next plan: counted into the snapshot's columns, compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place


@in_place
def count_in(
    service: NDArray[np.int32],
    node: NDArray[np.int32],
    work_s: NDArray[np.float64],
    in_flight: NDArray[np.float64],
    in_flight_work_s: NDArray[np.float64],
) -> None:
    """Add m requests of these services to `in_flight` and `in_flight_work_s` (s, n); one without a node, -1, counts nowhere.

    `work_s` (s,) is what a request of each service counts for (`snapshot_assembly.expected_work_s`).
    """
    for row in range(len(node)):
        if node[row] >= 0:
            in_flight[service[row], node[row]] += 1.0
            in_flight_work_s[service[row], node[row]] += work_s[service[row]]
