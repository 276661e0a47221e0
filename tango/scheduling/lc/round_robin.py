"""`round-robin`: kube-proxy's turn over the ready endpoints of a Service in the entry cluster.

The turn follows the request's id and its epoch, so that it needs no state and a retry goes to the next endpoint. Load does not matter.
Source: Kubernetes, "Virtual IPs and Service Proxies", IPVS mode `rr`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place
from tango.scheduling.lc.columns import Ask, Belief, Exploration, Terrain
from tango.scheduling.lc.policy import CompiledPolicy


@in_place
def _in_turn(terrain: Terrain, belief: Belief, ask: Ask, _sent: NDArray[np.float64], _explore: Exploration) -> int:
    service, first, last = ask.service, terrain.first[ask.entry], terrain.first[ask.entry + 1]
    ready = 0
    for k in range(first, last):
        if belief.limit_cores[service, terrain.members[k]] > 0.0:
            ready += 1
    if ready == 0:
        return -1
    wanted = ask.turn % ready
    for k in range(first, last):
        node = terrain.members[k]
        if belief.limit_cores[service, node] > 0.0:
            if wanted == 0:
                return int(node)
            wanted -= 1
    return -1


POLICY = CompiledPolicy(name="round-robin", choose=_in_turn)
