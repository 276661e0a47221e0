"""Tokens by which callers are known. Goes before the code, which needs the table."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Without a token nobody gets through a gateway."""
    op.execute(
        """
        CREATE TABLE token (
            token_id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            tenant TEXT DEFAULT 'default' NOT NULL,
            name TEXT DEFAULT '' NOT NULL,
            allows TEXT[] NOT NULL,
            digest TEXT NOT NULL UNIQUE,
            tail TEXT NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            revoked_at TIMESTAMP WITH TIME ZONE
        )
        """
    )


def downgrade() -> None:
    """Whoever goes up again makes new ones."""
    op.execute("DROP TABLE token")
