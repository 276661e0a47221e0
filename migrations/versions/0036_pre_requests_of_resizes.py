"""What a resize asked for as CPU request, which its limit does not tell under `burst`. Goes before the code, which writes it."""

from __future__ import annotations

from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of resizes before nothing is known."""
    op.execute("ALTER TABLE scaling_event ADD COLUMN after_request_millicores INTEGER")


def downgrade() -> None:
    """What has been written of it is lost."""
    op.execute("ALTER TABLE scaling_event DROP COLUMN after_request_millicores")
