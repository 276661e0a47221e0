"""Decisions, written with what they decided, and scaling events: implements `tango.ports.EventLog`."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.extras import execute_values

from tango.domain.runs import DecisionRecord, ScalingRecord
from tango.store.database import Cursor, Database

_DECISION = """
INSERT INTO decision (kind, cluster, run_ids, policy, checkpoint, considered, placed, unplaced, late, shed,
                      snapshot_ms, decide_ms, apply_ms, note)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, extract(epoch FROM clock_timestamp() - now()) * 1000, %s)
"""
# `now()` is when the transaction began, so that apply_ms is what recording the plan has taken.


def insert_decision(cursor: Cursor, record: DecisionRecord, run_ids: Sequence[int]) -> None:
    """Append a decision at the end of the transaction that records what it decided."""
    r = record
    counts = (r.considered, r.placed, r.unplaced, r.late, r.shed, r.snapshot_ms, r.decide_ms)
    cursor.execute(_DECISION, (r.kind, r.cluster, list(run_ids), r.policy, r.checkpoint, *counts, r.note))


class PostgresEventLog:
    """Appends to `scaling_event`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def scaling(self, records: Sequence[ScalingRecord]) -> None:
        """Append scaling events."""
        if not records:
            return
        values = [
            (
                r.kind,
                r.cluster,
                r.node,
                r.service,
                r.pod,
                r.before_millicores,
                r.after_millicores,
                r.slack,
                r.reason,
                r.actuation_ms,
                r.outcome,
            )
            for r in records
        ]
        self._database.run(
            lambda cursor: execute_values(
                cursor,
                "INSERT INTO scaling_event (kind, cluster, node, service, pod, before_millicores, after_millicores, slack, reason, "
                "actuation_ms, outcome) VALUES %s",
                values,
            )
        )
