"""What `tango run list` and `tango run requests` print: a few rows out of many, chosen by the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tango.domain.identity import RequestKey
from tango.domain.requests import RequestState
from tango.domain.retention import BY_RULE
from tango.domain.runs import RunKind
from tango.domain.state_lists import listed
from tango.errors import UsageError
from tango.store.database import Database

RUN_KEYS = (
    "run",
    "kind",
    "name",
    "status",
    "system",
    "fleet",
    "started_at_s",
    "duration_s",
    "accepted",
    "lc_qos_rate",
    "be_cpu_seconds_per_s",
    "seed",
    "speed",
    "host_full",
    "tenant",
)
"""Keys of `PostgresRunLists.runs`. The duration is in wall seconds, up to now for a run that goes on; figures are those kept at the end,
None before. `host_full` is the share of its time in which a host had no CPU left."""
REQUEST_KEYS = (
    "request",
    "class",
    "service",
    "cluster",
    "state",
    "attempts",
    "target_cluster",
    "node",
    "due_s",
    "latency_ms",
    "reasons",
    "words",
)
"""Keys of `PostgresRunLists.requests`: `cluster` is the entry cluster; `target_cluster` and `node` are those of the last attempt.
`reasons` has each reason once, with how often (`evicted x2`); `words` is what a cluster said last that refused the request's pod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs; None and an empty text: any."""

    kind: RunKind | None = None
    status: str = ""
    system: str = ""
    name: str = ""
    """Part of the run's name."""
    since_s: float | None = None
    """Unix time: only runs that were submitted since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFilter:
    """Which requests of a run; None, False and an empty text: any."""

    state: str | None = None
    service_class: str | None = None
    service: str = ""
    cluster: str = ""
    """Where they ran or wait to run; before that where they entered."""
    node: str = ""
    late: bool = False
    """Only LC requests that ended later than their target, or without an answer: failed, shed."""
    slowest: bool = False
    """In order of latency, slowest first; else by number."""


_RUNS = """
SELECT r.run_id, r.kind::text, r.name, r.status::text, r.system, r.fleet, extract(epoch FROM r.started_at)::float8,
       extract(epoch FROM coalesce(r.ended_at, now()) - r.started_at)::float8, r.accepted,
       q.value, b.value, r.seed, r.speed, (f.figures -> 'details' ->> 'host_full')::float8, r.tenant
FROM run r LEFT JOIN run_figures f USING (run_id)
LEFT JOIN run_metric q ON q.run_id = r.run_id AND q.name = 'lc_qos_rate'
LEFT JOIN run_metric b ON b.run_id = r.run_id AND b.name = 'be_cpu_seconds_per_s'
WHERE (%(kind)s::text IS NULL OR r.kind = %(kind)s) AND (%(status)s = '' OR r.status = %(status)s)
  AND (%(system)s = '' OR r.system = %(system)s) AND (%(name)s = '' OR strpos(lower(r.name), lower(%(name)s)) > 0)
  AND (%(since)s::float8 IS NULL OR r.submitted_at >= to_timestamp(%(since)s))
ORDER BY r.run_id DESC LIMIT %(limit)s
"""
RUN_FACTS = (
    "run",
    "kind",
    "name",
    "status",
    "system",
    "fleet",
    "accepted",
    "trace_source",
    "speed",
    "seed",
    "submitted_at_s",
    "started_at_s",
    "ended_at_s",
    "duration_s",
)
"""Keys of `PostgresRunLists.run`, beside `figures`."""
PHASES = (
    "run_id",
    "request_id",
    "class",
    "service",
    "cluster",
    "target_cluster",
    "node",
    "state",
    "attempt",
    "decision_id",
    "due_s",
    "target_s",
    "released_s",
    "dispatched_s",
    "sent_s",
    "started_s",
    "finished_s",
    "settled_s",
    "release_s",
    "repeat_s",
    "dispatch_s",
    "send_s",
    "start_s",
    "serve_s",
    "settle_s",
)
"""Columns of the view `request_phases` that `PostgresRunLists.request` has."""
ATTEMPT_KEYS = ("epoch", "cluster", "node", "pod", "started_s", "finished_s", "latency_s", "outcome", "reason", "work_lost_s")
_RUN = """
SELECT r.run_id, r.kind::text, r.name, r.status::text, r.system, r.fleet, r.accepted, r.trace_source, r.speed, r.seed,
       extract(epoch FROM r.submitted_at)::float8, extract(epoch FROM r.started_at)::float8, extract(epoch FROM r.ended_at)::float8,
       extract(epoch FROM coalesce(r.ended_at, now()) - r.started_at)::float8,
       (SELECT coalesce(json_object_agg(m.name, coalesce(to_json(m.value), to_json(m.text)) ORDER BY m.name), '{}') FROM run_metric m
        WHERE m.run_id = r.run_id)
