"""The measured span of a live run is all of it. Goes before the code, which does not read the view."""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

SERVICE_QOS = """
CREATE OR REPLACE VIEW service_qos AS
WITH judged AS (
    SELECT q.run_id, q.service, q.target_s * r.speed AS target_s,
           q.state = 'succeeded' AND q.finished_s - q.due_s <= q.target_s AS met,
           CASE WHEN q.state = 'succeeded' THEN (q.finished_s - q.due_s) * r.speed * 1000 END AS latency_ms
    FROM request q JOIN run r USING (run_id)
    WHERE q.class = 'lc' AND q.due_s * r.speed >= {begin} * r.span_s - 1e-6
)
SELECT run_id, service, count(*) AS arrived, avg(target_s) * 1000 AS target_ms, avg(met::int) AS qos_rate,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_ms) AS latency_p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY latency_ms) AS latency_p95_ms,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY latency_ms) AS latency_p99_ms
FROM judged GROUP BY run_id, service
"""


def upgrade() -> None:
    """From its beginning, where no fleet fills up."""
    op.execute(SERVICE_QOS.format(begin="CASE r.kind WHEN 'live' THEN 0 ELSE 0.1 END"))


def downgrade() -> None:
    """As of every other run."""
    op.execute(SERVICE_QOS.format(begin="0.1"))
