"""How much LC waits in each cluster, for which BE gives way. Goes before the code, whose agents tell it."""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody has told yet: nothing waits."""
    op.execute(
        "ALTER TABLE cluster ADD COLUMN lc_under_way INTEGER DEFAULT 0 NOT NULL, ADD COLUMN lc_late INTEGER DEFAULT 0 NOT NULL"
    )


def downgrade() -> None:
    """Older schedulers place BE whatever LC does."""
    op.execute("ALTER TABLE cluster DROP COLUMN lc_under_way, DROP COLUMN lc_late")
