"""Shares, positions of journals, LC in flight, identity of the centre; indexes of BE alone. Goes before the code, which needs them."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE lc_share (
    run_id INTEGER NOT NULL,
    cluster TEXT NOT NULL,
    accepted INTEGER NOT NULL,
    opened BOOLEAN DEFAULT false NOT NULL,
    handed_to INTEGER DEFAULT -1 NOT NULL,
    complete BOOLEAN DEFAULT false NOT NULL,
    terminal INTEGER DEFAULT 0 NOT NULL,
    PRIMARY KEY (run_id, cluster)
);

CREATE INDEX lc_share_cluster ON lc_share (cluster, run_id);

CREATE TABLE journal_position (
    cluster TEXT NOT NULL,
    journal TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    shipped_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (cluster, journal)
);

CREATE TABLE lc_in_flight (
    cluster TEXT NOT NULL,
    service TEXT NOT NULL,
    target_cluster TEXT NOT NULL,
    node TEXT NOT NULL,
    count INTEGER NOT NULL,
    scale DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (cluster, service, target_cluster, node)
);

CREATE TABLE centre (identity TEXT PRIMARY KEY);

INSERT INTO centre VALUES (gen_random_uuid()::text)
"""

# Rows of LC at the centre are copies, of which thousands may be under way: whoever looks for BE must not read through them.
INDEXES = """
DROP INDEX request_live;
CREATE INDEX request_live ON request (class, state, due_s)
WHERE state = ANY ('{released,pending,dispatched,placed,running}'::request_state[]);
CREATE INDEX request_be_due ON request (request_id) WHERE class = 'be' AND state = 'accepted'
"""

# A new run is analysed before it is seen: without statistics a statement that looks for a few of its requests reads all of them.
ATTACH = """
CREATE OR REPLACE FUNCTION attach_request_partition(run integer) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    {first}
    EXECUTE format('ALTER TABLE request ATTACH PARTITION %I FOR VALUES IN (%s)', 'request_' || run, run);
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT run_is_one', 'request_' || run);
END $$
"""
ANALYZE = "EXECUTE format('ANALYZE %I', 'request_' || run);"

# What older code has dispatched is handed over as it stands: the journal takes every request that is live.
SHARES_OF_STORED_RUNS = """
INSERT INTO lc_share (run_id, cluster, accepted, terminal)
SELECT q.run_id, q.cluster, count(*), count(*) FILTER (WHERE q.state IN ('succeeded', 'failed', 'shed', 'cancelled'))
FROM request q JOIN run r USING (run_id)
WHERE r.kind = 'live' AND r.status IN ('accepted', 'running', 'draining', 'cancelling') AND q.class = 'lc'
GROUP BY q.run_id, q.cluster
"""


def upgrade() -> None:
    """Live runs that have not ended get their shares, none of them opened."""
    op.execute(TABLES)
    op.execute(INDEXES)
    op.execute(ATTACH.format(first=ANALYZE))
    op.execute(SHARES_OF_STORED_RUNS)


def downgrade() -> None:
    """What journals have and did not ship is not known here any more; its requests stand as they were last shipped."""
    op.execute(ATTACH.format(first=""))
    op.execute("DROP INDEX request_be_due")
    op.execute("DROP INDEX request_live")
    op.execute(
        "CREATE INDEX request_live ON request (state, due_s) "
        "WHERE state = ANY ('{released,pending,dispatched,placed,running}'::request_state[])"
    )
    for table in ("centre", "lc_in_flight", "journal_position", "lc_share"):
        op.execute(f"DROP TABLE {table}")
