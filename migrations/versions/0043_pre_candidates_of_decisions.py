"""What nodes would have cost some of the requests of a decision. Goes before the code, which writes it."""

from __future__ import annotations

from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of decisions before nothing is known."""
    op.execute("ALTER TABLE decision ADD COLUMN weighed JSONB")
    op.execute("CREATE INDEX decision_weighed ON decision (at) WHERE weighed IS NOT NULL")


def downgrade() -> None:
    """What was kept is lost; the index goes with its column."""
    op.execute("ALTER TABLE decision DROP COLUMN weighed")
