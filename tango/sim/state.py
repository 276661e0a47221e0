"""The arrays of a simulated world.

One record a node, one a request, one for the run as a whole: an event touches many fields of one of them. What the compiled steps take are
tuples of these arrays; they make no arrays of their own, so everything has its room before a window begins (`World.room`).
CPU is in millicores as in snapshots and in cores where the node model wants it, memory in MiB, time in seconds from the trace's zero.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.node_model.state import NodeStates
from tango.scheduling.lc.columns import Belief, Choices, Exploration, Terrain, Traits
from tango.scheduling.sharing_step import Declared, Instances, NodeCapacities, Shares, Tuning

SITE = np.dtype(
    [
        ("up", np.int64),  # the machine runs
        ("ready", np.int64),  # Tango takes it to run: an outage is seen after a while
        ("cpu", np.float64),  # allocatable, millicores
        ("memory", np.float64),  # allocatable, MiB
        ("lc_request", np.float64),  # of its LC instances
        ("lc_limit", np.float64),
        ("lc_memory", np.float64),
        ("placed_request", np.float64),  # BE by the centre's books: what it has placed and not seen end
        ("placed_limit", np.float64),
        ("placed_memory", np.float64),
        ("placed_pods", np.float64),
        ("run_request", np.float64),  # BE by the node's own books: what runs
        ("run_memory", np.float64),
        ("busy_then_s", np.float64),  # CPU-seconds used up to the last publication
        ("then_s", np.float64),  # when that was
        ("used", np.float64),  # CPU in use, mean since the publication before the last, millicores: as published
        ("slack", np.float64),  # least slack of its LC services, 1 where nothing was measured
    ],
    align=True,
)
"""A node, beside what the node model has of it."""

PROGRESS = np.dtype(
    [
        ("node", np.int32),
        ("attempts", np.int32),
        ("sent_before", np.int32),  # the request that the same cluster sent abroad before this one, -1: none; or NOT_SENT
        ("reason", np.int16),
        ("state", np.int8),
        ("started_s", np.float64),
        ("finished_s", np.float64),
    ],
    align=True,
)
"""What has become of a request so far. States and reasons are the codes of `tango.domain`."""

CLOCK = np.dtype(
    [
        ("window", np.int64),  # the next to run
        ("phase", np.int64),  # of that window
        ("cursor", np.int64),  # the next request that arrives
        ("pending", np.int64),  # BE requests that wait for a node
        ("retries", np.int64),  # LC requests to dispatch again
        ("batch", np.int64),  # LC requests to dispatch in this window
        ("terminal", np.int64),
        ("in_nodes", np.int64),  # LC requests in the node model
        ("abroad", np.int64),  # answers under way from other clusters in this window
        ("losses", np.int64),
        ("scalings", np.int64),
        ("cycles", np.int64),
        ("events", np.int64),
        ("moved", np.int64),  # pods started or ended, LC requests settled, resizes, nodes back: signs of life
        ("worst_cpu", np.float64),  # most that a node's use ever exceeded its CPU by, cores (audit only)
        ("worst_memory", np.float64),  # likewise memory, MiB
    ],
    align=True,
)
"""The run as a whole: where it stands, and how much of each list is in use."""

LOSS = np.dtype([("at_s", np.float64), ("request", np.int64), ("node", np.int64), ("reason", np.int64), ("work_s", np.float64)])
SCALING = np.dtype(
    [
        ("at_s", np.float64),
        ("kind", np.int64),  # `SCALING_KINDS`
        ("node", np.int64),
        ("service", np.int64),
        ("before", np.float64),
        ("after", np.float64),
        ("slack", np.float64),
    ]
)
CYCLE = np.dtype(
    [
        ("at_s", np.float64),
        ("considered", np.int64),
        ("placed", np.int64),
        ("late", np.int64),
        ("shed", np.int64),
        ("decide_s", np.float64),
    ]
)
"""LC dispatch of all clusters in one window."""


class Arrivals(NamedTuple):
    """n requests in order of `due_s`; only `turn` changes."""

    due_s: NDArray[np.float64]
    target_s: NDArray[np.float64]
    """NaN for BE"""
    service_class: NDArray[np.int8]
    service: NDArray[np.int32]
    entry: NDArray[np.int32]
    work_s: NDArray[np.float64]
    memory_mib: NDArray[np.float64]
    turn: NDArray[np.int64]
    """0 ... n - 1, and one more for every attempt that was lost"""


class Rules(NamedTuple):
    """Scalars that do not change in a run."""

    window_s: float
    lc_policy: Traits
    publish_every: int
    """windows"""
    share_every: int
    actuation_s: float
    lost_after_s: float
    """an outage is noticed after this"""
    give_up_targets: float
    give_up_least_s: float
    most_attempts: int
    keep_late: bool
    tail_window_s: float
    tail_quantile: float
    audit: bool


class Places(NamedTuple):
    """Where LC instances stand. Every node has the same rows: the instances of service 0, of service 1, and so on."""

    row_service: NDArray[np.int64]
    """(r,)"""
    first_row: NDArray[np.int64]
    """(s + 1,) rows first_row[s] to first_row[s + 1] are of service s; none for BE"""
    instance_memory: NDArray[np.float64]
    """(s,) MiB"""
    concurrency: NDArray[np.int64]
    """(s,) requests an instance holds"""


class Truth(NamedTuple):
    """LC as it is, where `Belief` is what one dispatcher takes it to be; (s, n) each."""

    in_flight: NDArray[np.float64]
    limit: NDArray[np.float64]
    """cores of the instances on ready nodes"""


class Published(NamedTuple):
    """What every cluster last told the others; the belief is put back to it after each dispatch."""

    in_flight: NDArray[np.float64]
    limit: NDArray[np.float64]
    demand: NDArray[np.float64]
    """(n,) cores; of `dss-lc` alone"""
    price: NDArray[np.float64]
    best_node: NDArray[np.int32]
    best_price: NDArray[np.float64]


class Links(NamedTuple):
    """(c,) until when each cluster's link is taken, inward and outward."""

    inward_s: NDArray[np.float64]
    outward_s: NDArray[np.float64]


