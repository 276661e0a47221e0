"""Zones and regions of nodes. Goes before the code, whose agents tell of them."""

from __future__ import annotations

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """None are known of before an agent tells."""
    op.execute("ALTER TABLE node ADD COLUMN zone TEXT DEFAULT '' NOT NULL, ADD COLUMN region TEXT DEFAULT '' NOT NULL")


def downgrade() -> None:
    """Nobody else reads them."""
    op.execute("ALTER TABLE node DROP COLUMN zone, DROP COLUMN region")
