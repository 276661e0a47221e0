"""The arrays that LC dispatch reads and writes: made alike of a live snapshot and of the simulator's world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.domain.seen_answers import SEEN
from tango.domain.services import Service
from tango.domain.snapshot import FleetSnapshot

SCRATCH = 64
"""Numbers that a policy may put down while it weighs one request."""


class Traits(NamedTuple):
    """What the shared steps have to know of the policy in force."""

    place: int
    """In `built_in.POLICIES`; `ELSEWHERE` for a policy in Python, which compiled code never asks."""
    counts_crowding: bool
    """Its prices count that the LC services of a node share its CPU: one request changes the prices of the node's other services. Of
    equal prices in the entry cluster that node is offered where BE loses least."""
    minds_links: bool
    """A batch that gives a link more than it carries within the target counts as late."""
    observes: bool
    """It goes by how requests were answered, so that answers are noted (`Belief.answers`)."""


ELSEWHERE = -1
IN_PYTHON = Traits(place=ELSEWHERE, counts_crowding=False, minds_links=False, observes=False)
"""A policy that is not compiled. The engine keeps its belief all the same, since snapshots are made of it."""


class Terrain(NamedTuple):
    """What does not change from request to request; s services, n nodes, c clusters."""

    work_s: NDArray[np.float64]
    """(s,) mean work of a request."""
    payload_kib: NDArray[np.float64]
    """(s,) size of a request on the wire."""
    target_s: NDArray[np.float64]
    """(s,) what a link carries is counted over this; infinity for BE."""
    rtt_s: NDArray[np.float64]
    """(c, c) round trip from an entry cluster to another; within a cluster on the diagonal."""
    s_per_kib: NDArray[np.float64]
    """(c, c) transfer time; 0 on the diagonal."""
    near: NDArray[np.int32]
    """(c, c) clusters by round trip, nearest first."""
    first: NDArray[np.int64]
    """(c + 1,) cluster k has the nodes `members[first[k]:first[k + 1]]`."""
    members: NDArray[np.int64]
    """(n,) rows of the nodes, cluster by cluster."""
    cluster_of: NDArray[np.int32]
    """(n,) each node's cluster."""
    weights: NDArray[np.float64]
    """(k, l) the policy's own numbers, as its file arranges them; (0, 0) without."""


NOW = np.dtype([("at_s", np.float64), ("first", np.int64)], align=True)
"""When a dispatch is, on the clock of `Belief.answers`, and where in these its entry cluster's rows begin."""


OFFER = np.dtype([("cost", np.float64), ("node", np.int64), ("cluster", np.int64)], align=True)
"""What a cluster offers for a service: seconds, network included, and the node."""
RANKS = 3
"""Numbers that are kept of a heap of offers (`offers`)."""


class Belief(NamedTuple):
    """What a dispatcher takes the nodes' state to be; it counts in what it gives out."""

    limit_cores: NDArray[np.float64]
    """(s, n) CPU of the ready instances; 0: none."""
    places: NDArray[np.float64]
    """(s, n) requests that the instances hold in memory."""
    in_flight: NDArray[np.float64]
    """(s, n) requests that were sent there and have not ended."""
    cores: NDArray[np.float64]
    """(n,) CPU of the node."""
    demand: NDArray[np.float64]
    """(n,) `demand_cores` of what is in flight; kept up to date for policies that count crowding alone."""
    be_limit: NDArray[np.float64]
    """(n,) cores that the BE pods of a node of the entry cluster may use, by their limits; infinity elsewhere, where what BE leaves idle
    is known too late to be counted on, and where nobody asks."""
    free_cpu: NDArray[np.float64]
    """(n,) share of the CPU that was measured idle."""
    free_memory: NDArray[np.float64]
    """(n,) share of the memory that nobody holds."""
    slack: NDArray[np.float64]
    """(n,) least slack of the node's LC services."""
    longest_queue: NDArray[np.float64]
    """(s,) requests per core on the busiest node, at least 1; as of the last pricing of all nodes."""
    price: NDArray[np.float64]
    """(s, n) in the policy's own unit; infinity where there is no ready instance."""
    best_node: NDArray[np.int32]
    """(s, c) what each cluster offers; -1: nothing."""
    best_price: NDArray[np.float64]
    """(s, c) the price of that offer; infinity where there is none."""
    ranked: NDArray[np.void]
    """(s, c) of OFFER: by service the offers that a batch has looked at, as a heap (`offers`)."""
    ranks: NDArray[np.int64]
    """(s, RANKS) how many those are, the next cluster from near to far, and how many have left because their link is full."""
    scratch: NDArray[np.float64]
    """(SCRATCH,) what the policy puts down while it weighs one request; beside it only who tells what was weighed reads it."""
    answers: NDArray[np.void]
    """(e * s * n,) of SEEN, of e entry clusters: how each was answered, row `now.first + service * n + node`; empty for policies that do
    not observe."""
    now: NDArray[np.void]
    """(1,) of NOW; kept up to date for policies that observe alone."""


class Ask(NamedTuple):
    """The request that is to be dispatched."""

    entry: int
    """Cluster where it came in."""
    service: int
    """Row of its service."""
    budget_s: float
    """Time it has from here to its answer."""
    turn: int
    """Its number in the order of arrival; a retry has another one."""
    row: int
    """Its row in the batch's columns."""


class Asks(NamedTuple):
    """Columns of the requests among which `dispatch` is to look at some rows, (m,) each; meaning and units as in `Ask`."""

    service: NDArray[np.int32]
    budget_s: NDArray[np.float64]
    turn: NDArray[np.int64]


