"""Requests of callers: implements `tango.ports.callers.CallerRequests`, and what the agent does for them.

A caller's request has a tenant in its row, and beside it a call until it has ended and an answer from then on. Its row stays as long as
its answer, so that it can be asked for after it was shipped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from typing import cast

import orjson

from tango.domain.calls import Accepted, Answer, AnswerTo, Call, CalledWork, CallerRequest, Calls, CallStanding, Headers
from tango.domain.identity import NodeKey, RequestKey
from tango.domain.lifecycle import Event, state_after
from tango.domain.requests import Reason, RequestState
from tango.domain.runs import RunKind, RunStatus
from tango.domain.services import ServiceClass
from tango.domain.shares import ShareRows
from tango.domain.state_lists import LIVE_STATES
from tango.errors import NotOpen
from tango.journal.attempts import JournalAttempts
from tango.journal.counted import count_ended
from tango.journal.database import Connection
from tango.journal.events import ACCEPTED, CHANGED, append
from tango.journal.part import chunks, follows, rows_by_id
from tango.journal.schema import IS_UNDER_WAY, NOT_SHIPPED, OWNED_STATES

_RELEASED = str(state_after([Event.SUBMIT, Event.RELEASE], ServiceClass.LC))
_LOST = cast(tuple[str, str, bool, str], follows(Event.LOSE, _RELEASED))
_OPEN_RUN = f"""
SELECT run_id, started_at_s FROM run
WHERE kind = '{RunKind.LIVE}' AND status = '{RunStatus.RUNNING}' AND started_at_s IS NOT NULL ORDER BY run_id DESC LIMIT 1
"""
_ACCEPT = """
INSERT INTO request (run_id, request_id, service, due_s, target_s, cpu_work_s, memory_mib, state, epoch, attempt, released_at_s,
                     waits_from_s, tenant, patience_s, is_repeatable)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?)
