"""Since when a cluster that was away is heard of again. Goes before the code, which needs it."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No cluster has come back yet."""
    op.execute("ALTER TABLE cluster ADD COLUMN back_at TIMESTAMP WITH TIME ZONE")


def downgrade() -> None:
    """Older code gives up what runs in a cluster that is away."""
    op.execute("ALTER TABLE cluster DROP COLUMN back_at")
