"""Journals that have forgotten what this centre does not know. Goes before the code, which needs the table."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """None is known yet; agents tell."""
    op.execute(
        """
        CREATE TABLE journal_gap (
            cluster TEXT NOT NULL PRIMARY KEY,
            journal TEXT NOT NULL,
            missing BIGINT NOT NULL,
            may_go_on BOOLEAN DEFAULT false NOT NULL,
            noted_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL
        )
        """
    )


def downgrade() -> None:
    """Older agents log it and stop."""
    op.execute("DROP TABLE journal_gap")
