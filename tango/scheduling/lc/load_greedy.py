"""`load-greedy`: the least expected completion within the latency budget, as the service's own instances give it.

It knows neither crowding nor what the links carry.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import inlined
from tango.scheduling.lc.columns import Ask, Belief, Exploration, Terrain
from tango.scheduling.lc.offers import cheapest_offer
from tango.scheduling.lc.policy import CompiledPolicy


@inlined
def _cheapest(terrain: Terrain, belief: Belief, ask: Ask, sent: NDArray[np.float64], _explore: Exploration) -> int:
    return cheapest_offer(terrain, belief, ask.entry, ask.service, ask.budget_s, sent, False)


POLICY = CompiledPolicy(name="load-greedy", choose=_cheapest)
