"""What the database knows of the stack for operators, as metrics: a dozen bounded queries of one read-only transaction.

Each looks at what is there now (open runs, clusters, leases, nodes), at sums that are kept, or at the newest row of an index, so that
neither the number of runs nor that of requests makes it slower.
"""

from __future__ import annotations

import time
from typing import Any

from tango.domain.lifecycle import Event, states_before
from tango.domain.requests import RequestState
from tango.domain.runs import ENDED, RunKind
from tango.domain.services import ServiceClass
from tango.domain.state_lists import LIVE_STATES, TERMINAL_STATES, listed
from tango.ports.tenants import TOLD_S
from tango.store.database import Cursor, Database
from tango.store.lifecycle_sql import state
from tango.telemetry import catalogue as of
from tango.telemetry.readings import Readings

_BYTES_IN_MIB = float(1 << 20)
MOST_RUNS = 64
"""Open runs that are looked at, the oldest first. More than are ever open at once."""
STATEMENT_TIMEOUT_MS = 2000
"""Milliseconds of one query: each takes one or two, and a scrape waits no longer for all of them."""
_BEGIN = f"SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"
_TOTALS = f"""
SELECT t.class::text, t.state::text, t.cluster, sum(t.requests)::float8, sum(t.in_time)::float8 FROM (
    SELECT class, state, cluster, requests, in_time FROM request_total
    UNION ALL
    SELECT class, state, cluster, requests, in_time FROM run_count_change WHERE state IN {TERMINAL_STATES}
) t JOIN cluster c ON c.name = t.cluster GROUP BY 1, 2, 3
"""
_OPEN_RUNS = f"""
SELECT run_id, kind, extract(epoch FROM now() - started_at)::float8 FROM run
WHERE kind <> '{RunKind.SIMULATED}' AND status NOT IN {listed(ENDED)} ORDER BY run_id LIMIT {MOST_RUNS}
"""
_UNDER_WAY = f"""
SELECT class::text, state::text, sum(requests)::float8 FROM (
    SELECT class, state, requests FROM run_count WHERE run_id = ANY (%(runs)s) AND state IN {LIVE_STATES}
    UNION ALL
    SELECT class, state, requests FROM run_count_change WHERE run_id = ANY (%(runs)s) AND state IN {LIVE_STATES}
) c GROUP BY 1, 2
"""
# The number of the run as a constant, so that PostgreSQL plans for its partition alone; the oldest of each state by `request_live`.
_OLDEST = "(SELECT due_s FROM request WHERE run_id = {run} AND class = '{label}' AND state = {state} ORDER BY due_s LIMIT 1)"
_LEASES = "SELECT name, expires_at > now(), epoch::float8 FROM lease WHERE name NOT LIKE 'replay:%'"
_NODES = """
SELECT cluster, count(*) FILTER (WHERE ready AND schedulable)::float8, count(*) FILTER (WHERE NOT ready)::float8,
       count(*) FILTER (WHERE ready AND NOT schedulable)::float8,
       sum(cpu_allocatable_millicores)::float8, sum(cpu_used_millicores)::float8, sum(lc_cpu_request_millicores)::float8,
       sum(lc_cpu_limit_millicores)::float8, sum(be_cpu_request_millicores)::float8, sum(be_cpu_limit_millicores)::float8,
       sum(other_cpu_request_millicores)::float8,
       sum(memory_allocatable_mib)::float8, sum(memory_used_mib)::float8, sum(lc_memory_held_mib)::float8,
       sum(be_memory_held_mib)::float8, sum(other_memory_held_mib)::float8,
       sum(be_pods)::float8, max(lc_cpu_pressure), max(lc_throttled), max(memory_pressure)
FROM node GROUP BY cluster
"""
_INSTANCES = "SELECT cluster, service, ready, count(*)::float8 FROM instance GROUP BY 1, 2, 3"
_CLUSTERS = """
SELECT c.name, extract(epoch FROM now() - c.seen_at)::float8, extract(epoch FROM now() - c.agent_at)::float8,
       extract(epoch FROM now() - p.shipped_at)::float8, c.lc_under_way::float8, c.lc_late::float8
FROM cluster c LEFT JOIN (SELECT cluster, max(shipped_at) AS shipped_at FROM journal_position GROUP BY 1) p ON p.cluster = c.name
"""
_REFUSALS = "SELECT cluster, kind, count(*)::float8 FROM refusal WHERE paused_until > now() GROUP BY 1, 2"
_UNPLACED = f"""
SELECT unplaced::float8 FROM decision WHERE at > now() - interval '1 min' AND kind = '{ServiceClass.BE.label}' ORDER BY at DESC LIMIT 1
"""
# Those that nobody declared have one series together: names of tenants come with requests.
_TENANTS = f"""
SELECT coalesce(t.name, '{of.OTHER}'), max(s.share), coalesce(max(extract(epoch FROM now() - s.below_since)), 0)::float8
FROM tenant_share s LEFT JOIN tenant t ON t.name = s.tenant WHERE s.at > now() - interval '{TOLD_S} s' GROUP BY 1
"""
_SERVER = """
SELECT (SELECT count(*)::float8 FROM pg_stat_activity WHERE backend_type = 'client backend'),
       current_setting('max_connections')::float8, pg_database_size(current_database())::float8,
       coalesce((SELECT greatest(0, extract(epoch FROM max(clock_timestamp() - xact_start)))::float8 FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'), 0),
       d.xact_commit::float8, d.xact_rollback::float8, d.deadlocks::float8, extract(epoch FROM clock_timestamp())::float8
FROM pg_stat_database d WHERE d.datname = current_database()
"""
_CPU_USES = ("allocatable", "used", "lc_request", "lc_limit", "be_request", "be_limit", "other_request")
_MEMORY_USES = ("allocatable", "used", "lc", "be", "other")
_PRESSURES = ("lc_cpu", "lc_throttled", "memory")
_NODE_STATES = ("ready", "not_ready", "unschedulable")
_WAITS = {
    ServiceClass.LC: tuple(states_before(Event.DISPATCH)),
    ServiceClass.BE: tuple(states_before(Event.ADMIT, Event.PLACE)),
}
"""In which states a request of a class waits for a decision."""


