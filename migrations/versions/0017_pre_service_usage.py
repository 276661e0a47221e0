"""What services really use. Goes before the code, which needs the table."""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Empty: nothing has been measured."""
    op.execute(
        """
        CREATE TABLE service_usage (
            cluster TEXT NOT NULL,
            service TEXT NOT NULL,
            cpu_s DOUBLE PRECISION NOT NULL,
            memory_mib DOUBLE PRECISION NOT NULL,
            answered BIGINT NOT NULL,
            counted_to TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            PRIMARY KEY (cluster, service)
        )
        """
    )


def downgrade() -> None:
    """Whoever goes up again measures anew."""
    op.execute("DROP TABLE service_usage")
