"""Attempts while they last and how they end: heartbeats, results, requeues. Each event is written beside the change it made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial

from tango.domain.lifecycle import Event, Outcome
from tango.domain.requests import Batch, Reason, batches_of
from tango.domain.services import ServiceClass
from tango.domain.state_lists import IN_FLIGHT_STATES, OPEN_STATES
from tango.journal.counted import TERMINAL_STATES, Ended, count_ended
from tango.journal.database import Connection
from tango.journal.events import ATTEMPT, ENDED, append
from tango.journal.part import JournalPart, Row, chunks, follows, rows_by_id
from tango.journal.schema import IS_UNDER_WAY, OWNED_STATES

_BEFORE = (
    "request_id, state, epoch, attempt, service, target_cluster, node, owner, late, started_s, due_s, tenant, target_s, "
    "waits_from_s, dispatched_at_s, decided"
)
_UPDATE = """
UPDATE request SET state = ?, attempt = ?, reason = ?, started_s = ?, finished_s = ?, released_at_s = ?, waits_from_s = ?,
    lease_until_s = NULL
WHERE run_id = ? AND request_id = ?
"""
# A process without a row has been silent for longer than its lease.
_EXPIRED = f"""
SELECT r.run_id, r.request_id, r.epoch, r.is_repeatable OR r.state NOT IN {OWNED_STATES} FROM request r JOIN run USING (run_id)
WHERE {IS_UNDER_WAY} AND state IN {IN_FLIGHT_STATES} AND run.status IN {OPEN_STATES}
  AND (r.lease_until_s < ?1
       OR r.state IN {OWNED_STATES} AND NOT EXISTS (SELECT 1 FROM process p WHERE p.owner = r.owner AND p.until_s >= ?1))