class OperatingFigures:
    """The metrics of `Source.STORE`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self) -> Readings:
        """All of them. Raises: StoreUnavailable, StoreError."""
        return self._database.run(_read)


def _read(cursor: Cursor) -> Readings:
    found = Readings()
    cursor.execute(_BEGIN)
    _server(cursor, found)
    _requests(cursor, found)
    _fleet(cursor, found)
    for name, is_held, epoch in _rows(cursor, _LEASES):
        found.add(of.LEASE, (name,), float(is_held))
        found.add(of.LEASE_EPOCH, (name,), epoch)
    for cluster, kind, count in _rows(cursor, _REFUSALS):
        found.add(of.REFUSALS, (cluster, kind), count)
    for tenant, share, below_s in _rows(cursor, _TENANTS):
        found.add(of.TENANT_SHARE, (tenant,), share)
        found.add(of.TENANT_BELOW, (tenant,), below_s)
    unplaced = _rows(cursor, _UNPLACED)
    found.add(of.UNPLACED, (), unplaced[0][0] if unplaced else 0.0)
    return found


def _requests(cursor: Cursor, found: Readings) -> None:
    for label, state_name, cluster, requests, in_time in _rows(cursor, _TOTALS):
        found.add(of.REQUESTS, (label, state_name, cluster), requests)
        if label == ServiceClass.LC.label:
            found.add(of.IN_TIME, (cluster,), in_time)
    runs = _rows(cursor, _OPEN_RUNS)
    for kind in RunKind:
        if kind is not RunKind.SIMULATED:
            found.add(of.RUNS, (str(kind),), float(sum(run[1] == kind for run in runs)))
    cursor.execute(_UNDER_WAY, {"runs": [run[0] for run in runs]})
    for label, state_name, requests in cursor.fetchall():
        found.add(of.UNDER_WAY, (label, state_name), requests)
    oldest_s = dict.fromkeys(_WAITS, 0.0)
    begun = [(run_id, now_s) for run_id, _, now_s in runs if now_s is not None]
    asked = [(c, now_s, _oldest(run_id, c, waiting)) for run_id, now_s in begun for c in _WAITS for waiting in _WAITS[c]]
    if asked:
        cursor.execute("SELECT " + ", ".join(sql for _, _, sql in asked))
        for (of_class, now_s, _), due_s in zip(asked, cursor.fetchone() or (), strict=True):
            if due_s is not None:
                oldest_s[of_class] = max(oldest_s[of_class], now_s - due_s)
    for of_class, age_s in oldest_s.items():
        found.add(of.QUEUE_AGE, (of_class.label,), age_s)


def _oldest(run_id: int, of_class: ServiceClass, waiting: RequestState) -> str:
    return _OLDEST.format(run=int(run_id), label=of_class.label, state=state(waiting))


def _fleet(cursor: Cursor, found: Readings) -> None:
    for cluster, *figures in _rows(cursor, _NODES):
        values = iter(figures)
        for node_state in _NODE_STATES:
            found.add(of.NODES, (cluster, node_state), next(values))
        for metric, uses, unit in ((of.NODE_CPU, _CPU_USES, 1e-3), (of.NODE_MEMORY, _MEMORY_USES, _BYTES_IN_MIB)):
            for use in uses:
                if (value := next(values)) is not None:
                    found.add(metric, (cluster, use), value * unit)
        found.add(of.BE_PODS, (cluster,), next(values))
        for use in _PRESSURES:
            if (value := next(values)) is not None:
                found.add(of.NODE_PRESSURE, (cluster, use), value)
    for cluster, service, ready, count in _rows(cursor, _INSTANCES):
        # The other one too: a service of which none is ready is what an alert looks for.
        for instance_state, is_it in (("ready", ready), ("not_ready", not ready)):
            found.add(of.INSTANCES, (cluster, service, instance_state), count if is_it else 0.0)
    for cluster, seen_s, agent_s, journal_s, under_way, late in _rows(cursor, _CLUSTERS):
        for use, age_s in (("nodes", seen_s), ("agent", agent_s), ("journal", journal_s)):
            if age_s is not None:
                found.add(of.CLUSTER_AGE, (cluster, use), max(0.0, age_s))
        found.add(of.CLUSTER_LC, (cluster, "under_way"), under_way or 0.0)
        found.add(of.CLUSTER_LC, (cluster, "late"), late or 0.0)


def _server(cursor: Cursor, found: Readings) -> None:
    began_s = time.time()
    ((connections, most, size, oldest_s, *transactions, server_s),) = _rows(cursor, _SERVER)
    found.add(of.DATABASE_CLOCK, (), server_s - (began_s + time.time()) / 2)
    found.add(of.DATABASE_CONNECTIONS, (), connections)
    found.add(of.DATABASE_MOST, (), most)
    found.add(of.DATABASE_SIZE, (), size)
    found.add(of.DATABASE_OLDEST, (), oldest_s)
    for outcome, count in zip(("committed", "rolled_back", "deadlocked"), transactions, strict=True):
        found.add(of.DATABASE_TRANSACTIONS, (outcome,), count)


def _rows(cursor: Cursor, sql: str) -> list[tuple[Any, ...]]:
    cursor.execute(sql)
    found: list[tuple[Any, ...]] = cursor.fetchall()
    return found
