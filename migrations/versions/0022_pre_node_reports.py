"""What node agents report of their nodes. Goes before the code, whose cluster agents write it."""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

NODE_REPORT = """
CREATE TABLE node_report (
    cluster TEXT NOT NULL,
    node TEXT NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    report JSONB NOT NULL,
    PRIMARY KEY (cluster, node, at)
)
"""


def upgrade() -> None:
    """Nobody has reported yet."""
    op.execute(NODE_REPORT)


def downgrade() -> None:
    """The reports stay in the clusters, the last one of each node."""
    op.execute("DROP TABLE node_report")
