"""Pressure and throttling of nodes as their agents tell them, and samples of it. Goes before the code, whose agents write it."""

from __future__ import annotations

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

TABLES = ("node", "node_sample")
COLUMNS = ("lc_cpu_pressure", "lc_throttled", "memory_pressure")
NODE_PER_MINUTE = """
CREATE VIEW node_per_minute AS
WITH sampled AS (
    SELECT r.run_id AS of_run, r.started_at, s.at, s.cluster, s.node, s.cpu_used_millicores, s.cpu_allocatable_millicores,
           s.memory_used_mib, s.memory_allocatable_mib, s.be_pods, s.lc_cpu_limit_millicores, s.lc_cpu_pressure, s.lc_throttled,
           s.memory_pressure
    FROM run r JOIN node_sample s ON s.at BETWEEN r.started_at AND coalesce(r.ended_at, now())
    WHERE r.kind <> 'simulated' AND s.run_id IS NULL
    UNION ALL
    SELECT r.run_id AS of_run, r.started_at, s.at, s.cluster, s.node, s.cpu_used_millicores, s.cpu_allocatable_millicores,
           s.memory_used_mib, s.memory_allocatable_mib, s.be_pods, s.lc_cpu_limit_millicores, s.lc_cpu_pressure, s.lc_throttled,
           s.memory_pressure
    FROM run r JOIN node_sample s ON s.run_id = r.run_id
)
SELECT of_run AS run_id, floor(extract(epoch FROM at - started_at) / 60)::int AS minute, cluster, node,
       avg(cpu_used_millicores) / nullif(avg(cpu_allocatable_millicores), 0) AS cpu,
       avg(memory_used_mib) / nullif(avg(memory_allocatable_mib), 0) AS memory, avg(be_pods)::float8 AS be_pods,
       (avg(lc_cpu_limit_millicores) / nullif(avg(cpu_allocatable_millicores), 0))::float8 AS lc_limit, count(*) AS samples,
       avg(lc_cpu_pressure) AS lc_cpu_pressure, avg(lc_throttled) AS lc_throttled, avg(memory_pressure) AS memory_pressure
FROM sampled GROUP BY of_run, 2, cluster, node
"""
BEFORE = """
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


def upgrade() -> None:
    """Nothing is known of them before an agent tells."""
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} " + ", ".join(f"ADD COLUMN {name} DOUBLE PRECISION" for name in COLUMNS))
    op.execute("DROP VIEW node_per_minute")
    op.execute(NODE_PER_MINUTE)


def downgrade() -> None:
    """Older schedulers place BE where LC lacks CPU."""
    op.execute("DROP VIEW node_per_minute")
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} " + ", ".join(f"DROP COLUMN {name}" for name in COLUMNS))
    op.execute(BEFORE)
