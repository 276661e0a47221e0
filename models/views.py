"""Views that people query; a test holds their figures to `tango.analysis.metrics`.

Window and definitions as in `docs/metrics.md`: LC figures are over requests due from 10 % of the trace's span to its last
arrival; latency counts from due time; times are given in trace time (wall x speed).

Replayed, live and simulated runs stand side by side, told apart by `kind`. A simulation repeated is the same figure again, so
`system_comparison` counts the newest of each seed; a trace replayed again is another measurement, so all of them count.
"""

from __future__ import annotations

from tango.domain.lifecycle import TERMINAL, WAITING
from tango.domain.requests import RequestState
from tango.domain.runs import OPEN, RunStatus

_SUCCEEDED = f"'{RequestState.SUCCEEDED}'"
_TERMINAL = ", ".join(f"'{state}'" for state in TERMINAL)

# Of the whole run.
_COUNTED = ("succeeded", "failed", "shed", "cancelled", "live")
# Of its measured span, which are there once it has ended.
_MEASURED = (
    "lc_qos_rate",
    "lc_latency_p95_ms",
    "lc_latency_p99_ms",
    "be_completed",
    "be_cpu_seconds_per_s",
    "utilization_cpu",
    "evictions",
    "resizes",
)

RUN_SUMMARY = f"""
CREATE VIEW run_summary AS
WITH counted AS (
    SELECT run_id, sum(requests) AS requests,
           coalesce(sum(requests) FILTER (WHERE state = {_SUCCEEDED}), 0) AS succeeded,
           coalesce(sum(requests) FILTER (WHERE state = '{RequestState.FAILED}'), 0) AS failed,
           coalesce(sum(requests) FILTER (WHERE state = '{RequestState.SHED}'), 0) AS shed,
           coalesce(sum(requests) FILTER (WHERE state = '{RequestState.CANCELLED}'), 0) AS cancelled,
           coalesce(sum(requests) FILTER (WHERE state NOT IN ({_TERMINAL})), 0) AS live,
           coalesce(sum(requests) FILTER (WHERE class = 'lc' AND state IN ({_TERMINAL})), 0) AS lc_ended,
           coalesce(sum(in_time), 0) AS lc_in_time
    FROM (SELECT run_id, class, state, requests, in_time FROM run_count
          UNION ALL SELECT run_id, class, state, requests, in_time FROM run_count_change) c
    GROUP BY run_id
), kept AS (
    SELECT run_id, {", ".join(f"max(value) FILTER (WHERE name = '{name}') AS {name}" for name in (*_COUNTED, *_MEASURED))}
    FROM run_metric GROUP BY run_id
)
SELECT r.run_id, r.kind, r.name, r.status, r.system, r.fleet, r.seed, r.speed, r.submitted_at, r.started_at, r.ended_at,
       coalesce(c.requests, r.accepted)::int AS accepted,
       {", ".join(f"coalesce(c.{name}, k.{name}, CASE WHEN r.kind <> 'simulated' THEN 0 END)::int AS {name}" for name in _COUNTED)},
       c.lc_ended::int AS lc_ended, c.lc_in_time::int AS lc_in_time, {", ".join(f"k.{name}" for name in _MEASURED)}
FROM run r LEFT JOIN counted c USING (run_id) LEFT JOIN kept k USING (run_id)
"""
"""Never reads requests: their counts are kept as they change (`run_count`), all else is computed once, at a run's end. Whatever the size
of a run, this takes milliseconds, and the counts are those of the rows at every instant."""

