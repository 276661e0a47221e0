"""What people look at while a fleet runs, on PostgreSQL: implements `tango.ports.live_view.LiveView`.

Each look is one read-only transaction in one snapshot, so that its figures belong together. No statement goes through the requests of a
run: counts come from `run_count`, what waits from the head of the index `request_live`, how LC fared from the newest attempts and from
`request_lost`. So a look costs milliseconds with a million rows too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tango.domain.lifecycle import IN_FLIGHT, LOST, TERMINAL, UNDER_WAY, WAITING
from tango.domain.live_view import (
    BUCKET_S,
    WINDOW_S,
    ClusterHeard,
    DecisionsLately,
    LiveLately,
    LiveNodes,
    LiveNow,
    LiveRun,
    LiveTenant,
    Paused,
    QueuedWork,
    SeenDecision,
    SeenScaling,
    ServiceLately,
    with_sums,
)
from tango.domain.requests import RequestState
from tango.domain.runs import ENDED
from tango.domain.services import ServiceClass
from tango.domain.state_lists import listed
from tango.ports.tenants import TOLD_S
from tango.settings import LeaseSettings
from tango.store.clusters import IS_SILENT
from tango.store.database import Cursor, Database
from tango.store.rows import columns_of

T = TypeVar("T")

RUNS_SEEN = 20
"""Runs under way that are shown, the newest."""
QUEUE_SEEN = 2_000
"""Waiting requests of a run, a class and a state that are looked at, the oldest: more are told as more."""
ATTEMPTS_SEEN = 20_000
"""Ends of attempts that a look at the last minutes takes, the newest: five minutes at 66 a second, a tenth of a second of PostgreSQL."""
DECISIONS_SUMMED, DECISIONS_SEEN, SCALING_SEEN, PAUSED_SEEN, TENANTS_SEEN = 5_000, 30, 30, 50, 50

_LOOK = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
_LC, _BE = f"'{ServiceClass.LC.label}'", f"'{ServiceClass.BE.label}'"
_SUCCEEDED = RequestState.SUCCEEDED

_CENTRE = "SELECT extract(epoch FROM now())::float8, coalesce((SELECT name FROM fleet LIMIT 1), '')"
_CLUSTERS = f"""
SELECT c.name, ({IS_SILENT}) IS TRUE, extract(epoch FROM now() - c.seen_at)::float8, c.lc_under_way, c.lc_late FROM cluster c
ORDER BY c.position, c.name
"""
_NODE_COLUMNS = {
    "cluster": "n.cluster",
    "name": "n.name",
    "zone": "n.zone",
    "ready": f"n.ready AND ({IS_SILENT}) IS NOT TRUE",
    "schedulable": "n.schedulable",
    "cpu_millicores": "n.cpu_allocatable_millicores",
    "cpu_lc_millicores": "n.lc_cpu_request_millicores",
    "cpu_be_millicores": "n.be_cpu_request_millicores",
    "cpu_other_millicores": "n.other_cpu_request_millicores",
    "cpu_used_millicores": "n.cpu_used_millicores",
    "memory_mib": "n.memory_allocatable_mib",
    "memory_lc_mib": "n.lc_memory_held_mib",
    "memory_be_mib": "n.be_memory_held_mib",
    "memory_other_mib": "n.other_memory_held_mib",
    "memory_used_mib": "n.memory_used_mib",
    "pods_lc": "n.lc_pods",
    "pods_be": "n.be_pods",
    "pods_other": "n.other_pods",
    "pods_most": "n.pods_allocatable",
    "lc_cpu_pressure": "n.lc_cpu_pressure",
    "memory_pressure": "n.memory_pressure",
}
_TEXTS, _FLAGS = ("cluster", "name", "zone"), ("ready", "schedulable")
_MEASURED = ("cpu_used_millicores", "memory_used_mib", "lc_cpu_pressure", "memory_pressure")
_NODES = f"SELECT {', '.join(_NODE_COLUMNS.values())} FROM node n JOIN cluster c ON c.name = n.cluster ORDER BY c.position, 1, 2"
_RUNS = f"""
SELECT r.run_id, r.kind::text, r.name, r.status::text, r.system, r.speed, r.span_s, extract(epoch FROM now() - r.started_at)::float8,
       r.accepted
