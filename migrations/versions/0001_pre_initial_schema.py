"""Initial schema: tables, partition functions, views. Goes before the code that needs it.

The statements are frozen here on purpose: a revision never imports `models`, whose later changes would rewrite history.
"""

from __future__ import annotations

import re

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TYPE request_state AS ENUM (
    'accepted', 'released', 'pending', 'dispatched', 'placed', 'running', 'succeeded', 'failed', 'shed', 'cancelled'
);

CREATE TYPE service_class AS ENUM ('lc', 'be');

CREATE TABLE fleet (
    name TEXT NOT NULL,
    hash TEXT NOT NULL,
    declaration TEXT NOT NULL,
    declared_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (name)
);

CREATE TABLE cluster (
    name TEXT NOT NULL,
    position INTEGER NOT NULL,
    kubeconfig TEXT NOT NULL,
    context TEXT NOT NULL,
    embedded BOOLEAN DEFAULT false NOT NULL,
    joined_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (name)
);

CREATE TABLE link (
    from_cluster TEXT NOT NULL,
    to_cluster TEXT NOT NULL,
    rtt_ms DOUBLE PRECISION NOT NULL,
    bandwidth_mbit_per_s DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (from_cluster, to_cluster)
);

CREATE TABLE node (
    cluster TEXT NOT NULL,
    name TEXT NOT NULL,
    ready BOOLEAN NOT NULL,
    cpu_allocatable_millicores INTEGER NOT NULL,
    memory_allocatable_mib INTEGER NOT NULL,
    cpu_used_millicores DOUBLE PRECISION,
    memory_used_mib DOUBLE PRECISION,
    lc_cpu_request_millicores INTEGER NOT NULL,
    lc_cpu_limit_millicores INTEGER NOT NULL,
    lc_memory_held_mib INTEGER NOT NULL,
    be_cpu_request_millicores INTEGER NOT NULL,
    be_cpu_limit_millicores INTEGER NOT NULL,
    be_memory_held_mib INTEGER NOT NULL,
    be_pods INTEGER NOT NULL,
    observed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (cluster, name)
);

CREATE TABLE service (
    name TEXT NOT NULL,
    class service_class NOT NULL,
    target_ms DOUBLE PRECISION,
    spec JSONB NOT NULL,
    declared_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (name)
);

CREATE TABLE instance (
    cluster TEXT NOT NULL,
    pod TEXT NOT NULL,
    uid TEXT NOT NULL,
    service TEXT NOT NULL,
    node TEXT NOT NULL,
    pod_ip TEXT NOT NULL,
    port INTEGER NOT NULL,
    ready BOOLEAN NOT NULL,
    cpu_request_millicores INTEGER NOT NULL,
    cpu_limit_millicores INTEGER NOT NULL,
    memory_limit_mib INTEGER NOT NULL,
    restarts INTEGER NOT NULL,
    observed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (cluster, pod)
);

CREATE TABLE run (
    run_id INTEGER GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    status TEXT DEFAULT 'accepted' NOT NULL,
    system TEXT NOT NULL,
    fleet TEXT NOT NULL,
    fleet_hash TEXT NOT NULL,
    seed BIGINT NOT NULL,
    speed DOUBLE PRECISION NOT NULL,
    reassure BOOLEAN NOT NULL,
    trace_source TEXT NOT NULL,
    span_s DOUBLE PRECISION NOT NULL,
    accepted INTEGER NOT NULL,
    settings JSONB NOT NULL,
    next_request INTEGER DEFAULT 0 NOT NULL,
    submitted_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE,
    ended_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (run_id)
);

CREATE TABLE request (
    run_id INTEGER NOT NULL,
    request_id INTEGER NOT NULL,
    class service_class NOT NULL,
    service TEXT NOT NULL,
    cluster TEXT NOT NULL,
    due_s DOUBLE PRECISION NOT NULL,
    target_s DOUBLE PRECISION,
    cpu_work_s DOUBLE PRECISION NOT NULL,
    memory_mib DOUBLE PRECISION NOT NULL,
    state request_state DEFAULT 'accepted' NOT NULL,
    epoch INTEGER DEFAULT 0 NOT NULL,
    attempt INTEGER DEFAULT 0 NOT NULL,
    target_cluster TEXT,
    node TEXT,
    pod TEXT,
    owner TEXT,
    late BOOLEAN DEFAULT false NOT NULL,
    started_s DOUBLE PRECISION,
    finished_s DOUBLE PRECISION,
    reason TEXT DEFAULT '' NOT NULL,
    released_at TIMESTAMP WITH TIME ZONE,
    lease_until TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (run_id, request_id)
)
 PARTITION BY LIST (run_id);

CREATE INDEX request_live ON request (state, due_s)
WHERE state = ANY ('{released,pending,dispatched,placed,running}'::request_state[]);

