"""Resizes that a node refused for good. Goes before the code, which remembers them here and no longer in a process."""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

RESIZE_REFUSAL = """
CREATE TABLE resize_refusal (
    cluster TEXT NOT NULL,
    pod TEXT NOT NULL,
    larger_limit BOOLEAN NOT NULL,
    uid TEXT NOT NULL,
    limit_millicores INTEGER NOT NULL,
    request_millicores INTEGER NOT NULL,
    allocatable_millicores INTEGER NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (cluster, pod, larger_limit)
)
"""


def upgrade() -> None:
    """What was refused before is asked for once more."""
    op.execute(RESIZE_REFUSAL)


def downgrade() -> None:
    """Older schedulers remember it for as long as their process lives."""
    op.execute("DROP TABLE resize_refusal")
