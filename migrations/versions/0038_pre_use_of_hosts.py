"""How far hosts were used while runs went on. Goes before the code, whose agents write it."""

from __future__ import annotations

from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of runs before nothing is known."""
    op.execute(
        "CREATE TABLE host_sample (at TIMESTAMPTZ DEFAULT now() NOT NULL, host TEXT NOT NULL, used DOUBLE PRECISION NOT NULL, "
        "stolen DOUBLE PRECISION NOT NULL)"
    )
    op.execute("CREATE INDEX host_sample_at ON host_sample (at)")


def downgrade() -> None:
    """What was seen is lost."""
    op.execute("DROP TABLE host_sample")
