"""LC instances that are being taken away. Goes before the code, whose agents tell of them."""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing is known of that before an agent tells."""
    op.execute("ALTER TABLE instance ADD COLUMN leaving BOOLEAN DEFAULT false NOT NULL")


def downgrade() -> None:
    """Older workers count what fails there as attempts."""
    op.execute("ALTER TABLE instance DROP COLUMN leaving")
