"""What the LC of a tenant is guaranteed. Goes before the code, which writes it."""

from __future__ import annotations

from alembic import op

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Tenants of before have none."""
    op.execute("ALTER TABLE tenant ADD COLUMN guarantee JSONB")


def downgrade() -> None:
    """Guarantees are forgotten."""
    op.execute("ALTER TABLE tenant DROP COLUMN guarantee")