FROM run r WHERE r.kind <> 'simulated' AND r.status NOT IN {listed(ENDED)} ORDER BY r.run_id DESC LIMIT {RUNS_SEEN}
"""
_COUNTS = """
SELECT run_id, class, state, sum(requests)::int, sum(in_time)::int FROM (
    SELECT run_id, class::text, state::text, requests, in_time FROM run_count WHERE run_id = ANY (%(runs)s)
    UNION ALL
    SELECT run_id, class::text, state::text, requests, in_time FROM run_count_change WHERE run_id = ANY (%(runs)s)
) c GROUP BY 1, 2, 3
"""
# The index is of what is under way, which has to be said, and ordered by due time within class and state.
_QUEUE = f"""
SELECT h.class::text, h.service, h.cluster, h.state::text, count(*)::int,
       extract(epoch FROM now() - min(u.started_at + h.due_s * interval '1 s'))::float8,
       bool_or(h.place > %(most)s)
FROM run u
CROSS JOIN (SELECT c::service_class, s::request_state FROM unnest(ARRAY[{_LC}, {_BE}]) c, unnest(%(waiting)s) s) w(class, state)
CROSS JOIN LATERAL (
    SELECT q.class, q.service, q.cluster, q.state, q.due_s, row_number() OVER (ORDER BY q.due_s) AS place FROM request q
    WHERE q.run_id = u.run_id AND q.class = w.class AND q.state = w.state AND q.state IN {listed(UNDER_WAY)}
    ORDER BY q.due_s LIMIT %(most)s + 1
) h
WHERE u.run_id = ANY (%(runs)s) AND u.started_at IS NOT NULL
GROUP BY 1, 2, 3, 4 ORDER BY 6 DESC LIMIT 200
"""
_TENANTS = f"""
SELECT s.tenant, coalesce(t.weight, 1), s.share, s.weighted_share, extract(epoch FROM now() - s.below_since)::float8, s.withheld
FROM tenant_share s LEFT JOIN tenant t ON t.name = s.tenant WHERE s.at > now() - interval '{TOLD_S} s'
ORDER BY s.below_since NULLS LAST, s.share DESC, s.tenant LIMIT {TENANTS_SEEN}
"""
_PAUSED = f"""
SELECT cluster, service, node, role, kind, words, times, extract(epoch FROM now() - since)::float8,
       greatest(0, extract(epoch FROM paused_until - now()))::float8
FROM refusal ORDER BY since DESC LIMIT {PAUSED_SEEN}
"""
_DECISIONS = f"""
SELECT extract(epoch FROM at)::float8, kind::text, cluster, policy, checkpoint, considered, placed, unplaced, late, shed, snapshot_ms,
       decide_ms, apply_ms, note
FROM decision ORDER BY at DESC LIMIT {DECISIONS_SEEN}
"""
_SCALING = f"""
SELECT extract(epoch FROM at)::float8, kind, cluster, node, service, pod, before_millicores, after_millicores, reason, outcome,
       actuation_ms
FROM scaling_event WHERE run_id IS NULL ORDER BY at DESC LIMIT {SCALING_SEEN}
"""
# Requests are looked up one by one, by their key: joined as tables, all requests of the run would be read.
_SERVICES = f"""
WITH newest AS (
    SELECT a.run_id, a.request_id, a.class, a.service, a.outcome, a.latency_s, a.finished_s, a.ended_at FROM attempt a
    WHERE a.ended_at > now() - %(window)s * interval '1 s' ORDER BY a.ended_at DESC LIMIT %(most)s
), reach AS (
    SELECT CASE WHEN count(*) = %(most)s THEN extract(epoch FROM now() - min(ended_at))::float8 ELSE %(window)s END AS window_s
    FROM newest
), fared AS (
    SELECT a.class, a.service, extract(epoch FROM now() - u.started_at)::float8 - a.finished_s + a.latency_s AS age_s,
           a.latency_s <= q.target_s AS in_time, false AS lost, a.latency_s * u.speed * 1000 AS latency_ms
    FROM newest a JOIN run u USING (run_id) CROSS JOIN LATERAL (
        SELECT q.target_s FROM request q WHERE q.run_id = a.run_id AND q.request_id = a.request_id LIMIT 1) q
    WHERE a.class = {_LC} AND a.outcome = '{_SUCCEEDED}' AND u.kind <> 'simulated'
    UNION ALL
    SELECT q.class, q.service, extract(epoch FROM now() - u.started_at)::float8 - q.due_s, false, true, NULL
    FROM run u CROSS JOIN LATERAL (
        SELECT q.class, q.service, q.due_s FROM request q
        WHERE q.run_id = u.run_id AND q.class = {_LC} AND q.state IN {listed(LOST)}
          AND q.due_s > extract(epoch FROM now() - u.started_at)::float8 - %(window)s ORDER BY q.due_s DESC LIMIT %(most)s) q
    WHERE u.kind <> 'simulated' AND u.started_at IS NOT NULL
      AND (u.status NOT IN {listed(ENDED)} OR u.ended_at > now() - %(window)s * interval '1 s')
    UNION ALL
    SELECT a.class, a.service, extract(epoch FROM now() - a.ended_at)::float8, a.outcome = '{_SUCCEEDED}',
           a.outcome <> '{_SUCCEEDED}', CASE WHEN a.outcome = '{_SUCCEEDED}' THEN a.latency_s * u.speed * 1000 END
    FROM newest a JOIN run u USING (run_id) WHERE a.class = {_BE} AND u.kind <> 'simulated'
)
SELECT f.class::text, f.service, floor(f.age_s / %(bucket)s)::int, min(s.target_ms), count(*)::int,
       count(*) FILTER (WHERE f.in_time)::int, count(*) FILTER (WHERE f.lost)::int,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY f.latency_ms), percentile_cont(0.95) WITHIN GROUP (ORDER BY f.latency_ms),
       min(s.tenant), r.window_s
