"""Journals go on by themselves with a centre that was restored; what is lost by that is kept. Goes before the code, which tells it."""

from __future__ import annotations

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A journal that waited for an operator's word goes on with the next look of its agent, which tells what is lost anew."""
    op.execute("DELETE FROM journal_gap")
    op.execute("ALTER TABLE journal_gap DROP COLUMN journal, DROP COLUMN may_go_on")


def downgrade() -> None:
    """Older agents wait for an operator's word."""
    op.execute("DELETE FROM journal_gap")
    op.execute("ALTER TABLE journal_gap ADD COLUMN journal TEXT NOT NULL, ADD COLUMN may_go_on BOOLEAN DEFAULT false NOT NULL")
