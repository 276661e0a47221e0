"""What happened, in the order in which it did: each event has the next number, given in the transaction of the change itself.

Numbers therefore have no gap, and none is given twice: a transaction that is rolled back takes its numbers with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from tango.journal.database import Connection
from tango.journal.part import Row

COPY = "state, epoch, attempt, target_cluster, node, owner, late, started_s, finished_s, reason"
"""What a request is after an event, as `tango.domain.shares.RequestCopy` has it."""
ATTEMPT = (
    "service, attempt_started_s, attempt_finished_s, latency_s, outcome, attempt_reason, work_lost_s, "
    "waits_from_s, dispatched_at_s, sent_s, decided"
)
"""The attempt that an event ended, beside its copy; no outcome: it ended none."""
DECISION = "decision, apply_ms"

SUBMITTED = "service, due_s, target_s, cpu_work_s, memory_mib, tenant"
"""A request of a caller that has just got its row, beside its copy: all that the centre makes its own row of."""

CHANGED = f"at_s, run_id, request_id, {COPY}"
ENDED = f"{CHANGED}, {ATTEMPT}"
ACCEPTED = f"{CHANGED}, {SUBMITTED}"
DECIDED = f"at_s, run_id, {DECISION}"


def append(connection: Connection, columns: str, rows: Sequence[Row]) -> None:
    """Append events with these columns, inside the transaction of the change that they tell of."""
    append_all(connection, [(columns, rows)])


def append_all(connection: Connection, events: Sequence[tuple[str, Sequence[Row]]]) -> int:
    """As `append` for events of several kinds, one kind after the other, by one change of the number; gives that of the last, or 0."""
    total = sum(len(rows) for _, rows in events)
    if not total:
        return 0
    sql = "UPDATE meta SET value = value + ? WHERE name = 'sequence' RETURNING value"
    [(last,)] = connection.execute(sql, (total,)).fetchall()
    numbers = count(last - total + 1)
    for columns, rows in events:
        if rows:
            places = ", ".join("?" * len(rows[0]))
            connection.executemany(
                f"INSERT INTO event (seq, {columns}) VALUES (?, {places})", [(next(numbers), *row) for row in rows]
            )
    return int(last)
