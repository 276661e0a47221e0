"""Sums by which the memory of an LC request is learned. Goes before the code, which adds to them."""

from __future__ import annotations

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

SUMS = ("samples", "loads", "memory", "degrees", "load_spread", "both_spread", "memory_spread")


def upgrade() -> None:
    """Nothing has been measured so."""
    op.execute(f"ALTER TABLE service_usage {', '.join(f'ADD COLUMN {name} DOUBLE PRECISION DEFAULT 0 NOT NULL' for name in SUMS)}")


def downgrade() -> None:
    """Whoever goes up again measures anew."""
    op.execute(f"ALTER TABLE service_usage {', '.join(f'DROP COLUMN {name}' for name in SUMS)}")