CREATE TABLE attempt (
    run_id INTEGER NOT NULL,
    request_id INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    class service_class NOT NULL,
    service TEXT NOT NULL,
    cluster TEXT,
    node TEXT,
    pod TEXT,
    started_s DOUBLE PRECISION,
    finished_s DOUBLE PRECISION,
    latency_s DOUBLE PRECISION,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    work_lost_s DOUBLE PRECISION NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (run_id, request_id, epoch)
);

CREATE INDEX attempt_ended ON attempt (ended_at);

CREATE TABLE run_metric (
    run_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    value DOUBLE PRECISION,
    text TEXT,
    PRIMARY KEY (run_id, name)
);

CREATE TABLE decision (
    decision_id BIGINT GENERATED ALWAYS AS IDENTITY,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    kind service_class NOT NULL,
    cluster TEXT NOT NULL,
    run_ids INTEGER[] NOT NULL,
    policy TEXT NOT NULL,
    checkpoint TEXT NOT NULL,
    considered INTEGER NOT NULL,
    placed INTEGER NOT NULL,
    unplaced INTEGER NOT NULL,
    late INTEGER NOT NULL,
    shed INTEGER NOT NULL,
    snapshot_ms DOUBLE PRECISION NOT NULL,
    decide_ms DOUBLE PRECISION NOT NULL,
    apply_ms DOUBLE PRECISION NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (decision_id)
);

CREATE INDEX decision_at ON decision (at);

CREATE TABLE scaling_event (
    event_id BIGINT GENERATED ALWAYS AS IDENTITY,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    kind TEXT NOT NULL,
    cluster TEXT NOT NULL,
    node TEXT NOT NULL,
    service TEXT NOT NULL,
    pod TEXT NOT NULL,
    before_millicores INTEGER,
    after_millicores INTEGER,
    slack DOUBLE PRECISION,
    reason TEXT NOT NULL,
    actuation_ms DOUBLE PRECISION,
    outcome TEXT NOT NULL,
    PRIMARY KEY (event_id)
);

CREATE INDEX scaling_event_at ON scaling_event (at);

CREATE TABLE node_sample (
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    cluster TEXT NOT NULL,
    node TEXT NOT NULL,
    cpu_allocatable_millicores INTEGER NOT NULL,
    memory_allocatable_mib INTEGER NOT NULL,
    cpu_used_millicores DOUBLE PRECISION,
    memory_used_mib DOUBLE PRECISION,
    lc_cpu_limit_millicores INTEGER NOT NULL,
    lc_memory_held_mib INTEGER NOT NULL,
    be_cpu_request_millicores INTEGER NOT NULL,
    be_memory_held_mib INTEGER NOT NULL,
    be_pods INTEGER NOT NULL
);

CREATE INDEX node_sample_at ON node_sample (at);

CREATE TABLE checkpoint (
    checkpoint_id INTEGER GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    format_version INTEGER NOT NULL,
    feature_schema TEXT NOT NULL,
    path TEXT NOT NULL,
    trained JSONB NOT NULL,
    note TEXT NOT NULL,
    registered_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (checkpoint_id)
);

CREATE UNIQUE INDEX checkpoint_digest ON checkpoint (digest);

CREATE TABLE lease (
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (name)
);

"""

# The application's role may make, attach and drop the partitions of `request` through these functions and in no other way:
# they run as the schema's owner, take a number and build the name themselves.
FUNCTIONS = """
CREATE FUNCTION make_request_partition(run integer) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
DECLARE part text := 'request_' || run;
BEGIN
    EXECUTE format('CREATE TABLE %I (LIKE request INCLUDING ALL) '
                   'WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.5)', part);
    EXECUTE format('ALTER TABLE %I ADD CONSTRAINT run_is_one CHECK (run_id = %s)', part, run);
    RETURN part;
END $$;

CREATE FUNCTION attach_request_partition(run integer) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    EXECUTE format('ALTER TABLE request ATTACH PARTITION %I FOR VALUES IN (%s)', 'request_' || run, run);
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT run_is_one', 'request_' || run);
END $$;

CREATE FUNCTION drop_request_partition(run integer) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    EXECUTE format('DROP TABLE IF EXISTS %I', 'request_' || run);
END $$;

REVOKE ALL ON FUNCTION make_request_partition, attach_request_partition, drop_request_partition FROM PUBLIC;
"""

VIEWS = """
CREATE VIEW run_summary AS
SELECT r.run_id, r.name, r.status, r.system, r.fleet, r.seed, r.speed, r.submitted_at, r.started_at, r.ended_at,
       r.accepted,
       max(m.value) FILTER (WHERE m.name = 'succeeded') AS succeeded,
       max(m.value) FILTER (WHERE m.name = 'failed') AS failed,
       max(m.value) FILTER (WHERE m.name = 'lc_qos_rate') AS lc_qos_rate,
       max(m.value) FILTER (WHERE m.name = 'lc_latency_p95_ms') AS lc_latency_p95_ms,
       max(m.value) FILTER (WHERE m.name = 'lc_latency_p99_ms') AS lc_latency_p99_ms,
       max(m.value) FILTER (WHERE m.name = 'be_completed') AS be_completed,
       max(m.value) FILTER (WHERE m.name = 'be_cpu_seconds_per_s') AS be_cpu_seconds_per_s,
       max(m.value) FILTER (WHERE m.name = 'utilization_cpu') AS utilization_cpu,
       max(m.value) FILTER (WHERE m.name = 'evictions') AS evictions,
       max(m.value) FILTER (WHERE m.name = 'resizes') AS resizes
