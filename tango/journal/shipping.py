"""What the journal tells the centre: events in order, collapsed, and what is in flight."""

from __future__ import annotations

import orjson

from tango.domain.runs import DecisionRecord
from tango.domain.shares import AttemptCopy, DecisionCopy, LcInFlight, RequestCopy, Shipment
from tango.errors import StoreUnavailable
from tango.journal.database import Connection
from tango.journal.intake import forget_runs
from tango.journal.part import JournalPart, Row
from tango.journal.schema import IN_FLIGHT_STATES, IS_UNDER_WAY, TERMINAL_STATES

_EVENTS = """
SELECT seq, at_s, run_id, request_id, state, epoch, attempt, target_cluster, node, owner, late, started_s, finished_s, reason,
       service, attempt_started_s, attempt_finished_s, latency_s, outcome, attempt_reason, work_lost_s, decision, apply_ms
FROM event WHERE seq > ? ORDER BY seq LIMIT ?
"""
# Every event that ends a request is there to be shipped, so these are all terminal requests of which nothing is left to ship.
_FORGET_ENDED = f"""
DELETE FROM request WHERE (run_id, request_id) IN (
    SELECT run_id, request_id FROM event WHERE seq <= ? AND state IN {TERMINAL_STATES}
) AND state IN {TERMINAL_STATES}
"""
_IN_FLIGHT = f"""
SELECT service, target_cluster, node, count(*), sum(1.0 / speed) FROM request JOIN run USING (run_id)
WHERE {IS_UNDER_WAY} AND state IN {IN_FLIGHT_STATES} GROUP BY 1, 2, 3
"""


class Shipping(JournalPart):
    """The part of the journal that the agent ships from."""

    def unshipped(self, *, limit: int) -> Shipment | None:
        """The first `limit` events that are not known to be shipped, collapsed; on the disk before they are given."""

        def read(connection: Connection) -> tuple[dict[str, int | str], list[Row]]:
            meta = dict(connection.execute("SELECT name, value FROM meta"))
            return meta, connection.execute(_EVENTS, (meta["position"], limit)).fetchall()

        meta, events = self._database.read(read)
        if not events:
            return None
        position, last = int(meta["position"]), int(events[-1][0])
        if last > int(meta["durable"]):
            sql = "UPDATE meta SET value = max(value, ?) WHERE name = 'durable'"
            self._database.write(lambda connection: connection.execute(sql, (last,)), durable=True)
        return _collapsed(self._cluster, str(meta["identity"]), position + 1, events)

    def shipped(self, last: int) -> None:
        """Forget events up to this number, and what has ended and is shipped.

        Raises: StoreUnavailable for a number that was never given out: the file is an old copy of the journal.
        """

        def forget(connection: Connection) -> None:
            (highest,) = connection.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = 'event'").fetchone()
            if last > (highest or 0):
                raise StoreUnavailable(
                    f"the centre has {last} events of the journal {self._database.path}, which has made {highest or 0}: the file is an "
                    "old copy; stop the cluster's processes and move it away, so that the centre hands its requests over anew"
                )
            connection.execute(_FORGET_ENDED, (last,))
            connection.execute("DELETE FROM event WHERE seq <= ?", (last,))
            connection.execute("UPDATE meta SET value = max(value, ?) WHERE name = 'position'", (last,))
            forget_runs(connection)

        self._database.write(forget)
        self._database.checkpoint()

    def in_flight(self) -> list[LcInFlight]:
        """What is in flight, by service and node; runs that are being cancelled hold their nodes too."""
        rows = self._database.read(lambda connection: connection.execute(_IN_FLIGHT).fetchall())
        return [LcInFlight(*row) for row in rows]


def _collapsed(cluster: str, journal: str, first: int, events: list[Row]) -> Shipment:
    requests: dict[tuple[int, int], RequestCopy] = {}
    attempts, decisions = [], []
    for (
        _,
        at_s,
        run_id,
        request_id,
        *copy,
        service,
        began_s,
        ended_s,
        latency_s,
        outcome,
        reason,
        lost_s,
        decision,
        apply_ms,
    ) in events:
        if decision is not None:
            decisions.append(DecisionCopy(run_id, at_s, DecisionRecord(**orjson.loads(decision)), apply_ms))
            continue
        state, epoch, attempt, target, node, owner, late, started_s, finished_s, request_reason = copy
        requests[run_id, request_id] = RequestCopy(
            run_id, request_id, state, epoch, attempt, target, node, owner, bool(late), started_s, finished_s, request_reason
        )
        if outcome is not None:
            where = (run_id, request_id, epoch, service, target, node)
            attempts.append(AttemptCopy(*where, began_s, ended_s, latency_s, outcome, reason, lost_s, at_s))
    return Shipment(
        cluster=cluster,
        journal=journal,
        first=first,
        last=int(events[-1][0]),
        requests=tuple(requests[key] for key in sorted(requests)),
        attempts=tuple(attempts),
        decisions=tuple(decisions),
    )
