"""`run_summary` counts requests of runs that go on, too; deleted runs are remembered. Goes before the code, which notes them."""

from __future__ import annotations

from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

DELETED_RUN = """
CREATE TABLE deleted_run (
    run_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    system TEXT NOT NULL,
    accepted INTEGER NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    deleted_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (run_id)
)
"""
RUN_SUMMARY = """
CREATE VIEW run_summary AS
WITH counted AS (
    SELECT run_id, sum(requests) AS requests,
           coalesce(sum(requests) FILTER (WHERE state = 'succeeded'), 0) AS succeeded,
           coalesce(sum(requests) FILTER (WHERE state = 'failed'), 0) AS failed,
           coalesce(sum(requests) FILTER (WHERE state = 'shed'), 0) AS shed,
           coalesce(sum(requests) FILTER (WHERE state = 'cancelled'), 0) AS cancelled,
           coalesce(sum(requests) FILTER (WHERE state NOT IN ('succeeded', 'failed', 'shed', 'cancelled')), 0) AS live,
           coalesce(sum(requests) FILTER (WHERE class = 'lc' AND state IN ('succeeded', 'failed', 'shed', 'cancelled')), 0) AS lc_ended,
           coalesce(sum(in_time), 0) AS lc_in_time
    FROM (SELECT run_id, class, state, requests, in_time FROM run_count
          UNION ALL SELECT run_id, class, state, requests, in_time FROM run_count_change) c
    GROUP BY run_id
), kept AS (
    SELECT run_id,
           max(value) FILTER (WHERE name = 'succeeded') AS succeeded,
           max(value) FILTER (WHERE name = 'failed') AS failed,
           max(value) FILTER (WHERE name = 'shed') AS shed,
           max(value) FILTER (WHERE name = 'cancelled') AS cancelled,
           max(value) FILTER (WHERE name = 'live') AS live,
           max(value) FILTER (WHERE name = 'lc_qos_rate') AS lc_qos_rate,
           max(value) FILTER (WHERE name = 'lc_latency_p95_ms') AS lc_latency_p95_ms,
           max(value) FILTER (WHERE name = 'lc_latency_p99_ms') AS lc_latency_p99_ms,
           max(value) FILTER (WHERE name = 'be_completed') AS be_completed,
           max(value) FILTER (WHERE name = 'be_cpu_seconds_per_s') AS be_cpu_seconds_per_s,
           max(value) FILTER (WHERE name = 'utilization_cpu') AS utilization_cpu,
           max(value) FILTER (WHERE name = 'evictions') AS evictions,
           max(value) FILTER (WHERE name = 'resizes') AS resizes
    FROM run_metric GROUP BY run_id
)
SELECT r.run_id, r.kind, r.name, r.status, r.system, r.fleet, r.seed, r.speed, r.submitted_at, r.started_at, r.ended_at,
       coalesce(c.requests, r.accepted)::int AS accepted,
       coalesce(c.succeeded, k.succeeded, CASE WHEN r.kind <> 'simulated' THEN 0 END)::int AS succeeded,
       coalesce(c.failed, k.failed, CASE WHEN r.kind <> 'simulated' THEN 0 END)::int AS failed,
       coalesce(c.shed, k.shed, CASE WHEN r.kind <> 'simulated' THEN 0 END)::int AS shed,
       coalesce(c.cancelled, k.cancelled, CASE WHEN r.kind <> 'simulated' THEN 0 END)::int AS cancelled,
       coalesce(c.live, k.live, CASE WHEN r.kind <> 'simulated' THEN 0 END)::int AS live,
       c.lc_ended::int AS lc_ended, c.lc_in_time::int AS lc_in_time,
       k.lc_qos_rate, k.lc_latency_p95_ms, k.lc_latency_p99_ms, k.be_completed, k.be_cpu_seconds_per_s, k.utilization_cpu,
       k.evictions, k.resizes
FROM run r LEFT JOIN counted c USING (run_id) LEFT JOIN kept k USING (run_id)
"""
BEFORE = """
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
GROUP BY r.run_id
"""


def upgrade() -> None:
    """Nothing that was deleted before is known."""
    op.execute(DELETED_RUN)
    op.execute("DROP VIEW run_summary")
    op.execute(RUN_SUMMARY)


def downgrade() -> None:
    """No row depends on the view."""
    op.execute("DROP VIEW run_summary")
    op.execute(BEFORE)
    op.execute("DROP TABLE deleted_run")