ORDER BY r.run_id, r.request_id LIMIT ?2
"""
_NOTE_ENDED = "INSERT INTO answer (run_id, request_id, at_s) VALUES (?, ?, ?) ON CONFLICT (run_id, request_id) DO NOTHING"
_HEARTBEAT = "INSERT INTO process VALUES (?, ?) ON CONFLICT (owner) DO UPDATE SET until_s = excluded.until_s"
_NO_ATTEMPT = (None,) * len(ATTEMPT.split(","))
KNOWN_FOR = 0.8
"""Part of its lease for which a process that begins something must be known to live: it beats every third of the lease meanwhile."""

End = tuple[int, int, Event, str, float | None, float | None, float, float | None]
"""(request id, epoch, event, reason, started s, finished s, work lost s, sent s) of what ends an epoch, or cancels what waits."""


class JournalAttempts(JournalPart):
    """The part of the journal that keeps heartbeats, settles attempts and requeues those whose lease ran out."""

    def heartbeat(self, owner: str, *, lease_s: float) -> None:
        """What the process runs stands for `lease_s` seconds from now on."""
        self._database.write(lambda connection: connection.execute(_HEARTBEAT, (owner, self._wall_s() + lease_s)))

    def settle(self, outcomes: Sequence[Outcome]) -> int:
        """End attempts, each once; gives how many ended now. An outcome under another epoch is ignored. One transaction per chunk."""
        in_order = sorted(outcomes, key=lambda o: (o.run_id, o.request_id))

        def end(connection: Connection, chunk: Sequence[Outcome]) -> int:
            by_run: dict[int, list[End]] = defaultdict(list)
            for o in chunk:
                by_run[o.run_id].append(
                    (o.request_id, o.epoch, o.event, o.reason.value, o.started_s, o.finished_s, o.work_lost_s, o.sent_s)
                )
            return sum(len(self._end(connection, run_id, ends)) for run_id, ends in by_run.items())

        return sum(self._database.write(partial(end, chunk=chunk)) for chunk in chunks(in_order, self._chunk_rows))

    def requeue_expired(self, *, limit: int) -> list[Batch]:
        """Requeue what neither its process nor its own limit holds any more, or fail it when its attempts are used up.

        Looks at `limit` at most, one transaction per chunk. Gives the batches to publish.
        """
        requeued: list[Row] = []
        while limit > 0:
            chunk = min(limit, self._chunk_rows)
            found, again = self._database.write(partial(self._requeue_chunk, limit=chunk))
            requeued += again
            limit = limit - found if found == chunk else 0
        return list(batches_of(requeued))

    def _requeue_chunk(self, connection: Connection, limit: int) -> tuple[int, list[Row]]:
        """How many had expired, and the rows of `batches_of` of those that wait again."""
        now_s = self._wall_s()
        rows = connection.execute(_EXPIRED, (now_s, limit)).fetchall()
        by_run: dict[int, list[End]] = defaultdict(list)
        for run_id, request_id, epoch, may_run_again in rows:
            # Nobody knows how far the process that ran it had come.
            event = Event.REQUEUE if may_run_again else Event.FAIL
            by_run[run_id].append((request_id, epoch, event, Reason.LEASE_EXPIRED.value, None, None, 0.0, None))
        requeued = [
            (run_id, request_id, ServiceClass.LC, service, self._cluster)
            for run_id, ends in by_run.items()
            for request_id, service, event in self._end(connection, run_id, ends)
            if event is Event.REQUEUE
        ]
        connection.execute("DELETE FROM process WHERE until_s < ?", (now_s,))
        return len(rows), requeued

    def _end(self, connection: Connection, run_id: int, ends: Iterable[End]) -> list[tuple[int, str, Event]]:
        """Let these events happen where they can; (request id, service, event) of those that did, a requeue perhaps as `exhaust`."""
        told = list(ends)
        before = {row[0]: row for row in rows_by_id(connection, _BEFORE, run_id, [end[0] for end in told])}
        now_s = self._wall_s()
        happened, updates, answered, ended = [], [], [], list[Ended]()
        events: list[Row] = []
        for request_id, epoch, event, cause, began_s, finished_s, lost_s, sent_s in told:
            row = before.get(request_id)
            if row is None or row[2] != epoch:
                continue
            (
                _,
                state,
                _,
                attempt,
                service,
                cluster,
                node,
                owner,
                late,
                started_s,
                due_s,
                tenant,
                target_s,
                waits_from_s,
                *given_out,
            ) = row
            if event is Event.REQUEUE and attempt >= self._max_attempts:
                event = Event.EXHAUST
            step = follows(event, state)
            if step is None:
                continue
            after, outcome, _, always = step
            waits_again = event in (Event.REQUEUE, Event.RETURN)
            attempt -= event is Event.RETURN
            reason = f"{always}: {cause}" if event is Event.EXHAUST else always or cause
            attempt_started_s = started_s if began_s is None else began_s
            won = event is Event.SUCCEED
            kept_started_s, kept_finished_s = (attempt_started_s, finished_s) if won else (started_s, None)
            # What has ended is not under way any more (`schema.IS_UNDER_WAY`).
            since_s = now_s if waits_again else None
            waits_next_s = now_s if waits_again else waits_from_s
            updates.append((after, attempt, reason, kept_started_s, kept_finished_s, since_s, waits_next_s, run_id, request_id))
            copy = (
                now_s,
                run_id,
                request_id,
                after,
                epoch,
                attempt,
                cluster,
                node,
                owner,
                late,
                kept_started_s,
                kept_finished_s,
                reason,
            )
            latency_s = finished_s - due_s if won and finished_s is not None else None
            if after in TERMINAL_STATES:
                ended.append((service, after, latency_s, target_s))
            if outcome:
                dispatched_at_s, decided = given_out
                phases = (waits_from_s, dispatched_at_s, sent_s, decided)
                events.append((*copy, service, attempt_started_s, finished_s, latency_s, outcome, cause or always, lost_s, *phases))
            else:
                events.append((*copy, *_NO_ATTEMPT))
            del before[request_id]
            happened.append((request_id, service, event))
            if tenant is not None and not waits_again:
                answered.append(request_id)
        connection.executemany(_UPDATE, updates)
        append(connection, ENDED, events)
        note_ended(connection, run_id, answered, now_s)
        connection.then.append(partial(count_ended, ended))
        return happened


def note_ended(connection: Connection, run_id: int, request_ids: Sequence[int], now_s: float) -> None:
    """Callers' requests have ended: their calls are of no more use, and from now on their answers grow old."""
    if request_ids:
        ended = [(run_id, request_id) for request_id in request_ids]
        connection.executemany("DELETE FROM call WHERE run_id = ? AND request_id = ?", ended)
        connection.executemany(_NOTE_ENDED, [(*key, now_s) for key in ended])


def lives_on(connection: Connection, owner: str, now_s: float, lease_s: float) -> None:
    """The process has begun something: it stands for `lease_s` seconds, unless it was known to for nearly as long, or longer.

    Looked at first, since most messages need no page written for it.
    """
    known = connection.execute("SELECT until_s FROM process WHERE owner = ?", (owner,)).fetchone()
    if known is None or known[0] < now_s + KNOWN_FOR * lease_s:
        connection.execute(_HEARTBEAT, (owner, now_s + lease_s))
