"""Every metric that a scrape can have: name, type, labels, unit, meaning, and where its figure comes from.

Names follow the conventions of Prometheus (base units, `_total` for counters); those of Celery's tasks and queues are the names of
celery-exporter, so that its dashboards work. No label has a run, a request, a process id, a pod or a caller in it: how many series there
are follows from what is declared (fleet, services, tenants), and not from what has happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MetricKind(StrEnum):
    """The types of Prometheus that are used."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Source(StrEnum):
    """Who knows a figure, in the words of the reference page."""

    STORE = "store"
    PROCESSES = "processes"
    BROKER = "broker"
    STACK = "stack"
    EXPORTER = "exporter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric. A histogram's `buckets` are upper bounds in ascending order, without the infinite one."""

    name: str
    kind: MetricKind
    labels: tuple[str, ...] = ()
    unit: str
    meaning: str
    source: Source
    buckets: tuple[float, ...] = ()

    @property
    def places(self) -> int:
        """Numbers that one series is kept as: of a histogram a count for each bucket and beyond, and the sum."""
        return len(self.buckets) + 2 if self.kind is MetricKind.HISTOGRAM else 1

    @property
    def series(self) -> tuple[str, ...]:
        """The names that queries use for it."""
        endings = ("_bucket", "_sum", "_count") if self.kind is MetricKind.HISTOGRAM else ("",)
        return tuple(self.name + ending for ending in endings)


LABELS = {
    "class": "`lc` or `be`.",
    "cluster": "Name of a cluster, embedded or joined.",
    "code": "Status of an HTTP answer by its hundreds: `2xx` to `5xx`.",
    "exception": "Class of the exception.",
    "broker": "`centre`, or the cluster whose own broker it is.",
    "hostname": "Name of a worker without its host, such as `worker-1`: hosts and pods come and go.",
    "kind": "Of decisions `lc` or `be`; of runs `replayed` or `live`; of refusals as in `refusal`.",
    "lease": "The periodic work that one process at a time may do.",
    "loop": "Whose event loop it is.",
    "name": "Name of the Celery task.",
    "outcome": "How it ended, in the words of the meaning.",
    "part": "Which part of the scrape: `store`, `processes`, `broker` or `stack`.",
    "phase": "`snapshot`: gathering what is known; `decide`: the policy; `apply`: recording the plan.",
    "process": "Name of a process, as `tango status` prints it.",
    "queue_name": "Name of a Celery queue.",
    "reason": "Why.",
    "result": "What became of the requests that were decided on.",
    "service": "Name of a declared service.",
    "state": "State, in the words of the meaning.",
    "tenant": "Name of a declared tenant, or `other`: tenants that nobody declared come and go.",
    "use": "What for, in the words of the meaning.",
    "version": "Version of Tango.",
}
"""What labels mean. The values of each are bounded by the fleet, the services, the declared tenants, or the code."""

OTHER = "other"
"""Value of the labels of a series that found no place of its own (`tango.telemetry.tallies`)."""

