"""`locality`: replicas of the nearest cluster, and those of the next ones for what its health leaves over; replicas that fail are put
out.

What Istio configures Envoy to do with locality load balancing and outlier detection: clusters are priorities in order of nearness. A
priority gets 1.4 times the share of its replicas that are not ejected, at most all that the nearer ones have left, so that the next one
gets something once fewer than 71 % are healthy. Within a cluster two replicas are drawn, and the one with fewer requests in flight is
taken. It spills by health and never by load, which is how it differs from `waterfall`. Source: Envoy, "Priority levels", "Locality
weighted load balancing" and "Outlier detection"; Istio, "Locality Load Balancing". Departures: priorities are clusters by round trip,
without zones; requests in flight are those of all senders; where all replicas of a priority are ejected they get nothing (Istio's
setting: no panic threshold) unless all of all clusters are; ejections by failures in a row alone, and what is out comes back when its
time is over, not at the next look of 10 s, with the count of its ejections kept for good.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place
from tango.scheduling.lc.columns import Ask, Belief, Exploration, Terrain
from tango.scheduling.lc.policy import CompiledPolicy
from tango.scheduling.lc.replicas import MOST_CHOICES, count_open, draw, draw_some, least_in_flight
from tango.settings.decisions import LcSettings

CHOICES, OVERPROVISIONING = range(2)
"""Columns of the weights."""


def _weights(settings: LcSettings) -> NDArray[np.float64]:
    return np.array([[float(settings.choices), settings.overprovisioning]])


@in_place
def _health(terrain: Terrain, belief: Belief, ask: Ask, rank: int) -> float:
    """What a cluster could take of all requests by the health of its replicas, 0 to 1."""
    ready = count_open(terrain, belief, ask, rank, rank + 1, False)
    if ready == 0:
        return 0.0
    healthy = count_open(terrain, belief, ask, rank, rank + 1, True)
    return float(min(1.0, terrain.weights[0, OVERPROVISIONING] * healthy / ready))


@in_place
def _local_first(terrain: Terrain, belief: Belief, ask: Ask, _sent: NDArray[np.float64], _explore: Exploration) -> int:
    clusters, choices = terrain.near.shape[1], terrain.weights[0, CHOICES]
    total = 0.0
    for rank in range(clusters):
        total = min(1.0, total + _health(terrain, belief, ask, rank))
        if total >= 1.0:
            break
    wanted, given = draw(ask.turn, 0) * total, 0.0
    for rank in range(clusters):
        skips = total > 0.0
        share = _health(terrain, belief, ask, rank) if skips else float(count_open(terrain, belief, ask, rank, rank + 1, False))
        given += share
        if share > 0.0 and wanted < given:
            drawn = draw_some(terrain, belief, ask, rank, rank + 1, skips, choices)
            return least_in_flight(belief, ask.service, drawn)
    belief.scratch[0] = 0.0
    return -1


POLICY = CompiledPolicy(
    name="locality",
    choose=_local_first,
    observes=True,
    weights=_weights,
    tunable={"choices": (2, MOST_CHOICES), "overprovisioning": (1.0, 2.0)},
)
