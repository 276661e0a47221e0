"""The engine's arrays in the tuples that the compiled steps take, and how each tuple is made. `records` has the records in them.

The steps make no arrays of their own (`compiled.in_place`), so whatever a window may write to is large enough before it begins
(`SimulationState.grow`).

CPU is in millicores as in snapshots, and in cores where the node model wants it; memory in MiB, time in seconds from the trace's zero.
Shapes: m requests, s services, n nodes, c clusters, r resources, i instances a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.domain.patience import patience_s
from tango.domain.runs import NewRequests
from tango.domain.services import Service, ServiceClass
from tango.node_model.state import FINISHED, NodeStates
from tango.scheduling.lc.columns import Belief, Choices, Exploration, Terrain, Traits
from tango.scheduling.sharing_step import (
    Declared,
    Instances,
    NodeCapacities,
    Shares,
    Tuning,
    new_capacities,
    new_instances,
    new_shares,
)
from tango.sim.records import CYCLE, LOSS, SCALING


class Arrivals(NamedTuple):
    """(m,) requests in order of `due_s`; only `turn` changes."""

    due_s: NDArray[np.float64]
    """when it arrives"""
    waited_s: NDArray[np.float64]
    """how long it had waited when it arrived, which counts in its latency; 0 but in the simulation of a recorded run"""
    target_s: NDArray[np.float64]
    """latency target from `due_s` on; NaN for BE"""
    patience_s: NDArray[np.float64]
    """given up where no answer is expected so long after `due_s`; infinity: never, NaN for BE"""
    service_class: NDArray[np.int8]
    """`codes.LC` or `codes.BE`"""
    service: NDArray[np.int32]
    """row of the fleet's services"""
    entry: NDArray[np.int32]
    """cluster where it arrives"""
    work_s: NDArray[np.float64]
    """CPU-seconds"""
    memory_mib: NDArray[np.float64]
    """held from start to end"""
    turn: NDArray[np.int64]
    """number for round robin: 0 ... m - 1, and one more for every attempt that was lost"""


def new_arrivals(requests: NewRequests, services: Sequence[Service], waited_s: NDArray[np.float64] | float = 0.0) -> Arrivals:
    """The columns of a trace, as the engine was compiled for; `services` are the fleet's, which the trace's rows number.

    `waited_s`: (m,) what each had waited when it arrived, which is not in its target any more.
    """
    shed_after_targets = np.array([service.shed_after_targets for service in services])[requests.service]
    return Arrivals(
        due_s=_column(requests.due_s, np.float64),
        waited_s=_column(np.broadcast_to(waited_s, len(requests)), np.float64),
        target_s=_column(requests.target_s, np.float64),
        patience_s=_column(patience_s(requests.target_s + waited_s, shed_after_targets) - waited_s, np.float64),
        service_class=_column(requests.service_class, np.int8),
        service=_column(requests.service, np.int32),
        entry=_column(requests.cluster, np.int32),
        work_s=_column(requests.cpu_work_s, np.float64),
        memory_mib=_column(requests.memory_mib, np.float64),
        turn=np.arange(len(requests), dtype=np.int64),
    )


def _column(values: NDArray[Any], kind: type[np.generic]) -> NDArray[Any]:
    """The values as the engine was compiled for: another layout, or an array that cannot be written to, would compile it anew."""
    return np.require(values, kind, ["C", "W"])


class Rules(NamedTuple):
    """Scalars that do not change in a run."""

    window_s: float
    """length of a window"""
    lc_policy: Traits
    """which of the compiled LC policies dispatches, or that none of them does"""
    publish_every: int
    """windows from one publication to the next"""
    share_every: int
    """windows from one round of the sharing rule to the next"""
    place_every: int
    """windows from one placement of BE to the next"""
    actuation_s: float
    """from the decision to resize until it takes effect"""
    lost_after_s: float
    """an outage is noticed after this"""
    settle_s: float
    """an LC request that was served counts as in flight for so long; 0: not at all"""
    give_up_targets: float
    """an LC request is given up at this many times its target, ..."""
    give_up_least_s: float
    """... but not before it is this old"""
    most_attempts: int
    """of a request, after which it has failed"""
    keep_late: bool
    """whether LC requests are sent that cannot meet their target, or shed"""
    sheds_overdue: bool
    """whether a service of the fleet says after how long its requests are given up"""
    tail_window_s: float
    """lookback of tail latencies"""
    tail_quantile: float
    """which latency is the tail, 0 to 1"""
    audit: bool
    """whether `audit` looks after every event"""