FROM run r WHERE r.run_id = %s
"""
DELETIONS_TOLD_D = 7
"""Days for which a list of runs tells that some were deleted."""
_DELETIONS = f"""
SELECT count(*), to_char(max(deleted_at), 'YYYY-MM-DD HH24:MI'), (array_agg(why ORDER BY deleted_at DESC))[1]
FROM deleted_run WHERE starts_with(reverse(why), reverse(%s)) AND deleted_at > now() - interval '{DELETIONS_TOLD_D} days'
"""
_MISSED = (RequestState.FAILED, RequestState.SHED)
_LATE = f"""(q.class = 'lc' AND q.target_s IS NOT NULL AND (q.state IN {listed(_MISSED)}
            OR q.state IN {listed((RequestState.SUCCEEDED,))} AND q.finished_s - q.due_s > q.target_s))"""
_REQUESTS = """
SELECT q.request_id, q.class::text, q.service, q.cluster, q.state::text, q.attempt, coalesce(q.target_cluster, ''), coalesce(q.node, ''),
       round(q.due_s::numeric, 3)::float8, round(((q.finished_s - q.due_s) * 1000)::numeric, 1)::float8,
       coalesce((
           SELECT string_agg(a.reason || CASE WHEN a.times > 1 THEN ' x' || a.times ELSE '' END, ', ' ORDER BY a.first)
           FROM (SELECT reason, count(*) AS times, min(epoch) AS first FROM attempt
                 WHERE run_id = q.run_id AND request_id = q.request_id AND reason <> '' GROUP BY reason) a
       ), q.reason),
       CASE WHEN q.reason LIKE '%%-refused: %%' OR q.reason LIKE 'out-of-%%: %%'
            THEN substr(q.reason, position(': ' in q.reason) + 2) ELSE '' END
FROM request q WHERE {conditions} ORDER BY {order} LIMIT %(limit)s
"""


class PostgresRunLists:
    """Reads of a few rows. Raises: StoreUnavailable, StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def runs(self, which: RunFilter, *, limit: int) -> list[dict[str, Any]]:
        """The newest runs, newest first, at most `limit`."""
        rows = self._database.rows(
            _RUNS,
            {
                "kind": which.kind and str(which.kind),
                "status": which.status,
                "system": which.system,
                "name": which.name,
                "since": which.since_s,
                "limit": limit,
            },
        )
        return [dict(zip(RUN_KEYS, row, strict=True)) for row in rows]

    def run(self, run_id: int) -> dict[str, Any]:
        """One run with its figures by name, of which one that goes on has none. Raises: UsageError for one that there is not."""
        found = self._database.rows(_RUN, (run_id,))
        if not found:
            raise UsageError(f"there is no run {run_id}; `tango run list` has those that there are")
        return dict(zip((*RUN_FACTS, "figures"), found[0], strict=True))

    def request(self, key: RequestKey) -> dict[str, Any]:
        """A request with its phases as `request_phases` has them, its reason, and its attempts, oldest first.

        Raises: UsageError for one that there is not.
        """
        found = self._database.rows(
            f"SELECT {', '.join(f'p.{name}' for name in PHASES)}, q.reason, q.late, u.speed FROM request_phases p "
            "JOIN request q USING (run_id, request_id) JOIN run u USING (run_id) WHERE p.run_id = %s AND p.request_id = %s",
            key,
        )
        if not found:
            raise UsageError(f"there is no request {key}, or its run was simulated")
        attempts = self._database.rows(
            f"SELECT {', '.join(ATTEMPT_KEYS)} FROM attempt WHERE run_id = %s AND request_id = %s ORDER BY epoch", key
        )
        return dict(zip((*PHASES, "reason", "late", "speed"), found[0], strict=True)) | {
            "attempts": [dict(zip(ATTEMPT_KEYS, row, strict=True)) for row in attempts]
        }

    def figures(self, run_ids: Sequence[int]) -> dict[int, dict[str, float]]:
        """The numbers that are kept of ended runs, by run and name."""
        found: dict[int, dict[str, float]] = {run_id: {} for run_id in run_ids}
        kept = "SELECT run_id, name, value FROM run_metric WHERE run_id = ANY (%s) AND value IS NOT NULL"
        for run_id, name, value in self._database.rows(kept, (list(run_ids),)):
            found[run_id][name] = value
        return found

    def deletions(self) -> str:
        """What the periodic pruning has deleted in the last week, in a sentence; empty: nothing."""
        ((count, last, why),) = self._database.rows(_DELETIONS, (BY_RULE,))
        return (
            f"{count} older runs were deleted by retention in the last {DELETIONS_TOLD_D} days, the last on {last} ({why}); "
            "`tango sql @deleted` lists them"
            if count
            else ""
        )

    def facts(self, run_ids: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """These columns of `run` for each run that there is, in the order of the runs."""
        rows = self._database.rows(
            f"SELECT {', '.join(columns)} FROM run JOIN unnest(%s::int[]) WITH ORDINALITY AS asked(id, place) ON id = run_id "
            "ORDER BY place",
            (list(run_ids),),
        )
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def requests(self, run_id: int, which: RequestFilter, *, limit: int) -> list[dict[str, Any]]:
        """Requests of a run with the reasons of their attempts, at most `limit`."""
        conditions = ["q.run_id = %(run)s"]
        # Only what is asked for stands in the statement: the plan for a million rows depends on it.
        for wanted, condition in (
            (which.state, "q.state = %(state)s::request_state"),
            (which.service_class, "q.class = %(class)s::service_class"),
            (which.service, "q.service = %(service)s"),
            (which.cluster, "coalesce(q.target_cluster, q.cluster) = %(cluster)s"),
            (which.node, "q.node = %(node)s"),
            (which.late, _LATE),
        ):
            if wanted:
                conditions.append(condition)
        rows = self._database.rows(
            _REQUESTS.format(
                conditions=" AND ".join(conditions),
                order="q.finished_s - q.due_s DESC NULLS LAST, q.request_id" if which.slowest else "q.request_id",
            ),
            {
                "run": run_id,
                "state": which.state,
                "class": which.service_class,
                "service": which.service,
                "cluster": which.cluster,
                "node": which.node,
                "limit": limit,
            },
        )
        return [dict(zip(REQUEST_KEYS, row, strict=True)) for row in rows]
