"""Replicas of a service near an entry cluster, and some of them drawn at random. Compiled.

What the policies of proxies and meshes begin with.

A replica is what a node has of a service, its instances together. Clusters are ranked by nearness: the entry cluster is 0. Chance is a
function of the request's turn, as for `round-robin`: it needs no state, a run can be repeated, and a retry draws others.
"""

from __future__ import annotations

from tango.compiled import in_place, inlined
from tango.scheduling.lc.columns import Ask, Belief, Terrain
from tango.scheduling.lc.expected_time import network_s

MOST_CHOICES = 8
"""Replicas that can be drawn for one request."""
MOST_CLUSTERS = 16
"""Clusters that a policy can weigh by numbers in the scratch."""
_PLACES, DRAWN, CLUSTER_WEIGHTS = 1, 1 + MOST_CHOICES, 1 + 2 * MOST_CHOICES
"""Where in `Belief.scratch` the places of the drawn among the open replicas, the drawn nodes, and the weights of clusters stand; first of
all stands how many were drawn."""
_BITS_32 = 0xFFFFFFFF
"""The lowest 32 bits of a number."""


@inlined
def draw(turn: int, number: int) -> float:
    """The number `number` in [0, 1) of the request with this turn: a 32-bit mixer of multiplications and shifts.

    Source: C. Wellons, "Prospecting for Hash Functions" (2018), `lowbias32`.
    """
    x = (turn * 0x9E3779B1 + number * 0x85EBCA77 + 0x27D4EB2F) & _BITS_32
    x ^= x >> 16
    x = (x * 0x7FEB352D) & _BITS_32
    x ^= x >> 15
    x = (x * 0x846CA68B) & _BITS_32
    x ^= x >> 16
    return x / 4294967296.0


@inlined
def ranked(terrain: Terrain, entry: int, rank: int) -> int:
    """The cluster of a rank by nearness: the entry cluster, then the others by round trip."""
    if rank == 0:
        return entry
    own = 0
    while terrain.near[entry, own] != entry:  # it comes first but where links are as short as the way within the cluster
        own += 1
    return int(terrain.near[entry, rank] if rank > own else terrain.near[entry, rank - 1])


@inlined
def clusters_within(terrain: Terrain, reach: float) -> int:
    """How many clusters a policy looks at that may look at so many."""
    return int(min(reach, terrain.near.shape[1]))


@inlined
def is_ejected(belief: Belief, service: int, node: int) -> bool:
    """Whether the replica is out because it has failed time and again."""
    row = belief.now[0].first + service * belief.in_flight.shape[1] + node
    return bool(belief.answers[row].out_until_s > belief.now[0].at_s)


@inlined
def is_open(belief: Belief, service: int, node: int, skips_ejected: bool) -> bool:
    """Whether the replica may be drawn."""
    if belief.limit_cores[service, node] <= 0.0:
        return False
    return not (skips_ejected and is_ejected(belief, service, node))


@in_place
def count_open(terrain: Terrain, belief: Belief, ask: Ask, nearest: int, until: int, skips_ejected: bool) -> int:
    """Replicas that may be drawn in the clusters of ranks `nearest` to `until` - 1."""
    found = 0
    for rank in range(nearest, until):
        cluster = ranked(terrain, ask.entry, rank)
        for k in range(terrain.first[cluster], terrain.first[cluster + 1]):
            if is_open(belief, ask.service, terrain.members[k], skips_ejected):
                found += 1
    return found


@in_place
def draw_some(terrain: Terrain, belief: Belief, ask: Ask, nearest: int, until: int, skips_ejected: bool, choices: float) -> int:
    """Draw up to `choices` different replicas of the clusters of ranks `nearest` to `until` - 1, and give how many there are.

    Their nodes stand in the scratch from `DRAWN` on, in the order in which they were drawn, so that ties among them are settled by chance.
    """
    ready = count_open(terrain, belief, ask, nearest, until, skips_ejected)
    wanted = min(int(choices), MOST_CHOICES, ready)
    out = belief.scratch
    out[0] = wanted
    taken, number = 0, 1
    while taken < wanted:
        number += 1
        # Where all are drawn chance says who is the first.
        at = int(draw(ask.turn, 1) * ready + taken) % ready if wanted == ready else int(draw(ask.turn, number) * ready)
        is_new = True
        for k in range(taken):
            if out[_PLACES + k] == at:
                is_new = False
        if is_new:
            out[_PLACES + taken] = at
            taken += 1
    place, found = 0, 0
    for rank in range(nearest, until):
        if found == wanted:
            break
        cluster = ranked(terrain, ask.entry, rank)
        for k in range(terrain.first[cluster], terrain.first[cluster + 1]):
            node = terrain.members[k]
            if is_open(belief, ask.service, node, skips_ejected):
                for j in range(wanted):
                    if out[_PLACES + j] == place:
                        out[DRAWN + j] = node
                        found += 1
                place += 1
    return wanted


@in_place
def least_in_flight(belief: Belief, service: int, drawn: int) -> int:
    """Of the drawn replicas the one with the fewest requests in flight, among equals the first; -1 where none is drawn."""
    best, least = -1, 0.0
    for k in range(drawn):
        node = int(belief.scratch[DRAWN + k])
        if best < 0 or belief.in_flight[service, node] < least:
            best, least = node, belief.in_flight[service, node]
    return best


@inlined
def seen_answer_s(terrain: Terrain, belief: Belief, ask: Ask, node: int) -> float:
    """Seconds from sending to the answer as this entry cluster has seen them on a node; where it has seen none, of an idle node."""
    row = belief.now[0].first + ask.service * belief.in_flight.shape[1] + node
    if belief.answers[row].answers > 0:
        return float(belief.answers[row].answer_s)
    return network_s(terrain, ask.entry, terrain.cluster_of[node], ask.service) + float(terrain.work_s[ask.service])


@inlined
def seen_service_s(terrain: Terrain, belief: Belief, ask: Ask, node: int) -> float:
    """Seconds of service as this entry cluster has seen them on a node; where it has seen none, the mean work."""
    row = belief.now[0].first + ask.service * belief.in_flight.shape[1] + node
    if belief.answers[row].answers > 0:
        return float(belief.answers[row].served_s)
    return float(terrain.work_s[ask.service])