class Tails(NamedTuple):
    """The last answers of each (service, node), as rings."""

    at_s: NDArray[np.float64]
    """(s * n, k); only rows of LC services are used"""
    latency_s: NDArray[np.float64]
    head: NDArray[np.int64]
    """(s * n,) where the next goes"""
    sorted_s: NDArray[np.float64]
    """(k,) scratch"""
    tail_ms: NDArray[np.float64]
    """(s * n,) as of the last round of sharing; NaN where too little was measured"""
    samples: NDArray[np.int64]


class Lists(NamedTuple):
    """Who waits, and what is written down. The counts are in the clock."""

    pending: NDArray[np.int64]
    retries: NDArray[np.int64]
    batch: NDArray[np.int64]
    """requests of this window, by entry cluster"""
    shed: NDArray[np.bool_]
    """scratch, as long as `batch`"""
    entry_first: NDArray[np.int64]
    """(c + 1,) where each cluster's part of `batch` begins"""
    sent_last: NDArray[np.int64]
    """(c,) the last request that each cluster sent abroad since the publication, -1"""
    sent: NDArray[np.float64]
    """(s, c) what a batch has given to each link; zero between batches"""
    abroad_request: NDArray[np.int64]
    abroad_s: NDArray[np.float64]
    slots: NDArray[np.int64]
    """scratch: rows of the node model in order of their requests"""
    charge_s: NDArray[np.float64]
    """(b,) decision time of a batch of 0, 1, ... requests"""
    losses: NDArray[np.void]
    scalings: NDArray[np.void]
    cycles: NDArray[np.void]
    out: NDArray[np.void]
    """what the node model says has ended"""


class Sharing(NamedTuple):
    """The columns of a round of sharing; one instance for each (node, row), node by node."""

    tuning: Tuning
    instances: Instances
    changed_s: NDArray[np.float64]
    """(n * r,) time of the last resize"""
    capacities: NodeCapacities
    declared: Declared
    shares: Shares
    evictable: NDArray[np.int64]
    """keys of the BE pods behind `capacities.evictable_millicores`"""
    evictable_done_s: NDArray[np.float64]
    """CPU-seconds that each of them has done"""


class BeSizes(NamedTuple):
    """(s,) millicores of a BE service's pods."""

    request: NDArray[np.float64]
    limit: NDArray[np.float64]


class Engine(NamedTuple):
    """All of it."""

    rules: Rules
    clock: NDArray[np.void]
    """(1,) of CLOCK"""
    heap: NDArray[np.void]
    heap_counts: NDArray[np.int64]
    arrivals: Arrivals
    progress: NDArray[np.void]
    """(n,) of PROGRESS"""
    sites: NDArray[np.void]
    """(n,) of SITE"""
    states: NodeStates
    places: Places
    terrain: Terrain
    belief: Belief
    truth: Truth
    published: Published
    links: Links
    tails: Tails
    lists: Lists
    sharing: Sharing
    be: BeSizes
    choices: Choices
    explore: Exploration
