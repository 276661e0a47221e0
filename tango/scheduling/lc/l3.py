"""`l3`: clusters by chance, each with a weight that falls with its latency, its failures and what is in flight there.

Source: Michaelis, Schmid and Mostafaei, "L3: Latency-aware Load Balancing in Multi-Cluster Service Mesh", Middleware '24, pp. 49-61, by
its public description: a service's clusters are backends, among which the mesh divides requests by weights, made of smoothed latencies,
success rates and requests in flight. The weight of a cluster is here

    1 / ((requests in flight for each core + 1)^2 x (latency + 0.6 s x (1 / success rate - 1)))

Departures: this form and its constants are ours, and the power is tuned; weights follow each request, where L3 renews them every few
seconds, so that nothing has to hold back sudden changes; the latency is the mean of what the entry cluster has seen on each node, not a
percentile of what proxies export; requests in flight are those of all senders, for each core, since clusters differ in size; clusters are
the nearest few (the paper's mesh has three); within a cluster two replicas are drawn by requests in flight.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place
from tango.scheduling.lc.columns import Ask, Belief, Exploration, Terrain
from tango.scheduling.lc.policy import CompiledPolicy
from tango.scheduling.lc.replicas import (
    CLUSTER_WEIGHTS,
    MOST_CHOICES,
    MOST_CLUSTERS,
    clusters_within,
    draw,
    draw_some,
    least_in_flight,
    ranked,
    seen_answer_s,
)
from tango.settings.decisions import LcSettings

CHOICES, REACH, PENALTY_S, EXPONENT = range(4)
"""Columns of the weights."""
LEAST_SUCCESS = 0.01
"""Success rate that counts at the least, so that a cluster where all has failed is tried again."""


def _weights(settings: LcSettings) -> NDArray[np.float64]:
    return np.array([[float(settings.choices), float(settings.reach), settings.failure_penalty_s, settings.in_flight_exponent]])


@in_place
def weight_of_cluster(terrain: Terrain, belief: Belief, ask: Ask, cluster: int) -> float:
    """The share that a cluster gets of the requests, before the shares are made to add up to 1; 0 where no instance is ready."""
    cores, requests, answer_s, failing, replicas = 0.0, 0.0, 0.0, 0.0, 0
    for k in range(terrain.first[cluster], terrain.first[cluster + 1]):
        node = terrain.members[k]
        if belief.limit_cores[ask.service, node] > 0.0:
            cores += belief.limit_cores[ask.service, node]
            requests += belief.in_flight[ask.service, node]
            answer_s += seen_answer_s(terrain, belief, ask, node)
            failing += belief.answers[belief.now[0].first + ask.service * belief.in_flight.shape[1] + node].failing
            replicas += 1
    if replicas == 0:
        return 0.0
    success = max(LEAST_SUCCESS, 1.0 - failing / replicas)
    late_s = answer_s / replicas + terrain.weights[0, PENALTY_S] * (1.0 / success - 1.0)
    return float(1.0 / ((requests / cores + 1.0) ** terrain.weights[0, EXPONENT] * max(1e-6, late_s)))


@in_place
def _by_weight(terrain: Terrain, belief: Belief, ask: Ask, _sent: NDArray[np.float64], _explore: Exploration) -> int:
    clusters, weights = clusters_within(terrain, terrain.weights[0, REACH]), belief.scratch
    total = 0.0
    for rank in range(clusters):
        weight = weight_of_cluster(terrain, belief, ask, ranked(terrain, ask.entry, rank))
        weights[CLUSTER_WEIGHTS + rank] = weight
        total += weight
    wanted, chosen = draw(ask.turn, 0) * total, -1
    for rank in range(clusters):
        if weights[CLUSTER_WEIGHTS + rank] > 0.0:
            chosen = rank
            wanted -= weights[CLUSTER_WEIGHTS + rank]
            if wanted < 0.0:
                break
    if chosen < 0:
        weights[0] = 0.0
        return -1
    drawn = draw_some(terrain, belief, ask, chosen, chosen + 1, False, terrain.weights[0, CHOICES])
    return least_in_flight(belief, ask.service, drawn)


POLICY = CompiledPolicy(
    name="l3",
    choose=_by_weight,
    observes=True,
    weights=_weights,
    tunable={"choices": (2, MOST_CHOICES), "reach": (1, MOST_CLUSTERS), "in_flight_exponent": (0.5, 4.0)},
)
