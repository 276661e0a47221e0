"""An index by which the waiting jobs of each tenant are found, and what placements know of tenants. Goes before the code."""

from __future__ import annotations

from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Requests of traces have no tenant of their own and are not in the index."""
    op.execute(
        "CREATE INDEX request_tenant ON request (tenant, due_s, request_id) "
        "WHERE class = 'be' AND state = 'pending' AND tenant IS NOT NULL"
    )
    op.execute(
        """
        CREATE TABLE tenant_share (
            tenant TEXT NOT NULL,
            share DOUBLE PRECISION NOT NULL,
            weighted_share DOUBLE PRECISION NOT NULL,
            held JSONB NOT NULL,
            below_since TIMESTAMP WITH TIME ZONE,
            withheld BOOLEAN NOT NULL,
            at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            PRIMARY KEY (tenant)
        )
        """
    )


def downgrade() -> None:
    """Placements know of no tenants then."""
    op.execute("DROP TABLE tenant_share")
    op.execute("DROP INDEX request_tenant")
