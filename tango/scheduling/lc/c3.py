"""`c3`: the replica of least score, which rises with the cube of its queue.

    score = R - T + (1 + q)^3 T

R is the response time that the entry cluster has seen of the replica, T the time of service, q the requests in flight for each core
there. Source: Suresh, Canini, Schmid and Feldmann, "C3: Cutting Tail Latency in Cloud Data Stores via Adaptive Replica Selection", NSDI
'15, section 3.1. Departures: q is what the entry cluster knows to be in flight, others' requests included, where C3 adds to a queue that
servers report its own outstanding ones, times the number of clients; for each core, as a core's queue is what a request waits in and
nodes differ; averages are exponential in time (half of it `seen_answers.HALF_LIFE_S` ago) and not by answer (0.9 for each); no control of
sending rates: a request that waits at its sender for a rate is late as well. The replicas are those of the nearest few clusters (a key of
Cassandra has three).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place
from tango.scheduling.lc.columns import Ask, Belief, Exploration, Terrain
from tango.scheduling.lc.policy import CompiledPolicy
from tango.scheduling.lc.replicas import MOST_CLUSTERS, clusters_within, ranked, seen_answer_s, seen_service_s
from tango.settings.decisions import LcSettings

REACH, EXPONENT = range(2)
"""Columns of the weights."""


def _weights(settings: LcSettings) -> NDArray[np.float64]:
    return np.array([[float(settings.reach), settings.queue_exponent]])


@in_place
def score_of(terrain: Terrain, belief: Belief, ask: Ask, node: int) -> float:
    """The score of a replica, in seconds."""
    queue = belief.in_flight[ask.service, node] / belief.limit_cores[ask.service, node]
    served_s = seen_service_s(terrain, belief, ask, node)
    return float(seen_answer_s(terrain, belief, ask, node) - served_s + (1.0 + queue) ** terrain.weights[0, EXPONENT] * served_s)


@in_place
def _least_score(terrain: Terrain, belief: Belief, ask: Ask, _sent: NDArray[np.float64], _explore: Exploration) -> int:
    best, least = -1, np.inf
    for rank in range(clusters_within(terrain, terrain.weights[0, REACH])):
        cluster = ranked(terrain, ask.entry, rank)
        for k in range(terrain.first[cluster], terrain.first[cluster + 1]):
            node = terrain.members[k]
            if belief.limit_cores[ask.service, node] > 0.0:
                score = score_of(terrain, belief, ask, node)
                if score < least:
                    best, least = int(node), score
    return best


POLICY = CompiledPolicy(
    name="c3",
    choose=_least_score,
    observes=True,
    weights=_weights,
    tunable={"reach": (1, MOST_CLUSTERS), "queue_exponent": (1.0, 4.0)},
)
