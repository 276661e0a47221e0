"""Every tunable with its unit and the reason for its default. The environment is read once, by `tango.bootstrap.environment`."""

from __future__ import annotations

from dataclasses import dataclass, field

from tango.errors import ConfigError


def _within(settings: object, low: float, high: float, *names: str, above: bool = False) -> None:
    """Raises: ConfigError for a setting out of bounds; `above`: the lower bound itself is out of bounds too."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not (low <= value <= high and (value > low or not above)):
            bounds = f"above {low:g}" if above else f"from {low:g}"
            raise ConfigError(f"{type(settings).__name__} {name} is {value:g}, expected a number {bounds} to {high:g}")


_LONGEST_S = 1e7


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """How long a claim stands without a heartbeat."""

    dispatch_s: float = 10.0
    """Dispatched, not claimed for execution: a lost message costs this much."""
    execution_s: float = 10.0
    """Running LC; renewed every third of it by the worker that runs them."""
    placement_s: float = 20.0
    """Placed or running BE; renewed by the cluster agent, which may take seconds to relist after a restart."""
    unclaimed_after_s: float = 2.0
    """Released rows whose message seems lost are published again after this."""
    max_attempts: int = 6
    """Attempts of one request before it is dead-lettered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings:
    """Release of due requests."""

    window_s: float = 0.01
    """Requests due within one window share a message; adds half of it to LC latency on average."""
    longest_window_s: float = 0.05
    """The window grows with the rate up to this: a message costs about a millisecond of a core however many requests it carries."""
    longest_window_at_per_s: float = 600.0
    """Rate at which the window has its greatest length; in proportion below it."""
    be_window_s: float = 0.1
    """BE arrivals are announced at most this often: they wait for the next placement anyway."""
    slice_s: float = 20.0
    """A replay task hands over to a new one after this, well under the broker's visibility timeout."""
    lease_s: float = 5.0
    release_limit: int = 2000
    lead_s: float = 1.0
    """From the first replay task to the run's zero, so that the first requests are not late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LcSettings:
    """Dispatch and execution of latency-critical requests."""

    snapshot_max_age_s: float = 0.1
    """A worker reads the fleet this often while requests come, and counts in what it has given out itself."""
    keep_late: bool = True
    """Requests that cannot meet their target are kept, late and counted; False sheds them."""
    max_in_flight: int = 1000
    """HTTP calls under way per worker."""
    start_here: bool = True
    """A worker starts what it dispatches to its own cluster; False sends that through `exec.<cluster>` too, for workers that share
    the queues of a cluster out among them."""
    settle_every_s: float = 0.045
    """Results are written in groups at most this far apart (the design allows 50 ms)."""
    timeout_targets: float = 10.0
    """An LC call is given up after this many targets, and after at least `timeout_min_s`."""
    timeout_min_s: float = 5.0
    score_weights: tuple[float, float, float, float] = (0.3, 0.1, 0.3, 0.3)
    """`scoring` only: free CPU, free memory, nearness, short queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeSettings:
    """Placement of best-effort requests."""

    tick_s: float = 0.2
    batch_limit: int = 256
    decide_budget_ms: float = 250.0
    """A learned policy slower than this in three ticks running is replaced by the fallback for a minute."""
    fallback_policy: str = "load-greedy"
    lease_ttl_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingSettings:
    """QoS re-assurance: thresholds on slack = 1 - tail latency / target."""

    tick_s: float = 1.0
    window_s: float = 5.0
    quantile: float = 0.95
    min_samples: int = 5
    grow_below: float = 0.2
    shrink_above: float = 0.7
    grow_factor: float = 1.5
    shrink_factor: float = 0.8
    hold_s: float = 3.0
    """After a resize an instance is left alone this long (10 s before it may shrink)."""
    shrink_hold_s: float = 10.0
    reserve_millicores: int = 0
    """CPU of every node that LC limits never take."""

    def __post_init__(self) -> None:
        _within(self, 0.0, _LONGEST_S, "tick_s", "window_s", above=True)
        _within(self, 0.0, _LONGEST_S, "hold_s", "shrink_hold_s", "reserve_millicores")
        _within(self, 0.0, 1.0, "quantile", "shrink_factor", above=True)
        _within(self, -10.0, 1.0, "grow_below", "shrink_above")
        _within(self, 1.0, 4.0, "grow_factor")
        _within(self, 1, 1_000_000, "min_samples")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSettings:
    """The simulated world. What belongs to a fleet (beta, staleness, actuation) is taken from it unless given here."""

    lc_window_s: float = 0.1
    """LC requests are dispatched at the end of the window in which they arrive."""
    be_tick_s: float = 1.0
    """BE is placed this often; a whole number of windows."""
    staleness_s: float | None = None
    """How often clusters tell each other their state; None: the fleet's."""
    beta: float | None = None
    """Interference; None: the fleet's."""
    be_batch_limit: int = 5000
    """Pending BE requests that one tick considers, oldest first."""
    pod_start_s: float = 0.2
    """From the placement of a BE pod to its start: create, bind, watch, start."""
    lost_after_s: float = 10.0
    """A node that is gone is noticed after this, as the lease of what ran there ends (`LeaseSettings.execution_s`)."""
    mtbf_s: float = 0.0
    """Mean time of a node between failures (exponential); 0: none fails."""
    mttr_s: float = 60.0
    """Mean time until a failed node is back (exponential)."""
    charge_decisions: bool = True
    """Decisions take the time that the table of `tango bench scheduler --record` says."""
    sample_every_s: float = 1.0
    """Node samples; fewer on long runs over many nodes, so that they stay below a million rows."""
    stuck_after_s: float = 60.0
    """After the last arrival, when nothing has moved for this long and nothing will, the run ends as a deadlock."""
    audit: bool = False
    """Look at every node after every event for CPU or memory in excess; slow, for tests."""

    def __post_init__(self) -> None:
        _within(self, 1e-4, 3600.0, "lc_window_s", "be_tick_s", "sample_every_s")
        _within(self, 0.0, _LONGEST_S, "staleness_s", "pod_start_s", "lost_after_s", "mtbf_s", "stuck_after_s")
        _within(self, 0.0, _LONGEST_S, "mttr_s", above=True)
        _within(self, 0.0, 100.0, "beta")
        _within(self, 1, 10_000_000, "be_batch_limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeSettings:
    """Calls to Kubernetes."""

    namespace: str = "tango"
    connect_timeout_s: float = 3.0
    read_timeout_s: float = 10.0
    attempts: int = 5
    backoff_base_s: float = 0.1
    backoff_cap_s: float = 3.0
    concurrency: int = 32
    """Calls under way per cluster."""
    observe_every_s: float = 0.25
    sample_every_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it, with the addresses of the world."""

    database_url: str = ""
    """SQLAlchemy URL of the application's role; never logged."""
    reader_url: str = ""
    """Of the role that may only SELECT; empty on a user's own server without one."""
    broker_url: str = ""
    kubeconfig: str = ""
    """Path of the kubeconfig of the embedded clusters."""
    checkpoint: str = ""
    """Path of the BE network's checkpoint; empty: the one that is shipped. What is promoted in the registry goes before it."""
    checkpoint_policy: str = "dcg-be"
    """The learned BE policy that `checkpoint` is of; the live system's own by default."""
    lease: LeaseSettings = field(default_factory=LeaseSettings)
    replay: ReplaySettings = field(default_factory=ReplaySettings)
    lc: LcSettings = field(default_factory=LcSettings)
    be: BeSettings = field(default_factory=BeSettings)
    sharing: SharingSettings = field(default_factory=SharingSettings)
    kube: KubeSettings = field(default_factory=KubeSettings)
    sim: SimSettings = field(default_factory=SimSettings)
