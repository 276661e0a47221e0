"""What pods of others hold of nodes, and nodes that get no new pods. Goes before the code, whose agents tell it."""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

COLUMNS = ("other_cpu_request_millicores", "other_memory_held_mib", "other_pods")


def upgrade() -> None:
    """Nothing is known of them before an agent tells."""
    added = ", ".join(f"ADD COLUMN {name} INTEGER DEFAULT 0 NOT NULL" for name in COLUMNS)
    op.execute(f"ALTER TABLE node ADD COLUMN schedulable BOOLEAN DEFAULT true NOT NULL, {added}")


def downgrade() -> None:
    """Older schedulers place as if nodes were Tango's own."""
    op.execute("ALTER TABLE node DROP COLUMN schedulable, " + ", ".join(f"DROP COLUMN {name}" for name in COLUMNS))
