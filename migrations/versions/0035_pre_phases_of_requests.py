"""Where the time of requests goes, and which decision sent them where. Goes before the code, which writes it."""

from __future__ import annotations

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

REQUEST_PHASES = """
CREATE VIEW request_phases AS
SELECT q.run_id, q.request_id, q.class, q.service, q.cluster, q.target_cluster, q.node, q.state, q.attempt,
       coalesce(l.decision_id, q.decision_id) AS decision_id, q.due_s, q.target_s,
       coalesce(f.released_s, l.released_s, q.released_s) AS released_s, coalesce(l.dispatched_s, q.dispatched_s) AS dispatched_s,
       l.sent_s, coalesce(l.started_s, q.started_s) AS started_s, coalesce(l.finished_s, q.finished_s) AS finished_s,
       extract(epoch FROM l.ended_at - r.started_at)::float8 AS settled_s,
       coalesce(f.released_s, l.released_s, q.released_s) - q.due_s AS release_s,
       coalesce(coalesce(l.released_s, q.released_s) - f.released_s, 0) AS repeat_s,
       coalesce(l.dispatched_s - l.released_s, q.dispatched_s - q.released_s) AS dispatch_s,
       l.sent_s - l.dispatched_s AS send_s,
       coalesce(l.started_s, q.started_s) - coalesce(l.sent_s, l.dispatched_s, q.dispatched_s) AS start_s,
       coalesce(l.finished_s, q.finished_s) - coalesce(l.started_s, q.started_s) AS serve_s,
       extract(epoch FROM l.ended_at - r.started_at)::float8 - coalesce(l.finished_s, q.finished_s) AS settle_s
FROM run r JOIN request q USING (run_id)
LEFT JOIN attempt l ON l.run_id = q.run_id AND l.request_id = q.request_id AND l.epoch = q.epoch
LEFT JOIN attempt f ON f.run_id = q.run_id AND f.request_id = q.request_id AND f.epoch = 1 AND q.epoch > 1
WHERE r.kind <> 'simulated'
"""


def upgrade() -> None:
    """Of requests that were under way before nothing is known."""
    op.execute(
        "ALTER TABLE request ADD COLUMN released_s DOUBLE PRECISION, ADD COLUMN dispatched_s DOUBLE PRECISION, "
        "ADD COLUMN decision_id BIGINT"
    )
    op.execute(
        "ALTER TABLE attempt ADD COLUMN released_s DOUBLE PRECISION, ADD COLUMN dispatched_s DOUBLE PRECISION, "
        "ADD COLUMN sent_s DOUBLE PRECISION, ADD COLUMN decision_id BIGINT"
    )
    op.execute("ALTER TABLE decision ADD COLUMN sequence BIGINT")
    op.execute("CREATE INDEX decision_sequence ON decision (cluster, sequence) WHERE sequence IS NOT NULL")
    op.execute(REQUEST_PHASES)


def downgrade() -> None:
    """What has been written of it is lost."""
    op.execute("DROP VIEW request_phases")
    op.execute("ALTER TABLE decision DROP COLUMN sequence")
    op.execute("ALTER TABLE attempt DROP COLUMN released_s, DROP COLUMN dispatched_s, DROP COLUMN sent_s, DROP COLUMN decision_id")
    op.execute("ALTER TABLE request DROP COLUMN released_s, DROP COLUMN dispatched_s, DROP COLUMN decision_id")
