"""Services may have namespaces of their own; those that were are remembered. Goes before the code, which watches them."""

from __future__ import annotations

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No service has one yet."""
    op.execute(
        "CREATE TABLE service_namespace (name TEXT NOT NULL, declared_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL, "
        "PRIMARY KEY (name))"
    )


def downgrade() -> None:
    """Older code makes all pods in one namespace, and sees none in others."""
    op.execute("DROP TABLE service_namespace")
