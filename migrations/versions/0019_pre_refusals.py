"""What clusters, services there and nodes are paused for. Goes before the code, which writes it."""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

REFUSAL = """
CREATE TABLE refusal (
    cluster TEXT NOT NULL,
    service TEXT NOT NULL,
    node TEXT NOT NULL,
    role TEXT NOT NULL,
    kind TEXT NOT NULL,
    words TEXT NOT NULL,
    times INTEGER DEFAULT 1 NOT NULL,
    since TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    paused_until TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (cluster, service, node, role)
)
"""


def upgrade() -> None:
    """Nobody has refused anything yet."""
    op.execute(REFUSAL)


def downgrade() -> None:
    """Older schedulers try again at once."""
    op.execute("DROP TABLE refusal")