class InstanceRows(NamedTuple):
    """Where LC instances stand. Every node has the same rows: the instances of service 0, of service 1, and so on."""

    row_service: NDArray[np.int64]
    """(i,) service of each row"""
    first_row: NDArray[np.int64]
    """(s + 1,) rows first_row[s] to first_row[s + 1] are of service s; none for BE"""
    instance_memory: NDArray[np.float64]
    """(s,) MiB of an instance"""
    concurrency: NDArray[np.int64]
    """(s,) requests that an instance serves at once"""

    @property
    def per_node(self) -> NDArray[np.int64]:
        """(s,) instances of each service on a node."""
        return np.diff(self.first_row)


def new_places(services: Sequence[Service]) -> InstanceRows:
    """The instances that each node of a fleet with these services has."""
    lc = [service.service_class is ServiceClass.LC for service in services]
    count = np.array([service.instances_per_node if of_lc else 0 for service, of_lc in zip(services, lc, strict=True)], np.int64)
    return InstanceRows(
        row_service=np.repeat(np.arange(len(services)), count),
        first_row=np.concatenate(([0], np.cumsum(count))),
        instance_memory=np.array([float(service.instance_memory_mib) for service in services]),
        concurrency=np.array([service.concurrency if of_lc else 0 for service, of_lc in zip(services, lc, strict=True)], np.int64),
    )


class Truth(NamedTuple):
    """LC as it is, where `Belief` is what one dispatcher takes it to be; (s, n) each."""

    in_flight: NDArray[np.float64]
    """requests dispatched there and not settled"""
    limit: NDArray[np.float64]
    """cores: CPU limits of the instances on ready nodes"""


def new_truth(*, limit_cores: NDArray[np.float64]) -> Truth:
    """The state in which nothing is in flight."""
    return Truth(in_flight=np.zeros(limit_cores.shape), limit=limit_cores)


class Published(NamedTuple):
    """What every cluster last told the others; the belief is put back to it after each dispatch."""

    in_flight: NDArray[np.float64]
    """(s, n) requests"""
    limit: NDArray[np.float64]
    """(s, n) cores"""
    demand: NDArray[np.float64]
    """(n,) cores; of `dss-lc` alone"""
    price: NDArray[np.float64]
    """(s, n) as `Belief.price`"""
    best_node: NDArray[np.int32]
    """(s, c) as `Belief.best_node`"""
    best_price: NDArray[np.float64]
    """(s, c) as `Belief.best_price`"""


def new_published(*, services: int, nodes: int, clusters: int) -> Published:
    """Nothing was published; the first publication comes before the first dispatch."""
    return Published(
        in_flight=np.zeros((services, nodes)),
        limit=np.zeros((services, nodes)),
        demand=np.zeros(nodes),
        price=np.full((services, nodes), np.inf),
        best_node=np.full((services, clusters), -1, np.int32),
        best_price=np.full((services, clusters), np.inf),
    )


class Links(NamedTuple):
    """(c,) until when each cluster's link is taken; the two directions do not disturb each other."""

    inward_s: NDArray[np.float64]
    """by payloads of requests"""
    outward_s: NDArray[np.float64]
    """by payloads of answers"""


def new_links(clusters: int) -> Links:
    """Links that carry nothing."""
    return Links(inward_s=np.zeros(clusters), outward_s=np.zeros(clusters))


ANSWERS_KEPT = 64
"""Answers that a (service, node) remembers; a tail over more than these in its lookback is one over the last of them."""


class AnswerRings(NamedTuple):
    """The last answers of each (service, node), in rings of `ANSWERS_KEPT`: ring service * n + node. Those of BE stay empty."""

    at_s: NDArray[np.float64]
    """(s * n, ANSWERS_KEPT) when an answer was served"""
    latency_s: NDArray[np.float64]
    """(s * n, ANSWERS_KEPT) from due time to the user"""
    head: NDArray[np.int64]
    """(s * n,) where the next goes"""
    sorted_s: NDArray[np.float64]
    """(ANSWERS_KEPT,) scratch"""
    tail_ms: NDArray[np.float64]
    """(s * n,) as of the last round of the sharing rule; NaN where nothing was measured"""
    samples: NDArray[np.int64]
    """(s * n,) answers that the tail was measured over"""


