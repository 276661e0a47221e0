"""Rows of decisions, written in the transaction of their plan, and of scaling events: implements `tango.ports.events.EventLog`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tango.domain.runs import DecisionRecord, ScalingRecord
from tango.store.database import Cursor, Database
from tango.store.rows import insert

_FIELDS = tuple(f.name for f in dataclasses.fields(DecisionRecord))
# `now()` is the begin of the transaction, so that apply_ms is the time that recording the plan took.
_DECISION = (
    f"INSERT INTO decision ({', '.join(_FIELDS)}, run_ids, apply_ms) VALUES ({', '.join(f'%({name})s' for name in _FIELDS)}, "
    "%(run_ids)s, extract(epoch FROM clock_timestamp() - now()) * 1000)"
)


def insert_decision(cursor: Cursor, record: DecisionRecord, run_ids: Sequence[int]) -> None:
    """Append a decision; called last in the transaction that records its plan, so that `apply_ms` covers all of it."""
    cursor.execute(_DECISION, dataclasses.asdict(record) | {"run_ids": list(run_ids)})


class PostgresEventLog:
    """Appends to `scaling_event`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def scaling(self, records: Sequence[ScalingRecord]) -> None:
        """Append resizes and evictions."""
        rows = [dataclasses.asdict(record) for record in records]
        self._database.run(lambda cursor: insert(cursor, "scaling_event", rows))
