"""What the journal tells the centre: events in order, collapsed, and what is in flight."""

from __future__ import annotations

import time

import orjson

from tango.domain.lifecycle import Event, states_before
from tango.domain.patience import WAITS_LONG_TARGETS
from tango.domain.runs import DecisionRecord
from tango.domain.shares import AcceptedCopy, AttemptCopy, DecisionCopy, LcInFlight, LcWait, RequestCopy, Shipment
from tango.domain.state_lists import IN_FLIGHT_STATES, TERMINAL_STATES, listed
from tango.errors import StoreUnavailable
from tango.journal.database import Connection
from tango.journal.events import DECISION, ENDED
from tango.journal.intake import forget_runs
from tango.journal.part import JournalPart, Row
from tango.journal.schema import IS_UNDER_WAY

CHECKPOINT_EVERY_S = 10.0
"""Seconds between copies of the write-ahead log back into the file, each of which waits for the disk twice. At 2,000 requests a second
the log grows by some megabytes meanwhile."""

_COLUMNS = f"seq, {ENDED}, {DECISION}, due_s, target_s, cpu_work_s, memory_mib, tenant"
_EVENTS = f"SELECT {_COLUMNS} FROM event WHERE seq > ? ORDER BY seq LIMIT ?"
# Every event that ends a request is there to be shipped, so these are all terminal requests of which nothing is left to ship. Those of
# callers stay as long as their answers (`callers`).
_FORGET_ENDED = f"""
DELETE FROM request WHERE (run_id, request_id) IN (
    SELECT run_id, request_id FROM event WHERE seq > ? AND seq <= ? AND state IN {TERMINAL_STATES}
) AND state IN {TERMINAL_STATES} AND tenant IS NULL
"""
_IN_FLIGHT = f"""
SELECT service, target_cluster, node, count(*), sum(1.0 / speed) FROM request JOIN run USING (run_id)
WHERE {IS_UNDER_WAY} AND state IN {IN_FLIGHT_STATES} GROUP BY 1, 2, 3
"""
_WAIT = f"""
SELECT count(*), coalesce(sum(late OR state IN {listed(states_before(Event.DISPATCH))} AND ?1 - started_at_s - due_s > ?2 * target_s), 0)
FROM request JOIN run USING (run_id) WHERE {IS_UNDER_WAY}
"""


_PLACES = {name: k for k, name in enumerate(_COLUMNS.split(", "))}
"""Places of the columns in a row of `_EVENTS`."""
_RUN, _STATE, _LATE, _OUTCOME = (_PLACES[name] for name in ("run_id", "state", "late", "outcome"))
_KEY = slice(_RUN, _STATE)
# A row has what is said of a request, then the attempt that ended, a decision, and what a new request is made of, each from its first.
_ATTEMPT, _DECIDED, _SUBMITTED = (_PLACES[name] for name in ("service", "decision", "due_s"))


