"""Whose a service is, beside its declaration. Goes before the code, which writes it."""

from __future__ import annotations

from alembic import op

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Services of before are the default tenant's, and open to all as they were."""
    op.execute("ALTER TABLE service ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default'")


def downgrade() -> None:
    """The declaration has it too."""
    op.execute("ALTER TABLE service DROP COLUMN tenant")