SERVICE_QOS = f"""
CREATE VIEW service_qos AS
WITH judged AS (
    SELECT q.run_id, q.service, q.target_s * r.speed AS target_s,
           q.state = {_SUCCEEDED} AND q.finished_s - q.due_s <= q.target_s AS met,
           CASE WHEN q.state = {_SUCCEEDED} THEN (q.finished_s - q.due_s) * r.speed * 1000 END AS latency_ms
    FROM request q JOIN run r USING (run_id)
    WHERE q.class = 'lc' AND q.due_s * r.speed >= CASE r.kind WHEN 'live' THEN 0 ELSE 0.1 END * r.span_s - 1e-6
)
SELECT run_id, service, count(*) AS arrived, avg(target_s) * 1000 AS target_ms, avg(met::int) AS qos_rate,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_ms) AS latency_p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY latency_ms) AS latency_p95_ms,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY latency_ms) AS latency_p99_ms
FROM judged GROUP BY run_id, service
"""

NODE_UTILIZATION = """
CREATE VIEW node_utilization AS
WITH sampled AS (
    SELECT r.run_id AS of_run, s.cluster, s.node, s.cpu_used_millicores, s.cpu_allocatable_millicores, s.memory_used_mib,
           s.memory_allocatable_mib, s.be_pods
    FROM run r JOIN node_sample s ON s.at BETWEEN r.started_at AND coalesce(r.ended_at, now())
    WHERE r.kind <> 'simulated' AND s.run_id IS NULL
    UNION ALL
    SELECT s.run_id, s.cluster, s.node, s.cpu_used_millicores, s.cpu_allocatable_millicores, s.memory_used_mib,
           s.memory_allocatable_mib, s.be_pods
    FROM node_sample s WHERE s.run_id IS NOT NULL
)
SELECT of_run AS run_id, cluster, node,
       avg(cpu_used_millicores) / nullif(avg(cpu_allocatable_millicores), 0) AS cpu,
       avg(memory_used_mib) / nullif(avg(memory_allocatable_mib), 0) AS memory,
       avg(be_pods) AS be_pods, count(*) AS samples
FROM sampled GROUP BY of_run, cluster, node
"""

SYSTEM_COMPARISON = f"""
CREATE VIEW system_comparison AS
WITH counted AS (
    SELECT run_id FROM run WHERE kind <> 'simulated'
    UNION ALL
    SELECT * FROM (SELECT DISTINCT ON (fleet_hash, trace_source, system, seed) run_id FROM run
                   WHERE kind = 'simulated' AND status = '{RunStatus.COMPLETED}'
                   ORDER BY fleet_hash, trace_source, system, seed, run_id DESC) newest
)
SELECT r.kind, r.fleet, r.fleet_hash, r.trace_source, r.system, count(*) FILTER (WHERE m.name = 'lc_qos_rate') AS runs,
       avg(m.value) FILTER (WHERE m.name = 'lc_qos_rate') AS lc_qos_rate,
       avg(m.value) FILTER (WHERE m.name = 'lc_latency_p99_ms') AS lc_latency_p99_ms,
       avg(m.value) FILTER (WHERE m.name = 'be_cpu_seconds_per_s') AS be_cpu_seconds_per_s,
       avg(m.value) FILTER (WHERE m.name = 'utilization_cpu') AS utilization_cpu
FROM counted JOIN run r USING (run_id) JOIN run_metric m USING (run_id)
GROUP BY r.kind, r.fleet, r.fleet_hash, r.trace_source, r.system
"""

ATTEMPT_FAILURES = """
CREATE VIEW attempt_failures AS
SELECT run_id, service, cluster, node, outcome, reason, count(*) AS attempts, sum(work_lost_s) AS work_lost_s
FROM attempt WHERE outcome <> 'succeeded' GROUP BY run_id, service, cluster, node, outcome, reason
"""

QOS_PER_MINUTE = f"""
CREATE VIEW qos_per_minute AS
SELECT run_id, floor(due_s / 60)::int AS minute, service, count(*) AS due,
       count(*) FILTER (WHERE state IN ({_TERMINAL})) AS ended,
       count(*) FILTER (WHERE state = {_SUCCEEDED} AND finished_s - due_s <= target_s) AS in_time,
       count(*) FILTER (WHERE state = {_SUCCEEDED} AND finished_s - due_s <= target_s)::float8
           / nullif(count(*) FILTER (WHERE state IN ({_TERMINAL})), 0) AS qos_rate,
       count(*) FILTER (WHERE state = '{RequestState.SHED}') AS shed,
       count(*) FILTER (WHERE state = '{RequestState.FAILED}') AS failed,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY finished_s - due_s) FILTER (WHERE state = {_SUCCEEDED}) * 1000 AS latency_p95_ms
FROM request WHERE class = 'lc' GROUP BY run_id, 2, service
"""

