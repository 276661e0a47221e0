"""Why the pod of a job waits, and of which declaration an LC instance is. Goes before the code, whose cluster agents write both."""

from __future__ import annotations

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody has told either yet."""
    op.execute("ALTER TABLE job ADD COLUMN waiting TEXT DEFAULT '' NOT NULL, ADD COLUMN waiting_epoch INTEGER DEFAULT 0 NOT NULL")
    op.execute("ALTER TABLE instance ADD COLUMN revision TEXT DEFAULT '' NOT NULL")


def downgrade() -> None:
    """Agents tell both again."""
    op.execute("ALTER TABLE instance DROP COLUMN revision")
    op.execute("ALTER TABLE job DROP COLUMN waiting, DROP COLUMN waiting_epoch")