FROM reach r LEFT JOIN fared f ON f.age_s >= 0 AND f.age_s < r.window_s LEFT JOIN service s ON s.name = f.service
GROUP BY r.window_s, GROUPING SETS ((1, 2), (1, 2, 3)) ORDER BY 1 DESC, 2, 3 NULLS FIRST
"""
_DECIDED = f"""
SELECT kind::text, policy, checkpoint, count(*)::int, sum(considered)::int, sum(placed)::int, sum(unplaced)::int, sum(shed)::int,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY decide_ms), percentile_cont(0.99) WITHIN GROUP (ORDER BY decide_ms),
       percentile_cont(0.99) WITHIN GROUP (ORDER BY snapshot_ms + decide_ms + apply_ms)
FROM (SELECT * FROM decision WHERE at > now() - %(window)s * interval '1 s' ORDER BY at DESC LIMIT {DECISIONS_SUMMED}) d
GROUP BY 1, 2, 3 ORDER BY 1, 4 DESC
"""


class _Count(NamedTuple):
    service_class: str
    state: RequestState
    requests: int
    in_time: int


class PostgresLiveView:
    """The view on PostgreSQL, which needs no more than the right to read."""

    def __init__(
        self,
        database: Database,
        lease: LeaseSettings | None = None,
        *,
        queue_seen: int = QUEUE_SEEN,
        attempts_seen: int = ATTEMPTS_SEEN,
    ) -> None:
        self._database = database
        self._queue_seen, self._attempts_seen = queue_seen, attempts_seen
        self._silent = {"silent": (lease or LeaseSettings()).silent_s}

    def now(self) -> LiveNow:
        """Ten statements; the longest reads a row for each node."""

        def look(cursor: Cursor) -> LiveNow:
            cursor.execute(_LOOK)
            [(at_s, fleet)] = _rows(cursor, _CENTRE)
            clusters = [ClusterHeard(**dict(zip(_HEARD, row, strict=True))) for row in _rows(cursor, _CLUSTERS, self._silent)]
            nodes = _nodes(_rows(cursor, _NODES, self._silent))
            runs = _rows(cursor, _RUNS)
            ids = [row[0] for row in runs]
            counts: dict[int, list[_Count]] = defaultdict(list)
            for run_id, service_class, state, requests, in_time in _rows(cursor, _COUNTS, {"runs": ids}):
                counts[run_id].append(_Count(service_class, RequestState(state), requests, in_time))
            waiting = {"runs": ids, "waiting": [str(state) for state in WAITING], "most": self._queue_seen}
            queue = _rows(cursor, _QUEUE, waiting) if ids else []
            return LiveNow(
                at_s=at_s,
                fleet=fleet,
                clusters=with_sums(clusters, nodes),
                nodes=nodes,
                queue=_read(QueuedWork, [row[:-1] for row in queue]),
                queue_is_cut=any(row[-1] for row in queue),
                tenants=_read(LiveTenant, _rows(cursor, _TENANTS)),
                runs=tuple(_run(row, counts[row[0]]) for row in runs),
                paused=_read(Paused, _rows(cursor, _PAUSED)),
                decisions=_read(SeenDecision, _rows(cursor, _DECISIONS)),
                scaling=_read(SeenScaling, _rows(cursor, _SCALING)),
            )

        return self._database.run(look)

    def lately(self) -> LiveLately:
        """Two statements, bounded by `ATTEMPTS_SEEN` and `DECISIONS_SUMMED`."""
        asked = {"window": WINDOW_S, "bucket": BUCKET_S, "most": self._attempts_seen}

        def look(cursor: Cursor) -> LiveLately:
            cursor.execute(_LOOK)
            [(at_s, _)] = _rows(cursor, _CENTRE)
            rows = _rows(cursor, _SERVICES, asked)
            # Without anything in it the window is there all the same, in a row of its own.
            services, window_s = [row for row in rows if row[0] is not None], float(rows[0][-1])
            return LiveLately(
                at_s=at_s,
                window_s=window_s,
                bucket_s=BUCKET_S,
                services=_services(services, buckets=max(1, round(window_s / BUCKET_S))),
                decisions=_read(DecisionsLately, _rows(cursor, _DECIDED, asked)),
            )

        return self._database.run(look)


_HEARD = tuple(ClusterHeard.__dataclass_fields__)


def _rows(cursor: Cursor, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    cursor.execute(sql, parameters)
    found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def _read(kind: type[T], rows: Sequence[Sequence[Any]]) -> tuple[T, ...]:
    """A value of the dataclass for each row, whose columns are its fields in their order."""
    names = tuple(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    return tuple(kind(**dict(zip(names, row, strict=True))) for row in rows)


def _nodes(rows: Sequence[Sequence[Any]]) -> LiveNodes:
    def column(name: str, values: Sequence[Any]) -> Any:
        if name in _TEXTS:
            return tuple(values)
        if name in _MEASURED:
            return np.array([np.nan if value is None else value for value in values], np.float64)
        return np.array(values, np.bool_ if name in _FLAGS else np.int64)

    return LiveNodes(**{name: column(name, values) for name, values in columns_of(_NODE_COLUMNS, rows).items()})


def _run(row: Sequence[Any], counts: Sequence[_Count]) -> LiveRun:
    run_id, kind, name, status, system, speed, span_s, elapsed_s, accepted = row

    def total(*states: RequestState, of: ServiceClass | None = None) -> int:
        return sum(c.requests for c in counts if c.state in states and (of is None or c.service_class == of.label))

    counted = sum(c.requests for c in counts)
    return LiveRun(
        run_id=run_id,
        kind=kind,
        name=name,
        status=status,
        system=system,
        speed=speed,
        span_s=span_s,
        elapsed_s=elapsed_s,
        # What a live run has accepted is told by its counts before it is told by its row.
        accepted=max(accepted, counted),
        to_come=total(RequestState.ACCEPTED),
        waiting=total(*WAITING),
        in_flight=total(*IN_FLIGHT),
        succeeded=total(_SUCCEEDED),
        lost=total(*LOST),
        lc_ended=total(*TERMINAL, of=ServiceClass.LC),
        lc_in_time=sum(c.in_time for c in counts if c.service_class == ServiceClass.LC.label),
        be_ended=total(*TERMINAL, of=ServiceClass.BE),
        be_succeeded=total(_SUCCEEDED, of=ServiceClass.BE),
    )


def _services(rows: Sequence[Sequence[Any]], *, buckets: int) -> tuple[ServiceLately, ...]:
    """Of each service the row without a bucket, and its buckets by age turned into a line of time."""
    ended: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * buckets)
    in_time: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * buckets)
    for service_class, service, age, _, count, good, *_rest in rows:
        if age is not None and age < buckets:
            ended[service_class, service][buckets - 1 - age] = count
            in_time[service_class, service][buckets - 1 - age] = good
    return tuple(
        ServiceLately(
            service=service,
            service_class=service_class,
            target_ms=target_ms,
            ended=count,
            in_time=good,
            lost=lost,
            latency_p50_ms=p50_ms,
            latency_p95_ms=p95_ms,
            ended_by_bucket=tuple(ended[service_class, service]),
            in_time_by_bucket=tuple(in_time[service_class, service]),
            tenant=tenant or "",
        )
        for service_class, service, age, target_ms, count, good, lost, p50_ms, p95_ms, tenant, _ in rows
        if age is None
    )
