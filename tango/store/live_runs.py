"""Runs that callers feed: implements `tango.ports.live_runs.LiveRunStore`.

One transaction at a time turns from one run to the next, by an advisory lock: the scheduler does so periodically, agents when a caller
comes, people when they change the system.
"""

from __future__ import annotations

from collections.abc import Callable

from psycopg2.extras import Json

from tango.domain.runs import LiveUse, RunInfo, RunKind, RunStatus
from tango.errors import RequestRejected, UsageError
from tango.store.clusters import JOINED_FLEET
from tango.store.database import Cursor, Database
from tango.store.rows import insert
from tango.store.runs import RUN_COLUMNS, run_info

NUMBERS_IN_BLOCK = 250_000
"""Requests of one block. At 500 a second a cluster uses one up in eight minutes; a run has 8,589 blocks."""
LARGEST_NUMBER = 2**31 - 1
CALLERS = "callers"
"""Source of a live run, where a replayed one has the name of its trace."""
LIVE_LOCK = 0x6C69_7665
"""Key of the advisory lock of whoever opens and closes live runs ("live" in ASCII)."""

_OPEN = f"""
SELECT {RUN_COLUMNS}, r.settings ->> 'day' FROM run r
WHERE r.kind = '{RunKind.LIVE}' AND r.status = '{RunStatus.RUNNING}' AND r.closed_at IS NULL ORDER BY r.run_id DESC LIMIT 1
"""
_CLOSE = f"""
UPDATE run SET status = '{RunStatus.DRAINING}', closed_at = now(), span_s = extract(epoch FROM now() - started_at) WHERE run_id = %s
"""
# An empty run is of no use to anybody once no journal can add to it any more.
_EMPTY = f"""
SELECT r.run_id FROM run r
WHERE r.kind = '{RunKind.LIVE}' AND r.status = '{RunStatus.COMPLETED}' AND r.closed_at > now() - interval '2 days' AND r.accepted = 0
  AND NOT EXISTS (SELECT FROM request q WHERE q.run_id = r.run_id)
"""
_NEXT_BLOCK = f"""
INSERT INTO number_block (run_id, first, last, cluster)
SELECT %(run)s, first, first + {NUMBERS_IN_BLOCK - 1}, %(cluster)s
FROM (SELECT coalesce(max(last) + 1, 0) AS first FROM number_block WHERE run_id = %(run)s) b
WHERE first <= {LARGEST_NUMBER - NUMBERS_IN_BLOCK}
RETURNING first, last
"""


class PostgresLiveRuns:
    """Live runs on PostgreSQL. `delete` deletes an ended run."""

    def __init__(self, database: Database, *, delete: Callable[[int], None]) -> None:
        self._database = database
        self._delete = delete

    def use(self) -> LiveUse:
        """What the next live run is to use, as it was chosen last."""
        found = self._database.rows("SELECT system, run_name, reassure FROM live")
        return LiveUse(system=found[0][0], run_name=found[0][1], reassure=found[0][2]) if found else LiveUse()

    def set_use(self, use: LiveUse) -> RunInfo:
        """Choose a system and change the open run, in one transaction."""

        def set_use(cursor: Cursor) -> RunInfo:
            _hold(cursor)
            row = {"system": use.system, "run_name": use.run_name, "reassure": use.reassure, "wanted": True}
            changed = "system = excluded.system, run_name = excluded.run_name, reassure = excluded.reassure, wanted = true"
            insert(cursor, "live", [row], then=f"ON CONFLICT (scope) DO UPDATE SET {changed}, changed_at = now()")
            return _turned(cursor, use)

        return self._database.run(set_use)

    def want(self) -> RunInfo:
        """Told by the row `live`, which is there from then on."""

        def want(cursor: Cursor) -> RunInfo:
            _hold(cursor)
            use = LiveUse()
            insert(
                cursor,
                "live",
                [{"system": use.system, "wanted": True}],
                then="ON CONFLICT (scope) DO UPDATE SET wanted = true WHERE NOT live.wanted",
            )
            return _turned(cursor, _use(cursor))

        return self._database.run(want)

    def turn(self) -> RunInfo | None:
        """One read where there is nothing to do."""
        if not self._database.rows("SELECT FROM live WHERE wanted"):
            return None

        def turn(cursor: Cursor) -> RunInfo:
            _hold(cursor)
            return _turned(cursor, _use(cursor))

        found = self._database.run(turn)
        for (run_id,) in self._database.rows(_EMPTY):
            self._delete(run_id)
        return found

    def numbers(self, run_id: int, cluster: str) -> tuple[int, int] | None:
        """The next block of numbers of the run, first and last, which is the cluster's alone from now on."""
        return self._database.run(lambda cursor: _block(cursor, run_id, cluster))


