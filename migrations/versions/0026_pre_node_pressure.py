"""Pressure and throttling of nodes as their agents tell them, and samples of it. Goes before the code, whose agents write it."""

from __future__ import annotations

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

TABLES = ("node", "node_sample")
COLUMNS = ("lc_cpu_pressure", "lc_throttled", "memory_pressure")


def upgrade() -> None:
    """Nothing is known of them before an agent tells."""
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} " + ", ".join(f"ADD COLUMN {name} DOUBLE PRECISION" for name in COLUMNS))


def downgrade() -> None:
    """Older schedulers place BE where LC lacks CPU."""
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} " + ", ".join(f"DROP COLUMN {name}" for name in COLUMNS))