def new_tails(*, services: int, nodes: int) -> AnswerRings:
    """Tails before any request has been answered."""
    rings = services * nodes
    return AnswerRings(
        at_s=np.full((rings, ANSWERS_KEPT), -np.inf),
        latency_s=np.zeros((rings, ANSWERS_KEPT)),
        head=np.zeros(rings, np.int64),
        sorted_s=np.zeros(ANSWERS_KEPT),
        tail_ms=np.full(rings, np.nan),
        samples=np.zeros(rings, np.int64),
    )


class Lists(NamedTuple):
    """Who waits, and what is written down. How much of a list is in use stands in CLOCK under its name, where nothing else is said."""

    pending: NDArray[np.int64]
    """BE requests that wait for a node"""
    placing: NDArray[np.int32]
    """nodes that the centre gives to the first of `pending`, -1: none"""
    retries: NDArray[np.int64]
    """LC requests to be dispatched again"""
    dispatching: NDArray[np.int64]
    """LC requests to be dispatched in this window, by entry cluster"""
    shed: NDArray[np.bool_]
    """scratch, as long as `dispatching`"""
    entry_first: NDArray[np.int64]
    """(c + 1,) where each cluster's part of `dispatching` begins"""
    sent_last: NDArray[np.int64]
    """(c,) the last request that each cluster sent abroad since the publication, -1: none; `PROGRESS.sent_before` leads to the others"""
    sent: NDArray[np.float64]
    """(s, c) requests that one dispatch has given to each link; zero between dispatches"""
    abroad_request: NDArray[np.int64]
    """requests whose answer is under way from another cluster; `CLOCK.abroad` of them"""
    abroad_s: NDArray[np.float64]
    """when each of those answers was served"""
    settling_request: NDArray[np.int64]
    """requests that have been served and count as in flight until `settling_s`; `CLOCK.settling` of them"""
    settling_s: NDArray[np.float64]
    """when a request that has been served counts as in flight no more"""
    slots: NDArray[np.int64]
    """scratch: rows of the node model in order of their requests"""
    charge_s: NDArray[np.float64]
    """(b,) decision time of 0, 1, ... requests; the last holds for more"""
    losses: NDArray[np.void]
    """of LOSS"""
    scalings: NDArray[np.void]
    """of SCALING"""
    cycles: NDArray[np.void]
    """of CYCLE"""
    out: NDArray[np.void]
    """scratch of FINISHED: what the node model says has ended"""


FIRST_LENGTH = 64
"""Rows that a list begins with where nothing tells how many it will take."""


def new_lists(*, be_requests: int, services: int, clusters: int, charge_s: NDArray[np.float64]) -> Lists:
    """Nobody waits. `pending` and `placing` can take every BE request of the run and never grow, the others do."""
    return Lists(
        pending=np.zeros(be_requests + 1, np.int64),
        placing=np.zeros(be_requests + 1, np.int32),
        retries=np.zeros(FIRST_LENGTH, np.int64),
        dispatching=np.zeros(FIRST_LENGTH, np.int64),
        shed=np.zeros(FIRST_LENGTH, np.bool_),
        entry_first=np.zeros(clusters + 1, np.int64),
        sent_last=np.full(clusters, -1, np.int64),
        sent=np.zeros((services, clusters)),
        abroad_request=np.zeros(FIRST_LENGTH, np.int64),
        abroad_s=np.zeros(FIRST_LENGTH),
        settling_request=np.zeros(FIRST_LENGTH, np.int64),
        settling_s=np.zeros(FIRST_LENGTH),
        slots=np.zeros(FIRST_LENGTH, np.int64),
        charge_s=charge_s,
        losses=np.zeros(FIRST_LENGTH, LOSS),
        scalings=np.zeros(FIRST_LENGTH, SCALING),
        cycles=np.zeros(FIRST_LENGTH, CYCLE),
        out=np.zeros(FIRST_LENGTH, FINISHED),
    )


