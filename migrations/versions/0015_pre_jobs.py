"""Jobs of callers, and the ends of their logs. Goes before the code, which needs the tables.

Older code settles the attempts of jobs by its own rules: it is to be restarted with the new one before anybody submits a job.
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE job (
    run_id INTEGER NOT NULL,
    request_id INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    command TEXT[],
    args TEXT[],
    env JSON NOT NULL,
    deadline_s DOUBLE PRECISION,
    retries INTEGER NOT NULL,
    retries_used INTEGER DEFAULT 0 NOT NULL,
    retry_on INTEGER[] NOT NULL,
    priority INTEGER NOT NULL,
    by_local_user BOOLEAN DEFAULT false NOT NULL,
    submitted_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    exit_code INTEGER,
    message TEXT DEFAULT '' NOT NULL,
    containers JSONB DEFAULT '[]' NOT NULL,
    PRIMARY KEY (run_id, request_id)
);
CREATE UNIQUE INDEX job_key ON job (tenant, idempotency_key);
CREATE INDEX job_submitted ON job (submitted_at);

CREATE TABLE job_log (
    run_id INTEGER NOT NULL,
    request_id INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    container TEXT NOT NULL,
    tail BYTEA NOT NULL,
    is_whole BOOLEAN NOT NULL,
    kept_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (run_id, request_id, epoch, container)
);
CREATE INDEX job_log_kept ON job_log (kept_at)
"""


def upgrade() -> None:
    """Nobody has submitted a job yet."""
    op.execute(TABLES)


def downgrade() -> None:
    """Requests of jobs stay what they are, without what was theirs alone; those under way are left to the older code."""
    for table in ("job_log", "job"):
        op.execute(f"DROP TABLE {table}")
