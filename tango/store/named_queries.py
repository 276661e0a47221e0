"""Queries that people ask again and again, by name: `tango sql @slowest --run 3`."""

from __future__ import annotations

import re
from typing import NamedTuple

from tango.domain.near_names import near_name
from tango.errors import UsageError


class NamedQuery(NamedTuple):
    """One query. `:run` in its text is the number of a run."""

    asks: str
    """The question that it answers."""
    text: str

    @property
    def needs_run(self) -> bool:
        """Whether it is about one run."""
        return ":run" in self.text


QUERIES: dict[str, NamedQuery] = {
    "runs": NamedQuery(
        "How did the latest runs fare?",
        "SELECT run_id, kind, name, status, system, accepted, live, lc_qos_rate, lc_latency_p99_ms, be_cpu_seconds_per_s, evictions, "
        "resizes FROM run_summary ORDER BY run_id DESC LIMIT 20",
    ),
    "qos": NamedQuery(
        "Which services met their targets?",
        "SELECT service, arrived, target_ms, qos_rate, latency_p50_ms, latency_p95_ms, latency_p99_ms FROM service_qos "
        "WHERE run_id = :run ORDER BY qos_rate, service",
    ),
    "qos-per-minute": NamedQuery(
        "When were targets missed?",
        "SELECT minute, service, due, in_time, qos_rate, shed, failed, latency_p95_ms FROM qos_per_minute "
        "WHERE run_id = :run ORDER BY minute, service",
    ),
    "misses": NamedQuery(
        "Where were targets missed?",
        "SELECT service, cluster, node, answered, missed, miss_share, worst_ms, repeated FROM misses_by_node "
        "WHERE run_id = :run AND missed > 0 ORDER BY missed DESC, service",
    ),
    "slowest": NamedQuery(
        "Which requests took longest?",
        "SELECT request_id, service, cluster, target_cluster, node, attempt, latency_wall_ms, target_wall_ms FROM slowest_requests "
        "WHERE run_id = :run LIMIT 20",
    ),
    "phases": NamedQuery(
        "Where did the time go, in time and late?",
        "SELECT class, service, finished_s - due_s <= target_s AS in_time, count(*) AS requests, avg(release_s) * 1000 AS release_ms, "
        "avg(repeat_s) * 1000 AS repeat_ms, avg(dispatch_s) * 1000 AS dispatch_ms, avg(send_s) * 1000 AS send_ms, "
        "avg(start_s) * 1000 AS start_ms, avg(serve_s) * 1000 AS serve_ms, avg(settle_s) * 1000 AS settle_ms "
        "FROM request_phases WHERE run_id = :run AND finished_s IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    ),
    "nodes": NamedQuery(
        "How busy were the nodes?",
        "SELECT cluster, node, cpu, memory, be_pods, samples FROM node_utilization WHERE run_id = :run ORDER BY cpu DESC NULLS LAST",
    ),
    "nodes-per-minute": NamedQuery(
        "How busy were the nodes, minute by minute?",
        "SELECT minute, cluster, node, cpu, memory, be_pods, lc_limit FROM node_per_minute WHERE run_id = :run "
        "ORDER BY minute, cluster, node",
    ),
    "failures": NamedQuery(
        "Why did attempts fail, and what did it cost?",
        "SELECT service, reason, outcome, sum(attempts) AS attempts, sum(work_lost_s) AS cpu_seconds_lost FROM attempt_failures "
        "WHERE run_id = :run GROUP BY 1, 2, 3 ORDER BY attempts DESC",
    ),
    "decisions": NamedQuery(
        "Who decided, how often, and how fast?",
        "SELECT kind, policy, count(*) AS cycles, sum(considered) AS considered, sum(placed) AS placed, sum(shed) AS shed, "
        "percentile_cont(0.5) WITHIN GROUP (ORDER BY decide_ms) AS decide_ms_p50, "
        "percentile_cont(0.99) WITHIN GROUP (ORDER BY decide_ms) AS decide_ms_p99, count(*) FILTER (WHERE note <> '') AS with_a_note "
        "FROM decision WHERE :run = ANY (run_ids) GROUP BY 1, 2 ORDER BY 1, 2",
    ),
    "notes": NamedQuery(
        "What was remarkable in decisions?",
        "SELECT kind, policy, note, count(*) AS cycles, max(at) AS last FROM decision WHERE :run = ANY (run_ids) AND note <> '' "
        "GROUP BY 1, 2, 3 ORDER BY cycles DESC LIMIT 50",
    ),
    "evictions": NamedQuery(
        "Which pods gave way to which service, and when?",
        "SELECT e.at, e.cluster, e.node, e.pod, e.service, e.reason, e.outcome FROM scaling_event e JOIN run r ON r.run_id = :run "
        "WHERE e.kind = 'evict' AND (e.run_id = r.run_id OR e.run_id IS NULL AND r.kind <> 'simulated' "
        "AND e.at BETWEEN r.started_at AND coalesce(r.ended_at, now())) ORDER BY e.at DESC LIMIT 100",
    ),
    "resizes": NamedQuery(
        "How were LC instances resized?",
        "SELECT e.service, e.outcome, count(*) AS resizes, percentile_cont(0.5) WITHIN GROUP (ORDER BY e.actuation_ms) AS p50_ms, "
        "percentile_cont(0.99) WITHIN GROUP (ORDER BY e.actuation_ms) AS p99_ms FROM scaling_event e JOIN run r ON r.run_id = :run "
        "WHERE e.kind = 'resize' AND (e.run_id = r.run_id OR e.run_id IS NULL AND r.kind <> 'simulated' "
        "AND e.at BETWEEN r.started_at AND coalesce(r.ended_at, now())) GROUP BY 1, 2 ORDER BY 1, 2",
    ),
    "deleted": NamedQuery(
        "Which runs were deleted, and why?",
        "SELECT run_id, kind, name, system, accepted, ended_at, deleted_at, why FROM deleted_run ORDER BY deleted_at DESC LIMIT 100",
    ),
    "queue": NamedQuery(
        "Who waits, and for how long?",
        "SELECT class, cluster, service, state, count(*) AS requests, min(position) AS first FROM queue_position "
        "GROUP BY 1, 2, 3, 4 ORDER BY requests DESC",
    ),
    "refusals": NamedQuery(
        "What do clusters refuse?",
        "SELECT cluster, service, node, kind, words, times, since, paused_until FROM refusal ORDER BY since DESC",
    ),
    "journals": NamedQuery(
        "How far have clusters told of their requests?",
        "SELECT cluster, sequence, shipped_at, now() - shipped_at AS age FROM journal_position ORDER BY shipped_at DESC",
    ),
}


def named_query(name: str, run_id: int | None) -> str:
    """The text of a query about a run, by default the newest. Raises: UsageError for an unknown name, or a run that it does not take."""
    if name not in QUERIES:
        raise UsageError(f"there is no query @{name}{near_name(name, QUERIES)}; `tango sql --list` shows all")
    query = QUERIES[name]
    if run_id is not None and not query.needs_run:
        raise UsageError(f"@{name} is not about one run: leave --run away")
    newest = "(SELECT max(run_id) FROM run)"
    return re.sub(r":run\b", newest if run_id is None else str(run_id), query.text)
