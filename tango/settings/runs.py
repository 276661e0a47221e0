"""How requests of runs are released, held, given up and cancelled, and the rhythm in which the centre looks after them."""

from __future__ import annotations

from dataclasses import dataclass

from tango.settings.bounds import LONGEST_S, within


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
        within(self, 0.0, LONGEST_S, "silent_s", "away_s", "run_s", "gone_s", above=True)
        within(self, 1, 10_000, "max_job_attempts")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """The size of transactions that change many requests."""

    chunk_rows: int = 1000
    """Requests that one transaction locks at the most, and that one message carries. At 50 to 200 us a row it holds its locks for 0.05
    to 0.2 s, which is what a result or a heartbeat of the same requests waits in the worst case; much smaller chunks cost a commit each
    for nothing."""

    def __post_init__(self) -> None:
        within(self, 1, 100_000, "chunk_rows")


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
class RetentionSettings:
    """The periodic deletion of old runs. Off by default: a run is what people come back to, and only they know for how long."""

    older_than_s: float = 0.0
    """Seconds since its end after which a run is deleted, and with it what was observed of the fleet until then; 0: at no age. 30 days are
    2592000."""
    most_gb: int = 0
    """Gigabytes (10^9 bytes) that all runs together may take, beyond which the oldest are deleted; 0: no bound. A million requests take
    about half of one."""
    keep: int = 20
    """Newest ended runs of each kind that stay however old or large they are, so that a stack which nobody has used for long does not lose
    all that it has."""
    tick_s: float = 60.0
    """Seconds between two looks. Age is counted in days: a minute is early enough, and costs one small query."""
    slice_s: float = 5.0
    """Seconds that one task deletes before it leaves the rest to the next, so that it occupies a thread of the scheduler not for long, and
    the database at most a twelfth of the time. A run of ten million requests is gone within the hour."""
    lease_s: float = 60.0
    """Seconds of the lease of whoever deletes; longer than a slice with the chunk that it ends in and a wait for readers."""

    def __post_init__(self) -> None:
        within(self, 0.0, 100 * LONGEST_S, "older_than_s")
        within(self, 0, 1_000_000, "most_gb", "keep")
        within(self, 0.0, LONGEST_S, "tick_s", "slice_s", "lease_s", above=True)

    @property
    def is_on(self) -> bool:
        """Whether anything is ever deleted."""
        return bool(self.older_than_s or self.most_gb)


@dataclass(frozen=True, slots=True, kw_only=True)
class TickSettings:
    """The rhythm of periodic tasks, beyond what the settings of each say."""

    reconcile_s: float = 1.0
    """Seconds between two reconciliations: what a dead process or a lost message left is found this much later than it could be."""
    idle_s: float = 3.0
    """Seconds between two rounds of any periodic task while no run is open, when there is nothing for it to do; the first BE request of a
    run calls for the usual rhythm at once. Below `BeSettings.lease_ttl_s`, so that the scheduler keeps its role."""

    def __post_init__(self) -> None:
        within(self, 0.0, 60.0, "reconcile_s", "idle_s", above=True)


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
class HostSettings:
    """Hosts on which runs go on: how often their CPUs are looked at, and when the figures of a run are not the system's."""

    sample_s: float = 1.0
    """Seconds between two looks while anything is to be served. A look costs some ten microseconds, and a row at the centre."""
    saturated_share: float = 0.1
    """Share of a run's time in which a host had no CPU left (95 % of it used) from which the run's figures are said not to be the
    system's. Some seconds of a minute are borne; beyond, each percentile that people look at is of requests that waited for the host."""

    def __post_init__(self) -> None:
        within(self, 0.0, LONGEST_S, "sample_s", above=True)
        within(self, 0.0, 1.0, "saturated_share", above=True)