class Sharing(NamedTuple):
    """The columns of a round of sharing; one instance for each (node, row), node by node."""

    tuning: Tuning
    instances: Instances
    """limits and requests as decided; they take effect after `Rules.actuation_s`"""
    changed_s: NDArray[np.float64]
    """(n * i,) time of the last resize"""
    capacities: NodeCapacities
    declared: Declared
    shares: Shares
    evictable: NDArray[np.int64]
    """requests of the BE pods behind `capacities.evictable_millicores`"""
    evictable_done_s: NDArray[np.float64]
    """CPU-seconds that each of them has done"""


NEVER_S = -1e9
"""A time so long ago that every hold is over."""


def new_sharing(
    *,
    tuning: Tuning,
    declared: Declared,
    row_service: NDArray[np.int64],
    cpu_millicores: NDArray[np.float64],
    pods_per_node: int,
    guaranteed_millicores: NDArray[np.float64],
) -> Sharing:
    """Instances of the declared size on every node, and space for this many BE pods a node. `guaranteed_millicores` (t, n)."""
    nodes, rows = len(cpu_millicores), len(row_service)
    pods = nodes * pods_per_node
    return Sharing(
        tuning=tuning,
        instances=new_instances(node=np.repeat(np.arange(nodes), rows), service=np.tile(row_service, nodes), declared=declared),
        changed_s=np.full(nodes * rows, NEVER_S),
        capacities=new_capacities(
            allocatable_millicores=cpu_millicores, evictable=pods, guaranteed_millicores=guaranteed_millicores
        ),
        declared=declared,
        shares=new_shares(instances=nodes * rows, evictable=pods, be_share=np.ones(nodes), guarantees=len(guaranteed_millicores)),
        evictable=np.zeros(pods, np.int64),
        evictable_done_s=np.zeros(pods),
    )


class BeSizes(NamedTuple):
    """What the pods of a BE service ask for; 0 for LC."""

    requests: NDArray[np.float64]
    """(r, s) requests; memory is each request's own (`Arrivals.memory_mib`)"""
    limit: NDArray[np.float64]
    """(s,) CPU limits, millicores"""


def new_be_sizes(*, requests: NDArray[np.float64], declared: Declared, is_lc: NDArray[np.bool_]) -> BeSizes:
    """The declared sizes; `requests` (r, s) of all services."""
    return BeSizes(requests=np.where(is_lc, 0.0, requests), limit=np.where(is_lc, 0.0, declared.limit_millicores))


class Holdings(NamedTuple):
    """(r, n) each: what nodes have of every resource, and what is held of it by requests."""

    allocatable: NDArray[np.float64]
    lc: NDArray[np.float64]
    """by LC instances"""
    placed: NDArray[np.float64]
    """by BE pods by the centre's accounts: what it placed and has not seen end"""
    running: NDArray[np.float64]
    """by BE pods by the node's own accounts: what runs"""


def new_holdings(*, allocatable: NDArray[np.float64], lc: NDArray[np.float64]) -> Holdings:
    """Nodes without BE, each with the same LC instances, which hold `lc` (r,)."""
    shape = allocatable.shape
    return Holdings(
        allocatable=allocatable, lc=np.repeat(lc[:, None], shape[1], axis=1), placed=np.zeros(shape), running=np.zeros(shape)
    )


class EngineState(NamedTuple):
    """All that a simulation is at one instant."""

    rules: Rules
    clock: NDArray[np.void]
    """(1,) of CLOCK"""
    heap: NDArray[np.void]
    """of EVENT: what is still to happen, but for the ends that the node model knows of"""
    heap_counts: NDArray[np.int64]
    """(2,) events on the heap, next sequence number"""
    arrivals: Arrivals
    progress: NDArray[np.void]
    """(m,) of PROGRESS"""
    sites: NDArray[np.void]
    """(n,) of SITE"""
    holdings: Holdings
    states: NodeStates
    """the node model's own arrays"""
    places: InstanceRows
    terrain: Terrain
    belief: Belief
    truth: Truth
    published: Published
    links: Links
    tails: AnswerRings
    lists: Lists
    sharing: Sharing
    be: BeSizes
    choices: Choices
    """what the last dispatch chose for each request"""
    explore: Exploration
