"""`waterfall`: the nearest cluster up to a share of its load, then the next; of two replicas there the one with fewer requests in flight.

Source: Google Cloud, "Advanced load balancing overview", WATERFALL_BY_REGION of Traffic Director (now Cloud Service Mesh): traffic goes
to the nearest region until it is at its configured capacity, and overflows to the next nearest; Saokar et al., "ServiceRouter: Hyperscale
and Minimal Cost Service Mesh at Meta", OSDI '23, its locality rings: the nearest ring of replicas whose load is below a threshold, and
two random choices in it. Departures: every cluster is a ring of its own, in order of round trips; a cluster's load is the requests in
flight of the service for each core of its instances, where those two measure CPU or a rate; the decision is made for each request on what
the entry cluster knows, not by weights that a controller sends every few seconds. Where all clusters are above, the least loaded one is
taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place
from tango.scheduling.lc.columns import Ask, Belief, Exploration, Terrain
from tango.scheduling.lc.policy import CompiledPolicy
from tango.scheduling.lc.replicas import MOST_CHOICES, draw_some, least_in_flight, ranked
from tango.settings.decisions import LcSettings

SPILL_LOAD, CHOICES = range(2)
"""Columns of the weights."""


def _weights(settings: LcSettings) -> NDArray[np.float64]:
    return np.array([[settings.spill_load, float(settings.choices)]])


@in_place
def load_with_one_more(terrain: Terrain, belief: Belief, ask: Ask, cluster: int) -> float:
    """Requests in flight for each core of a cluster's ready instances, with one more request; infinity where none is ready."""
    cores, requests = 0.0, 1.0
    for k in range(terrain.first[cluster], terrain.first[cluster + 1]):
        node = terrain.members[k]
        if belief.limit_cores[ask.service, node] > 0.0:
            cores += belief.limit_cores[ask.service, node]
            requests += belief.in_flight[ask.service, node]
    return requests / cores if cores > 0.0 else np.inf


@in_place
def _nearest_below_its_load(terrain: Terrain, belief: Belief, ask: Ask, _sent: NDArray[np.float64], _explore: Exploration) -> int:
    chosen, least = -1, np.inf
    for rank in range(terrain.near.shape[1]):
        load = load_with_one_more(terrain, belief, ask, ranked(terrain, ask.entry, rank))
        if load < least:
            chosen, least = rank, load
        if load <= terrain.weights[0, SPILL_LOAD]:
            chosen = rank
            break
    if chosen < 0:
        belief.scratch[0] = 0.0
        return -1
    drawn = draw_some(terrain, belief, ask, chosen, chosen + 1, False, terrain.weights[0, CHOICES])
    return least_in_flight(belief, ask.service, drawn)


POLICY = CompiledPolicy(
    name="waterfall",
    choose=_nearest_below_its_load,
    weights=_weights,
    tunable={"choices": (2, MOST_CHOICES), "spill_load": (0.3, 2.0)},
)
