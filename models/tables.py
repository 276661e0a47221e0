"""Every table. PostgreSQL is the truth; `docs/sql.md` explains the columns that people query.

Times of requests and attempts are wall seconds since the run's zero (`run.started_at`); leases are `timestamptz` by the database's
clock. `request` is partitioned by run: a partition is made aside, filled by COPY and attached, and dropped whole.
"""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    Enum,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB

from tango.domain.dictionary import DICTIONARY, described_columns
from tango.domain.lifecycle import LOST, UNDER_WAY
from tango.domain.requests import RequestState
from tango.domain.services import ServiceClass

metadata = MetaData()
DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

request_state = Enum(*(str(state) for state in RequestState), name="request_state", metadata=metadata)
service_class = Enum(*(c.label for c in ServiceClass), name="service_class", metadata=metadata)

_NOW = text("now()")


def _timestamp(name: str, *, default: bool = False, nullable: bool = True) -> Column[object]:
    return Column(name, DateTime(timezone=True), server_default=_NOW if default else None, nullable=nullable and not default)


# The declaration of the fleet in force, YAML text, and its hash; one row.
fleet = Table(
    "fleet",
    metadata,
    Column("name", Text, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("declaration", Text, nullable=False),
    _timestamp("declared_at", default=True),
)

# Clusters that have joined, with the kubeconfig and context of each; never credentials.
cluster = Table(
    "cluster",
    metadata,
    Column("name", Text, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("kubeconfig", Text, nullable=False),
    Column("context", Text, nullable=False),
    Column("embedded", Boolean, nullable=False, server_default=text("false")),
    _timestamp("joined_at", default=True),
    # When its agent last told what it is like, and since when it does so again after it was away.
    _timestamp("seen_at"),
    _timestamp("back_at"),
    # LC requests under way that entered there, and how many of them are late, or wait for their dispatch for long, as it last told.
    Column("lc_under_way", Integer, nullable=False, server_default=text("0")),
    Column("lc_late", Integer, nullable=False, server_default=text("0")),
    # When its agent was last heard of at all: later than `seen_at` where its API server is away.
    _timestamp("agent_at"),
)

# Round-trip time and bandwidth between two clusters.
link = Table(
    "link",
    metadata,
    Column("from_cluster", Text, nullable=False),
    Column("to_cluster", Text, nullable=False),
    Column("rtt_ms", Double, nullable=False),
    Column("bandwidth_mbit_per_s", Double, nullable=False),
    PrimaryKeyConstraint("from_cluster", "to_cluster"),
)

# Nodes as their cluster agent last observed them: allocatable, used, and held by LC and BE pods.
node = Table(
    "node",
    metadata,
    Column("cluster", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("ready", Boolean, nullable=False),
    Column("cpu_allocatable_millicores", Integer, nullable=False),
    Column("memory_allocatable_mib", Integer, nullable=False),
    Column("cpu_used_millicores", Double),
    Column("memory_used_mib", Double),
    Column("lc_cpu_request_millicores", Integer, nullable=False),
    Column("lc_cpu_limit_millicores", Integer, nullable=False),
    Column("lc_memory_held_mib", Integer, nullable=False),
    Column("be_cpu_request_millicores", Integer, nullable=False),
    Column("be_cpu_limit_millicores", Integer, nullable=False),
    Column("be_memory_held_mib", Integer, nullable=False),
    Column("be_pods", Integer, nullable=False),
    _timestamp("observed_at", default=True),
    Column("pods_allocatable", Integer, nullable=False, server_default="110"),
    Column("lc_pods", Integer, nullable=False, server_default="0"),
    # By the name of an extended resource: {"allocatable": thousandths, "lc_held": ..., "be_held": ...}.
    Column("extended", JSONB, nullable=False, server_default="{}"),
    # Whether it may get new pods, and what pods of others hold of it.
    Column("schedulable", Boolean, nullable=False, server_default=text("true")),
    Column("other_cpu_request_millicores", Integer, nullable=False, server_default=text("0")),
    Column("other_memory_held_mib", Integer, nullable=False, server_default=text("0")),
    Column("other_pods", Integer, nullable=False, server_default=text("0")),
    # By service, LC instances that are to be made there and are not there yet.
    Column("lc_awaited", JSONB, nullable=False, server_default="{}"),
    # Of its topology labels.
    Column("zone", Text, nullable=False, server_default=""),
    Column("region", Text, nullable=False, server_default=""),
    # Shares of time as the node's agent told them last, NULL where none does.
    Column("lc_cpu_pressure", Double),
    Column("lc_throttled", Double),
    Column("memory_pressure", Double),
    PrimaryKeyConstraint("cluster", "name"),
)

# Declared services; `spec` has all fields of `tango.domain.services.Service`.
service = Table(
    "service",
    metadata,
    Column("name", Text, primary_key=True),
    Column("class", service_class, nullable=False),
    Column("target_ms", Double),
    Column("spec", JSONB, nullable=False),
    _timestamp("declared_at", default=True),
    Column("tenant", Text, nullable=False, server_default=text("'default'")),
)

# What the pods of a service have used in a cluster since it was declared, and how many requests were answered meanwhile; LC requests are
# counted up to an instant.
service_usage = Table(
    "service_usage",
    metadata,
    Column("cluster", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("cpu_s", Double, nullable=False),
    Column("memory_mib", Double, nullable=False),
    Column("answered", BigInteger, nullable=False),
    _timestamp("counted_to", default=True),
    # Sums of `tango.domain.memory_by_load.MemoryByLoad`.
    *(
        Column(name, Double, nullable=False, server_default=text("0"))
        for name in ("samples", "loads", "memory", "degrees", "load_spread", "both_spread", "memory_spread")
    ),
    PrimaryKeyConstraint("cluster", "service"),
)

# Namespaces that services were declared with, when last: what runs there is watched for as long as it may.
service_namespace = Table(
    "service_namespace",
    metadata,
    Column("name", Text, primary_key=True),
    _timestamp("declared_at", default=True),
)

# Pods of LC services as their cluster agent last observed them.
instance = Table(
    "instance",
    metadata,
    Column("cluster", Text, nullable=False),
    Column("pod", Text, nullable=False),
    Column("uid", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("pod_ip", Text, nullable=False),
    Column("port", Integer, nullable=False),
    Column("ready", Boolean, nullable=False),
    Column("cpu_request_millicores", Integer, nullable=False),
    Column("cpu_limit_millicores", Integer, nullable=False),
    Column("memory_limit_mib", Integer, nullable=False),
    Column("restarts", Integer, nullable=False),
    Column("revision", Text, nullable=False, server_default=text("''")),
    _timestamp("observed_at", default=True),
    # Whether it is being taken away.
    Column("leaving", Boolean, nullable=False, server_default=text("false")),
    PrimaryKeyConstraint("cluster", "pod"),
)

# What a cluster, a service there (`service`) or a node for it (`node`) is paused for, by who met it; empty: all of them.
refusal = Table(
    "refusal",
    metadata,
    Column("cluster", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("words", Text, nullable=False),
    Column("times", Integer, nullable=False, server_default=text("1")),
    _timestamp("since", default=True),
    _timestamp("paused_until", nullable=False),
    PrimaryKeyConstraint("cluster", "service", "node", "role"),
)

# Resizes that a node refused for good, by the pod and what the node had then.
resize_refusal = Table(
    "resize_refusal",
    metadata,
    Column("cluster", Text, nullable=False),
    Column("pod", Text, nullable=False),
    # Whether a larger limit was asked for; if not, what was refused is the CPU request.
    Column("larger_limit", Boolean, nullable=False),
    Column("uid", Text, nullable=False),
    Column("limit_millicores", Integer, nullable=False),
    Column("request_millicores", Integer, nullable=False),
    Column("allocatable_millicores", Integer, nullable=False),
    _timestamp("at", default=True),
    PrimaryKeyConstraint("cluster", "pod", "larger_limit"),
)

# Runs, live and simulated. `next_request` is the first BE request that is not released, or `accepted`.
run = Table(
    "run",
    metadata,
    Column("run_id", Integer, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False, server_default=text("'replayed'")),
    Column("name", Text, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'accepted'")),
    Column("system", Text, nullable=False),
    Column("fleet", Text, nullable=False),
    Column("fleet_hash", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("speed", Double, nullable=False),
    Column("reassure", Boolean, nullable=False),
    Column("trace_source", Text, nullable=False),
    Column("span_s", Double, nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("settings", JSONB, nullable=False),
    Column("next_request", Integer, nullable=False, server_default=text("0")),
    _timestamp("submitted_at", default=True),
    _timestamp("started_at"),
    _timestamp("ended_at"),
    # Live runs: since when they accept nothing more.
    _timestamp("closed_at"),
    # Whose its requests are, but for those that name another.
    Column("tenant", Text, nullable=False, server_default=text("'default'")),
)

# One row: which system decides for live runs, and how the next one is to be called; `wanted`: somebody has sent requests to be accepted.
live = Table(
    "live",
    metadata,
    Column("scope", Text, primary_key=True, server_default=text("'live'")),
    Column("system", Text, nullable=False),
    Column("run_name", Text, nullable=False, server_default=text("''")),
    Column("reassure", Boolean, nullable=False, server_default=text("true")),
    Column("wanted", Boolean, nullable=False, server_default=text("false")),
    _timestamp("changed_at", default=True),
)

# Numbers for the requests of a live run, in blocks: each is given to one cluster, or (cluster NULL) to the centre for jobs. `used` of the
# centre's are given out.
number_block = Table(
    "number_block",
    metadata,
    Column("run_id", Integer, nullable=False),
    Column("first", Integer, nullable=False),
    Column("last", Integer, nullable=False),
    Column("cluster", Text),
    Column("used", Integer, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("run_id", "first"),
)

# What a job has beside its request: what it asks for, and how its last attempt ended. `env` is a list of [name, value].
job = Table(
    "job",
    metadata,
    Column("run_id", Integer, nullable=False),
    Column("request_id", Integer, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("command", ARRAY(Text)),
    Column("args", ARRAY(Text)),
    Column("env", JSON, nullable=False),
    Column("deadline_s", Double),
    Column("retries", Integer, nullable=False),
    Column("retries_used", Integer, nullable=False, server_default=text("0")),
    Column("retry_on", ARRAY(Integer), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("by_local_user", Boolean, nullable=False, server_default=text("false")),
    _timestamp("submitted_at", default=True),
    _timestamp("ended_at"),
    Column("exit_code", Integer),
    Column("message", Text, nullable=False, server_default=text("''")),
    # A list of {"name", "exit_code", "reason"}.
    Column("containers", JSONB, nullable=False, server_default="[]"),
    # Why the pod of the attempt of this epoch has not started, in Kubernetes' words.
    Column("waiting", Text, nullable=False, server_default=text("''")),
    Column("waiting_epoch", Integer, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("run_id", "request_id"),
    Index("job_key", "tenant", "idempotency_key", unique=True),
    Index("job_submitted", "submitted_at"),
    # What a tenant's limit of jobs is counted by.
    Index("job_live", "tenant", postgresql_where=text("ended_at IS NULL")),
)

# The end of the log of each container of each attempt of a job, for as long as `JobSettings` keeps it.
job_log = Table(
    "job_log",
    metadata,
    Column("run_id", Integer, nullable=False),
    Column("request_id", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("container", Text, nullable=False),
    Column("tail", LargeBinary, nullable=False),
    Column("is_whole", Boolean, nullable=False),
    _timestamp("kept_at", default=True),
    PrimaryKeyConstraint("run_id", "request_id", "epoch", "container"),
    Index("job_log_kept", "kept_at"),
)

# A cell of a comparison that is computed as a run, with its claim (epoch, owner, lease) and its result.
simulation = Table(
    "simulation",
    metadata,
    Column("run_id", Integer, primary_key=True, autoincrement=False),
    Column("key", Text, nullable=False),
    # Kept as it was written, where JSONB would turn 1e16 into an integer: the key is a hash of the text.
    Column("cell", JSON, nullable=False),
    Column("record", Boolean, nullable=False),
    Column("epoch", Integer, nullable=False, server_default=text("0")),
    Column("owner", Text),
    _timestamp("lease_until"),
    Column("published", Integer, nullable=False, server_default=text("1")),
    _timestamp("published_at", default=True),
    Column("result", JSON),
    Column("failure", Text, nullable=False, server_default=text("''")),
    Index("simulation_key", "key"),
)

# Requests with their current state, of LC as last shipped. `epoch` counts claims: a result with an older one is refused.
request = Table(
    "request",
    metadata,
    Column("run_id", Integer, nullable=False),
    Column("request_id", Integer, nullable=False),
    Column("class", service_class, nullable=False),
    Column("service", Text, nullable=False),
    Column("cluster", Text, nullable=False),
    Column("due_s", Double, nullable=False),
    Column("target_s", Double),
    Column("cpu_work_s", Double, nullable=False),
    Column("memory_mib", Double, nullable=False),
    Column("state", request_state, nullable=False, server_default=text("'accepted'")),
    Column("epoch", Integer, nullable=False, server_default=text("0")),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("target_cluster", Text),
    Column("node", Text),
    Column("pod", Text),
    Column("owner", Text),
    Column("late", Boolean, nullable=False, server_default=text("false")),
    Column("started_s", Double),
    Column("finished_s", Double),
    Column("reason", Text, nullable=False, server_default=text("''")),
    _timestamp("released_at"),
    _timestamp("lease_until"),
    # Whose it is; NULL: its run's, as all of a trace are that does not name several tenants.
    Column("tenant", Text),
    # BE: since when it waits for its present attempt, when that was placed, and by which decision; of LC its attempts have them.
    Column("released_s", Double),
    Column("dispatched_s", Double),
    Column("decision_id", BigInteger),
    PrimaryKeyConstraint("run_id", "request_id"),
    Index(
        "request_live",
        "class",
        "state",
        "due_s",
        postgresql_where=text(f"state = ANY ('{{{','.join(UNDER_WAY)}}}'::request_state[])"),
    ),
    # What the release of BE walks by, past any number of LC requests and no further than what is due.
    Index("request_be_due", "due_s", "request_id", postgresql_where=text(f"class = 'be' AND state = '{RequestState.ACCEPTED}'")),
    # What waits of each tenant in order. Requests whose tenant is their run's are in `request_live` alone.
    Index(
        "request_tenant",
        "tenant",
        "due_s",
        "request_id",
        postgresql_where=text(f"class = 'be' AND state = '{RequestState.PENDING}' AND tenant IS NOT NULL"),
    ),
    # LC that ended without an answer. One that was shed before its dispatch leaves no attempt by which it could be found.
    Index(
        "request_lost",
        "due_s",
        postgresql_where=text(f"class = 'lc' AND state = ANY ('{{{','.join(LOST)}}}'::request_state[])"),
    ),
    postgresql_partition_by="LIST (run_id)",
)

# How many requests of a run are in which state, and how many LC requests of them were answered within target: what was counted, and what
# has changed since, which a trigger on `request` appends and the reconciler adds up. Both together are right at every instant.
_COUNTS = (
    ("run_id", Integer),
    ("class", service_class),
    ("state", request_state),
    ("requests", Integer),
    ("in_time", Integer),
)
run_count = Table(
    "run_count",
    metadata,
    *(Column(name, kind, nullable=False) for name, kind in _COUNTS),
    PrimaryKeyConstraint("run_id", "class", "state"),
)
run_count_change = Table(
    "run_count_change",
    metadata,
    Column("change_id", BigInteger, Identity(always=True), primary_key=True),
    *(Column(name, kind, nullable=False) for name, kind in _COUNTS),
    Column("cluster", Text, nullable=False, server_default=text("''")),
    Index("run_count_change_run", "run_id"),
)

# How many requests have ended since there is this database, in which state, by the cluster that they entered: it only grows, whatever
# becomes of their runs.
request_total = Table(
    "request_total",
    metadata,
    Column("class", service_class, nullable=False),
    Column("state", request_state, nullable=False),
    Column("cluster", Text, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("in_time", BigInteger, nullable=False),
    PrimaryKeyConstraint("class", "state", "cluster"),
)

# LC requests of a run that enter one cluster. Once it is opened, they belong to that cluster's journal, and their rows in `request` are
# copies.
lc_share = Table(
    "lc_share",
    metadata,
    Column("run_id", Integer, nullable=False),
    Column("cluster", Text, nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("opened", Boolean, nullable=False, server_default=text("false")),
    # Id of the last request that the journal is known to have.
    Column("handed_to", Integer, nullable=False, server_default=text("-1")),
    # Nothing beyond it will be taken any more.
    Column("complete", Boolean, nullable=False, server_default=text("false")),
    # Number of its requests that are terminal here.
    Column("terminal", Integer, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("run_id", "cluster"),
    Index("lc_share_cluster", "cluster", "run_id"),
)

# Up to which sequence number each journal has been shipped.
journal_position = Table(
    "journal_position",
    metadata,
    Column("cluster", Text, nullable=False),
    Column("journal", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    _timestamp("shipped_at", default=True),
    PrimaryKeyConstraint("cluster", "journal"),
)

# Events of a cluster's journals that were lost when this centre was restored from a backup, and when that was told last.
journal_gap = Table(
    "journal_gap",
    metadata,
    Column("cluster", Text, primary_key=True),
    Column("missing", BigInteger, nullable=False),
    _timestamp("noted_at", default=True),
)

# One row: which centre this is. A journal that served another one begins anew.
centre = Table("centre", metadata, Column("identity", Text, primary_key=True))

# LC requests in flight, as the journal of the cluster that they entered last told.
lc_in_flight = Table(
    "lc_in_flight",
    metadata,
    Column("cluster", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("target_cluster", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("count", Integer, nullable=False),
    # Sum over them of 1 / speed of their runs.
    Column("scale", Double, nullable=False),
    PrimaryKeyConstraint("cluster", "service", "target_cluster", "node"),
)

# One row for each epoch of a request that has ended: where it ran, how it ended, and the work that was lost.
attempt = Table(
    "attempt",
    metadata,
    Column("run_id", Integer, nullable=False),
    Column("request_id", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("class", service_class, nullable=False),
    Column("service", Text, nullable=False),
    Column("cluster", Text),
    Column("node", Text),
    Column("pod", Text),
    Column("started_s", Double),
    Column("finished_s", Double),
    Column("latency_s", Double),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("work_lost_s", Double, nullable=False),
    _timestamp("ended_at", default=True),
    # Where its time went, as far as is known, and the decision that sent it there.
    Column("released_s", Double),
    Column("dispatched_s", Double),
    Column("sent_s", Double),
    Column("decision_id", BigInteger),
    PrimaryKeyConstraint("run_id", "request_id", "epoch"),
    Index("attempt_ended", "ended_at"),
)

# The figures of an ended live run, all of them, as JSON: ordered by its row, claimed under an epoch and a lease, and computed in a process
# of their own.
run_figures = Table(
    "run_figures",
    metadata,
    Column("run_id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, nullable=False, server_default=text("0")),
    _timestamp("lease_until"),
    Column("figures", JSON),
    Column("failure", Text, nullable=False, server_default=text("''")),
)

# Figures of ended runs by name, as `tango run show` prints them: a number or a text.
run_metric = Table(
    "run_metric",
    metadata,
    Column("run_id", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("value", Double),
    Column("text", Text),
    PrimaryKeyConstraint("run_id", "name"),
)

# Runs that were deleted, so that whoever asks for one hears what became of it.
deleted_run = Table(
    "deleted_run",
    metadata,
    Column("run_id", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("system", Text, nullable=False),
    Column("accepted", Integer, nullable=False),
    _timestamp("ended_at"),
    _timestamp("deleted_at", default=True),
    Column("why", Text, nullable=False),
)

# One row for each scheduling cycle: counts, policy, and milliseconds of its three phases.
decision = Table(
    "decision",
    metadata,
    Column("decision_id", BigInteger, Identity(always=True), primary_key=True),
    _timestamp("at", default=True),
    Column("kind", service_class, nullable=False),
    Column("cluster", Text, nullable=False),
    Column("run_ids", ARRAY(Integer), nullable=False),
    Column("policy", Text, nullable=False),
    Column("checkpoint", Text, nullable=False),
    Column("considered", Integer, nullable=False),
    Column("placed", Integer, nullable=False),
    Column("unplaced", Integer, nullable=False),
    Column("late", Integer, nullable=False),
    Column("shed", Integer, nullable=False),
    Column("snapshot_ms", Double, nullable=False),
    Column("decide_ms", Double, nullable=False),
    Column("apply_ms", Double, nullable=False),
    Column("note", Text, nullable=False),
    # LC of live runs: its number among the events of its cluster's journal, by which shipped attempts name it.
    Column("sequence", BigInteger),
    # Candidates of some of its requests (`tango.domain.candidates`); NULL: none are kept.
    Column("weighed", JSONB),
    Index("decision_at", "at"),
    Index("decision_weighed", "at", postgresql_where=text("weighed IS NOT NULL")),
    Index("decision_sequence", "cluster", "sequence", postgresql_where=text("sequence IS NOT NULL")),
)

# Resizes of LC instances and evictions of BE pods, with their outcome and duration.
scaling_event = Table(
    "scaling_event",
    metadata,
    Column("event_id", BigInteger, Identity(always=True), primary_key=True),
    _timestamp("at", default=True),
    Column("kind", Text, nullable=False),
    Column("cluster", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("pod", Text, nullable=False),
    Column("before_millicores", Integer),
    Column("after_millicores", Integer),
    Column("slack", Double),
    Column("reason", Text, nullable=False),
    Column("actuation_ms", Double),
    Column("outcome", Text, nullable=False),
    # Of a simulated run; NULL: of the live fleet, whose events belong to the runs of their time.
    Column("run_id", Integer),
    Column("after_request_millicores", Integer),
    Column("spared", JSONB),
    Index("scaling_event_at", "at"),
    Index("scaling_event_run", "run_id", postgresql_where=text("run_id IS NOT NULL")),
)

# Time series of the nodes.
node_sample = Table(
    "node_sample",
    metadata,
    _timestamp("at", default=True),
    Column("cluster", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("cpu_allocatable_millicores", Integer, nullable=False),
    Column("memory_allocatable_mib", Integer, nullable=False),
    Column("cpu_used_millicores", Double),
    Column("memory_used_mib", Double),
    Column("lc_cpu_limit_millicores", Integer, nullable=False),
    Column("lc_memory_held_mib", Integer, nullable=False),
    Column("be_cpu_request_millicores", Integer, nullable=False),
    Column("be_memory_held_mib", Integer, nullable=False),
    Column("be_pods", Integer, nullable=False),
    # As in `scaling_event`.
    Column("run_id", Integer),
    # By the name of an extended resource: {"allocatable": thousandths, "held": thousandths}; NULL where there is none.
    Column("extended", JSONB),
    Column("lc_cpu_pressure", Double),
    Column("lc_throttled", Double),
    Column("memory_pressure", Double),
    Index("node_sample_at", "at"),
    Index("node_sample_run", "run_id", postgresql_where=text("run_id IS NOT NULL")),
)

# How far the CPUs of hosts were used while anything was to be served, as agents saw it on theirs.
host_sample = Table(
    "host_sample",
    metadata,
    _timestamp("at", default=True),
    Column("host", Text, nullable=False),
    Column("used", Double, nullable=False),
    Column("stolen", Double, nullable=False),
    Index("host_sample_at", "at"),
)

# What the agents of nodes have reported of them, a week of it: pressure, throttling, real use, what does not hold.
node_report = Table(
    "node_report",
    metadata,
    Column("cluster", Text, nullable=False),
    Column("node", Text, nullable=False),
    _timestamp("at", nullable=False),
    Column("report", JSONB, nullable=False),
    PrimaryKeyConstraint("cluster", "node", "at"),
)

# Registered checkpoints of learned policies, without their weights.
checkpoint = Table(
    "checkpoint",
    metadata,
    Column("checkpoint_id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("format_version", Integer, nullable=False),
    Column("feature_schema", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("trained", JSONB, nullable=False),
    Column("note", Text, nullable=False),
    _timestamp("registered_at", default=True),
    Column("policy", Text, nullable=False, server_default=text("'dcg-be'")),
    Column("code_version", Text, nullable=False, server_default=text("''")),
    Column("scores", JSONB, nullable=False, server_default=text("'[]'")),
    Column("size_bytes", Integer),
    Column("refused", Text, nullable=False, server_default=text("''")),
    _timestamp("refused_at"),
    Index("checkpoint_digest", "digest", unique=True),
)

# The weights, in a table of their own so that listing checkpoints does not read them.
checkpoint_file = Table(
    "checkpoint_file",
    metadata,
    Column("checkpoint_id", Integer, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
    CheckConstraint("octet_length(content) <= 16777216"),
)

# One row, `be`: which checkpoint decides and which is in the shadow; the scheduler reads it at every tick.
checkpoint_role = Table(
    "checkpoint_role",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("generation", BigInteger, nullable=False, server_default=text("0")),
    Column("live", Text, nullable=False, server_default=text("''")),
    Column("before", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("shadow", Text, nullable=False, server_default=text("''")),
    Column("configured", Text, nullable=False, server_default=text("''")),
    Column("deciding", Text, nullable=False, server_default=text("''")),
    _timestamp("changed_at", default=True),
)

# History of the roles: what was promoted, demoted, put in the shadow, by whom.
checkpoint_event = Table(
    "checkpoint_event",
    metadata,
    Column("event_id", BigInteger, Identity(always=True), primary_key=True),
    _timestamp("at", default=True),
    Column("action", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("note", Text, nullable=False),
)

# One row for each tick in which a candidate decided beside the live policy: how far the two differed.
shadow_decision = Table(
    "shadow_decision",
    metadata,
    Column("shadow_id", BigInteger, Identity(always=True), primary_key=True),
    _timestamp("at", default=True),
    Column("run_ids", ARRAY(Integer), nullable=False),
    Column("policy", Text, nullable=False),
    Column("live", Text, nullable=False),
    Column("candidate", Text, nullable=False),
    Column("considered", Integer, nullable=False),
    Column("live_placed", Integer, nullable=False),
    Column("candidate_placed", Integer, nullable=False),
    Column("different", Integer, nullable=False),
    Column("live_cpu_share", Double),
    Column("candidate_cpu_share", Double),
    Column("live_ms", Double, nullable=False),
    Column("candidate_ms", Double),
    Column("skipped", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Index("shadow_decision_candidate", "candidate", "at"),
)

# Claims of periodic jobs that one process at a time may do. `epoch` is the fencing token.
lease = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    _timestamp("expires_at", nullable=False),
)

# What people changed in the console, refused tries included.
operator_action = Table(
    "operator_action",
    metadata,
    Column("action_id", BigInteger, Identity(always=True), primary_key=True),
    _timestamp("at", default=True),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("outcome", Text, nullable=False),
)

# Tenants as declared; one that is not here has the weight 1 and no quota. `quota` has millicores, MiB or thousandths by resource.
tenant = Table(
    "tenant",
    metadata,
    Column("name", Text, primary_key=True),
    Column("weight", Double, nullable=False),
    Column("quota", JSONB, nullable=False),
    Column("most_jobs", Integer),
    _timestamp("declared_at", default=True),
    Column("guarantee", JSONB),
)

# What placements of BE see of each tenant, while there are several of them or one has a quota; written once a second at the most.
tenant_share = Table(
    "tenant_share",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("share", Double, nullable=False),
    Column("weighted_share", Double, nullable=False),
    Column("held", JSONB, nullable=False),
    _timestamp("below_since"),
    Column("withheld", Boolean, nullable=False),
    _timestamp("at", default=True),
)

# Tokens by which callers are known, by their hashes; `allows` has the classes whose requests the holder may send.
token = Table(
    "token",
    metadata,
    Column("token_id", Integer, Identity(always=True), primary_key=True),
    Column("tenant", Text, nullable=False, server_default=text("'default'")),
    Column("name", Text, nullable=False, server_default=text("''")),
    Column("allows", ARRAY(Text), nullable=False),
    Column("digest", Text, nullable=False, unique=True),
    Column("tail", Text, nullable=False),
    _timestamp("created_at", default=True),
    _timestamp("revoked_at"),
)

for _table in metadata.sorted_tables:
    _table.comment = DICTIONARY[_table.name].row
    for _name, _says in described_columns(_table.name, tuple(column.name for column in _table.columns)).items():
        _table.columns[_name].comment = _says


def type_name(table: str, column: str) -> str:
    """PostgreSQL's name of a column's type, in lower case."""
    return str(metadata.tables[table].columns[column].type.compile(DIALECT)).lower()
