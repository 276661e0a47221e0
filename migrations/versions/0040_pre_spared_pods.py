"""Who stayed beside a pod that was evicted. Goes before the code, which writes it."""

from __future__ import annotations

from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of evictions before nothing is known."""
    op.execute("ALTER TABLE scaling_event ADD COLUMN spared JSONB")


def downgrade() -> None:
    """What was told is lost."""
    op.execute("ALTER TABLE scaling_event DROP COLUMN spared")
