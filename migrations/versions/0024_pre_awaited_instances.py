"""LC instances that nodes are to get. Goes before the code, whose agents tell of them."""

from __future__ import annotations

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """None are known of before an agent tells."""
    op.execute("ALTER TABLE node ADD COLUMN lc_awaited JSONB DEFAULT '{}' NOT NULL")


def downgrade() -> None:
    """Older schedulers evict for instances that grow alone."""
    op.execute("ALTER TABLE node DROP COLUMN lc_awaited")
