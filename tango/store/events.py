"""Rows of decisions, written in the transaction of their plan or of their shipment, and of scaling events: implements
`tango.ports.events.EventLog`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from psycopg2.extras import Json

from tango.domain.requests import Reason
from tango.domain.runs import DecisionRecord, ScalingRecord
from tango.domain.shares import DecisionCopy
from tango.store.database import Cursor, Database
from tango.store.rows import insert
from tango.telemetry import count, observe
from tango.telemetry.catalogue import EVICTIONS, OTHER, RESIZE, RESIZES

_REASONS = frozenset(map(str, Reason))
_FIELDS = tuple(f.name for f in dataclasses.fields(DecisionRecord))
NEXT_DECISION = "nextval(pg_get_serial_sequence('decision', 'decision_id'))"
"""SQL for the number of a decision that is about to be written, so that the rows which it changes can have it first."""
_VALUE = {"kind": "{}::service_class", "weighed": "nullif({}, '')::jsonb"}
"""SQL of the columns that are no plain values, `{}` being what is given."""
# `now()` is the begin of the transaction, so that apply_ms is the time that recording the plan took.
_DECISION = (
    f"INSERT INTO decision (decision_id, {', '.join(_FIELDS)}, run_ids, apply_ms) OVERRIDING SYSTEM VALUE "
    f"VALUES (%(decision_id)s, {', '.join(_VALUE.get(name, '{}').format(f'%({name})s') for name in _FIELDS)}, "
    "%(run_ids)s, extract(epoch FROM clock_timestamp() - now()) * 1000)"
)


_TYPES = {"str": "text", "int": "int", "float": "float8"}
_SHIPPED = f"""
INSERT INTO decision ({", ".join(_FIELDS)}, run_ids, at, apply_ms, sequence)
SELECT {", ".join(_VALUE.get(name, "{}").format(f"v.{name}") for name in _FIELDS)}, ARRAY[v.run_id],
       to_timestamp(v.at_s), v.apply_ms, v.sequence
FROM unnest({", ".join(f"%({f.name})s::{_TYPES[str(f.type)]}[]" for f in dataclasses.fields(DecisionRecord))},
            %(run_id)s::int[], %(at_s)s::float8[], %(apply_ms)s::float8[], %(sequence)s::bigint[])
    AS v({", ".join(_FIELDS)}, run_id, at_s, apply_ms, sequence)
ORDER BY v.at_s
"""


def insert_shipped(cursor: Cursor, decisions: Sequence[DecisionCopy]) -> None:
    """Append LC decisions that a journal has recorded, with the times that it gives, in one statement."""
    if not decisions:
        return
    of_records = {name: [getattr(d.record, name) for d in decisions] for name in _FIELDS}
    of_copies = {name: [getattr(d, name) for d in decisions] for name in ("run_id", "at_s", "apply_ms", "sequence")}
    cursor.execute(_SHIPPED, of_records | of_copies)


def insert_decision(cursor: Cursor, decision_id: int, record: DecisionRecord, run_ids: Sequence[int]) -> None:
    """Append a decision; called last in the transaction that records its plan, so that `apply_ms` covers all of it."""
    cursor.execute(_DECISION, dataclasses.asdict(record) | {"decision_id": decision_id, "run_ids": list(run_ids)})


FORGOTTEN_AT_ONCE = 5_000
"""Decisions that lose their candidates in one statement: some tenths of a second at the most."""
_FORGET = """
UPDATE decision SET weighed = NULL WHERE decision_id = ANY (ARRAY(
    SELECT decision_id FROM decision WHERE weighed IS NOT NULL ORDER BY at DESC OFFSET %(keep)s LIMIT %(limit)s
))
"""


class PostgresEventLog:
    """Appends to `scaling_event`, and keeps what decisions keep within bounds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def scaling(self, records: Sequence[ScalingRecord]) -> None:
        """Append resizes and evictions."""
        rows = [
            dataclasses.asdict(record) | {"spared": Json([pod._asdict() for pod in record.spared]) if record.spared else None}
            for record in records
        ]
        self._database.run(lambda cursor: insert(cursor, "scaling_event", rows))
        _count(records)

    def forget_candidates(self, *, keep: int) -> int:
        """By an index of those that have some."""
        return self._database.execute(_FORGET, {"keep": keep, "limit": FORGOTTEN_AT_ONCE})


def _count(records: Sequence[ScalingRecord]) -> None:
    """An eviction by the reason that its record begins with; words behind it name services and pods."""
    for record in records:
        if record.kind == "resize":
            count(RESIZES, record.outcome)
            if record.outcome == "done" and record.actuation_ms is not None:
                observe(RESIZE, values=(record.actuation_ms / 1e3,))
        elif record.outcome == "done":
            reason = record.reason.partition(":")[0]
            count(EVICTIONS, reason if reason in _REASONS else OTHER)
