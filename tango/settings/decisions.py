"""Dispatch of LC, placement of BE, nodes that do not answer, and how the two classes share a node."""

from __future__ import annotations

from dataclasses import dataclass

from tango.settings.bounds import LONGEST_S, within


@dataclass(frozen=True, slots=True, kw_only=True)
class LcSettings:
    """Dispatch and execution of latency-critical requests."""

    snapshot_max_age_s: float = 0.02
    """Seconds; a worker reads the fleet this often while requests come, and counts in what it has given out itself. Agents renew
    what they have seen every 0.25 s (`KubeSettings.observe_every_s`), but what is in flight changes with every request: at 0.1 s a worker
    gave 6 % of its requests to instances that the other worker had just made busy, and LC took 7 % longer than in a simulation that
    knows. A reading of a cluster of four nodes costs 0.05 ms."""
    keep_late: bool = True
    """Requests that cannot meet their target are kept, late and counted. False sheds them, which helps those behind them and is
    nothing to do unasked."""
    max_in_flight: int = 1000
    """HTTP calls under way per worker. The design asks for 500 a cluster at the least; twice that leaves a reserve."""
    start_here: bool = True
    """A worker starts what it dispatches to its own cluster, which saves a message and a claim. False sends that through
    `exec.<cluster>` too, for workers that share the queues of a cluster out among them."""
    settle_every_s: float = 0.045
    """Seconds; results are written in groups at most this far apart. The design allows 50 ms: the longest that stays below it,
    because a group costs one transaction."""
    timeout_targets: float = 10.0
    """An LC call is given up after this many targets of its service, and after at least `timeout_min_s`: what is ten times late
    serves nobody, and its place is wanted."""
    timeout_min_s: float = 5.0
    """Seconds that an LC call has at least, so that short targets do not turn a pause of a node into a failure of all its
    requests."""
    score_weights: tuple[float, float, float, float] = (0.3, 0.1, 0.3, 0.3)
    """Used by `scoring` only: weights of free CPU, free memory, nearness and a short queue, which add up to 1. Memory counts
    least, since LC requests hold little of it; `tango tune` finds others for a load."""
    choices: int = 2
    """Used by `least-request`, `locality`, `waterfall` and `l3`: replicas that are drawn for a request, of which the one with fewest
    requests in flight is taken. Envoy's `choice_count`, by default: a second choice brings most of what more would."""
    overprovisioning: float = 1.4
    """Used by `locality`: a cluster gets this many times the share of its replicas that are healthy, at most all. Envoy's default."""
    spill_load: float = 0.8
    """Used by `waterfall`: requests in flight for each core of a cluster's instances above which the next nearest is asked. The default
    target of Google's load balancers, `maxUtilization`."""
    reach: int = 3
    """Used by `l3`, `prequal` and `c3`: how many clusters they look at, the nearest ones, the entry cluster among them. L3's mesh has
    three, and so many replicas has a key in C3's Cassandra."""
    failure_penalty_s: float = 0.6
    """Used by `l3`: seconds that a failure counts as, the order of a client's timeout and second try."""
    in_flight_exponent: float = 2.0
    """Used by `l3`: the power by which requests in flight lower a cluster's weight, more than in proportion."""
    probes: int = 3
    """Used by `prequal`: replicas that are probed for a request. The rate at which the paper's clients probe."""
    hot_quantile: float = 0.84
    """Used by `prequal`: a replica is hot whose requests in flight are above this share of all replicas'. The paper's 2^-0.25."""
    queue_exponent: float = 3.0
    """Used by `c3`: the power of the queue in its score. The paper's cube."""

    def __post_init__(self) -> None:
        within(self, 2, 8, "choices", "probes")
        within(self, 1, 16, "reach")
        within(self, 0.0, 100.0, "overprovisioning", "spill_load", above=True)
        within(self, 0.0, LONGEST_S, "failure_penalty_s")
        within(self, 0.0, 10.0, "in_flight_exponent", "queue_exponent")
        within(self, 0.0, 1.0, "hot_quantile")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierSettings:
    """When a node gets no LC any more because it does not answer, and how it gets some again."""

    failures_in_row: int = 3
    """Failed calls after each other, none answered between them, that put a node out. One or two may be a pod that restarts."""
    hang_min_s: float = 1.0
    """Seconds that a call must wait at the least, with nothing answered by its node, until the node counts as hanging. Pauses of some
    hundred milliseconds happen on any small machine."""
    hang_targets: float = 3.0
    """The same in targets of the call's service, for services whose answers take long."""
    hang_patience: float = 0.5
    """The same in what a caller waits at the most, where he says so: who waits a minute expects answers that take long, and a second try
    has to fit into the rest."""
    hang_answers: float = 10.0
    """The same in what answers of all nodes take at present: when all are slow, the host is, or the line to all of them."""
    look_every_s: float = 0.1
    """Seconds between two looks at calls that hang: a tenth of the shortest time after which one does."""
    paused_after_looks: float = 3.0
    """A look that comes after so many of these says that the process itself stood still: no node is blamed for that time."""
    most_out_share: float = 0.5
    """Share of the nodes that may be out at once, and always one. The nodes of a site often hang together, so that it is more than the
    tenth which service meshes begin with; where more than half seem to hang, the rest cannot carry their load anyway."""
    probe_every_s: float = 0.5
    """Seconds between two probes of a node that is out, while it answers them; doubled by each that it does not."""
    longest_probe_pause_s: float = 5.0
    """Longest pause between two probes, in seconds: a node that comes back is noticed this soon."""
    probes_well: int = 2
    """Probes answered in a row that let a node in again: one may be answered between two hangs."""
    ramp_s: float = 10.0
    """Seconds over which a node that was let in again gets its full share: it has to start what it lost, and may fail once more."""

    def __post_init__(self) -> None:
        within(self, 1, 1000, "failures_in_row", "probes_well")
        within(self, 0.0, LONGEST_S, "hang_min_s", "probe_every_s", "longest_probe_pause_s", "look_every_s", above=True)
        within(self, 0.0, 1e6, "hang_targets", "hang_patience", "hang_answers", "ramp_s")
        within(self, 1.0, 1000.0, "paused_after_looks")
        within(self, 0.0, 1.0, "most_out_share")


