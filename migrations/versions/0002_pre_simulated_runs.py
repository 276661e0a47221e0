"""Simulated runs beside live ones: a kind, the cells that workers compute, and rows that belong to one run. Goes before the code.

Older code goes on meanwhile: what it writes is live by default.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE run ADD COLUMN kind TEXT DEFAULT 'live' NOT NULL;

CREATE TABLE simulation (
    run_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    cell JSON NOT NULL,
    record BOOLEAN NOT NULL,
    epoch INTEGER DEFAULT 0 NOT NULL,
    owner TEXT,
    lease_until TIMESTAMP WITH TIME ZONE,
    published INTEGER DEFAULT 1 NOT NULL,
    published_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    result JSON,
    failure TEXT DEFAULT '' NOT NULL,
    PRIMARY KEY (run_id)
);

CREATE INDEX simulation_key ON simulation (key);

ALTER TABLE node_sample ADD COLUMN run_id INTEGER;

CREATE INDEX node_sample_run ON node_sample (run_id) WHERE run_id IS NOT NULL;

ALTER TABLE scaling_event ADD COLUMN run_id INTEGER;

CREATE INDEX scaling_event_run ON scaling_event (run_id) WHERE run_id IS NOT NULL;
"""

CHANGED_VIEWS = ("run_summary", "node_utilization", "system_comparison")

VIEWS = """
CREATE VIEW run_summary AS
SELECT r.run_id, r.kind, r.name, r.status, r.system, r.fleet, r.seed, r.speed, r.submitted_at, r.started_at, r.ended_at,
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
CREATE VIEW node_utilization AS
WITH sampled AS (
    SELECT r.run_id AS of_run, s.*
    FROM run r JOIN node_sample s ON s.at BETWEEN r.started_at AND coalesce(r.ended_at, now())
    WHERE r.kind = 'live' AND s.run_id IS NULL
    UNION ALL SELECT s.run_id, s.* FROM node_sample s WHERE s.run_id IS NOT NULL
)
SELECT of_run AS run_id, cluster, node,
       avg(cpu_used_millicores) / nullif(avg(cpu_allocatable_millicores), 0) AS cpu,
       avg(memory_used_mib) / nullif(avg(memory_allocatable_mib), 0) AS memory,
       avg(be_pods) AS be_pods, count(*) AS samples
FROM sampled GROUP BY of_run, cluster, node;
CREATE VIEW system_comparison AS
WITH counted AS (
    SELECT run_id FROM run WHERE kind = 'live'
    UNION ALL
    SELECT * FROM (SELECT DISTINCT ON (fleet_hash, trace_source, system, seed) run_id FROM run
                   WHERE kind = 'simulated' AND status = 'completed'
                   ORDER BY fleet_hash, trace_source, system, seed, run_id DESC) newest
)
SELECT r.kind, r.fleet, r.fleet_hash, r.trace_source, r.system, count(*) FILTER (WHERE m.name = 'lc_qos_rate') AS runs,
       avg(m.value) FILTER (WHERE m.name = 'lc_qos_rate') AS lc_qos_rate,
       avg(m.value) FILTER (WHERE m.name = 'lc_latency_p99_ms') AS lc_latency_p99_ms,
       avg(m.value) FILTER (WHERE m.name = 'be_cpu_seconds_per_s') AS be_cpu_seconds_per_s,
       avg(m.value) FILTER (WHERE m.name = 'utilization_cpu') AS utilization_cpu
FROM counted JOIN run r USING (run_id) JOIN run_metric m USING (run_id)
GROUP BY r.kind, r.fleet, r.fleet_hash, r.trace_source, r.system;
"""

VIEWS_BEFORE = """
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
"""

# Simulated runs go with the code that knows them: to older code they would be live runs that never end.
REMOVE = """
DO $$ DECLARE gone integer; BEGIN
    FOR gone IN SELECT run_id FROM run WHERE kind = 'simulated' LOOP PERFORM drop_request_partition(gone); END LOOP;
END $$;
DELETE FROM attempt WHERE run_id IN (SELECT run_id FROM simulation);
DELETE FROM run_metric WHERE run_id IN (SELECT run_id FROM simulation);
DELETE FROM decision WHERE run_ids <@ ARRAY(SELECT run_id FROM simulation) AND run_ids <> '{}';
DELETE FROM node_sample WHERE run_id IS NOT NULL;
DELETE FROM scaling_event WHERE run_id IS NOT NULL;
DELETE FROM run WHERE kind = 'simulated';
DROP TABLE simulation;
ALTER TABLE node_sample DROP COLUMN run_id;
ALTER TABLE scaling_event DROP COLUMN run_id;
ALTER TABLE run DROP COLUMN kind;
"""


def upgrade() -> None:
    """Add what simulated runs need; what is there becomes live."""
    for view in CHANGED_VIEWS:
        op.execute(f"DROP VIEW {view}")
    op.execute(TABLES)
    op.execute(VIEWS)


def downgrade() -> None:
    """Drop every simulated run with it."""
    for view in CHANGED_VIEWS:
        op.execute(f"DROP VIEW {view}")
    op.execute(REMOVE)
    op.execute(VIEWS_BEFORE)
