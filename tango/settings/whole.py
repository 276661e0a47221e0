"""All groups of settings in one."""

from __future__ import annotations

from dataclasses import dataclass, field

from tango.settings.callers import CallSettings, GatewaySettings, JobSettings
from tango.settings.clusters import JournalSettings, KubeSettings, NodeAgentSettings, RefusalSettings
from tango.settings.decisions import OutlierSettings
from tango.settings.explaining import ExplainSettings
from tango.settings.metrics import MetricsSettings
from tango.settings.runs import CancelSettings, HostSettings, ReplaySettings, RetentionSettings, StoreSettings, TickSettings
from tango.settings.simulated import SimulationSettings
from tango.settings.tracing import TracingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(SimulationSettings):
    """All settings, with the addresses of database, broker and clusters."""

    database_url: str = ""
    """URL of the application's role as libpq reads it, sockets and several hosts too; never logged. Empty: none is known, and a command
    that needs one says how to start a stack."""
    reader_url: str = ""
    """URL of the role that may only SELECT, for `tango sql` and reports; empty on a user's own server without one."""
    broker_url: str = ""
    """URL of Redis or Valkey, for Celery and for nothing else: `redis://`, `valkey://`, with an `s` for TLS, or `unix:///PATH?db=0`; never
    logged. Empty: as `database_url`."""
    call_key: str = ""
    """What workers sign LC requests with (`tango.client.signatures`), the same for all clusters, at least 32 characters drawn at random;
    never logged. Empty: nothing is signed, and the synthetic workload serves whoever reaches it."""
    journal_dir: str = ""
    """Folder of the clusters' journals, one file each; empty: in the state folder."""
    kubeconfig: str = ""
    """Path of the kubeconfig of the embedded clusters; empty where none are embedded. Joined clusters name their own."""
    host: HostSettings = field(default_factory=HostSettings)
    """When a machine is too busy for what runs on it to say anything about the system."""
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
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    """The periodic deletion of old runs."""
    ticks: TickSettings = field(default_factory=TickSettings)
    """The rhythm of periodic tasks."""
    replay: ReplaySettings = field(default_factory=ReplaySettings)
    """Release of due requests."""
    journal: JournalSettings = field(default_factory=JournalSettings)
    """The journals of clusters, and their lines to the centre."""
    outlier: OutlierSettings = field(default_factory=OutlierSettings)
    """Nodes that do not answer."""
    node_agent: NodeAgentSettings = field(default_factory=NodeAgentSettings)
    """How far the node agent holds BE pods back."""
    explain: ExplainSettings = field(default_factory=ExplainSettings)
    """What is kept of decisions."""
    kube: KubeSettings = field(default_factory=KubeSettings)
    """Calls to Kubernetes."""
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    """The scrape of metrics."""
    tracing: TracingSettings = field(default_factory=TracingSettings)
    """Distributed traces of requests."""