@dataclass(frozen=True, slots=True, kw_only=True)
class BeSettings:
    """Placement of best-effort requests."""

    tick_s: float = 0.2
    """Seconds between placements. Short beside BE work of seconds; long enough that the cycle of the tick before (snapshot,
    decision, pods) is over on a fleet of tens of nodes."""
    batch_limit: int = 256
    """Pending requests that one tick considers, the oldest of each run in turn. More than a fleet of tens of nodes takes at once, and
    few enough that their pods are created within the next ticks."""
    decide_budget_ms: float = 250.0
    """Milliseconds. A learned policy slower than this in three ticks running is replaced by the fallback for a minute: above a
    tick, decisions would fall behind arrivals for good."""
    fallback_policy: str = "load-greedy"
    """BE policy that decides where a network cannot: it needs no file, knows every node and is the rule that the networks are
    compared with in docs/results.md."""
    lc_late_share: float = 0.1
    """Share of a cluster's LC requests under way that may be late; while more are, BE waits and nothing is placed there. A tenth: less is
    the scatter of single requests, more is a queue. 1 lets BE go anywhere."""
    lc_first_s: float = 60.0
    """Seconds that a BE request waits for LC at the most; after that it goes there all the same. LC of a target that nobody can meet would
    hold up BE for ever."""
    lease_ttl_s: float = 5.0
    """Seconds that the one scheduler holds its role without renewing it, which it does every tick. Another takes over after this;
    a cycle that takes longer finds its decisions refused by the fence."""

    def __post_init__(self) -> None:
        within(self, 0.0, 1.0, "lc_late_share")
        within(self, 0.0, LONGEST_S, "lc_first_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingSettings:
    """QoS re-assurance: thresholds on slack = 1 - tail latency / target."""

    tick_s: float = 1.0
    """Seconds between rounds of re-assurance. A resize takes effect within a fraction of a second, and a shorter round would act
    on tails that have not seen it."""
    window_s: float = 5.0
    """Seconds of answers that a tail latency is taken over. Long enough for `min_samples` at one request a second, short enough
    that a load step shows within a few rounds."""
    quantile: float = 0.95
    """Share of answers below the tail latency. The 95th percentile moves with tens of answers; the 99th would need hundreds in a
    window."""
    min_samples: int = 5
    """Answers in the window below which a service on a node counts as unmeasured: of fewer, the tail is the slowest single answer."""
    grow_below: float = 0.2
    """Slack (1 - tail / target) below which an instance grows: while a fifth of the target is left, so that growing comes before
    the first misses."""
    shrink_above: float = 0.7
    """Slack above which an instance shrinks: at less than a third of the target. The distance to `grow_below` is the hysteresis
    that keeps it from swinging."""
    grow_factor: float = 1.5
    """Factor of one step up, times the overrun where the tail is past the target. Half more halves a queue within a few rounds."""
    shrink_factor: float = 0.8
    """Factor of one step down. Smaller than the step up, because giving back too much costs misses and giving back too little only
    idle CPU."""
    hold_s: float = 3.0
    """Seconds after a resize in which an instance is left alone before it may grow again: more than half of the window is then
    measured under the new limit."""
    shrink_hold_s: float = 10.0
    """Seconds after a resize before an instance may shrink: two whole windows, so that a short calm between bursts gives nothing
    back."""
    reserve_millicores: int = 0
    """CPU of every node, in millicores, that LC limits never take. 0: LC may use whole nodes, because BE gives way and keeps its
    weight; raise it where other pods run on the nodes."""

    def __post_init__(self) -> None:
        within(self, 0.0, LONGEST_S, "tick_s", "window_s", above=True)
        within(self, 0.0, LONGEST_S, "hold_s", "shrink_hold_s", "reserve_millicores")
        within(self, 0.0, 1.0, "quantile", "shrink_factor", above=True)
        within(self, -10.0, 1.0, "grow_below", "shrink_above")
        within(self, 1.0, 4.0, "grow_factor")
        within(self, 1, 1_000_000, "min_samples")
