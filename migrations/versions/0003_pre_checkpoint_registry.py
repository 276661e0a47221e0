"""Checkpoints with their files, roles and scores; what candidates would have decided. Goes before the code.

Older code goes on meanwhile: what it registers has no file and no policy of its own, which is `dcg-be`.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE checkpoint
    ADD COLUMN policy TEXT DEFAULT 'dcg-be' NOT NULL,
    ADD COLUMN code_version TEXT DEFAULT '' NOT NULL,
    ADD COLUMN scores JSONB DEFAULT '[]' NOT NULL,
    ADD COLUMN size_bytes INTEGER,
    ADD COLUMN refused TEXT DEFAULT '' NOT NULL,
    ADD COLUMN refused_at TIMESTAMP WITH TIME ZONE;

CREATE TABLE checkpoint_file (
    checkpoint_id INTEGER NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (checkpoint_id),
    CHECK (octet_length(content) <= 16777216)
);

CREATE TABLE checkpoint_role (
    scope TEXT NOT NULL,
    generation BIGINT DEFAULT 0 NOT NULL,
    live TEXT DEFAULT '' NOT NULL,
    before TEXT[] DEFAULT '{}' NOT NULL,
    shadow TEXT DEFAULT '' NOT NULL,
    configured TEXT DEFAULT '' NOT NULL,
    deciding TEXT DEFAULT '' NOT NULL,
    changed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (scope)
);

INSERT INTO checkpoint_role (scope) VALUES ('be');

CREATE TABLE checkpoint_event (
    event_id BIGINT GENERATED ALWAYS AS IDENTITY,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    action TEXT NOT NULL,
    digest TEXT NOT NULL,
    before TEXT NOT NULL,
    actor TEXT NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (event_id)
);

CREATE TABLE shadow_decision (
    shadow_id BIGINT GENERATED ALWAYS AS IDENTITY,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    run_ids INTEGER[] NOT NULL,
    policy TEXT NOT NULL,
    live TEXT NOT NULL,
    candidate TEXT NOT NULL,
    considered INTEGER NOT NULL,
    live_placed INTEGER NOT NULL,
    candidate_placed INTEGER NOT NULL,
    different INTEGER NOT NULL,
    live_cpu_share DOUBLE PRECISION,
    candidate_cpu_share DOUBLE PRECISION,
    live_ms DOUBLE PRECISION NOT NULL,
    candidate_ms DOUBLE PRECISION,
    skipped BOOLEAN NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (shadow_id)
);

CREATE INDEX shadow_decision_candidate ON shadow_decision (candidate, at);
"""

VIEWS = """
CREATE VIEW shadow_summary AS
SELECT s.candidate, max(c.name) AS name, s.live, s.policy, count(*) AS ticks, count(*) FILTER (WHERE s.skipped) AS skipped,
       coalesce(sum(s.considered) FILTER (WHERE NOT s.skipped), 0) AS considered,
       coalesce(sum(s.live_placed) FILTER (WHERE NOT s.skipped), 0) AS live_placed,
       coalesce(sum(s.candidate_placed) FILTER (WHERE NOT s.skipped), 0) AS candidate_placed,
       coalesce(sum(s.different) FILTER (WHERE NOT s.skipped), 0) AS different,
       sum(s.different) FILTER (WHERE NOT s.skipped)::float8 / nullif(sum(s.considered) FILTER (WHERE NOT s.skipped), 0)
           AS share_different,
       sum(s.live_cpu_share * s.live_placed) FILTER (WHERE NOT s.skipped)
           / nullif(sum(s.live_placed) FILTER (WHERE NOT s.skipped), 0) AS live_cpu_share,
       sum(s.candidate_cpu_share * s.candidate_placed) FILTER (WHERE NOT s.skipped)
           / nullif(sum(s.candidate_placed) FILTER (WHERE NOT s.skipped), 0) AS candidate_cpu_share,
       avg(s.live_ms) FILTER (WHERE NOT s.skipped) AS live_ms, avg(s.candidate_ms) FILTER (WHERE NOT s.skipped) AS candidate_ms,
       min(s.at) AS first_at, max(s.at) AS last_at
FROM shadow_decision s LEFT JOIN checkpoint c ON c.digest = s.candidate
GROUP BY s.candidate, s.live, s.policy;
"""

REMOVE = """
DROP VIEW shadow_summary;
DROP TABLE shadow_decision;
DROP TABLE checkpoint_event;
DROP TABLE checkpoint_role;
DROP TABLE checkpoint_file;
ALTER TABLE checkpoint
    DROP COLUMN policy, DROP COLUMN code_version, DROP COLUMN scores, DROP COLUMN size_bytes,
    DROP COLUMN refused, DROP COLUMN refused_at;
"""


def upgrade() -> None:
    """Add files, roles, events and shadow decisions; what is registered stays."""
    op.execute(TABLES)
    op.execute(VIEWS)


def downgrade() -> None:
    """Drop files and history with them; the scheduler's own file decides again."""
    op.execute(REMOVE)
