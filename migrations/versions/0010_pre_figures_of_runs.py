"""Figures of ended runs: who computes them, and what they are. Goes before the code, which needs the table."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of runs that have ended before, figures are computed whenever somebody looks."""
    op.execute(
        """
        CREATE TABLE run_figures (
            run_id INTEGER NOT NULL PRIMARY KEY,
            epoch INTEGER DEFAULT 0 NOT NULL,
            lease_until TIMESTAMP WITH TIME ZONE,
            figures JSON,
            failure TEXT DEFAULT '' NOT NULL
        )
        """
    )


def downgrade() -> None:
    """The numbers stay in `run_metric`."""
    op.execute("DROP TABLE run_figures")
