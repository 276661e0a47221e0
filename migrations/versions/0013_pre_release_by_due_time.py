"""The release of BE reads no further than what is due. Goes before the code, which walks the new index."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The due time leads, so that it bounds what is read."""
    op.execute("DROP INDEX request_be_due")
    op.execute("CREATE INDEX request_be_due ON request (due_s, request_id) WHERE class = 'be' AND state = 'accepted'")


def downgrade() -> None:
    """Older code walks by ids."""
    op.execute("DROP INDEX request_be_due")
    op.execute("CREATE INDEX request_be_due ON request (request_id) WHERE class = 'be' AND state = 'accepted'")
