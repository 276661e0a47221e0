"""Tenants as declared, whose each run is, and jobs of a tenant that go on. Goes before the code, which reads and counts them."""

from __future__ import annotations

from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

TENANT = """
CREATE TABLE tenant (
    name TEXT NOT NULL,
    weight DOUBLE PRECISION NOT NULL,
    quota JSONB NOT NULL,
    most_jobs INTEGER,
    declared_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (name)
)
"""
TENANT_SUMMARY = """
CREATE VIEW tenant_summary AS
SELECT q.run_id, coalesce(q.tenant, r.tenant) AS tenant, q.class, count(*) AS requests,
       count(*) FILTER (WHERE q.state NOT IN ('succeeded', 'failed', 'shed', 'cancelled')) AS live,
       count(*) FILTER (WHERE q.state = 'succeeded') AS succeeded,
       count(*) FILTER (WHERE q.state = 'failed') AS failed,
       coalesce(sum(q.cpu_work_s * r.speed) FILTER (WHERE q.state = 'succeeded'), 0) AS cpu_work_s,
       sum(q.finished_s - q.due_s) FILTER (WHERE q.state = 'succeeded') / nullif(count(*) FILTER (WHERE q.state = 'succeeded'), 0)
           * 1000 AS mean_latency_wall_ms
FROM request q JOIN run r USING (run_id) GROUP BY q.run_id, 2, q.class
"""


def upgrade() -> None:
    """Runs of before are those of the tenant that everybody is who names none."""
    op.execute(TENANT)
    op.execute("ALTER TABLE run ADD COLUMN tenant TEXT DEFAULT 'default' NOT NULL")
    op.execute("CREATE INDEX job_live ON job (tenant) WHERE ended_at IS NULL")
    op.execute(TENANT_SUMMARY)


def downgrade() -> None:
    """Declarations are lost; nothing of older code has read them."""
    op.execute("DROP VIEW tenant_summary")
    op.execute("DROP INDEX job_live")
    op.execute("ALTER TABLE run DROP COLUMN tenant")
    op.execute("DROP TABLE tenant")
