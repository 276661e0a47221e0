"""Runs that callers feed: the run of the day, numbers for its requests, who sent each. Goes before the code, which needs the tables.

Runs of traces that were called live are called replayed from now on. Agents and workers of the version before do not know the word: they
are to be restarted with the new one.
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE run ADD COLUMN closed_at TIMESTAMP WITH TIME ZONE;
ALTER TABLE run ALTER COLUMN kind SET DEFAULT 'replayed';
UPDATE run SET kind = 'replayed' WHERE kind = 'live';
ALTER TABLE request ADD COLUMN tenant TEXT;

CREATE TABLE live (
    scope TEXT DEFAULT 'live' NOT NULL PRIMARY KEY,
    system TEXT NOT NULL,
    run_name TEXT DEFAULT '' NOT NULL,
    reassure BOOLEAN DEFAULT true NOT NULL,
    wanted BOOLEAN DEFAULT false NOT NULL,
    changed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL
);

CREATE TABLE number_block (
    run_id INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    cluster TEXT,
    used INTEGER DEFAULT 0 NOT NULL,
    PRIMARY KEY (run_id, first)
)
"""

# Rows that come one by one are counted like changes; a partition that is filled aside and attached is not inserted into `request`.
COUNT_NEW = """
CREATE FUNCTION note_new_requests() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO run_count_change (run_id, class, state, requests, in_time)
    SELECT run_id, class, state, count(*),
           count(*) FILTER (WHERE class = 'lc' AND state = 'succeeded' AND finished_s - due_s <= target_s)
    FROM new_rows GROUP BY run_id, class, state ORDER BY run_id, class, state;
    RETURN NULL;
END $$;

CREATE TRIGGER request_additions AFTER INSERT ON request REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION note_new_requests()
"""

VIEWS = """
CREATE OR REPLACE VIEW node_utilization AS
WITH sampled AS (
    SELECT r.run_id AS of_run, s.cluster, s.node, s.cpu_used_millicores, s.cpu_allocatable_millicores, s.memory_used_mib,
           s.memory_allocatable_mib, s.be_pods
    FROM run r JOIN node_sample s ON s.at BETWEEN r.started_at AND coalesce(r.ended_at, now())
    WHERE r.{of_clusters} AND s.run_id IS NULL
    UNION ALL
    SELECT s.run_id, s.cluster, s.node, s.cpu_used_millicores, s.cpu_allocatable_millicores, s.memory_used_mib,
           s.memory_allocatable_mib, s.be_pods
    FROM node_sample s WHERE s.run_id IS NOT NULL
)
SELECT of_run AS run_id, cluster, node,
       avg(cpu_used_millicores) / nullif(avg(cpu_allocatable_millicores), 0) AS cpu,
       avg(memory_used_mib) / nullif(avg(memory_allocatable_mib), 0) AS memory,
       avg(be_pods) AS be_pods, count(*) AS samples
FROM sampled GROUP BY of_run, cluster, node
;
CREATE OR REPLACE VIEW system_comparison AS
WITH counted AS (
    SELECT run_id FROM run WHERE {of_clusters}
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
GROUP BY r.kind, r.fleet, r.fleet_hash, r.trace_source, r.system
;
CREATE OR REPLACE VIEW queue_position AS
SELECT run_id, request_id, class, service, cluster, state,
       row_number() OVER (PARTITION BY class, CASE WHEN class = 'lc' THEN cluster END
                          ORDER BY due_s, run_id, request_id) AS position
FROM request WHERE state IN ('released', 'pending')
  AND run_id = ANY (ARRAY(SELECT run_id FROM run WHERE {of_clusters} AND status IN ('accepted', 'running', 'draining')))
"""


def upgrade() -> None:
    """Nothing is live yet in the new sense."""
    op.execute(TABLES)
    op.execute(COUNT_NEW)
    op.execute(VIEWS.format(of_clusters="kind <> 'simulated'"))


def downgrade() -> None:
    """Older code would release and dispatch what callers sent by its own rules: runs of callers are left as cancelled ones."""
    op.execute(
        "UPDATE run SET status = 'cancelled', ended_at = coalesce(ended_at, now()) WHERE kind = 'live' AND status <> 'completed'"
    )
    op.execute("UPDATE run SET kind = 'live' WHERE kind = 'replayed'")
    op.execute(VIEWS.format(of_clusters="kind = 'live'"))
    op.execute("DROP TRIGGER request_additions ON request")
    op.execute("DROP FUNCTION note_new_requests")
    for table in ("number_block", "live"):
        op.execute(f"DROP TABLE {table}")
    op.execute("ALTER TABLE request DROP COLUMN tenant")
    op.execute("ALTER TABLE run ALTER COLUMN kind SET DEFAULT 'live'")
    op.execute("ALTER TABLE run DROP COLUMN closed_at")
