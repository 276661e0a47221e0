"""`ceres`: the node of the entry cluster where one more request is expected to end first.

Source: Yu et al., "CERES: Container-based elastic resource management system for mixed workloads", ICPP 2021, doi
10.1145/3472456.3472459, which manages single clusters: requests stay where they enter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import inlined
from tango.scheduling.lc.columns import Ask, Belief, Exploration, Terrain
from tango.scheduling.lc.policy import CompiledPolicy


@inlined
def _at_entry(_terrain: Terrain, belief: Belief, ask: Ask, _sent: NDArray[np.float64], _explore: Exploration) -> int:
    return int(belief.best_node[ask.service, ask.entry])


POLICY = CompiledPolicy(name="ceres", choose=_at_entry)
