"""How many requests have ended, by class, state and cluster, whatever becomes of their runs. Goes before the code, which adds them up.

Processes of the version before go on counting by run alone: what they add up meanwhile is missing from the totals.
"""

from __future__ import annotations

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE run_count_change ADD COLUMN cluster TEXT DEFAULT '' NOT NULL;

CREATE TABLE request_total (
    class service_class NOT NULL,
    state request_state NOT NULL,
    cluster TEXT NOT NULL,
    requests BIGINT NOT NULL,
    in_time BIGINT NOT NULL,
    PRIMARY KEY (class, state, cluster)
)
"""

# What has ended in the runs that there are.
FIRST = """
INSERT INTO request_total (class, state, cluster, requests, in_time)
SELECT class, state, cluster, count(*), count(*) FILTER (WHERE class = 'lc' AND state = 'succeeded' AND finished_s - due_s <= target_s)
FROM request JOIN run USING (run_id)
WHERE run.kind <> 'simulated' AND state IN ('succeeded', 'failed', 'shed', 'cancelled') GROUP BY 1, 2, 3
"""
# What nobody has added up yet is in it already, and would be counted again.
ADDED_UP = """
WITH gone AS (DELETE FROM run_count_change RETURNING run_id, class, state, requests, in_time)
INSERT INTO run_count AS c (run_id, class, state, requests, in_time)
SELECT run_id, class, state, sum(requests), sum(in_time) FROM gone GROUP BY 1, 2, 3
ON CONFLICT (run_id, class, state) DO UPDATE SET requests = c.requests + excluded.requests, in_time = c.in_time + excluded.in_time
"""

COUNTED = """
SELECT run_id, class, state{cluster}, count(*) AS requests,
       count(*) FILTER (WHERE class = 'lc' AND state = 'succeeded' AND finished_s - due_s <= target_s) AS in_time
FROM {rows} GROUP BY run_id, class, state{cluster}
"""
CHANGES = """
CREATE OR REPLACE FUNCTION note_state_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO run_count_change (run_id, class, state{cluster}, requests, in_time)
    SELECT run_id, class, state{cluster}, sum(requests), sum(in_time) FROM (
        {after}
        UNION ALL
        SELECT run_id, class, state{cluster}, -requests, -in_time FROM ({before}) b
    ) c GROUP BY run_id, class, state{cluster} HAVING sum(requests) <> 0 OR sum(in_time) <> 0
    ORDER BY run_id, class, state;
    RETURN NULL;
END $$
"""
ADDITIONS = """
CREATE OR REPLACE FUNCTION note_new_requests() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO run_count_change (run_id, class, state{cluster}, requests, in_time) {added} ORDER BY run_id, class, state;
    RETURN NULL;
END $$
"""


def _functions(cluster: str) -> None:
    of = {rows: COUNTED.format(rows=rows, cluster=cluster) for rows in ("after_it", "before_it", "new_rows")}
    op.execute(CHANGES.format(after=of["after_it"], before=of["before_it"], cluster=cluster))
    op.execute(ADDITIONS.format(added=of["new_rows"], cluster=cluster))


def upgrade() -> None:
    """What is stored is counted once."""
    op.execute(TABLES)
    op.execute("LOCK TABLE request IN SHARE MODE")
    op.execute(ADDED_UP)
    op.execute(FIRST)
    _functions(", cluster")


def downgrade() -> None:
    """Older code counts by run alone."""
    _functions("")
    op.execute("DROP TABLE request_total")
    op.execute("ALTER TABLE run_count_change DROP COLUMN cluster")