class Shipping(JournalPart):
    """The part of the journal that the agent ships from."""

    _copied_s: float = 0.0
    """When this process last copied the log back, on the monotonic clock."""
    _kept_events: int

    def unshipped(self, *, limit: int, beyond: int | None = None) -> Shipment | None:
        """The first `limit` events that are not known to be shipped, or beyond a number; collapsed; on the disk before they are given."""

        def read(connection: Connection) -> tuple[dict[str, int | str], int, list[Row]]:
            meta = dict(connection.execute("SELECT name, value FROM meta"))
            after = meta["position"] if beyond is None else beyond
            return meta, after, connection.execute(_EVENTS, (after, limit)).fetchall()

        meta, after, events = self._database.read(read)
        if not events:
            return None
        self._database.sync()
        return _collapsed(self._cluster, str(meta["identity"]), after + 1, events)

    def first_kept(self) -> int:
        """Sequence number of the first event that is still here, or that of the next one."""

        def read(connection: Connection) -> int:
            (first,) = connection.execute("SELECT min(seq) FROM event").fetchone()
            return int(first or connection.execute("SELECT value + 1 FROM meta WHERE name = 'sequence'").fetchone()[0])

        return self._database.read(read)

    def shipped(self, last: int) -> None:
        """Forget what has ended and is shipped, and of the events up to this number all but the last `JournalSettings.kept_events`.

        Raises: StoreUnavailable for a number that was never given out: the file is an old copy of the journal.
        """

        def forget(connection: Connection) -> None:
            (made,) = connection.execute("SELECT value FROM meta WHERE name = 'sequence'").fetchone()
            if last > made:
                raise StoreUnavailable(
                    f"the centre has {last} events of the journal {self._database.path}, which has made {made}: the file is an "
                    "old copy; stop the cluster's processes and move it away, so that the centre hands its requests over anew"
                )
            (before,) = connection.execute("SELECT value FROM meta WHERE name = 'position'").fetchone()
            if last <= before:
                return  # shipped once more, to a centre that had forgotten it
            connection.execute(_FORGET_ENDED, (before, last))
            connection.execute("DELETE FROM event WHERE seq <= ?", (last - self._kept_events,))
            connection.execute("UPDATE meta SET value = ? WHERE name = 'position'", (last,))
            forget_runs(connection)

        self._database.write(forget)

    def copy_back(self) -> None:
        """Copy the write-ahead log back, at most every `CHECKPOINT_EVERY_S`."""
        if time.monotonic() - self._copied_s >= CHECKPOINT_EVERY_S:
            self._database.checkpoint()
            self._copied_s = time.monotonic()

    def in_flight(self) -> list[LcInFlight]:
        """What is in flight, by service and node; runs that are being cancelled hold their nodes too."""
        rows = self._database.read(lambda connection: connection.execute(_IN_FLIGHT).fetchall())
        return [LcInFlight(*row) for row in rows]

    def lc_wait(self) -> LcWait:
        """Counted by the index of what is under way; late is what its plan expected beyond its target."""
        wanted = (self._wall_s(), WAITS_LONG_TARGETS)
        return LcWait(*self._database.read(lambda connection: connection.execute(_WAIT, wanted).fetchone()))


def _collapsed(cluster: str, journal: str, first: int, events: list[Row]) -> Shipment:
    of_request: dict[Row, Row] = {}
    new: dict[Row, Row] = {}
    attempts, decisions = [], []
    for row in events:
        if row[_DECIDED] is not None:
            sequence, at_s, run_id, *_ = row
            decision, apply_ms = row[_DECIDED:_SUBMITTED]
            decisions.append(DecisionCopy(run_id, at_s, DecisionRecord(**orjson.loads(decision)), apply_ms, sequence))
            continue
        of_request[row[_KEY]] = row
        if row[_SUBMITTED] is not None:
            new[row[_KEY]] = (row[_ATTEMPT], *row[_SUBMITTED:])
        if row[_OUTCOME] is not None:
            _, at_s, run_id, request_id, _, epoch, _, target, node, *_ = row
            service, began_s, ended_s, latency_s, outcome, reason, lost_s, *phases = row[_ATTEMPT:_DECIDED]
            where = (run_id, request_id, epoch, service, target, node)
            attempts.append(AttemptCopy(*where, began_s, ended_s, latency_s, outcome, reason, lost_s, at_s, *phases))
    copies = {
        key: RequestCopy._make((*row[_RUN:_LATE], bool(row[_LATE]), *row[_LATE + 1 : _ATTEMPT]))
        for key, row in sorted(of_request.items())
    }
    return Shipment(
        cluster=cluster,
        journal=journal,
        first=first,
        last=int(events[-1][0]),
        requests=tuple(copy for key, copy in copies.items() if key not in new),
        attempts=tuple(attempts),
        decisions=tuple(decisions),
        accepted=tuple(AcceptedCopy(copies[key], *of) for key, of in sorted(new.items())),
    )