LATENCIES_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)
"""Buckets of LC latency in seconds: targets of services are 50 ms to a few seconds, where they are closest together."""
DECISIONS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Buckets of decisions in seconds: a dispatch takes about a millisecond, a placement on a large fleet a second."""
RESIZES_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Buckets of resizes in seconds, from the call to what the kubelet reports."""
TASKS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0)
"""Buckets of the time of Celery tasks in seconds: a batch of LC takes milliseconds, a simulation minutes."""
LAGS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Buckets of the lateness of event loops in seconds."""

_TASK_LABELS = ("name", "hostname", "queue_name")


def _metric(
    name: str, kind: MetricKind, unit: str, source: Source, meaning: str, *labels: str, buckets: tuple[float, ...] = ()
) -> Metric:
    return Metric(name=name, kind=kind, labels=labels, unit=unit, meaning=meaning, source=source, buckets=buckets)


def _of_task(event: str, meaning: str, *further: str) -> Metric:
    name = f"celery_task_{event}_total"
    return _metric(name, MetricKind.COUNTER, "tasks", Source.PROCESSES, meaning, *_TASK_LABELS, *further)


# Requests
REQUESTS = _metric(
    "tango_requests_total",
    MetricKind.COUNTER,
    "requests",
    Source.STORE,
    "Requests that ended, by the cluster that they entered: `succeeded`, `failed`, `shed` or `cancelled`. LC as far as journals have "
    "told the centre.",
    "class",
    "state",
    "cluster",
)
IN_TIME = _metric(
    "tango_requests_in_time_total",
    MetricKind.COUNTER,
    "requests",
    Source.STORE,
    "LC requests that were answered within their target, of those in `tango_requests_total`.",
    "cluster",
)
UNDER_WAY = _metric(
    "tango_requests_under_way",
    MetricKind.GAUGE,
    "requests",
    Source.STORE,
    "Requests of open runs that have not ended, by their state; `accepted` are not due yet.",
    "class",
    "state",
)
QUEUE_AGE = _metric(
    "tango_queue_age_seconds",
    MetricKind.GAUGE,
    "seconds",
    Source.STORE,
    "Age of the request that waits the longest, from its due time: BE for its placement, LC for its dispatch, as far as journals have "
    "told. 0: none waits.",
    "class",
)
SERVICE_REQUESTS = _metric(
    "tango_service_requests_total",
    MetricKind.COUNTER,
    "requests",
    Source.PROCESSES,
    "LC requests that ended, as the journals of this host committed it: `in_time`, `late`, `failed`, `shed` or `cancelled`.",
    "service",
    "outcome",
)
LATENCY = _metric(
    "tango_request_latency_seconds",
    MetricKind.HISTOGRAM,
    "seconds",
    Source.PROCESSES,
    "LC latency from due time to answer, of requests that succeeded, in wall time.",
    "service",
    buckets=LATENCIES_S,
)
QOS = _metric(
    "tango_qos_ratio",
    MetricKind.GAUGE,
    "ratio",
    Source.EXPORTER,
    "Share of the LC requests that ended in the last minutes (`MetricsSettings.qos_window_s`) and were answered within their target; "
    "cancelled ones are left out. No series while none has ended.",
    "service",
)
RUNS = _metric("tango_runs_open", MetricKind.GAUGE, "runs", Source.STORE, "Runs that have not ended.", "kind")

# Decisions
DECISION = _metric(
    "tango_decision_seconds",
    MetricKind.HISTOGRAM,
    "seconds",
    Source.PROCESSES,
    "Time of scheduling cycles, by phase.",
    "kind",
    "phase",
    buckets=DECISIONS_S,
)
DECIDED = _metric(
    "tango_decided_requests_total",
    MetricKind.COUNTER,
    "requests",
    Source.PROCESSES,
    "Requests that cycles decided on: `placed`, `unplaced` (they wait on and are decided on again) or `shed`.",
    "kind",
    "result",
)
UNPLACED = _metric(
    "tango_placement_unplaced",
    MetricKind.GAUGE,
    "requests",
    Source.STORE,
    "BE requests that the last placement left waiting; 0 where there was none in the last minute.",
)
WAITING = _metric(
    "tango_waiting_requests",
    MetricKind.GAUGE,
    "requests",
    Source.PROCESSES,
    "BE requests that a placement considered and left waiting, by the reason that `tango explain` tells; counted every few seconds.",
    "reason",
)
TENANT_SHARE = _metric(
    "tango_tenant_share_ratio",
    MetricKind.GAUGE,
    "ratio",
    Source.STORE,
    "Dominant share of a tenant: the largest part that its BE pods request of any resource, of what LC leaves, as the last placement saw "
    "it; the largest of the tenants that are not declared as `other`. No series while one tenant without a quota has all that waits.",
    "tenant",
)
TENANT_BELOW = _metric(
    "tango_tenant_below_share_seconds",
    MetricKind.GAUGE,
    "seconds",
    Source.STORE,
    "For how long a tenant has waited below its share, 0 where it does not; the longest of those that are not declared as `other`.",
    "tenant",
)
RESIZE = _metric(
    "tango_resize_seconds",
    MetricKind.HISTOGRAM,
    "seconds",
    Source.PROCESSES,
    "Time of resizes of LC instances from the call to what the kubelet reports, of those that took effect.",
    buckets=RESIZES_S,
)
RESIZES = _metric(
    "tango_resizes_total",
    MetricKind.COUNTER,
    "resizes",
    Source.PROCESSES,
    "Resizes of LC instances: `done`, `deferred`, `infeasible`, `refused` or `error`.",
    "outcome",
)
EVICTIONS = _metric(
    "tango_evictions_total",
    MetricKind.COUNTER,
    "pods",
    Source.PROCESSES,
    "BE pods that gave way to LC.",
    "reason",
)
REFUSALS = _metric(
    "tango_refusals",
    MetricKind.GAUGE,
    "refusals",
    Source.STORE,
    "What clusters refuse now, and Tango has paused.",
    "cluster",
    "kind",
)
LEASE = _metric(
    "tango_lease_held",
    MetricKind.GAUGE,
    "boolean",
    Source.STORE,
    "Whether a process holds the lease of this work: 1 or 0. Replays of runs are left out.",
    "lease",
)
LEASE_EPOCH = _metric(
    "tango_lease_claims_total",
    MetricKind.COUNTER,
    "claims",
    Source.STORE,
    "How often the lease was claimed: it grows when another process takes over.",
    "lease",
)

# Fleet
NODES = _metric(
    "tango_nodes", MetricKind.GAUGE, "nodes", Source.STORE, "Nodes: `ready`, `not_ready` or `unschedulable`.", "cluster", "state"
)
NODE_CPU = _metric(
    "tango_node_cpu_cores",
    MetricKind.GAUGE,
    "cores",
    Source.STORE,
    "CPU of the nodes of a cluster together: `allocatable`, `used` (measured), `lc_request`, `lc_limit`, `be_request`, `be_limit`, "
    "`other_request`. Nodes come and go, so they have no series of their own: `node_per_minute` has them.",
    "cluster",
    "use",
)
NODE_MEMORY = _metric(
    "tango_node_memory_bytes",
    MetricKind.GAUGE,
    "bytes",
    Source.STORE,
    "Memory of the nodes of a cluster together: `allocatable`, `used` (measured), `lc`, `be`, `other` (requested).",
    "cluster",
    "use",
)
NODE_PRESSURE = _metric(
    "tango_node_pressure_ratio",
    MetricKind.GAUGE,
    "ratio",
    Source.STORE,
    "The most that a node of the cluster suffers, as its node agent tells: `lc_cpu`, `lc_throttled`, `memory`. No series without node "
    "agents.",
    "cluster",
    "use",
)
BE_PODS = _metric("tango_be_pods", MetricKind.GAUGE, "pods", Source.STORE, "BE pods on nodes.", "cluster")
INSTANCES = _metric(
    "tango_lc_instances",
    MetricKind.GAUGE,
    "pods",
    Source.STORE,
    "LC instances: `ready` or `not_ready`.",
    "cluster",
    "service",
    "state",
)
CLUSTER_AGE = _metric(
    "tango_cluster_age_seconds",
    MetricKind.GAUGE,
    "seconds",
    Source.STORE,
    "Age of what is known of a cluster: its `nodes`, its `agent`, its `journal` as shipped last.",
    "cluster",
    "use",
)
CLUSTER_LC = _metric(
    "tango_cluster_lc_requests",
    MetricKind.GAUGE,
    "requests",
    Source.STORE,
    "LC requests that entered a cluster, as its agent told last: `under_way`, and of those `late`.",
    "cluster",
    "state",
)

# Callers
GATEWAY = _metric(
    "tango_gateway_answers_total", MetricKind.COUNTER, "answers", Source.PROCESSES, "Answers of gateways to callers.", "code"
)
GATEWAY_INSIDE = _metric(
    "tango_gateway_requests_inside", MetricKind.GAUGE, "requests", Source.PROCESSES, "Requests that hold a place at a gateway now."
)

# Database and broker
DATABASE_CONNECTIONS = _metric(
    "tango_database_connections", MetricKind.GAUGE, "connections", Source.STORE, "Sessions of clients at the database server."
)
DATABASE_MOST = _metric(
    "tango_database_connections_max", MetricKind.GAUGE, "connections", Source.STORE, "`max_connections` of the database server."
)
DATABASE_SIZE = _metric("tango_database_size_bytes", MetricKind.GAUGE, "bytes", Source.STORE, "Size of the database on its disk.")
DATABASE_OLDEST = _metric(
    "tango_database_oldest_transaction_seconds",
    MetricKind.GAUGE,
    "seconds",
    Source.STORE,
    "Age of the oldest transaction that is open.",
)
DATABASE_TRANSACTIONS = _metric(
    "tango_database_transactions_total",
    MetricKind.COUNTER,
    "transactions",
    Source.STORE,
    "Transactions of the database: `committed`, `rolled_back` or `deadlocked`.",
    "outcome",
)
DATABASE_CLOCK = _metric(
    "tango_database_clock_seconds",
    MetricKind.GAUGE,
    "seconds",
    Source.STORE,
    "By how much the database's clock is ahead of this host's, by the middle of one query.",
)
BROKER_MEMORY = _metric(
    "tango_broker_memory_bytes", MetricKind.GAUGE, "bytes", Source.BROKER, "Memory that a broker uses.", "broker"
)
BROKER_MOST_MEMORY = _metric(
    "tango_broker_memory_max_bytes",
    MetricKind.GAUGE,
    "bytes",
    Source.BROKER,
    "`maxmemory` of a broker; no series where it has no limit.",
    "broker",
)
BROKER_CLIENTS = _metric("tango_broker_clients", MetricKind.GAUGE, "connections", Source.BROKER, "Clients of a broker.", "broker")
BROKER_UP = _metric("tango_broker_up", MetricKind.GAUGE, "boolean", Source.BROKER, "Whether a broker answers: 1 or 0.", "broker")
BROKER_EVICTED = _metric(
    "tango_broker_evicted_keys_total",
    MetricKind.COUNTER,
    "keys",
    Source.BROKER,
    "Keys that a broker dropped for want of memory: above 0, messages were lost.",
    "broker",
)

# Celery, in the words of celery-exporter
TASK_RECEIVED = _of_task("received", "Tasks that workers received.")
TASK_STARTED = _of_task("started", "Tasks that workers began.")
TASK_SUCCEEDED = _of_task("succeeded", "Tasks that ended well.")
TASK_FAILED = _of_task("failed", "Tasks that ended with an exception.", "exception")
TASK_RETRIED = _of_task("retried", "Tasks that are to be tried again.")
TASK_REVOKED = _of_task("revoked", "Tasks that were revoked.")
TASK_REJECTED = _of_task("rejected", "Messages that workers rejected.")
TASK_RUNTIME = _metric(
    "celery_task_runtime",
    MetricKind.HISTOGRAM,
    "seconds",
    Source.PROCESSES,
    "Time of tasks, however they ended.",
    *_TASK_LABELS,
    buckets=TASKS_S,
)
WORKER_UP = _metric("celery_worker_up", MetricKind.GAUGE, "boolean", Source.PROCESSES, "Whether a worker runs: 1 or 0.", "hostname")
WORKER_ACTIVE = _metric(
    "celery_worker_tasks_active", MetricKind.GAUGE, "tasks", Source.PROCESSES, "Tasks that a worker processes now.", "hostname"
)
QUEUE_LENGTH = _metric(
    "celery_queue_length",
    MetricKind.GAUGE,
    "messages",
    Source.BROKER,
    "Messages that wait in a queue, those of all priorities together.",
    "queue_name",
)

# Processes
LOOP_LAG = _metric(
    "tango_loop_lag_seconds",
    MetricKind.HISTOGRAM,
    "seconds",
    Source.PROCESSES,
    "By how much event loops call later than they were asked to, looked at once a second.",
    "loop",
    buckets=LAGS_S,
)
PROCESS_UP = _metric(
    "tango_process_up",
    MetricKind.GAUGE,
    "boolean",
    Source.STACK,
    "Whether a process of the stack runs and is ready: 1 or 0.",
    "process",
)
PROCESS_RESTARTS = _metric(
    "tango_process_restarts_total",
    MetricKind.COUNTER,
    "restarts",
    Source.STACK,
    "How often the supervisor restarted a process.",
    "process",
)
PROCESS_CPU = _metric(
    "tango_process_cpu_seconds_total",
    MetricKind.COUNTER,
    "seconds",
    Source.STACK,
    "CPU time of a process since it began.",
    "process",
)
PROCESS_MEMORY = _metric(
    "tango_process_resident_memory_bytes",
    MetricKind.GAUGE,
    "bytes",
    Source.STACK,
    "Resident memory of a process; pages that forks share count for each.",
    "process",
)
HOST_CPU = _metric(
    "tango_host_cpu_ratio",
    MetricKind.GAUGE,
    "ratio",
    Source.STACK,
    "Share of the host's CPU that was busy since the scrape before, whoever used it.",
)

# The scrape itself
UP = _metric(
    "tango_up",
    MetricKind.GAUGE,
    "boolean",
    Source.EXPORTER,
    "Whether this part of the scrape could be read within its deadline: 1 or 0.",
    "part",
)
COLLECT = _metric(
    "tango_collect_seconds", MetricKind.GAUGE, "seconds", Source.EXPORTER, "Time that reading this part took last.", "part"
)
SPANS = _metric(
    "tango_spans_total",
    MetricKind.COUNTER,
    "spans",
    Source.PROCESSES,
    "Spans of distributed traces: `exported`, `failed` (the collector did not take them) or `dropped` (no room was left, or no time as the "
    "process ended).",
    "outcome",
)
SERIES_FOLDED = _metric(
    "tango_series_folded_total",
    MetricKind.COUNTER,
    "figures",
    Source.PROCESSES,
    f"Figures counted under `{OTHER}`, because their metric has as many series as it may.",
)
BUILD = _metric("tango_build_info", MetricKind.GAUGE, "boolean", Source.EXPORTER, "Always 1; the version of Tango.", "version")

CATALOGUE: dict[str, Metric] = {value.name: value for value in list(globals().values()) if isinstance(value, Metric)}
"""All metrics by name, in the order of this file."""
