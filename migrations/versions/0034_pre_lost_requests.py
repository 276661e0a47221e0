"""An index of LC requests that ended without an answer, by which the live view counts them. Goes before the code."""

from __future__ import annotations

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of a run that has many such requests it takes a second to make."""
    op.execute(
        "CREATE INDEX request_lost ON request (due_s) "
        "WHERE class = 'lc' AND state = ANY ('{failed,shed,cancelled}'::request_state[])"
    )


def downgrade() -> None:
    """Older code has no live view."""
    op.execute("DROP INDEX request_lost")