def take_numbers(cursor: Cursor, run_id: int, count: int) -> range:
    """`count` numbers for requests of a live run that enter at the centre, in the caller's transaction.

    Raises: RequestRejected where the run is not open or has none left: then nothing may be added to it.
    """
    _hold_run(cursor, run_id)
    if count > NUMBERS_IN_BLOCK:
        raise RequestRejected(f"{count} requests at once, expected at most {NUMBERS_IN_BLOCK}; send them in parts")
    cursor.execute(
        "UPDATE number_block SET used = used + %(count)s WHERE (run_id, first) = (SELECT run_id, first FROM number_block "
        "WHERE run_id = %(run)s AND cluster IS NULL AND last - first + 1 - used >= %(count)s ORDER BY first LIMIT 1) "
        "RETURNING first + used - %(count)s",
        {"run": run_id, "count": count},
    )
    found = cursor.fetchone()
    if found is None:
        block = _block(cursor, run_id, None)
        if block is None:
            raise RequestRejected(f"run {run_id} accepts no more requests: it was closed, or all its numbers are given out")
        cursor.execute("UPDATE number_block SET used = %s WHERE run_id = %s AND first = %s", (count, run_id, block[0]))
        found = (block[0],)
    return range(int(found[0]), int(found[0]) + count)


def open_run(cursor: Cursor) -> RunInfo:
    """The run that is open for what enters at the centre, opened where there is none, in the caller's transaction.

    Raises: UsageError before a fleet is declared.
    """
    found = _open(cursor)
    if found is not None and not _is_over(cursor, found, _use(cursor)):
        return found[0]
    _hold(cursor)
    insert(
        cursor,
        "live",
        [{"system": LiveUse().system, "wanted": True}],
        then="ON CONFLICT (scope) DO UPDATE SET wanted = true WHERE NOT live.wanted",
    )
    return _turned(cursor, _use(cursor))


def _hold(cursor: Cursor) -> None:
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LIVE_LOCK,))


def _hold_run(cursor: Cursor, run_id: int) -> bool:
    """Whether the run is open; it is not closed before this transaction ends."""
    cursor.execute(
        f"SELECT FROM run WHERE run_id = %s AND kind = '{RunKind.LIVE}' AND status = '{RunStatus.RUNNING}' AND closed_at IS NULL "
        "FOR NO KEY UPDATE",
        (run_id,),
    )
    return bool(cursor.rowcount)


def _block(cursor: Cursor, run_id: int, cluster: str | None) -> tuple[int, int] | None:
    if not _hold_run(cursor, run_id):
        return None
    cursor.execute(_NEXT_BLOCK, {"run": run_id, "cluster": cluster})
    found = cursor.fetchone()
    return None if found is None else (int(found[0]), int(found[1]))


def _use(cursor: Cursor) -> LiveUse:
    cursor.execute("SELECT system, run_name, reassure FROM live")
    system, run_name, reassure = cursor.fetchone() or (LiveUse().system, "", True)
    return LiveUse(system=system, run_name=run_name, reassure=reassure)


def _open(cursor: Cursor) -> tuple[RunInfo, str] | None:
    """The open run, and the day that it is of."""
    cursor.execute(_OPEN)
    found = cursor.fetchone()
    return None if found is None else (run_info(found[:-1]), str(found[-1]))


def _today(cursor: Cursor) -> str:
    cursor.execute("SELECT (now() AT TIME ZONE 'UTC')::date::text")
    [(day,)] = cursor.fetchall()
    return str(day)


def _is_over(cursor: Cursor, found: tuple[RunInfo, str], use: LiveUse) -> bool:
    """Whether a run is of another day, name or system than what shall be open now. One that has a name has no day."""
    run, day = found
    wanted_day = "" if use.run_name else _today(cursor)
    return (run.name, run.system, run.reassure, day) != (_name(use, wanted_day), use.system, use.reassure, wanted_day)


def _name(use: LiveUse, day: str) -> str:
    return use.run_name or f"live {day}"


def _turned(cursor: Cursor, use: LiveUse) -> RunInfo:
    """The run that shall be open; the caller holds the lock."""
    found = _open(cursor)
    if found is not None:
        if not _is_over(cursor, found, use):
            return found[0]
        cursor.execute(_CLOSE, (found[0].run_id,))
    # A centre without clusters of its own declares no fleet: those that have joined are the fleet.
    cursor.execute("SELECT name, hash FROM fleet UNION ALL SELECT %s, '' FROM cluster LIMIT 1", (JOINED_FLEET,))
    fleet = cursor.fetchone()
    if fleet is None:
        raise UsageError("no fleet is declared yet, so that nobody can serve requests; start one with `tango up --fleet NAME`")
    day = "" if use.run_name else _today(cursor)
    row = {
        "kind": str(RunKind.LIVE),
        "name": _name(use, day),
        "status": str(RunStatus.RUNNING),
        "system": use.system,
        "fleet": fleet[0],
        "fleet_hash": fleet[1],
        "seed": 0,
        "speed": 1.0,
        "reassure": use.reassure,
        "trace_source": CALLERS,
        "span_s": 0.0,
        "accepted": 0,
        "settings": Json({"day": day}),
    }
    run_id = int(insert(cursor, "run", [row], then="RETURNING run_id")[0][0])
    cursor.execute("UPDATE run SET started_at = now() WHERE run_id = %s", (run_id,))
    cursor.execute("SELECT make_request_partition(%s)", (run_id,))
    cursor.execute(
        "INSERT INTO lc_share (run_id, cluster, accepted, opened) SELECT %s, name, 0, true FROM cluster ORDER BY name", (run_id,)
    )
    cursor.execute("SELECT attach_request_partition(%s)", (run_id,))
    opened = _open(cursor)
    assert opened is not None
    return opened[0]
