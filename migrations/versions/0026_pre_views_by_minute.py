"""Views by minute and by node, and the failures of attempts under a name that says what they are: most are no evictions."""

from __future__ import annotations

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

ATTEMPT_FAILURES = """
CREATE VIEW attempt_failures AS
SELECT run_id, service, cluster, node, outcome, reason, count(*) AS attempts, sum(work_lost_s) AS work_lost_s
FROM attempt WHERE outcome <> 'succeeded' GROUP BY run_id, service, cluster, node, outcome, reason
"""
QOS_PER_MINUTE = """
CREATE VIEW qos_per_minute AS
SELECT run_id, floor(due_s / 60)::int AS minute, service, count(*) AS due,
       count(*) FILTER (WHERE state IN ('succeeded', 'failed', 'shed', 'cancelled')) AS ended,
       count(*) FILTER (WHERE state = 'succeeded' AND finished_s - due_s <= target_s) AS in_time,
       count(*) FILTER (WHERE state = 'succeeded' AND finished_s - due_s <= target_s)::float8
           / nullif(count(*) FILTER (WHERE state IN ('succeeded', 'failed', 'shed', 'cancelled')), 0) AS qos_rate,
       count(*) FILTER (WHERE state = 'shed') AS shed,
       count(*) FILTER (WHERE state = 'failed') AS failed,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY finished_s - due_s) FILTER (WHERE state = 'succeeded') * 1000 AS latency_p95_ms
FROM request WHERE class = 'lc' GROUP BY run_id, 2, service
"""
NODE_PER_MINUTE = """
CREATE VIEW node_per_minute AS
WITH sampled AS (
    SELECT r.run_id AS of_run, r.started_at, s.* FROM run r JOIN node_sample s ON s.at BETWEEN r.started_at AND coalesce(r.ended_at, now())
    WHERE r.kind <> 'simulated' AND s.run_id IS NULL
    UNION ALL
    SELECT r.run_id AS of_run, r.started_at, s.* FROM run r JOIN node_sample s ON s.run_id = r.run_id
)
SELECT of_run AS run_id, floor(extract(epoch FROM at - started_at) / 60)::int AS minute, cluster, node,
       avg(cpu_used_millicores) / nullif(avg(cpu_allocatable_millicores), 0) AS cpu,
       avg(memory_used_mib) / nullif(avg(memory_allocatable_mib), 0) AS memory, avg(be_pods)::float8 AS be_pods,
       (avg(lc_cpu_limit_millicores) / nullif(avg(cpu_allocatable_millicores), 0))::float8 AS lc_limit, count(*) AS samples
FROM sampled GROUP BY of_run, 2, cluster, node
"""
MISSES_BY_NODE = """
CREATE VIEW misses_by_node AS
SELECT run_id, service, target_cluster AS cluster, node, count(*) AS answered,
       count(*) FILTER (WHERE state <> 'succeeded' OR finished_s - due_s > target_s) AS missed,
       avg((state <> 'succeeded' OR finished_s - due_s > target_s)::int)::float8 AS miss_share,
       max(finished_s - due_s) FILTER (WHERE state = 'succeeded') * 1000 AS worst_ms,
       count(*) FILTER (WHERE attempt > 1) AS repeated
FROM request WHERE class = 'lc' AND node IS NOT NULL AND state IN ('succeeded', 'failed', 'shed', 'cancelled')
GROUP BY run_id, service, target_cluster, node
"""
EVICTION_REASONS = """
CREATE VIEW eviction_reasons AS
SELECT run_id, service, cluster, node, reason, count(*) AS attempts, sum(work_lost_s) AS work_lost_s
FROM attempt WHERE outcome <> 'succeeded' GROUP BY run_id, service, cluster, node, reason
"""


def upgrade() -> None:
    """Queries that name the old view have to name the new one."""
    op.execute("DROP VIEW eviction_reasons")
    for view in (ATTEMPT_FAILURES, QOS_PER_MINUTE, NODE_PER_MINUTE, MISSES_BY_NODE):
        op.execute(view)


def downgrade() -> None:
    """No row depends on a view."""
    for name in ("misses_by_node", "node_per_minute", "qos_per_minute", "attempt_failures"):
        op.execute(f"DROP VIEW {name}")
    op.execute(EVICTION_REASONS)