NODE_PER_MINUTE = """
CREATE VIEW node_per_minute AS
WITH sampled AS (
    SELECT r.run_id AS of_run, r.started_at, s.at, s.cluster, s.node, s.cpu_used_millicores, s.cpu_allocatable_millicores,
           s.memory_used_mib, s.memory_allocatable_mib, s.be_pods, s.lc_cpu_limit_millicores, s.lc_cpu_pressure, s.lc_throttled,
           s.memory_pressure
    FROM run r JOIN node_sample s ON s.at BETWEEN r.started_at AND coalesce(r.ended_at, now())
    WHERE r.kind <> 'simulated' AND s.run_id IS NULL
    UNION ALL
    SELECT r.run_id AS of_run, r.started_at, s.at, s.cluster, s.node, s.cpu_used_millicores, s.cpu_allocatable_millicores,
           s.memory_used_mib, s.memory_allocatable_mib, s.be_pods, s.lc_cpu_limit_millicores, s.lc_cpu_pressure, s.lc_throttled,
           s.memory_pressure
    FROM run r JOIN node_sample s ON s.run_id = r.run_id
)
SELECT of_run AS run_id, floor(extract(epoch FROM at - started_at) / 60)::int AS minute, cluster, node,
       avg(cpu_used_millicores) / nullif(avg(cpu_allocatable_millicores), 0) AS cpu,
       avg(memory_used_mib) / nullif(avg(memory_allocatable_mib), 0) AS memory, avg(be_pods)::float8 AS be_pods,
       (avg(lc_cpu_limit_millicores) / nullif(avg(cpu_allocatable_millicores), 0))::float8 AS lc_limit, count(*) AS samples,
       avg(lc_cpu_pressure) AS lc_cpu_pressure, avg(lc_throttled) AS lc_throttled, avg(memory_pressure) AS memory_pressure
FROM sampled GROUP BY of_run, 2, cluster, node
"""

MISSES_BY_NODE = f"""
CREATE VIEW misses_by_node AS
SELECT run_id, service, target_cluster AS cluster, node, count(*) AS answered,
       count(*) FILTER (WHERE state <> {_SUCCEEDED} OR finished_s - due_s > target_s) AS missed,
       avg((state <> {_SUCCEEDED} OR finished_s - due_s > target_s)::int)::float8 AS miss_share,
       max(finished_s - due_s) FILTER (WHERE state = {_SUCCEEDED}) * 1000 AS worst_ms,
       count(*) FILTER (WHERE attempt > 1) AS repeated
FROM request WHERE class = 'lc' AND node IS NOT NULL AND state IN ({_TERMINAL})
GROUP BY run_id, service, target_cluster, node
"""

SLOWEST_REQUESTS = f"""
CREATE VIEW slowest_requests AS
SELECT run_id, request_id, service, cluster, target_cluster, node, attempt, due_s, finished_s,
       (finished_s - due_s) * 1000 AS latency_wall_ms, target_s * 1000 AS target_wall_ms
FROM request WHERE class = 'lc' AND state = {_SUCCEEDED}
ORDER BY finished_s - due_s DESC
"""

