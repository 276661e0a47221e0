"""Pods and extended resources of nodes, beside CPU and memory. Goes before the code: older code neither reads nor writes the columns."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Named column by column: with `s.*` it would depend on every column that the table ever gets.
VIEW = """
CREATE OR REPLACE VIEW node_utilization AS
WITH sampled AS (
    SELECT r.run_id AS of_run, s.cluster, s.node, s.cpu_used_millicores, s.cpu_allocatable_millicores, s.memory_used_mib,
           s.memory_allocatable_mib, s.be_pods
    FROM run r JOIN node_sample s ON s.at BETWEEN r.started_at AND coalesce(r.ended_at, now())
    WHERE r.kind = 'live' AND s.run_id IS NULL
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
"""


def upgrade() -> None:
    """Columns with constant defaults: no row is written. The view gives what it gave."""
    op.add_column("node", sa.Column("pods_allocatable", sa.Integer, nullable=False, server_default="110"))
    op.add_column("node", sa.Column("lc_pods", sa.Integer, nullable=False, server_default="0"))
    op.add_column("node", sa.Column("extended", JSONB, nullable=False, server_default="{}"))
    op.add_column("node_sample", sa.Column("extended", JSONB))
    op.execute(VIEW)


def downgrade() -> None:
    """What was known of pods and extended resources is lost; agents observe it again."""
    op.drop_column("node_sample", "extended")
    for name in ("extended", "lc_pods", "pods_allocatable"):
        op.drop_column("node", name)
