"""Counts of each run's requests by state, kept by a trigger. Goes before the code, which reads them."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE run_count (
    run_id INTEGER NOT NULL,
    class service_class NOT NULL,
    state request_state NOT NULL,
    requests INTEGER NOT NULL,
    in_time INTEGER NOT NULL,
    PRIMARY KEY (run_id, class, state)
);

CREATE TABLE run_count_change (
    change_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id INTEGER NOT NULL,
    class service_class NOT NULL,
    state request_state NOT NULL,
    requests INTEGER NOT NULL,
    in_time INTEGER NOT NULL
);

CREATE INDEX run_count_change_run ON run_count_change (run_id)
"""

COUNTED = """
SELECT run_id, class, state, count(*) AS requests,
       count(*) FILTER (WHERE class = 'lc' AND state = 'succeeded' AND finished_s - due_s <= target_s) AS in_time
FROM {rows} GROUP BY run_id, class, state
"""

# Appended in the transaction of the change: writers of one run do not wait for each other, as they would for one row of counts.
TRIGGER = f"""
CREATE FUNCTION note_state_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO run_count_change (run_id, class, state, requests, in_time)
    SELECT run_id, class, state, sum(requests), sum(in_time) FROM (
        {COUNTED.format(rows="after_it")}
        UNION ALL
        SELECT run_id, class, state, -requests, -in_time FROM ({COUNTED.format(rows="before_it")}) b
    ) c GROUP BY run_id, class, state HAVING sum(requests) <> 0 OR sum(in_time) <> 0
    ORDER BY run_id, class, state;
    RETURN NULL;
END $$;

CREATE TRIGGER request_changes AFTER UPDATE ON request REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it
FOR EACH STATEMENT EXECUTE FUNCTION note_state_changes()
"""

# What a partition brings is counted before it is attached, when nobody else sees it.
ATTACH = """
CREATE OR REPLACE FUNCTION attach_request_partition(run integer) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    EXECUTE format('ANALYZE %I', 'request_' || run);
    {first}
    EXECUTE format('ALTER TABLE request ATTACH PARTITION %I FOR VALUES IN (%s)', 'request_' || run, run);
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT run_is_one', 'request_' || run);
END $$
"""
COUNT_FIRST = f"EXECUTE format($q$INSERT INTO run_count {COUNTED.format(rows='%I')}$q$, 'request_' || run);"


def upgrade() -> None:
    """What is stored is counted once."""
    op.execute(TABLES)
    op.execute(f"INSERT INTO run_count {COUNTED.format(rows='request')}")
    op.execute(TRIGGER)
    op.execute(ATTACH.format(first=COUNT_FIRST))


def downgrade() -> None:
    """Older code counts the rows."""
    op.execute(ATTACH.format(first=""))
    op.execute("DROP TRIGGER request_changes ON request")
    op.execute("DROP FUNCTION note_state_changes")
    for table in ("run_count_change", "run_count"):
        op.execute(f"DROP TABLE {table}")