REQUEST_PHASES = """
CREATE VIEW request_phases AS
SELECT q.run_id, q.request_id, q.class, q.service, q.cluster, q.target_cluster, q.node, q.state, q.attempt,
       coalesce(l.decision_id, q.decision_id) AS decision_id, q.due_s, q.target_s,
       coalesce(f.released_s, l.released_s, q.released_s) AS released_s, coalesce(l.dispatched_s, q.dispatched_s) AS dispatched_s,
       l.sent_s, coalesce(l.started_s, q.started_s) AS started_s, coalesce(l.finished_s, q.finished_s) AS finished_s,
       extract(epoch FROM l.ended_at - r.started_at)::float8 AS settled_s,
       coalesce(f.released_s, l.released_s, q.released_s) - q.due_s AS release_s,
       coalesce(coalesce(l.released_s, q.released_s) - f.released_s, 0) AS repeat_s,
       coalesce(l.dispatched_s - l.released_s, q.dispatched_s - q.released_s) AS dispatch_s,
       l.sent_s - l.dispatched_s AS send_s,
       coalesce(l.started_s, q.started_s) - coalesce(l.sent_s, l.dispatched_s, q.dispatched_s) AS start_s,
       coalesce(l.finished_s, q.finished_s) - coalesce(l.started_s, q.started_s) AS serve_s,
       extract(epoch FROM l.ended_at - r.started_at)::float8 - coalesce(l.finished_s, q.finished_s) AS settle_s
FROM run r JOIN request q USING (run_id)
LEFT JOIN attempt l ON l.run_id = q.run_id AND l.request_id = q.request_id AND l.epoch = q.epoch
LEFT JOIN attempt f ON f.run_id = q.run_id AND f.request_id = q.request_id AND f.epoch = 1 AND q.epoch > 1
WHERE r.kind <> 'simulated'
"""
"""LC requests of which no attempt has ended have no times but that of their due: those stay in their journal until then."""

QUEUE_POSITION = f"""
CREATE VIEW queue_position AS
SELECT run_id, request_id, class, service, cluster, state,
       row_number() OVER (PARTITION BY class, CASE WHEN class = 'lc' THEN cluster END
                          ORDER BY due_s, run_id, request_id) AS position
FROM request WHERE state IN ({", ".join(f"'{state}'" for state in WAITING)})
  AND run_id = ANY (ARRAY(SELECT run_id FROM run WHERE kind <> 'simulated' AND status IN ({", ".join(f"'{status}'" for status in OPEN)})))
"""
"""Requests of a run that is being cancelled wait for nobody: they are in no other's way."""

SHADOW_SUMMARY = """
CREATE VIEW shadow_summary AS
SELECT s.candidate, max(c.name) AS name, s.live, s.policy, count(*) AS ticks, count(*) FILTER (WHERE s.skipped) AS skipped,
       coalesce(sum(s.considered) FILTER (WHERE NOT s.skipped), 0) AS considered,
       coalesce(sum(s.live_placed) FILTER (WHERE NOT s.skipped), 0) AS live_placed,
       coalesce(sum(s.candidate_placed) FILTER (WHERE NOT s.skipped), 0) AS candidate_placed,
       coalesce(sum(s.different) FILTER (WHERE NOT s.skipped), 0) AS different,
       sum(s.different) FILTER (WHERE NOT s.skipped)::float8 / nullif(sum(s.considered) FILTER (WHERE NOT s.skipped), 0)
           AS share_different,
       sum(s.live_cpu_share * s.live_placed) FILTER (WHERE NOT s.skipped)
           / nullif(sum(s.live_placed) FILTER (WHERE NOT s.skipped), 0) AS live_cpu_share,
       sum(s.candidate_cpu_share * s.candidate_placed) FILTER (WHERE NOT s.skipped)
           / nullif(sum(s.candidate_placed) FILTER (WHERE NOT s.skipped), 0) AS candidate_cpu_share,
       avg(s.live_ms) FILTER (WHERE NOT s.skipped) AS live_ms, avg(s.candidate_ms) FILTER (WHERE NOT s.skipped) AS candidate_ms,
       min(s.at) AS first_at, max(s.at) AS last_at
FROM shadow_decision s LEFT JOIN checkpoint c ON c.digest = s.candidate
GROUP BY s.candidate, s.live, s.policy
"""

