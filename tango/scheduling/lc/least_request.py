"""`least-request`: of two replicas of the entry cluster, drawn at random, the one with fewer requests in flight.

The power of two choices, as proxies have it before the Service of one cluster: Envoy's LEAST_REQUEST with `choice_count` 2, NGINX's
`random two least_conn`. Source: Envoy, "Supported load balancers", weighted least request; NGINX, `ngx_http_upstream_module`, `random`;
Mitzenmacher, "The power of two choices in randomized load balancing", IEEE TPDS 12 (2001). Departures: the requests in flight are those
of all senders, where a proxy counts its own; the two are always different (NGINX's way); no weights, no slow start.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place
from tango.scheduling.lc.columns import Ask, Belief, Exploration, Terrain
from tango.scheduling.lc.policy import CompiledPolicy
from tango.scheduling.lc.replicas import MOST_CHOICES, draw_some, least_in_flight
from tango.settings.decisions import LcSettings

CHOICES = 0
"""Column of the weights."""


def _weights(settings: LcSettings) -> NDArray[np.float64]:
    return np.array([[float(settings.choices)]])


@in_place
def _least_of_some(terrain: Terrain, belief: Belief, ask: Ask, _sent: NDArray[np.float64], _explore: Exploration) -> int:
    drawn = draw_some(terrain, belief, ask, 0, 1, False, terrain.weights[0, CHOICES])
    return least_in_flight(belief, ask.service, drawn)


POLICY = CompiledPolicy(name="least-request", choose=_least_of_some, weights=_weights, tunable={"choices": (2, MOST_CHOICES)})
