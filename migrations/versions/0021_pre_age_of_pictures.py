"""When an agent was heard of whose API server is away. Goes before the code, which writes it."""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """So far an agent that was heard of had something to tell."""
    op.execute("ALTER TABLE cluster ADD COLUMN agent_at TIMESTAMP WITH TIME ZONE")
    op.execute("UPDATE cluster SET agent_at = seen_at")


def downgrade() -> None:
    """Older agents tell what they last saw, however old."""
    op.execute("ALTER TABLE cluster DROP COLUMN agent_at")
