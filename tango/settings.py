"""Every tunable with its unit and the reason for its default. The environment is read once, by `tango.bootstrap.environment`."""

from __future__ import annotations

from dataclasses import dataclass, field

from tango import __version__
from tango.errors import ConfigError


def _within(settings: object, low: float, high: float, *names: str, above: bool = False) -> None:
    """Raises: ConfigError for a setting out of bounds; `above`: the lower bound itself is out of bounds too."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not (low <= value <= high and (value > low or not above)):
            bounds = f"above {low:g}" if above else f"from {low:g}"
            raise ConfigError(f"{type(settings).__name__} {name} is {value:g}, expected a number {bounds} to {high:g}")


_LONGEST_S = 1e7
PULL_POLICIES = ("IfNotPresent", "Always", "Never")
"""Kubernetes' policies of when a node fetches an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """Leases: how long a claim holds without a heartbeat, and what follows."""

    dispatch_s: float = 10.0
    """Seconds from dispatch until an LC request that nobody has begun to execute is released again. A lost message costs this
    much; messages take milliseconds, so that 10 s means a worker that is gone and not one that is busy."""
    execution_s: float = 10.0
    """Seconds that a running LC request stands without a heartbeat; its worker renews every third of it. Two missed heartbeats are
    borne, and the requests of a dead worker are back within 10 s."""
    placement_s: float = 20.0
    """Seconds that a placed or running BE request stands without a heartbeat of its cluster agent. Twice that of LC: an agent may
    take seconds to list a cluster again after a restart, and a BE pod that is given up too early loses its work."""
    start_s: float = 300.0
    """Seconds that a pod which is bound to its node may take to start before its request is given up and placed anew. Pulling a large
    image takes minutes; a node whose kubelet hangs, or an image that does not exist, would hold the request for ever."""
    run_s: float = 7 * 86_400.0
    """Seconds that a BE pod may run before its request is given up and placed anew; a job's own deadline goes before. A week is longer than
    work at the edge takes, and a container that hangs holds its node no longer."""
    gone_s: float = 60.0
    """Seconds after the end of its grace that a pod may still be there before its request is placed anew: its node does not answer, and
    nobody else takes such a pod away."""
    silent_s: float = 10.0
    """Seconds without a word from a cluster's agent, which comes every `KubeSettings.sample_idle_s`, after which its cluster counts as
    away: nothing is placed there, and what it told of LC in flight counts no more. Long beside what an agent that is restarted, or a
    machine that is busy, stays silent."""
    away_s: float = 3600.0
    """Seconds that the BE requests of a cluster that is away stand without a heartbeat. Their pods run on there, and placed anew they
    would run twice and lose what they had done; so this is longer than lines are cut and hosts restart. After it the cluster is taken
    for lost."""
    unclaimed_after_s: float = 2.0
    """Seconds after which released requests whose message seems lost are published again. Far above the time of a message in a
    queue that is not overloaded; a second message finds nothing to claim and costs a millisecond."""
    max_attempts: int = 6
    """Attempts of one request before it fails for good. Enough for several evictions and a restart of every process; few enough
    that a request that kills its worker does not go round for ever."""
    max_job_attempts: int = 50
    """Attempts of a job that end by the system's doing (evictions, lost nodes, lost clusters) before it fails for good, its own retries
    apart. Far more than of a request of seconds: a job of hours is evicted often and loses little where it saves its state."""

    def __post_init__(self) -> None:
        _within(self, 0.0, _LONGEST_S, "silent_s", "away_s", "run_s", "gone_s", above=True)
        _within(self, 1, 10_000, "max_job_attempts")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalSettings:
    """How long a cluster, a service there or a node is left alone after it has refused pods for a reason of its own."""

    first_pause_s: float = 1.0
    """Seconds of the first pause, doubled with each refusal that follows a pause, less a random part up to half. A role that is loaded
    a moment later, as after the restart of an API server, costs this much."""
    longest_pause_s: float = 60.0
    """Longest pause, in seconds: a cluster that is well again is noticed this soon, and one that stays away is asked once a minute."""
    forget_s: float = 300.0
    """Seconds after the end of a pause without another refusal, after which it counts as over although nothing was tried: a node may get
    no pod of that service for hours."""

    def __post_init__(self) -> None:
        _within(self, 0.0, 3600.0, "first_pause_s", "longest_pause_s", above=True)
        _within(self, 0.0, _LONGEST_S, "forget_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """The size of transactions that change many requests."""

    chunk_rows: int = 1000
    """Requests that one transaction locks at the most, and that one message carries. At 50 to 200 us a row it holds its locks for 0.05
    to 0.2 s, which is what a result or a heartbeat of the same requests waits in the worst case; much smaller chunks cost a commit each
    for nothing."""

    def __post_init__(self) -> None:
        _within(self, 1, 100_000, "chunk_rows")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettings:
    """Requests of callers: what is kept of them, and how much."""

    keep_s: float = 3600.0
    """Seconds that an answer can be fetched after its request has ended, and that an idempotency key is known."""
    kept_answer_kib: int = 64
    """KiB of each answer that are kept to be fetched; most answers of latency-critical services are smaller."""
    kept_mib: int = 256
    """MiB of calls and answers that a journal keeps; beyond it the oldest answers go first. At 4 KiB an answer 65,000 of them."""
    tries: int = 2
    """Instances that a call which may be repeated is sent to, one after the other, where the first ones fail. A third rarely does better,
    and doubles what a broken service costs."""
    instance_ca: str = ""
    """Path of a file with the certificates of who may have signed those of instances that speak TLS; empty: the system's."""
    give_up_after_targets: float = 2.0
    """Targets after which a request of a caller who waits is given up, where neither the caller nor the service says when. An answer
    that comes later than twice its target is of little use, and under overload it costs others theirs."""

    def __post_init__(self) -> None:
        _within(self, 0.0, _LONGEST_S, "keep_s", "give_up_after_targets", above=True)
        _within(self, 0, 1 << 20, "kept_answer_kib", "kept_mib")
        _within(self, 1, 10, "tries")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """Jobs: how their pods are watched, and what is kept of them."""

    look_every_s: float = 1.0
    """Seconds between two looks for pods of jobs that nobody wants any more, and for those that cannot start: a cancelled job gives its
    node's resources back this much later than it could. One read of the centre for all pods of a cluster."""
    image_within_s: float = 120.0
    """Seconds after which a pod whose image cannot be pulled, or whose container cannot be made, fails for good. The kubelet tries again
    after 10, 20, 40 and 80 s, so that a registry that is away for a minute costs no job."""
    log_within_s: float = 10.0
    """Seconds for reading the end of the logs of one pod; what has not come by then is not kept. A kubelet that answers sends 10 MiB, where
    it rotates a log, in less; a job that has ended waits this long at the most to be settled."""
    log_lines: int = 2000
    """Lines of the end of a log that are asked for. Kubernetes counts lines only; of these the last `LOG_TAIL_BYTES` are kept."""
    log_keep_s: float = 7 * 86_400.0
    """Seconds that logs are kept after their pods have gone: over a weekend and a holiday."""
    log_total_mib: int = 1024
    """MiB of logs that the store keeps; beyond it the oldest go first. At 64 KiB each 16,000 containers."""
    drop_every_s: float = 60.0
    """Seconds between two rounds of dropping logs."""
    priority_s: float = 60.0
    """Seconds of waiting that one step of priority is worth, so that no job of a tenant waits for ever behind others of its own."""
    look_ahead: int = 2048
    """Waiting jobs of a run, the oldest first, among which priority counts: eight times what a placement considers."""

    def __post_init__(self) -> None:
        _within(self, 0.0, 3600.0, "look_every_s", "image_within_s", "log_within_s", "drop_every_s", above=True)
        _within(self, 0.0, _LONGEST_S, "log_keep_s", "priority_s")
        _within(self, 1, 1_000_000, "log_lines", "log_total_mib", "look_ahead")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """A gateway: what it takes from callers, how long it waits for them, and how many it serves at once."""

    accept_window_s: float = 0.005
    """Seconds between the beginnings of two transactions in the journal: what arrives meanwhile is accepted together and shares a message.
    Much of it is added to latencies once requests come denser than that; a message costs some milliseconds of a worker's CPU."""
    accept_limit: int = 256
    """Requests that one transaction accepts at the most."""
    body_kib: int = 1024
    """KiB of a request's body at the most; a longer one is answered 413. Bodies go into the journal, which is no place for films."""
    bodies_mib: int = 256
    """MiB that the bodies of all requests under way may take; beyond it newcomers are answered 429."""
    line_bytes: int = 8190
    """Bytes of the first line of a request, and of each of its headers, at the most; what other HTTP servers allow."""
    head_lines: int = 100
    """Headers of a request at the most."""
    head_within_s: float = 10.0
    """Seconds in which the head of a request has to come, and that a connection may be idle between two of them."""
    body_within_s: float = 10.0
    """Seconds in which a request's body has to come: 1 MiB at less than 1 Mbit/s."""
    taken_within_s: float = 30.0
    """Seconds in which a caller has to take each part of his answer, and an instance to send the next one."""
    max_waiting: int = 2000
    """Requests under way in one gateway at the most; beyond it newcomers are answered 429. Twice what a worker has in flight."""
    max_waiting_of_tenant: int = 1000
    """The same for each tenant: one whose client runs wild leaves half of the places to others."""
    max_connections: int = 4000
    """Connections of callers beyond which requests are answered 503 and their connection closed."""
    retry_after_s: float = 1.0
    """Seconds after which callers are asked to try again when there was no place for them: most queues have moved on by then."""
    look_every_s: float = 0.1
    """Seconds between two looks in the journal at how those stand who wait; so much later they hear of what no worker tells."""
    view_every_s: float = 0.25
    """Seconds between two readings of services, instances and tokens from the journal; as often as an agent observes its cluster."""
    view_idle_s: float = 1.0
    """Seconds; the same while nobody calls: a gateway may serve fifty clusters, and the first caller after a pause is served by what was so
    a second ago. Tokens come into the journal every two seconds then (`JournalSettings.publish_idle_s`)."""
    drain_s: float = 5.0
    """Seconds that a gateway which is told to stop waits for the answers of those who wait, and takes nobody new."""
    kept_headers: str = (
        "accept, accept-*, content-*, user-agent, range, if-*, cache-control, pragma, origin, referer, priority, prefer, idempotency-key, "
        "traceparent, tracestate, baggage, b3, forwarded, via, x-*"
    )
    """Headers of callers that may lie in the journal until their request has ended; `*` stands for any end of a name that does not look
    like a secret's. All others, among them `Authorization`, `Cookie` and `X-Api-Key`, which have secrets, are held in the gateway's memory,
    and the worker asks for them there."""
    answer_address: str = ""
    """`http://HOST:PORT` at which workers on other hosts reach this gateway with answers; empty: a UNIX socket in the state folder."""
    access_log: bool = True
    """Whether each request is logged: method, service, status, milliseconds, tenant, id; no body, token or query."""

    def __post_init__(self) -> None:
        _within(self, 0.0, 1.0, "accept_window_s")
        _within(self, 1, 100_000, "accept_limit", "head_lines", "max_waiting", "max_waiting_of_tenant", "max_connections")
        _within(self, 1, 1 << 20, "body_kib", "bodies_mib", "line_bytes")
        _within(self, 0.0, 3600.0, "head_within_s", "body_within_s", "taken_within_s", above=True)
        _within(self, 0.0, 3600.0, "look_every_s", "view_every_s", "view_idle_s", above=True)
        _within(self, 0.0, 3600.0, "retry_after_s", "drain_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelSettings:
    """The sweep of cancelled runs."""

    tick_s: float = 1.0
    """Seconds between looks for cancelled runs: a pod of one holds its node's resources at most this much longer."""
    slice_s: float = 2.0
    """Seconds that one task sweeps before it leaves the rest to the next, so that it does not occupy a thread of the scheduler for long."""
    lease_s: float = 15.0
    """Seconds of the sweep's lease; longer than a slice with the deletion of its pods. Two sweeps at once would only share the work."""
    late_pod_s: float = 1.0
    """Seconds after which the pods of cancelled requests are deleted a second time: longer than it takes from recording a placement to
    creating its pod, by experience."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TickSettings:
    """The rhythm of periodic tasks, beyond what the settings of each say."""

    reconcile_s: float = 1.0
    """Seconds between two reconciliations: what a dead process or a lost message left is found this much later than it could be."""
    idle_s: float = 3.0
    """Seconds between two rounds of any periodic task while no run is open, when there is nothing for it to do; the first BE request of a
    run calls for the usual rhythm at once. Below `BeSettings.lease_ttl_s`, so that the scheduler keeps its role."""

    def __post_init__(self) -> None:
        _within(self, 0.0, 60.0, "reconcile_s", "idle_s", above=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings:
    """Release of due requests: LC by the keepers of the journals, BE by the centre's replayer."""

    window_s: float = 0.01
    """Seconds; LC requests due within one window share a message. A window adds half of itself to LC latency on average, 5 ms, which
    is little beside targets of 100 ms and more."""
    longest_window_s: float = 0.02
    """Seconds that the window grows to with the rate: a message costs about a millisecond of a core however many requests it
    carries, and half of a window is added to the latency of LC. While workers are busy messages are rarer (`longest_wait_s`)."""
    longest_window_at_per_s: float = 600.0
    """Requests per second at which the window has its greatest length; in proportion below. At 600 a second, windows of 10 ms
    would carry six requests and spend a tenth of a core on messages."""
    longest_wait_s: float = 0.05
    """Seconds that requests which are due wait at the most for the message before them to be taken by a worker: what falls due
    meanwhile goes into one message. 20 messages a second and cluster are little beside the requests."""
    be_window_s: float = 0.1
    """Seconds; BE requests are released and announced at most this often. They wait for the next placement (`BeSettings.tick_s`) anyway, so
    that half a tick costs them nothing."""
    slice_s: float = 20.0
    """Seconds after which a replay task hands over to a new one, so that a worker which is told to stop need not wait for the end of
    a run."""
    lease_s: float = 5.0
    """Seconds that the replay of a run stands without a heartbeat, which comes every third of it. A dead replay worker stops the
    BE arrivals of a run for at most this long."""
    most_waiting: int = 300
    """LC requests of a cluster that may wait for their dispatch; while there are more, its keeper releases none. Three messages: one for
    each of two workers, and one beside them. Under overload the rest waits in the journal, where it costs nothing and is shed
    without a message, and not in a queue of messages that are all too late."""
    lc_release_limit: int = 100
    """LC requests of a cluster that one message carries at the most. What a message costs by itself, some milliseconds, is little beside
    as many, and a worker that takes all of them leaves some to the other one."""
    release_limit: int = 2000
    """BE requests that one statement releases. A replay that is behind catches up in steps of this size, each of which holds its rows
    only for a moment."""
    hand_over_s: float = 10.0
    """Seconds that a run waits at the most, before it begins, for the clusters to take the beginning of their shares. They take some
    tenths of a second; a cluster that is away must not keep the others waiting."""
    lead_s: float = 1.0
    """Seconds from then to the run's zero, so that the first requests are not late: the clusters look for it every
    `JournalSettings.follow_every_s`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSettings:
    """A cluster's journal, and its line to the centre."""

    follow_every_s: float = 0.25
    """Seconds between two looks at the centre's runs while there are any: a new run, its beginning and its cancellation are known
    beside the cluster this much later, which `ReplaySettings.lead_s` leaves time for."""
    idle_every_s: float = 0.5
    """Seconds between two looks while there are none: the first requests of a run are handed over this much later."""
    publish_every_s: float = 0.5
    """Seconds between two readings of the published fleet while there are runs. A cluster sees others this late; itself it sees by its
    own agent (`KubeSettings.observe_every_s`)."""
    publish_idle_s: float = 2.0
    """Seconds between two such readings while there are no runs: a service that is declared gets its instances this much later. A reading
    takes the centre some milliseconds of CPU, for each cluster."""
    ship_every_s: float = 0.5
    """Seconds between two shipments. A run's end, its figures and the tails of re-assurance are this late at the centre; each costs one
    transaction there and one wait for the disk here, which whoever else writes to the disk waits for too."""
    shipment_events: int = 4000
    """Events that one shipment has at the most: at some 50 us each, 0.2 s of the centre's transaction."""
    kept_events: int = 20_000
    """Events that a journal keeps after the centre has them, some 5 MiB. A standby that takes over lacks the last seconds, of which this is
    a minute at 100 LC requests a second; a backup that is older lacks the rest for good."""
    share_rows: int = 5000
    """Requests that are handed over at once: some 0.1 s of the journal's write lock."""
    centre_within_s: float = 15.0
    """Seconds in which one step over the line has to be done, all its tries included. A line that swallows what is sent is noticed this
    soon; the longest steps, of `shipment_events` or `share_rows`, take less than a second where the line is well."""
    numbers_ahead: int = 500_000
    """Numbers for requests of callers that are kept in the journal at the least while the line is well. With the line cut it accepts as
    many: 500 a second for a quarter of an hour."""
    ahead_s: float = 1800.0
    """Seconds before its due time that a request is handed over at the latest. So long the line may be cut and what was to come still
    comes; a journal holds some 150 bytes for each."""

    def __post_init__(self) -> None:
        _within(self, 0.0, 60.0, "follow_every_s", "idle_every_s", "publish_every_s", "publish_idle_s", "ship_every_s", above=True)
        _within(self, 0.0, 3600.0, "centre_within_s", above=True)
        _within(self, 1, 100_000, "shipment_events", "share_rows")
        _within(self, 0.0, _LONGEST_S, "ahead_s")
        _within(self, 1, 100_000_000, "numbers_ahead")
        _within(self, 0, 100_000_000, "kept_events")


@dataclass(frozen=True, slots=True, kw_only=True)
class LcSettings:
    """Dispatch and execution of latency-critical requests."""

    snapshot_max_age_s: float = 0.1
    """Seconds; a worker reads the fleet this often while requests come, and counts in what it has given out itself. Agents renew
    what they have seen only every 0.25 s (`KubeSettings.observe_every_s`), so that reading more often would tell little more."""
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
    """Probes answered in a row that let a node in again."""
    ramp_s: float = 10.0
    """Seconds over which a node that was let in again gets its full share: it has to start what it lost, and may fail once more."""

    def __post_init__(self) -> None:
        _within(self, 1, 1000, "failures_in_row", "probes_well")
        _within(self, 0.0, _LONGEST_S, "hang_min_s", "probe_every_s", "longest_probe_pause_s", "look_every_s", above=True)
        _within(self, 0.0, 1e6, "hang_targets", "hang_answers", "ramp_s")
        _within(self, 1.0, 1000.0, "paused_after_looks")
        _within(self, 0.0, 1.0, "most_out_share")


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
        _within(self, 0.0, 1.0, "lc_late_share")
        _within(self, 0.0, _LONGEST_S, "lc_first_s")


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
        _within(self, 0.0, _LONGEST_S, "tick_s", "window_s", above=True)
        _within(self, 0.0, _LONGEST_S, "hold_s", "shrink_hold_s", "reserve_millicores")
        _within(self, 0.0, 1.0, "quantile", "shrink_factor", above=True)
        _within(self, -10.0, 1.0, "grow_below", "shrink_above")
        _within(self, 1.0, 4.0, "grow_factor")
        _within(self, 1, 1_000_000, "min_samples")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAgentSettings:
    """The node agent: when best-effort pods are held back on a node, and how far."""

    tick_s: float = 0.5
    """Seconds between two looks at what the kernel has accounted while anything presses. Pods that change are acted on at once; this is for
    pressure, which over less is a matter of single scheduler slices."""
    calm_tick_s: float = 2.0
    """The same while nothing presses, as on most nodes most of the time: BE that is idle gives way by itself, and what a quota is for shows
    over seconds. Four times as rare, a look costs a quarter."""
    report_s: float = 10.0
    """Seconds between two reports: one write to the API server for each node, as often as a kubelet renews its lease."""
    grown_s: float = 10.0
    """Seconds after re-assurance has grown an LC instance here in which BE gets no more: it grows one whose slack is short every 3 s at the
    most, and shrinks one that has plenty after 10 s."""
    cpu_pressure_high: float = 0.2
    """Share of time in which others had the CPU that all tasks of an LC pod waited for, above which BE is cut back.
    Alone or beside idle BE it is a few per cent (docs/benchmarks.md); beside BE of equal weight, half."""
    cpu_pressure_low: float = 0.1
    """Share below which BE may get more again."""
    cpu_floor: float = 0.1
    """Share of the CPU that LC leaves which BE always keeps: below it work hardly moves and holds its memory all the same."""
    tighten: float = 0.7
    """Factor of a step down: from all to a third in three looks."""
    relax: float = 0.1
    """Step up, as a share of what LC leaves."""
    futile_cuts: int = 3
    """Steps down after which pressure has to be lower: BE has a third of what it had then."""
    helped: float = 0.8
    """Share of the pressure at the first step, above which the steps have not helped: half-second readings differ by as much by chance."""
    futile_s: float = 60.0
    """Seconds for which pressure counts for nothing after steps that have not helped. They last some two seconds, so that trying once a
    minute costs BE a few per cent at the most."""
    hold_s: float = 1.0
    """Seconds of calm before each step up."""
    memory_pressure_high: float = 0.1
    """Share of time stalled for memory, of some LC task or of the whole node, above which BE's memory is reclaimed."""
    memory_pressure_low: float = 0.02
    """Share below which BE may have more memory again."""
    memory_tighten: float = 0.9
    """Factor of a step of BE's memory down; up by its inverse. Reclaim of a tenth at a time takes well below a second."""
    memory_floor: float = 0.5
    """Share of BE's memory requests that is left to it: below, it would do nothing but read its own pages again, and is evicted better."""

    def __post_init__(self) -> None:
        _within(self, 0.0, 3600.0, "tick_s", "calm_tick_s", "report_s", "grown_s", "hold_s", "futile_s", above=True)
        _within(self, 0.0, 1.0, "cpu_pressure_low", "cpu_pressure_high", "memory_pressure_low", "memory_pressure_high")
        _within(self, 0.0, 1.0, "cpu_floor", "tighten", "relax", "helped", "memory_tighten", "memory_floor", above=True)
        _within(self, 1, 100, "futile_cuts")
        for low, high in (("cpu_pressure_low", "cpu_pressure_high"), ("memory_pressure_low", "memory_pressure_high")):
            if getattr(self, low) > getattr(self, high):
                raise ConfigError(f"NodeAgentSettings {low} is above {high}; BE would be cut back and let go at once")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSettings:
    """The simulated world. What belongs to a fleet (beta, staleness, actuation) is taken from it unless given here."""

    lc_window_s: float = 0.1
    """Simulated seconds; LC requests are dispatched at the end of the window in which they arrive, as live ones that share a
    message are. A shorter one costs more dispatch steps per second."""
    be_tick_s: float = 1.0
    """Simulated seconds between placements of BE; a whole number of windows. Longer than live (0.2 s), because a tick returns from
    compiled code to Python; BE work of seconds hardly notices."""
    staleness_s: float | None = None
    """Simulated seconds between the states that clusters tell each other; None: the fleet's."""
    beta: float | None = None
    """Strength of the interference between LC and BE on a node, without a unit; None: the fleet's."""
    be_waits_for_lc: bool = False
    """Whether BE is kept from clusters whose LC is late, by `BeSettings.lc_late_share` and `lc_first_s` as live. False: sharing rules are
    compared with each other in how far they keep BE from LC, and this would do part of it for all of them."""
    be_batch_limit: int = 5000
    """Pending BE requests that one tick considers, oldest first. Far above what a tick places, so that it bounds the time of a
    decision under overload and nothing else."""
    pod_start_s: float = 0.2
    """Seconds from the placement of a BE pod to its start: create, bind, watch, start. `tango simulate --run` takes what the live
    run measured instead."""
    lost_after_s: float = 10.0
    """Seconds after which a node that is gone is noticed: as live, where the lease of what ran there ends
    (`LeaseSettings.execution_s`)."""
    mtbf_s: float = 0.0
    """Mean seconds of a node between failures (exponential). 0: none fails, so that a comparison is about scheduling unless it
    asks for failures."""
    mttr_s: float = 60.0
    """Mean seconds until a failed node is back (exponential): about the restart of a small machine."""
    charge_decisions: bool = True
    """Decisions take the time that the table of `tango bench scheduler --record` gives, so that a policy pays for being slow.
    False makes all of them free."""
    sample_every_s: float = 1.0
    """Simulated seconds between node samples, as often as live agents write them; fewer on long runs over many nodes, so that they
    stay below a million rows."""
    stuck_after_s: float = 60.0
    """Simulated seconds. After the last arrival, when nothing has moved for this long and nothing will, the run ends as a
    deadlock; longer than any wait that ends by itself."""
    audit: bool = False
    """Look at every node after every event for CPU or memory in excess. Many times slower, so that only tests turn it on."""

    def __post_init__(self) -> None:
        _within(self, 1e-4, 3600.0, "lc_window_s", "be_tick_s", "sample_every_s")
        _within(self, 0.0, _LONGEST_S, "staleness_s", "pod_start_s", "lost_after_s", "mtbf_s", "stuck_after_s")
        _within(self, 0.0, _LONGEST_S, "mttr_s", above=True)
        _within(self, 0.0, 100.0, "beta")
        _within(self, 1, 10_000_000, "be_batch_limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeSettings:
    """Calls to Kubernetes."""

    workload_image: str = f"tango-workload:{__version__}"
    """Image of the synthetic workload, as the clusters' nodes reach it, for services that name none and have no template. The default is
    what `deploy/image/build.sh` makes of a release, without a registry; never a tag that moves, for which nodes would ask at each pod."""
    image_pull_policy: str = "IfNotPresent"
    """When nodes fetch the images of the synthetic workload: `IfNotPresent`, `Always` or `Never`."""
    image_pull_secrets: str = ""
    """Names of Secrets in the namespace with which nodes fetch those images, separated by commas."""
    lc_priority_class: str = ""
    """PriorityClass of the pods of LC services whose template names none; empty: the cluster's default. It must exist there."""
    be_priority_class: str = ""
    """The same of BE pods; a class below the default lets kubelets evict them first."""
    namespace: str = "tango"
    """Kubernetes namespace of all of Tango's pods; what Tango may do is granted for this one (`deploy/rbac/`)."""
    connect_timeout_s: float = 3.0
    """Seconds to open a connection to an API server: long enough for one lost SYN, which the kernel sends again after a second."""
    read_timeout_s: float = 10.0
    """Seconds for the whole answer of one call, watches apart. An API server that takes longer is overloaded, and another attempt
    later helps more than waiting."""
    credentials_every_s: float = 10.0
    """Seconds between two looks at the files of a kubeconfig, its token and its certificates: a token is renewed minutes before it ends,
    and a look is a few reads of the file system."""
    credentials_again_s: float = 1.0
    """Seconds between two readings of the credentials because a server has answered 401: a plug-in is a process that may ask a cloud."""
    attempts: int = 5
    """Tries of one call, the first included. With the backoff below, refused connections are tried for 0.75 to 1.5 s, which
    bridges a short restart; what takes longer is tried again by the next tick."""
    backoff_base_s: float = 0.1
    """Seconds before the second try; doubled for each that follows, less a random part up to half, so that callers do not come
    back together."""
    backoff_cap_s: float = 3.0
    """Longest wait between two tries, in seconds, `Retry-After` included: a task that waits holds its Celery slot."""
    concurrency: int = 32
    """Calls under way per cluster. Enough to create a tick's pods in some round trips; API servers of small clusters queue more
    than that anyway."""
    calls_per_s: float = 2000.0
    """Calls a second to one API server, by one process; watches and logs apart. A pod of BE is two to four calls, and the embedded server
    takes a thousand pods a second: with 400 placement was a third as fast as bare calls. A server that says 429 or 503 is asked half as
    often at once (`tango/kube/pacing.py`), so this bounds only what a fault of Tango's own costs others there."""
    calls_at_once: int = 800
    """Calls that may come at once after a pause, as for a tick's pods."""
    observe_every_s: float = 0.25
    """Seconds between the states of a cluster that its agent writes: about one placement tick (`BeSettings.tick_s`), at one short
    transaction each."""
    sample_every_s: float = 1.0
    """Seconds between reads of metrics.k8s.io, and node samples in the store, while there is something to serve. Usage moves slower than
    pods do, and every sample is a row per node that stays."""
    sample_idle_s: float = 3.0
    """Seconds; the same while there is not. A sample also says that the cluster is there: it is a fraction of `LeaseSettings.silent_s`."""

    def __post_init__(self) -> None:
        _within(self, 0.0, 1e6, "calls_per_s", above=True)
        _within(self, 1, 1_000_000, "calls_at_once")
        if self.image_pull_policy not in PULL_POLICIES:
            raise ConfigError(f"KubeSettings image_pull_policy is {self.image_pull_policy!r}, expected {', '.join(PULL_POLICIES)}")
        name = self.workload_image.rpartition("/")[2]
        if "@" not in name and (":" not in name or name.endswith(":latest")):
            raise ConfigError(
                f"KubeSettings workload_image is {self.workload_image!r}, expected a tag that does not move, or a digest: two nodes would "
                "run different programs under one name"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, with the addresses of database, broker and clusters."""

    database_url: str = ""
    """SQLAlchemy URL of the application's role; never logged. Empty: none is known, and a command that needs one says how to start
    a stack."""
    reader_url: str = ""
    """URL of the role that may only SELECT, for `tango sql` and reports; empty on a user's own server without one."""
    broker_url: str = ""
    """URL of Redis or Valkey, for Celery and for nothing else; never logged. Empty: as `database_url`."""
    call_key: str = ""
    """What workers sign LC requests with (`tango.client.signatures`), the same for all clusters, at least 32 characters drawn at random;
    never logged. Empty: nothing is signed, and the synthetic workload serves whoever reaches it."""
    journal_dir: str = ""
    """Folder of the clusters' journals, one file each; empty: in the state folder."""
    kubeconfig: str = ""
    """Path of the kubeconfig of the embedded clusters; empty where none are embedded. Joined clusters name their own."""
    checkpoint: str = ""
    """Path of the BE network's checkpoint; empty: the one that is shipped. What is promoted in the registry goes before it."""
    checkpoint_policy: str = "dcg-be"
    """The learned BE policy that `checkpoint` is of; by default that of the system `tango`."""
    lease: LeaseSettings = field(default_factory=LeaseSettings)
    """How long claims hold without a heartbeat."""
    refusal: RefusalSettings = field(default_factory=RefusalSettings)
    """How long is waited where a cluster refuses."""
    store: StoreSettings = field(default_factory=StoreSettings)
    """The size of transactions that change many requests."""
    call: CallSettings = field(default_factory=CallSettings)
    """Requests of callers: what is kept of them."""
    job: JobSettings = field(default_factory=JobSettings)
    """Jobs of callers: how their pods are watched, and what is kept of them."""
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    """What gateways take, and how long they wait."""
    cancel: CancelSettings = field(default_factory=CancelSettings)
    """The sweep of cancelled runs."""
    ticks: TickSettings = field(default_factory=TickSettings)
    """The rhythm of periodic tasks."""
    replay: ReplaySettings = field(default_factory=ReplaySettings)
    """Release of due requests."""
    journal: JournalSettings = field(default_factory=JournalSettings)
    """The journals of clusters, and their lines to the centre."""
    lc: LcSettings = field(default_factory=LcSettings)
    """Dispatch and execution of latency-critical requests."""
    outlier: OutlierSettings = field(default_factory=OutlierSettings)
    """Nodes that do not answer."""
    be: BeSettings = field(default_factory=BeSettings)
    """Placement of best-effort requests."""
    sharing: SharingSettings = field(default_factory=SharingSettings)
    """How LC instances grow and shrink, and when BE gives way."""
    node_agent: NodeAgentSettings = field(default_factory=NodeAgentSettings)
    """How far the node agent holds BE pods back."""
    kube: KubeSettings = field(default_factory=KubeSettings)
    """Calls to Kubernetes."""
    sim: SimSettings = field(default_factory=SimSettings)
    """The simulated world."""