"""
_CALL = """
INSERT INTO call (run_id, request_id, method, path, headers, body, has_held, address, key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_ANSWER = """
INSERT INTO answer (run_id, request_id, at_s, status, headers, body, is_whole) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id, request_id) DO UPDATE SET status = excluded.status, headers = excluded.headers, body = excluded.body,
    is_whole = excluded.is_whole WHERE answer.status IS NULL
"""
_STANDING = "request_id, state, service, tenant, reason, attempt, target_cluster, node, due_s, finished_s"
_WANTED_FOR_S = 60.0
"""Seconds for which a caller who was turned away says that a live run is wanted."""
SKIPPED_NUMBERS = 60_000
"""Numbers of requests that are left out after a loss of power, since some of them may have been given to requests that were lost, and
told to their callers: as many as come in two minutes at 500 a second. A block has four times as many. Chosen; the disk has what is older
than half a minute, by the kernel's own writing back, and at the next shipment."""
_SIZE = "coalesce(length(body), 0) + coalesce(length(headers), 0)"


_First = tuple[RequestKey, bytes | None]
"""The request that had an idempotency key first, and its digest; None: it was accepted before digests were kept."""


class Callers(JournalAttempts):
    """The part of the journal that callers' requests come into."""

    _keep_s: float
    """Seconds that an answer and an idempotency key are kept."""
    _kept_bytes: int
    """Bytes of answers that are kept."""

    def accept(self, requests: Sequence[CallerRequest]) -> list[Accepted]:
        """Rows, calls and events in one transaction."""
        try:
            return self._database.write(partial(self._accept, requests=requests))
        except NotOpen:
            self._want()
            raise

    def _begin_boot(self, boot: str, *, lost_nothing: bool) -> None:
        """Note which boot of the machine this is. After another one the end of the journal may be missing, unless it had been closed.

        Of a call that must not run twice nobody knows then whether it was sent: it fails. Numbers of requests may have been told to
        callers and be free here: they are left out.
        """
        sql = "SELECT value FROM meta WHERE name = 'boot'"
        calls = f"SELECT run_id, request_id, epoch FROM request WHERE {IS_UNDER_WAY} AND tenant IS NOT NULL AND NOT is_repeatable"

        def begin(connection: Connection) -> None:
            known = connection.execute(sql).fetchone()
            if known == (boot,):
                return  # another process was first
            connection.execute(
                "INSERT INTO meta VALUES ('boot', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (boot,)
            )
            if known is None or lost_nothing:
                return
            connection.execute("UPDATE number_block SET next = min(last + 1, next + ?)", (SKIPPED_NUMBERS,))
            ends = defaultdict(list)
            for run_id, request_id, epoch in connection.execute(calls).fetchall():
                ends[run_id].append((request_id, epoch, Event.LOSE, "", None, None, 0.0, None))
            for run_id, of_run in ends.items():
                self._end(connection, run_id, of_run)

        if self._database.read(lambda connection: connection.execute(sql).fetchone()) != (boot,):
            self._database.write(begin)

    def opens(self) -> bool:
        """Whether callers' requests can be accepted: the agent has brought a live run and numbers for it."""
        sql = f"SELECT 1 FROM number_block b JOIN ({_OPEN_RUN}) r USING (run_id) WHERE b.next <= b.last LIMIT 1"
        is_open = self._database.read(lambda connection: connection.execute(sql).fetchone()) is not None
        if not is_open:
            self._want()
        return is_open

    def live_is_wanted(self) -> bool:
        """Whether a caller was turned away a moment ago because no live run was open here."""
        sql = "SELECT value FROM meta WHERE name = 'live_wanted'"
        found = self._database.read(lambda connection: connection.execute(sql).fetchone())
        return found is not None and 0.0 <= self._wall_s() - found[0] < _WANTED_FOR_S

    def numbers_left(self, run_id: int) -> int:
        """How many requests of the run can be accepted before more numbers are needed."""
        sql = "SELECT coalesce(sum(last + 1 - next), 0) FROM number_block WHERE run_id = ?"
        return int(self._database.read(lambda connection: connection.execute(sql, (run_id,)).fetchone()[0]))

    def add_numbers(self, run_id: int, first: int, last: int) -> None:
        """Keep a block that the centre has given to this cluster; twice: the same."""
        sql = "INSERT INTO number_block VALUES (?1, ?2, ?3, ?2) ON CONFLICT DO NOTHING"
        self._database.write(lambda connection: connection.execute(sql, (run_id, first, last)))

    def give_up_lost(self, run_id: int, rows: ShareRows) -> int:
        """As events alone: nothing else of them is here. An attempt that was under way has no end that anybody knows."""
        ids = rows.request_id.tolist()

        def give_up(connection: Connection) -> int:
            here = {row[0] for row in rows_by_id(connection, "request_id", run_id, ids)}
            sql = "SELECT DISTINCT request_id FROM event WHERE run_id = ? AND request_id IN (SELECT value FROM json_each(?))"
            here |= {k for (k,) in connection.execute(sql, (run_id, orjson.dumps(ids).decode()))}
            told = zip(ids, rows.epoch.tolist(), rows.attempt.tolist(), strict=True)
            now_s, lost = self._wall_s(), [of for of in told if of[0] not in here]
            failed, _, _, reason = _LOST
            events = [
                (now_s, run_id, k, failed, epoch, attempt, None, None, None, False, None, None, reason)
                for k, epoch, attempt in lost
            ]
            append(connection, CHANGED, events)
            service_of = dict(zip(ids, rows.service, strict=True))
            connection.then.append(partial(count_ended, [(service_of[k], failed, None, 0.0) for k, _, _ in lost]))
            return len(lost)

        return self._database.write(give_up)

    def has_let_go(self, run_id: int) -> bool:
        """Whether a run that was closed has nothing left here that the centre does not have, nor will have."""

        def look(connection: Connection) -> bool:
            if connection.execute("SELECT status FROM run WHERE run_id = ?", (run_id,)).fetchone() == (str(RunStatus.RUNNING),):
                return False
            live = f"SELECT 1 FROM request WHERE released_at_s IS NOT NULL AND run_id = ? AND state IN {LIVE_STATES} LIMIT 1"
            event = f"SELECT 1 FROM event WHERE run_id = ? AND {NOT_SHIPPED} LIMIT 1"
            return all(connection.execute(sql, (run_id,)).fetchone() is None for sql in (live, event))

        return self._database.read(look)

    def withdraw(self, keys: Sequence[RequestKey], *, reason: Reason) -> int:
        """Cancel the requests that are live, whatever their epoch."""

        def withdraw(connection: Connection, run_id: int, request_ids: Sequence[int]) -> int:
            rows = rows_by_id(connection, "request_id, epoch, tenant", run_id, request_ids)
            ends = [
                (k, epoch, Event.WITHDRAW, str(reason), None, None, 0.0, None) for k, epoch, tenant in rows if tenant is not None
            ]
            return len(self._end(connection, run_id, ends))

        return sum(
            self._database.write(partial(withdraw, run_id=run_id, request_ids=part))
            for run_id, ids in _by_run(keys).items()
            for part in chunks(ids, self._chunk_rows)
        )

    def standings(self, keys: Sequence[RequestKey]) -> dict[RequestKey, CallStanding]:
        """States read from the requests' rows; nothing is told of a request without tenant."""

        def read(connection: Connection) -> dict[RequestKey, CallStanding]:
            found = {}
            for run_id, ids in _by_run(keys).items():
                zero = connection.execute("SELECT started_at_s FROM run WHERE run_id = ?", (run_id,)).fetchone()
                for row in rows_by_id(connection, _STANDING, run_id, ids):
                    request_id, state, service, tenant, reason, attempt, cluster, node, due_s, finished_s = row
                    if tenant is None:
                        continue
                    found[RequestKey(run_id, request_id)] = CallStanding(
                        state=RequestState(state),
                        service=service,
                        tenant=tenant,
                        reason=reason,
                        attempt=attempt,
                        node=str(NodeKey(cluster, node)) if node is not None else "",
                        due_at_s=due_s + (zero[0] if zero is not None and zero[0] is not None else 0.0),
                        latency_s=None if finished_s is None else finished_s - due_s,
                    )
            return found

        return self._database.read(read)

    def answer(self, key: RequestKey) -> Answer | None:
        """The answer that was kept for a request."""
        sql = "SELECT status, headers, body, is_whole FROM answer WHERE run_id = ? AND request_id = ? AND status IS NOT NULL"
        row = self._database.read(lambda connection: connection.execute(sql, key).fetchone())
        if row is None:
            return None
        status, headers, body, is_whole = row
        return Answer(status=status, headers=_headers(headers), body=bytes(body), is_whole=bool(is_whole))

    def calls(self, keys: Sequence[RequestKey]) -> Calls:
        """The calls with their bodies."""
        sql = """
            SELECT c.method, c.path, c.headers, c.body, c.has_held, c.address, c.key, r.is_repeatable
            FROM call c JOIN request r USING (run_id, request_id) WHERE c.run_id = ? AND c.request_id = ?
        """

        def read(connection: Connection) -> Calls:
            found = {}
            for key in keys:
                row = connection.execute(sql, key).fetchone()
                if row is not None:
                    method, path, headers, body, has_held, address, its_key, is_repeatable = row
                    call = Call(
                        method=method,
                        path=path,
                        headers=_headers(headers),
                        body=bytes(body),
                        is_repeatable=bool(is_repeatable),
                        has_held=bool(has_held),
                    )
                    found[key] = CalledWork(call=call, answer_to=AnswerTo(address=address, key=its_key) if address else None)
            return found

        return self._database.read(read)

    def keep_answers(self, answers: Sequence[tuple[RequestKey, Answer]]) -> None:
        """Before the requests are settled, so that whoever hears of the end finds the answer."""
        now_s = self._wall_s()
        rows = [
            (*key, now_s, answer.status, orjson.dumps(answer.headers).decode(), answer.body, answer.is_whole)
            for key, answer in answers
        ]
        self._database.write(lambda connection: connection.executemany(_ANSWER, rows))

    def still_run(self, keys: Sequence[tuple[RequestKey, int]]) -> set[RequestKey]:
        """Which of these requests still run, read from their rows."""
        epochs = dict(keys)

        def read(connection: Connection) -> set[RequestKey]:
            found: set[RequestKey] = set()
            for run_id, ids in _by_run(epochs).items():
                for request_id, state, epoch in rows_by_id(connection, "request_id, state, epoch", run_id, ids):
                    key = RequestKey(run_id, request_id)
                    if epochs[key] == epoch and f"'{state}'" in OWNED_STATES:
                        found.add(key)
            return found

        return self._database.read(read)

    def drop_old(self, *, limit: int) -> int:
        """The oldest first, with the rows of their requests: what the centre is to know of them is in events."""

        def drop(connection: Connection) -> int:
            old_s = self._wall_s() - self._keep_s
            connection.execute(
                "DELETE FROM call_key WHERE (tenant, key) IN (SELECT tenant, key FROM call_key WHERE at_s < ? LIMIT ?)",
                (old_s, limit),
            )
            (size,) = connection.execute("SELECT value FROM meta WHERE name = 'answer_bytes'").fetchone()
            sql = f"SELECT answer_id, run_id, request_id, at_s, {_SIZE} FROM answer ORDER BY answer_id LIMIT ?"
            gone = []
            for answer_id, run_id, request_id, at_s, its_size in connection.execute(sql, (limit,)):
                if at_s >= old_s and size <= self._kept_bytes:
                    break
                size -= its_size
                gone.append((answer_id, run_id, request_id))
            connection.executemany("DELETE FROM answer WHERE answer_id = ?", [(answer_id,) for answer_id, *_ in gone])
            # An answer is kept a moment before its request is settled.
            connection.executemany(
                f"DELETE FROM request WHERE run_id = ? AND request_id = ? AND state NOT IN {LIVE_STATES}", [key for _, *key in gone]
            )
            return len(gone)

        return self._database.write(drop)

    def _want(self) -> None:
        sql = "INSERT INTO meta VALUES ('live_wanted', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        self._database.write(lambda connection: connection.execute(sql, (self._wall_s(),)))

    def _accept(self, connection: Connection, requests: Sequence[CallerRequest]) -> list[Accepted]:
        run = connection.execute(_OPEN_RUN).fetchone()
        if run is None:
            raise NotOpen(
                f"cluster {self._cluster} has no live run that is open; its agent fetches one as soon as it reaches the centre"
            )
        (run_id, zero_s), now_s = run, self._wall_s()
        known = self._known_keys(connection, requests)
        new = [r for r in requests if not r.key or known.setdefault((r.tenant, r.key), None) is None]
        numbers = iter(self._numbers(connection, run_id, len(new)))
        accepted: list[Accepted] = []
        rows, calls, events, keys = [], [], [], []
        for r in requests:
            before = known.get((r.tenant, r.key)) if r.key else None
            if before is not None:
                first, digest = before
                accepted.append(Accepted(key=first, is_new=False, is_taken=digest is not None and digest != r.digest))
                continue
            key = RequestKey(run_id, next(numbers))
            due_s = now_s - zero_s
            patience_s = None if r.patience_s == float("inf") else r.patience_s
            of = (r.service, due_s, r.target_s, r.cpu_work_s, r.memory_mib)
            rows.append((*key, *of, _RELEASED, now_s, now_s, r.tenant, patience_s, r.call.is_repeatable))
            to = (r.answer_to.address, r.answer_to.key) if r.answer_to is not None else (None, None)
            call = (r.call.method, r.call.path, orjson.dumps(r.call.headers).decode(), r.call.body, r.call.has_held)
            calls.append((*key, *call, *to))
            events.append((now_s, *key, _RELEASED, 0, 0, None, None, None, False, None, None, "", *of, r.tenant))
            if r.key:
                known[r.tenant, r.key] = key, r.digest
                keys.append((r.tenant, r.key, *key, now_s, r.digest))
            accepted.append(Accepted(key=key))
        connection.executemany(_ACCEPT, rows)
        connection.executemany(_CALL, calls)
        connection.executemany("INSERT INTO call_key VALUES (?, ?, ?, ?, ?, ?)", keys)
        append(connection, ACCEPTED, events)
        return accepted

    def _known_keys(self, connection: Connection, requests: Iterable[CallerRequest]) -> dict[tuple[str, str], _First | None]:
        sql = "SELECT run_id, request_id, digest FROM call_key WHERE tenant = ? AND key = ?"
        found: dict[tuple[str, str], _First | None] = {}
        for r in requests:
            row = connection.execute(sql, (r.tenant, r.key)).fetchone() if r.key else None
            if row is not None:
                found[r.tenant, r.key] = RequestKey(*row[:2]), row[2]
        return found

    def _numbers(self, connection: Connection, run_id: int, count: int) -> list[int]:
        numbers: list[int] = []
        sql = "SELECT first, next, last FROM number_block WHERE run_id = ? AND next <= last ORDER BY first"
        for first, begin, last in connection.execute(sql, (run_id,)).fetchall():
            end = min(last + 1, begin + count - len(numbers))
            numbers += range(begin, end)
            connection.execute("UPDATE number_block SET next = ? WHERE run_id = ? AND first = ?", (end, run_id, first))
            if len(numbers) == count:
                break
        if len(numbers) < count:
            raise NotOpen(f"cluster {self._cluster} has no numbers left for requests; its agent fetches more from the centre")
        return numbers


def _by_run(keys: Iterable[RequestKey]) -> dict[int, list[int]]:
    by_run: dict[int, list[int]] = defaultdict(list)
    for run_id, request_id in keys:
        by_run[run_id].append(request_id)
    return by_run


def _headers(text: str) -> Headers:
    return tuple((name, value) for name, value in orjson.loads(text))