TENANT_SUMMARY = f"""
CREATE VIEW tenant_summary AS
SELECT q.run_id, coalesce(q.tenant, r.tenant) AS tenant, q.class, count(*) AS requests,
       count(*) FILTER (WHERE q.state NOT IN ({_TERMINAL})) AS live,
       count(*) FILTER (WHERE q.state = {_SUCCEEDED}) AS succeeded,
       count(*) FILTER (WHERE q.state = '{RequestState.FAILED}') AS failed,
       coalesce(sum(q.cpu_work_s * r.speed) FILTER (WHERE q.state = {_SUCCEEDED}), 0) AS cpu_work_s,
       sum(q.finished_s - q.due_s) FILTER (WHERE q.state = {_SUCCEEDED}) / nullif(count(*) FILTER (WHERE q.state = {_SUCCEEDED}), 0)
           * 1000 AS mean_latency_wall_ms
FROM request q JOIN run r USING (run_id) GROUP BY q.run_id, 2, q.class
"""

VIEWS = (
    RUN_SUMMARY,
    SERVICE_QOS,
    NODE_UTILIZATION,
    SYSTEM_COMPARISON,
    ATTEMPT_FAILURES,
    QOS_PER_MINUTE,
    NODE_PER_MINUTE,
    MISSES_BY_NODE,
    SLOWEST_REQUESTS,
    REQUEST_PHASES,
    QUEUE_POSITION,
    SHADOW_SUMMARY,
    TENANT_SUMMARY,
)
VIEW_NAMES = tuple(view.split()[2] for view in VIEWS)

_OF_RUNS = (
    "run_id",
    "kind",
    "name",
    "status",
    "system",
    "fleet",
    "seed",
    "speed",
    "submitted_at",
    "started_at",
    "ended_at",
    "accepted",
    *_COUNTED,
    "lc_ended",
    "lc_in_time",
    *_MEASURED,
)
_SHADOW = (
    "candidate name live policy ticks skipped considered live_placed candidate_placed different share_different live_cpu_share "
    "candidate_cpu_share live_ms candidate_ms first_at last_at"
)
VIEW_COLUMNS: dict[str, tuple[str, ...]] = {
    name: tuple(columns.split())
    for name, columns in {
        "run_summary": " ".join(_OF_RUNS),
        "service_qos": "run_id service arrived target_ms qos_rate latency_p50_ms latency_p95_ms latency_p99_ms",
        "node_utilization": "run_id cluster node cpu memory be_pods samples",
        "system_comparison": (
            "kind fleet fleet_hash trace_source system runs lc_qos_rate lc_latency_p99_ms be_cpu_seconds_per_s utilization_cpu"
        ),
        "attempt_failures": "run_id service cluster node outcome reason attempts work_lost_s",
        "qos_per_minute": "run_id minute service due ended in_time qos_rate shed failed latency_p95_ms",
        "node_per_minute": (
            "run_id minute cluster node cpu memory be_pods lc_limit samples lc_cpu_pressure lc_throttled memory_pressure"
        ),
        "misses_by_node": "run_id service cluster node answered missed miss_share worst_ms repeated",
        "slowest_requests": (
            "run_id request_id service cluster target_cluster node attempt due_s finished_s latency_wall_ms target_wall_ms"
        ),
        "request_phases": (
            "run_id request_id class service cluster target_cluster node state attempt decision_id "
            "due_s target_s released_s dispatched_s sent_s started_s finished_s settled_s "
            "release_s repeat_s dispatch_s send_s start_s serve_s settle_s"
        ),
        "queue_position": "run_id request_id class service cluster state position",
        "shadow_summary": _SHADOW,
        "tenant_summary": "run_id tenant class requests live succeeded failed cpu_work_s mean_latency_wall_ms",
    }.items()
}
"""By name of a view: its columns in order, which only PostgreSQL could tell otherwise. A test holds them to it."""
