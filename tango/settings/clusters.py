"""Calls to clusters and their refusals, the journal beside each, and the agent on its nodes."""

from __future__ import annotations

from dataclasses import dataclass

from tango import __version__
from tango.errors import ConfigError
from tango.settings.bounds import LONGEST_S, within

PULL_POLICIES = ("IfNotPresent", "Always", "Never")
"""Kubernetes' policies of when a node fetches an image."""


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
    calls_per_s: float = 10_000.0
    """Calls a second to one API server, by one process; watches and logs apart. A pod of BE is two to four calls, and the embedded server
    takes three thousand pods a second: with 400 placement was a third as fast as bare calls, with 2,000 four tenths. A server that says
    429 or 503 is asked half as often at once (`tango/kube/pacing.py`), and `concurrency` bounds what is under way, so this bounds
    only what a fault of Tango's own costs others there."""
    calls_at_once: int = 1000
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
        within(self, 0.0, 1e6, "calls_per_s", above=True)
        within(self, 1, 1_000_000, "calls_at_once")
        if self.image_pull_policy not in PULL_POLICIES:
            raise ConfigError(f"KubeSettings image_pull_policy is {self.image_pull_policy!r}, expected {', '.join(PULL_POLICIES)}")
        name = self.workload_image.rpartition("/")[2]
        if "@" not in name and (":" not in name or name.endswith(":latest")):
            raise ConfigError(
                f"KubeSettings workload_image is {self.workload_image!r}, expected a tag that does not move, or a digest: two nodes would "
                "run different programs under one name"
            )


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
        within(self, 0.0, 3600.0, "first_pause_s", "longest_pause_s", above=True)
        within(self, 0.0, LONGEST_S, "forget_s")


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
        within(self, 0.0, 60.0, "follow_every_s", "idle_every_s", "publish_every_s", "publish_idle_s", "ship_every_s", above=True)
        within(self, 0.0, 3600.0, "centre_within_s", above=True)
        within(self, 1, 100_000, "shipment_events", "share_rows")
        within(self, 0.0, LONGEST_S, "ahead_s")
        within(self, 1, 100_000_000, "numbers_ahead")
        within(self, 0, 100_000_000, "kept_events")


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
    """Share below which BE may get more again, half of the above so that it is not cut back and let go in turns."""
    cpu_floor: float = 0.1
    """Share of the CPU that LC leaves which BE always keeps: below it work hardly moves and holds its memory all the same."""
    tighten: float = 0.7
    """Factor of a step down: from all to a third in three looks (a second and a half)."""
    relax: float = 0.1
    """Step up, as a share of what LC leaves: the first step down takes back three of them, so that BE is cut faster than it grows."""
    futile_cuts: int = 3
    """Steps down after which pressure has to be lower: BE has a third of what it had then."""
    helped: float = 0.8
    """Share of the pressure at the first step, above which the steps have not helped: half-second readings differ by as much by chance."""
    futile_s: float = 60.0
    """Seconds for which pressure counts for nothing after steps that have not helped. They last some two seconds, so that trying once a
    minute costs BE a few per cent at the most."""
    hold_s: float = 1.0
    """Seconds of calm before each step up: two looks."""
    memory_pressure_high: float = 0.1
    """Share of time stalled for memory, of some LC task or of the whole node, above which BE's memory is reclaimed."""
    memory_pressure_low: float = 0.02
    """Share below which BE may have more memory again, a fifth of the above so that it does not swing between both."""
    memory_tighten: float = 0.9
    """Factor of a step of BE's memory down; up by its inverse. Reclaim of a tenth at a time takes well below a second."""
    memory_floor: float = 0.5
    """Share of BE's memory requests that is left to it: below, it would do nothing but read its own pages again, and is evicted better."""

    def __post_init__(self) -> None:
        within(self, 0.0, 3600.0, "tick_s", "calm_tick_s", "report_s", "grown_s", "hold_s", "futile_s", above=True)
        within(self, 0.0, 1.0, "cpu_pressure_low", "cpu_pressure_high", "memory_pressure_low", "memory_pressure_high")
        within(self, 0.0, 1.0, "cpu_floor", "tighten", "relax", "helped", "memory_tighten", "memory_floor", above=True)
        within(self, 1, 100, "futile_cuts")
        for low, high in (("cpu_pressure_low", "cpu_pressure_high"), ("memory_pressure_low", "memory_pressure_high")):
            if getattr(self, low) > getattr(self, high):
                raise ConfigError(f"NodeAgentSettings {low} is above {high}; BE would be cut back and let go at once")