FROM run r LEFT JOIN run_metric m USING (run_id)
GROUP BY r.run_id;
CREATE VIEW service_qos AS
WITH judged AS (
    SELECT q.run_id, q.service, q.target_s * r.speed AS target_s,
           q.state = 'succeeded' AND q.finished_s - q.due_s <= q.target_s AS met,
           CASE WHEN q.state = 'succeeded' THEN (q.finished_s - q.due_s) * r.speed * 1000 END AS latency_ms
    FROM request q JOIN run r USING (run_id)
    WHERE q.class = 'lc' AND q.due_s * r.speed >= 0.1 * r.span_s - 1e-6
)
SELECT run_id, service, count(*) AS arrived, avg(target_s) * 1000 AS target_ms, avg(met::int) AS qos_rate,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_ms) AS latency_p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY latency_ms) AS latency_p95_ms,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY latency_ms) AS latency_p99_ms
FROM judged GROUP BY run_id, service;
CREATE VIEW node_utilization AS
SELECT r.run_id, s.cluster, s.node,
       avg(s.cpu_used_millicores) / nullif(avg(s.cpu_allocatable_millicores), 0) AS cpu,
       avg(s.memory_used_mib) / nullif(avg(s.memory_allocatable_mib), 0) AS memory,
       avg(s.be_pods) AS be_pods, count(*) AS samples
FROM run r JOIN node_sample s ON s.at BETWEEN r.started_at AND coalesce(r.ended_at, now())
GROUP BY r.run_id, s.cluster, s.node;
CREATE VIEW system_comparison AS
SELECT r.fleet, r.trace_source, r.system, count(*) FILTER (WHERE m.name = 'lc_qos_rate') AS runs,
       avg(m.value) FILTER (WHERE m.name = 'lc_qos_rate') AS lc_qos_rate,
       avg(m.value) FILTER (WHERE m.name = 'lc_latency_p99_ms') AS lc_latency_p99_ms,
       avg(m.value) FILTER (WHERE m.name = 'be_cpu_seconds_per_s') AS be_cpu_seconds_per_s,
       avg(m.value) FILTER (WHERE m.name = 'utilization_cpu') AS utilization_cpu
FROM run r JOIN run_metric m USING (run_id)
GROUP BY r.fleet, r.trace_source, r.system;
CREATE VIEW eviction_reasons AS
SELECT run_id, service, node, reason, count(*) AS attempts, sum(work_lost_s) AS work_lost_s
FROM attempt WHERE outcome <> 'succeeded' GROUP BY run_id, service, node, reason;
CREATE VIEW slowest_requests AS
SELECT run_id, request_id, service, cluster, target_cluster, node, attempt, due_s, finished_s,
       (finished_s - due_s) * 1000 AS latency_wall_ms, target_s * 1000 AS target_wall_ms
FROM request WHERE class = 'lc' AND state = 'succeeded'
ORDER BY finished_s - due_s DESC;
CREATE VIEW queue_position AS
SELECT run_id, request_id, class, service, cluster, state,
       row_number() OVER (PARTITION BY class, CASE WHEN class = 'lc' THEN cluster END
                          ORDER BY due_s, run_id, request_id) AS position
FROM request WHERE state IN ('released', 'pending');
"""


def upgrade() -> None:
    """Create everything, and let Tango's roles use it where they exist."""
    for part in (TABLES, FUNCTIONS, VIEWS):
        op.execute(part)
    op.execute(
        """
        DO $$ BEGIN
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tango_app') THEN
                GRANT EXECUTE ON FUNCTION make_request_partition, attach_request_partition, drop_request_partition TO tango_app;
            END IF;
        END $$
        """
    )


def downgrade() -> None:
    """Drop everything, every run with it."""
    for view in reversed(re.findall(r"CREATE VIEW (\w+)", VIEWS)):
        op.execute(f"DROP VIEW {view}")
    for function in re.findall(r"CREATE FUNCTION (\w+)", FUNCTIONS):
        op.execute(f"DROP FUNCTION {function}")
    for table in reversed(re.findall(r"CREATE TABLE (\w+)", TABLES)):
        op.execute(f"DROP TABLE {table}")
    for name in re.findall(r"CREATE TYPE (\w+)", TABLES):
        op.execute(f"DROP TYPE {name}")
