"""Evictions by cluster and node: clusters may have nodes of one name. Goes before the code.

Older code reads the view by the names of its columns and goes on.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

VIEW = """
CREATE VIEW eviction_reasons AS
SELECT run_id, service, cluster, node, reason, count(*) AS attempts, sum(work_lost_s) AS work_lost_s
FROM attempt WHERE outcome <> 'succeeded' GROUP BY run_id, service, cluster, node, reason
"""

VIEW_BEFORE = """
CREATE VIEW eviction_reasons AS
SELECT run_id, service, node, reason, count(*) AS attempts, sum(work_lost_s) AS work_lost_s
FROM attempt WHERE outcome <> 'succeeded' GROUP BY run_id, service, node, reason
"""


def upgrade() -> None:
    """A column between others: the view is made anew."""
    op.execute("DROP VIEW eviction_reasons")
    op.execute(VIEW)


def downgrade() -> None:
    """Nodes of one name are counted together again."""
    op.execute("DROP VIEW eviction_reasons")
    op.execute(VIEW_BEFORE)