class Choices(NamedTuple):
    """Where each of m requests goes."""

    node: NDArray[np.int32]
    """(m,) -1: there is no ready instance."""
    expected_s: NDArray[np.float64]
    """(m,) seconds to the answer, as expected when it was chosen; infinity without a node."""
    late: NDArray[np.bool_]
    """(m,) expected beyond the request's budget, or over a link that carries no more."""


def new_choices(count: int) -> Choices:
    """Nothing is chosen yet for this many requests."""
    return Choices(node=np.full(count, -1, np.int32), expected_s=np.full(count, np.inf), late=np.zeros(count, np.bool_))


class Exploration(NamedTuple):
    """For training a learned policy: noise to sample by, and what each choice saw. Arrays of length 0 switch both off."""

    noise: NDArray[np.float32]
    """(m, a) Gumbel noise for each of the policy's candidates."""
    seen: NDArray[np.float32]
    """(m, a, f) features of the candidates"""
    chosen: NDArray[np.int32]
    """(m,) candidate taken; -1: none."""


NO_NOISE = Exploration(np.zeros((0, 0), np.float32), np.zeros((0, 0, 0), np.float32), np.zeros(0, np.int32))
NO_WEIGHTS = np.zeros((0, 0))


def new_terrain(
    services: Sequence[Service],
    *,
    rtt_ms: NDArray[np.float64],
    bandwidth_mbit_per_s: NDArray[np.float64],
    node_cluster: NDArray[np.int32],
    weights: NDArray[np.float64] = NO_WEIGHTS,
    work_s: NDArray[np.float64] | None = None,
    entries: NDArray[np.int32] | None = None,
) -> Terrain:
    """The terrain of these services and clusters.

    `work_s` replaces the services' own mean work. With `entries`, only their rows of `near` are filled: sorting every row is most of
    what a small batch on a large fleet would cost.
    """
    clusters = len(rtt_ms)
    rtt_s = rtt_ms / 1e3
    near = np.zeros((clusters, clusters), np.int32)
    rows = slice(None) if entries is None else entries
    near[rows] = np.argsort(rtt_s[rows], axis=1, kind="stable")
    return Terrain(
        work_s=np.array([s.cpu_work_s for s in services]) if work_s is None else work_s,
        payload_kib=np.array([s.payload_kib for s in services]),
        target_s=np.array([(s.target_ms or np.inf) / 1e3 for s in services]),
        rtt_s=rtt_s,
        s_per_kib=8192 / 1e6 / bandwidth_mbit_per_s,
        near=near,
        first=np.concatenate(([0], np.cumsum(np.bincount(node_cluster, minlength=clusters)))),
        members=np.argsort(node_cluster, kind="stable"),
        cluster_of=node_cluster,
        weights=weights,
    )


def new_belief(
    *,
    limit_cores: NDArray[np.float64],
    places: NDArray[np.float64],
    in_flight: NDArray[np.float64],
    cores: NDArray[np.float64],
    clusters: int,
    observing: int = 0,
) -> Belief:
    """A belief in idle nodes with full slack; what is in flight is counted into `demand`.

    `observing`: of how many entry clusters answers are noted.
    """
    services, nodes = in_flight.shape
    return Belief(
        limit_cores=limit_cores,
        places=places,
        in_flight=in_flight,
        cores=cores,
        demand=np.minimum(in_flight, limit_cores).sum(axis=0),
        be_limit=np.full(nodes, np.inf),
        free_cpu=np.ones(nodes),
        free_memory=np.ones(nodes),
        slack=np.ones(nodes),
        longest_queue=np.ones(services),
        price=np.full((services, nodes), np.inf),
        best_node=np.full((services, clusters), -1, np.int32),
        best_price=np.full((services, clusters), np.inf),
        ranked=np.zeros((services, clusters), OFFER),
        ranks=np.zeros((services, RANKS), np.int64),
        scratch=np.zeros(SCRATCH),
        answers=np.zeros(observing * services * nodes, SEEN),
        now=np.zeros(1, NOW),
    )


def belief_of(snapshot: FleetSnapshot, *, observes: bool = False) -> Belief:
    """What a snapshot says, to be counted on in; with `observes` also how requests were answered."""
    concurrency = np.array([float(service.concurrency) for service in snapshot.services])
    cpu = np.maximum(1.0, snapshot.cpu_allocatable)
    found = new_belief(
        limit_cores=np.where(snapshot.node_ready, snapshot.instance_limit, 0.0) / 1e3,
        places=snapshot.instance_count * concurrency[:, None],
        in_flight=snapshot.in_flight.copy(),
        cores=cpu / 1e3,
        clusters=len(snapshot.clusters),
    )._replace(
        free_cpu=1 - snapshot.cpu_used / cpu,
        free_memory=snapshot.memory_free / np.maximum(1.0, snapshot.memory_allocatable),
        slack=snapshot.slack,
    )
    return with_answers(found, snapshot) if observes else found


def be_cores(snapshot: FleetSnapshot) -> NDArray[np.float64]:
    """(n,) cores that the BE pods of each node may use, by their limits, as `Belief.be_limit` has it of the entry cluster."""
    found: NDArray[np.float64] = snapshot.be_cpu_limit / 1e3
    return found


def with_answers(belief: Belief, snapshot: FleetSnapshot) -> Belief:
    """The belief with what the snapshot tells of answers; a snapshot that tells nothing has seen none."""
    now = np.zeros(1, NOW)
    now["at_s"] = snapshot.at_s
    told = snapshot.answers
    return belief._replace(answers=np.zeros(belief.in_flight.size, SEEN) if told is None else told.reshape(-1), now=now)
