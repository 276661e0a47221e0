"""The queue without requests that wait for nothing but the end of their run. Goes before the code, which does not read the view."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

QUEUE = """
CREATE OR REPLACE VIEW queue_position AS
SELECT run_id, request_id, class, service, cluster, state,
       row_number() OVER (PARTITION BY class, CASE WHEN class = 'lc' THEN cluster END
                          ORDER BY due_s, run_id, request_id) AS position
FROM request WHERE state IN ('released', 'pending')
"""
OF_OPEN_RUNS = (
    " AND run_id = ANY (ARRAY(SELECT run_id FROM run WHERE kind = 'live' AND status IN ('accepted', 'running', 'draining')))"
)


def upgrade() -> None:
    """Requests of runs that are open; nobody dispatches or places those of a run that is being cancelled."""
    op.execute(QUEUE + OF_OPEN_RUNS)


def downgrade() -> None:
    """Every request that waits."""
    op.execute(QUEUE)
