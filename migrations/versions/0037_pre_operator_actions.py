"""What people change in the console is kept, with who it was. Goes before the code, which writes it."""

from __future__ import annotations

from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody has done anything yet."""
    op.execute(
        "CREATE TABLE operator_action (action_id BIGINT GENERATED ALWAYS AS IDENTITY, "
        "at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL, "
        "outcome TEXT NOT NULL, PRIMARY KEY (action_id))"
    )


def downgrade() -> None:
    """Older code has no console."""
    op.execute("DROP TABLE operator_action")
