"""What every table, view and column holds: the texts of `COMMENT ON`, of `tango sql --schema` and of docs/schema.md.

A column that means the same wherever it stands is described once, in `COMMON`. A test holds all of it to the tables and views.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class Described(NamedTuple):
    """A table or view."""

    group: str
    """Heading under which it is listed, one of `GROUPS`."""
    row: str
    """What a row is."""
    columns: dict[str, str]
    """By name of the column; those of `COMMON` are left out where they mean what they mean everywhere."""


GROUPS = ("Runs", "Requests and jobs", "Decisions", "Fleet", "Journals", "Checkpoints", "Coordination")

COMMON = {
    "run_id": "Number of the run.",
    "request_id": "Number of the request within its run.",
    "class": "`lc` or `be`.",
    "service": "Name of the service.",
    "cluster": "Name of the cluster.",
    "target_cluster": "Cluster in which it runs or ran; the last attempt's.",
    "node": "Name of the node, unique within its cluster.",
    "pod": "Name of the pod.",
    "epoch": "Counts claims; a result that bears an older one is refused.",
    "owner": "HOST:PID of the process that holds the claim.",
    "lease_until": "Until when the claim holds if it is not renewed.",
    "tenant": "Whose it is; NULL: its run's.",
    "cpu_allocatable_millicores": "CPU that pods may request there, in thousandths of a core.",
    "memory_allocatable_mib": "Memory that pods may request there, MiB.",
    "cpu_used_millicores": "Measured use of CPU, in thousandths of a core; NULL: not measured.",
    "memory_used_mib": "Measured use of memory, MiB; NULL: not measured.",
    "lc_cpu_limit_millicores": "Sum of the CPU limits of LC instances, in thousandths of a core.",
    "lc_memory_held_mib": "Memory that LC instances request, MiB.",
    "be_cpu_request_millicores": "Sum of the CPU requests of BE pods, in thousandths of a core.",
    "be_memory_held_mib": "Memory that BE pods request, MiB.",
    "be_pods": "Number of BE pods.",
    "lc_cpu_pressure": "The most of an LC pod of the share of time in which others had the CPU; NULL: no node agent told.",
    "lc_throttled": "The most of an LC pod of the share of its quota's periods in which it was used up; NULL: no node agent told.",
    "memory_pressure": "Share of time in which the node's tasks, or an LC pod's, waited for memory; NULL: no node agent told.",
    "policy": "Name of the policy that decided; that of the fallback where another was asked and failed.",
    "run_ids": "Runs whose requests were considered.",
    "considered": "Requests that were decided on.",
    "system": "Name of the system, or `LC/BE/SHARING`.",
    "fleet": "Name of the fleet.",
    "fleet_hash": "First digits of the SHA-256 of the fleet's declaration.",
    "trace_source": "File of the trace; of a simulated run its workload, variation, duration and changed settings.",
    "at": "When it was.",
}

_RUN_COUNTS = {
    "succeeded": "Requests that succeeded.",
    "failed": "Requests that failed for good.",
    "shed": "Requests that were given up because they could not meet their target.",
    "cancelled": "Requests that were cancelled.",
    "live": "Requests that are not terminal. NULL here and in the columns before: a simulation that goes on.",
    "lc_ended": "LC requests that are terminal; NULL: a simulation whose requests are not kept.",
    "lc_in_time": "Of those, how many were answered within their target.",
}
_RUN_METRICS = {
    "lc_qos_rate": "Share of the LC requests of the measured span that were answered within their target; 0 to 1.",
    "lc_latency_p95_ms": "95th percentile of LC latency from due time, ms of trace time.",
    "lc_latency_p99_ms": "99th percentile of LC latency from due time, ms of trace time.",
    "be_completed": "BE requests that were completed in the measured span.",
    "be_cpu_seconds_per_s": "Useful CPU-seconds of BE for each second of trace time.",
    "utilization_cpu": "Useful CPU work over the CPU of the fleet; 0 to 1.",
    "evictions": "BE pods that were evicted.",
    "resizes": "LC instances that were resized in place.",
}

DICTIONARY: dict[str, Described] = {
    # ---- runs ----------------------------------------------------------------------------------------------------------------------
    "run": Described(
        "Runs",
        "A run: a trace that is replayed, what callers send (`live`), or a simulation.",
        {
            "kind": "`replayed`, `live` or `simulated`.",
            "name": "A name to find it by; by default the trace's file, of a live run its day.",
            "status": "`accepted`, `running`, `draining`, `completed`, `failed`, `cancelling` or `cancelled`.",
            "seed": "Seed of what the trace leaves open.",
            "speed": "Trace seconds for each wall second.",
            "reassure": "Whether LC instances are resized by their slack.",
            "span_s": "Length of the trace, in trace seconds.",
            "accepted": "Number of its requests; of a live run those so far.",
            "settings": "Settings that were changed for it.",
            "next_request": "First BE request that may not have been released yet.",
            "submitted_at": "When it was stored.",
            "started_at": "Its zero: times of its requests count from here. NULL: not begun.",
            "ended_at": "When its last request was terminal, or it was cancelled.",
            "closed_at": "Live runs: since when they accept nothing more.",
            "tenant": "Whose its requests are, but for those that name another.",
        },
    ),
    "run_metric": Described(
        "Runs",
        "A figure of an ended run, as `tango run show` prints it.",
        {
            "name": "Name of the figure, explained in docs/metrics.md.",
            "value": "Its value where it is a number.",
            "text": "Its value where it is a text.",
        },
    ),
    "run_figures": Described(
        "Runs",
        "The order to compute the figures of an ended run that was not simulated, its claim, and the result.",
        {
            "figures": "All figures and series as JSON; NULL: not there yet.",
            "failure": "Why there are none; empty: there are, or will be.",
        },
    ),
    "deleted_run": Described(
        "Runs",
        "A run that was deleted, with everything recorded under it.",
        {
            "kind": "`replayed`, `live` or `simulated`.",
            "name": "Name that it had.",
            "accepted": "Number of its requests.",
            "ended_at": "When it had ended.",
            "deleted_at": "When it was deleted.",
            "why": "Who or which rule asked for it.",
        },
    ),
    "run_count": Described(
        "Runs",
        "Requests of a run by class and state, as counted last; `run_count_change` has what has changed since.",
        {
            "state": "State of the requests.",
            "requests": "Their number.",
            "in_time": "Of LC that succeeded: how many within their target.",
        },
    ),
    "run_count_change": Described(
        "Runs",
        "A change that `run_count` does not have yet; the sum of both is right at every instant.",
        {
            "change_id": "Order of changes.",
            "state": "State of the requests.",
            "requests": "Added to their number; negative: they left the state.",
            "in_time": "Added to the number of those in time.",
            "cluster": "Cluster that they entered.",
        },
    ),
    "request_total": Described(
        "Runs",
        "How many requests have ended, by class, state and cluster; it only grows, and keeps what runs that were deleted had.",
        {
            "state": "State in which they ended.",
            "cluster": "Cluster that they entered.",
            "requests": "Their number.",
            "in_time": "Of LC that succeeded: how many within their target.",
        },
    ),
    "live": Described(
        "Runs",
        "One row: which system decides for what callers send.",
        {
            "scope": "Always `live`.",
            "run_name": "Name of the run that requests go into; empty: one for each day.",
            "reassure": "Whether LC instances are resized by their slack.",
            "wanted": "Whether somebody has sent requests and a run is to be opened.",
            "changed_at": "When it was changed last.",
        },
    ),
    "number_block": Described(
        "Runs",
        "Numbers for the requests of a live run, given out to one cluster.",
        {
            "first": "First number of the block.",
            "last": "Last number of the block.",
            "cluster": "Cluster that has it; NULL: the centre, for jobs.",
            "used": "How many of the centre's have been given out.",
        },
    ),
    "simulation": Described(
        "Runs",
        "A cell of a comparison that workers compute: its claim and its result.",
        {
            "key": "SHA-256 of the cell and all that its result depends on.",
            "cell": "The cell as JSON.",
            "record": "Whether requests, decisions and samples are kept too.",
            "published": "How often it was announced to workers.",
            "published_at": "When that was last.",
            "result": "Its figures as JSON; NULL: not there yet.",
            "failure": "Why it failed; empty: it did not.",
        },
    ),
    "run_summary": Described(
        "Runs",
        "A run with the counts of its requests at this instant, and its most important figures, which are NULL until it has ended.",
        {
            "kind": "`replayed`, `live` or `simulated`.",
            "name": "Name of the run.",
            "status": "Where the run stands.",
            "seed": "Seed of what the trace leaves open.",
            "speed": "Trace seconds for each wall second.",
            "submitted_at": "When it was stored.",
            "started_at": "Its zero.",
            "ended_at": "When it ended.",
            "accepted": "Number of its requests.",
            **_RUN_COUNTS,
            **_RUN_METRICS,
        },
    ),
    "system_comparison": Described(
        "Runs",
        "Systems side by side: the mean of the figures of all runs of one kind, fleet and trace; of a simulation the newest of each seed.",
        {
            "kind": "`replayed`, `live` or `simulated`.",
            "runs": "Number of runs.",
            **{
                name: f"Mean over the runs: {_RUN_METRICS[name][0].lower()}{_RUN_METRICS[name][1:]}"
                for name in ("lc_qos_rate", "lc_latency_p99_ms", "be_cpu_seconds_per_s", "utilization_cpu")
            },
        },
    ),
    "service_qos": Described(
        "Runs",
        "A service in a run: how its LC requests of the measured span fared.",
        {
            "arrived": "LC requests of the measured span.",
            "target_ms": "Mean target, ms of trace time.",
            "qos_rate": "Share that was answered within its target; 0 to 1.",
            "latency_p50_ms": "Median latency from due time, ms of trace time.",
            "latency_p95_ms": "95th percentile of it.",
            "latency_p99_ms": "99th percentile of it.",
        },
    ),
    "qos_per_minute": Described(
        "Runs",
        "A service in a minute of a run: how the LC requests that were due then fared.",
        {
            "minute": "Minutes of wall time since the run's zero.",
            "due": "LC requests that were due in it.",
            "ended": "Of those, how many are terminal.",
            "in_time": "Of those, how many were answered within their target.",
            "qos_rate": "`in_time` over `ended`.",
            "shed": "How many were given up because they could not meet their target.",
            "failed": "How many failed.",
            "latency_p95_ms": "95th percentile of their latency from due time, ms of wall time.",
        },
    ),
    "node_per_minute": Described(
        "Runs",
        "A node in a minute of a run: means of what was sampled.",
        {
            "minute": "Minutes of wall time since the run's zero.",
            "cpu": "CPU used over CPU allocatable; 0 to 1.",
            "memory": "Memory used over memory allocatable; 0 to 1.",
            "be_pods": "Mean number of BE pods.",
            "lc_limit": "CPU limits of LC instances over CPU allocatable; above 1 where they may use more than there is.",
            "samples": "Number of samples.",
        },
    ),
    "node_utilization": Described(
        "Runs",
        "A node in a run: means over all samples of its time.",
        {
            "cpu": "CPU used over CPU allocatable; 0 to 1.",
            "memory": "Memory used over memory allocatable; 0 to 1.",
            "be_pods": "Mean number of BE pods.",
            "samples": "Number of samples.",
        },
    ),
    "misses_by_node": Described(
        "Runs",
        "A service on a node in a run: how many of its LC requests there missed their target.",
        {
            "cluster": "Cluster in which they ran.",
            "answered": "LC requests whose last attempt was there.",
            "missed": "Of those, how many missed their target or failed.",
            "miss_share": "`missed` over `answered`.",
            "worst_ms": "Longest latency from due time, ms of wall time.",
            "repeated": "How many needed more than one attempt.",
        },
    ),
    # ---- requests ------------------------------------------------------------------------------------------------------------------
    "request": Described(
        "Requests and jobs",
        "A request. Partitioned by run. Those of LC are copies from the journal of the cluster that they entered, as of its last shipment.",
        {
            "cluster": "Cluster that it entered.",
            "due_s": "When it was to arrive, wall seconds since the run's zero.",
            "target_s": "LC: within how many wall seconds of its due time it is to be answered.",
            "cpu_work_s": "CPU-seconds that it needs; an assumption where nobody knows.",
            "memory_mib": "Memory that it holds while it runs, MiB.",
            "state": "State, as in docs/lifecycle.md.",
            "attempt": "Number of attempts that counted against its limit.",
            "pod": "BE: the pod of its last attempt; LC: the instance.",
            "late": "LC: whether it was dispatched although it was expected to miss its target.",
            "started_s": "When the last attempt began to be served, wall seconds since the run's zero.",
            "finished_s": "When it ended well, wall seconds since the run's zero.",
            "reason": "Why it ended otherwise or waits, with the words of whoever refused it; empty: nothing to say.",
            "released_at": "BE: when it was released for placement, or last told again.",
            "released_s": "BE: since when it waits for its present attempt, wall seconds since the run's zero.",
            "dispatched_s": "BE: when its last attempt was placed, wall seconds since the run's zero.",
            "decision_id": "BE: the decision that placed it.",
        },
    ),
    "attempt": Described(
        "Requests and jobs",
        "An attempt (epoch) of a request that has ended.",
        {
            "cluster": "Cluster in which it ran.",
            "started_s": "When it began, wall seconds since the run's zero; NULL: it never did.",
            "finished_s": "When it ended, wall seconds since the run's zero.",
            "latency_s": "LC: from the request's due time to the end, wall seconds.",
            "outcome": "`succeeded`, `failed`, `requeued` (it counts), `returned` (it does not), `shed` or `cancelled`.",
            "reason": "Why it ended otherwise than well.",
            "work_lost_s": "CPU-seconds that were done and thrown away.",
            "ended_at": "When the end was recorded.",
            "released_s": "Since when the request waited for this attempt, wall seconds since the run's zero.",
            "dispatched_s": "When its node was decided on, wall seconds since the run's zero.",
            "sent_s": "LC: when its instance was called, wall seconds since the run's zero; NULL: not known.",
            "decision_id": "The decision that sent it there.",
        },
    ),
    "job": Described(
        "Requests and jobs",
        "What a job has beside its request: what was asked for, and how it ended.",
        {
            "tenant": "Who submitted it.",
            "idempotency_key": "The key that it was submitted under; the same key twice is one job.",
            "command": "Its command, in place of the template's; NULL: the template's.",
            "args": "Its arguments; NULL: the template's.",
            "env": "Variables of its own, a list of [name, value].",
            "deadline_s": "Seconds that an attempt may take; NULL: no limit.",
            "retries": "How often a failure of its own is retried.",
            "retries_used": "How often it has been.",
            "retry_on": "Exit codes that are retried; empty: any.",
            "priority": "Order within its tenant, the highest first.",
            "by_local_user": "Whether it came from the local user, whose commands local processes may run.",
            "submitted_at": "When it was submitted.",
            "ended_at": "When it ended for good.",
            "exit_code": "Of its own container, at the last attempt.",
            "message": "The container's termination message.",
            "containers": "A list of {name, exit_code, reason}.",
            "waiting": "Why the pod of the attempt `waiting_epoch` has not started, in Kubernetes' words.",
            "waiting_epoch": "The attempt of which `waiting` speaks.",
        },
    ),
    "job_log": Described(
        "Requests and jobs",
        "The end of the log of one container of an attempt of a job.",
        {
            "container": "Name of the container.",
            "tail": "Its last bytes.",
            "is_whole": "Whether that is all of it.",
            "kept_at": "When it was kept.",
        },
    ),
    "attempt_failures": Described(
        "Requests and jobs",
        "Attempts of a service on a node in a run that ended otherwise than well, by reason.",
        {
            "cluster": "Cluster in which they ran.",
            "outcome": "What became of the attempt, as in `attempt`.",
            "reason": "Why; `evicted`: BE gave way to LC.",
            "attempts": "Number of attempts.",
            "work_lost_s": "CPU-seconds that were done and thrown away.",
        },
    ),
    "slowest_requests": Described(
        "Requests and jobs",
        "LC requests that succeeded, the slowest first.",
        {
            "cluster": "Cluster that it entered.",
            "attempt": "Number of attempts.",
            "due_s": "When it was to arrive, wall seconds since the run's zero.",
            "finished_s": "When it was answered, wall seconds since the run's zero.",
            "latency_wall_ms": "From due time to answer, ms of wall time.",
            "target_wall_ms": "Its target, ms of wall time.",
        },
    ),
    "request_phases": Described(
        "Requests and jobs",
        "A request of a run that was not simulated: its way in time, and how long each part of it took. NULL: not known, or not yet.",
        {
            "cluster": "Cluster that it entered.",
            "state": "State, as in docs/lifecycle.md.",
            "attempt": "Number of attempts that counted against its limit.",
            "decision_id": "The decision that sent its last attempt where it went.",
            "due_s": "When it was to arrive, wall seconds since the run's zero, as all instants here.",
            "target_s": "LC: within how many wall seconds of its due time it is to be answered.",
            "released_s": "When it was released first.",
            "dispatched_s": "When the node of its last attempt was decided on.",
            "sent_s": "LC: when the instance was called.",
            "started_s": "When it began to be served.",
            "finished_s": "When it was answered, or its pod had ended.",
            "settled_s": "When that was recorded.",
            "release_s": "Seconds from due to released: how late Tango was.",
            "repeat_s": "Seconds that attempts before the last one took.",
            "dispatch_s": "Seconds from released, for the last attempt, to dispatched.",
            "send_s": "LC: seconds from dispatched to sent.",
            "start_s": "Seconds to started: the network and the queue of an instance, or a pod's creation and start.",
            "serve_s": "Seconds from started to finished.",
            "settle_s": "Seconds from finished to settled, for which nobody waits.",
        },
    ),
    "queue_position": Described(
        "Requests and jobs",
        "A request of an open run that waits, with its place in the queue.",
        {
            "cluster": "Cluster that it entered.",
            "state": "State in which it waits.",
            "position": "1: the next; of LC within its entry cluster, of BE in the whole fleet, by due time.",
        },
    ),
    "tenant_summary": Described(
        "Requests and jobs",
        "What a tenant had of a run, by class; of simulations only where their requests were kept.",
        {
            "tenant": "Who sent the requests, or whose run it is.",
            "requests": "Requests of the tenant.",
            "live": "Those that are not terminal.",
            "succeeded": "Those that succeeded.",
            "failed": "Those that failed for good.",
            "cpu_work_s": "CPU-seconds of those that succeeded, in trace time.",
            "mean_latency_wall_ms": "Their mean time from due to answered or ended, ms of wall time.",
        },
    ),
    # ---- decisions -----------------------------------------------------------------------------------------------------------------
    "decision": Described(
        "Decisions",
        "A scheduling cycle: how many requests were decided on, by whom, and how long it took.",
        {
            "decision_id": "Number of the decision.",
            "sequence": "LC: its number among the events of its cluster's journal; NULL: BE, or simulated.",
            "kind": "`lc`: a dispatch; `be`: a placement.",
            "cluster": "LC: the cluster that dispatched; BE: empty.",
            "checkpoint": "First digits of the digest of the network that decided; empty: none did.",
            "placed": "Requests that got a node.",
            "unplaced": "Requests that did not, and wait on.",
            "late": "LC requests that were dispatched although expected to be late.",
            "shed": "LC requests that were given up.",
            "snapshot_ms": "Time to gather what is known of the fleet, ms.",
            "decide_ms": "Time of the policy, ms.",
            "apply_ms": "Time to record the plan and call Kubernetes, ms.",
            "note": "What was remarkable: why a fallback decided, what was refused.",
            "weighed": "Candidates of some of its requests: `run_id`, `request_id`, `epoch`, `chosen`, and the best few nodes with "
            "`price`, `parts` (pairs) and why they were `refused`; NULL: none are kept.",
        },
    ),
    "scaling_event": Described(
        "Decisions",
        "A resize of an LC instance, or an eviction of a BE pod to make room for one.",
        {
            "event_id": "Order of events.",
            "kind": "`resize` or `evict`.",
            "service": "Service of the pod.",
            "before_millicores": "CPU limit before, in thousandths of a core.",
            "after_millicores": "CPU limit after it.",
            "after_request_millicores": "CPU request that was asked for; NULL: of an eviction, a simulated run or an older Tango.",
            "slack": "1 - tail latency / target of the service there, by which it was decided.",
            "reason": "Why.",
            "spared": "Of an eviction, the BE pods there that stayed: `pod`, `service`, `work_lost_s` (CPU-seconds that its eviction "
            "would have thrown away) and `why`; at most 20. NULL: nobody else was there, a resize, a simulated run, or an older Tango.",
            "actuation_ms": "From the call to the change as the kubelet reports it, ms; NULL: it never came.",
            "outcome": "`done`, `deferred`, `infeasible`, `refused` (by the cluster, for a reason of its own) or `error`.",
            "run_id": "Of a simulated run; NULL: of the live fleet, whose events belong to the runs of their time.",
        },
    ),
    # ---- fleet ---------------------------------------------------------------------------------------------------------------------
    "fleet": Described(
        "Fleet",
        "The fleet in force, one row.",
        {
            "name": "Its name.",
            "hash": "SHA-256 of the declaration.",
            "declaration": "YAML text as declared.",
            "declared_at": "When it was declared.",
        },
    ),
    "cluster": Described(
        "Fleet",
        "A cluster, embedded or joined; never credentials.",
        {
            "name": "Its name.",
            "position": "Order in listings and in the numbering of clusters.",
            "kubeconfig": "Path of the file with its context.",
            "context": "Name of the context.",
            "embedded": "Whether it belongs to the fleet that `tango up` started.",
            "joined_at": "When it joined.",
            "seen_at": "As of when nodes and pods are known.",
            "back_at": "Since when they are known again after they were not.",
            "lc_under_way": "LC requests under way that entered there, as last told.",
            "lc_late": "Of those, how many are late, or wait long for their dispatch.",
            "agent_at": "When its agent was last heard of; later than `seen_at` where its API server is away.",
        },
    ),
    "link": Described(
        "Fleet",
        "The network between two clusters.",
        {
            "from_cluster": "From here.",
            "to_cluster": "To there.",
            "rtt_ms": "Round-trip time, ms.",
            "bandwidth_mbit_per_s": "Bandwidth, Mbit/s.",
        },
    ),
    "node": Described(
        "Fleet",
        "A node as its cluster's agent last saw it.",
        {
            "name": "Name of the node, unique within its cluster.",
            "ready": "Whether it is Ready.",
            "lc_cpu_request_millicores": "Sum of the CPU requests of LC instances, in thousandths of a core.",
            "be_cpu_limit_millicores": "Sum of the CPU limits of BE pods, in thousandths of a core.",
            "observed_at": "When it was seen.",
            "pods_allocatable": "Pods that it may have.",
            "lc_pods": "Number of LC instances.",
            "extended": "By the name of an extended resource: allocatable, lc_held and be_held, in thousandths of one.",
            "schedulable": "Whether it may get new pods: not cordoned, tainted or under pressure.",
            "other_cpu_request_millicores": "CPU requests of pods that are not Tango's, in thousandths of a core.",
            "other_memory_held_mib": "Memory that pods of others request, MiB.",
            "other_pods": "Number of pods of others.",
            "lc_awaited": "By service: LC instances that are to be made there and are not there yet.",
            "zone": "Of its label topology.kubernetes.io/zone; empty: it has none.",
            "region": "Of its label topology.kubernetes.io/region; empty: it has none.",
        },
    ),
    "node_sample": Described(
        "Fleet",
        "A node at an instant: the series behind reports.",
        {
            "at": "When it was sampled.",
            "run_id": "Of a simulated run; NULL: of the live fleet, whose samples belong to the runs of their time.",
            "extended": "By the name of an extended resource: allocatable and held, in thousandths of one.",
        },
    ),
    "host_sample": Described(
        "Fleet",
        "How far the CPU of a host was used for a second in which anything was to be served, as an agent there saw it.",
        {
            "at": "When it was written.",
            "host": "Name of the host.",
            "used": "Share of its CPU time that was not idle, whoever used it, stolen time included.",
            "stolen": "Share of its CPU time that a hypervisor gave to others.",
        },
    ),
    "node_report": Described(
        "Fleet",
        "What the agent of a node measured and did, kept for a week.",
        {"at": "When it reported.", "report": "Pressure, throttling, real use and quotas as JSON (docs/operations/node-agent.md)."},
    ),
    "service": Described(
        "Fleet",
        "A service that is declared.",
        {
            "name": "Its name.",
            "target_ms": "LC: the latency within which requests are to be answered, ms.",
            "spec": "All of its fields as JSON.",
            "declared_at": "When it was declared as it is.",
            "tenant": "Whose it is.",
        },
    ),
    "service_namespace": Described(
        "Fleet",
        "Namespaces of services, watched for a week after no declaration names them any more.",
        {
            "name": "Namespace.",
            "declared_at": "When a declaration that names it was last made, changed or withdrawn.",
        },
    ),
    "service_usage": Described(
        "Fleet",
        "What the pods of a service have used in a cluster since it was declared.",
        {
            "cpu_s": "CPU-seconds.",
            "memory_mib": "Largest memory of one pod, MiB.",
            "answered": "Requests that were answered meanwhile.",
            "counted_to": "Up to when LC requests are counted.",
            "samples": "Samples of an LC instance's memory beside its requests in flight.",
            "loads": "Sum of the requests in flight of these samples.",
            "memory": "Sum of their memory, MiB.",
            "degrees": "Samples that were not the first one of their instance.",
            "load_spread": "Sum of squares of the requests in flight around the mean of their instance.",
            "both_spread": "Sum of products of requests in flight and memory, likewise.",
            "memory_spread": "Sum of squares of the memory, likewise.",
        },
    ),
    "instance": Described(
        "Fleet",
        "A pod of an LC service as its cluster's agent last saw it.",
        {
            "uid": "UID of the pod.",
            "pod_ip": "Address at which it is called.",
            "port": "Port at which it is called.",
            "ready": "Whether it is ready.",
            "cpu_request_millicores": "CPU request, in thousandths of a core.",
            "cpu_limit_millicores": "CPU limit, in thousandths of a core.",
            "memory_limit_mib": "Memory limit, MiB.",
            "restarts": "Restarts of its container.",
            "revision": "Of which declaration of its service it was made; empty: adopted, or of the synthetic workload.",
            "leaving": "Whether it is being taken away: it gets no new requests.",
            "observed_at": "When it was seen.",
        },
    ),
    "refusal": Described(
        "Fleet",
        "What a cluster, a service there or a node refuses, and until when it is paused.",
        {
            "service": "Service that it concerns; empty: all.",
            "node": "Node that it concerns; empty: all.",
            "role": "Who met it, such as scheduler or agent.",
            "kind": "Kind of the refusal, such as `quota` or `credentials`.",
            "words": "What the server said.",
            "times": "How often in a row.",
            "since": "When it was met first.",
            "paused_until": "Until when nothing is tried.",
        },
    ),
    "resize_refusal": Described(
        "Fleet",
        "A resize that a node refused for good; not asked again until something is lower or the node has grown.",
        {
            "larger_limit": "Whether a larger limit was asked for; if not, it was the CPU request.",
            "uid": "UID of the pod.",
            "limit_millicores": "Limit that was refused, in thousandths of a core.",
            "request_millicores": "Request that was refused, in thousandths of a core.",
            "allocatable_millicores": "CPU that the node had then, in thousandths of a core.",
            "at": "When it was refused.",
        },
    ),
    # ---- journals ------------------------------------------------------------------------------------------------------------------
    "lc_share": Described(
        "Journals",
        "The LC requests of a run that enter one cluster, and how far its journal has taken and told them.",
        {
            "accepted": "Their number.",
            "opened": "Whether they belong to the journal; the rows in `request` are copies from then on.",
            "handed_to": "Last request that the journal is known to have; -1: none.",
            "complete": "Whether nothing beyond that will be taken any more.",
            "terminal": "How many are terminal at the centre.",
        },
    ),
    "journal_position": Described(
        "Journals",
        "Up to which event a journal has been shipped.",
        {"journal": "Identity of the journal.", "sequence": "Number of the last event.", "shipped_at": "When that was."},
    ),
    "journal_gap": Described(
        "Journals",
        "What was lost of a cluster's journals when this centre was restored: they had shipped and forgotten it.",
        {
            "missing": "Number of events that are lost, in all.",
            "noted_at": "When the last of them were given up.",
        },
    ),
    "lc_in_flight": Described(
        "Journals",
        "LC requests in flight, as the journal of the cluster that they entered last told.",
        {
            "cluster": "Cluster that they entered.",
            "target_cluster": "Cluster in which they run.",
            "count": "Their number.",
            "scale": "Sum over them of 1 / speed of their runs.",
        },
    ),
    "centre": Described(
        "Journals", "One row: which centre this is. A journal that served another one begins anew.", {"identity": "A random text."}
    ),
    # ---- checkpoints ---------------------------------------------------------------------------------------------------------------
    "checkpoint": Described(
        "Checkpoints",
        "A registered network, without its weights.",
        {
            "checkpoint_id": "Number of the checkpoint.",
            "name": "A name to find it by; several may have one.",
            "digest": "SHA-256 of its file.",
            "format_version": "Format of the file.",
            "feature_schema": "SHA-256 of the list of features it was trained on.",
            "path": "Where it was last read from.",
            "trained": "Training configuration and validation as JSON.",
            "note": "Free text.",
            "registered_at": "When it was registered.",
            "policy": "Learned policy that it is of.",
            "code_version": "Version of Tango that trained it.",
            "scores": "Evaluations, oldest first, as JSON.",
            "size_bytes": "Size of the file; NULL: the store has no copy.",
            "refused": "Why the scheduler could not use it; empty: it could, or never tried.",
            "refused_at": "When that was.",
        },
    ),
    "checkpoint_file": Described(
        "Checkpoints", "The file of a checkpoint.", {"checkpoint_id": "Number of the checkpoint.", "content": "Its bytes."}
    ),
    "checkpoint_role": Described(
        "Checkpoints",
        "One row: which checkpoint decides, and which is in the shadow.",
        {
            "scope": "Always `be`.",
            "generation": "Grows with each change; the scheduler looks at it at each tick.",
            "live": "Digest of the promoted one; empty: the scheduler's own file decides.",
            "before": "Digests that were live before, for `tango checkpoint demote`.",
            "shadow": "Digest of the one in the shadow; empty: none.",
            "configured": "Digest of the scheduler's own file.",
            "deciding": "Digest of the one that decides now.",
            "changed_at": "When it was changed last.",
        },
    ),
    "checkpoint_event": Described(
        "Checkpoints",
        "A change of the roles.",
        {
            "event_id": "Order of events.",
            "action": "`promote`, `demote`, `shadow`, `shadow-off` or a refusal.",
            "digest": "Digest that it concerns.",
            "before": "Digest that had the role before.",
            "actor": "Who did it.",
            "note": "Why, where there is more to say.",
        },
    ),
    "shadow_decision": Described(
        "Checkpoints",
        "A tick in which a candidate decided beside the live policy; its plan was not carried out.",
        {
            "shadow_id": "Number of the row.",
            "live": "First digits of the digest that decided.",
            "candidate": "Digest of the candidate.",
            "live_placed": "Requests that the live policy placed.",
            "candidate_placed": "Requests that the candidate would have placed.",
            "different": "Requests for which the two name different nodes.",
            "live_cpu_share": "Share of its CPU limit that a request may expect on the node that the live policy chose; at most 1.",
            "candidate_cpu_share": "The same for the candidate.",
            "live_ms": "Time of the live decision, ms.",
            "candidate_ms": "Time of the candidate's, ms.",
            "skipped": "Whether the candidate did not decide.",
            "reason": "Why it did not.",
        },
    ),
    "shadow_summary": Described(
        "Checkpoints",
        "A candidate beside each live network: its ticks in the shadow.",
        {
            "candidate": "Digest of the candidate.",
            "name": "Its name.",
            "live": "First digits of the digest that decided.",
            "ticks": "Ticks.",
            "skipped": "Ticks in which it did not decide.",
            "considered": "Requests in the others.",
            "live_placed": "Requests that the live policy placed.",
            "candidate_placed": "Requests that the candidate would have placed.",
            "different": "Requests for which the two name different nodes.",
            "share_different": "`different` over `considered`.",
            "live_cpu_share": "Mean share of its CPU limit that a placed request may expect.",
            "candidate_cpu_share": "The same for the candidate.",
            "live_ms": "Mean time of the live decision, ms.",
            "candidate_ms": "Mean time of the candidate's, ms.",
            "first_at": "First tick.",
            "last_at": "Last tick.",
        },
    ),
    # ---- coordination --------------------------------------------------------------------------------------------------------------
    "lease": Described(
        "Coordination",
        "A claim of periodic work that one process at a time may do.",
        {"name": "The work.", "expires_at": "Until when the claim holds if it is not renewed."},
    ),
    "tenant": Described(
        "Coordination",
        "A tenant as declared; whoever is not here has the weight 1 and no quota.",
        {
            "name": "Name of the tenant.",
            "weight": "Its part where not all can have what they want, beside the weights of the others.",
            "quota": "The most that its BE pods may request together, by resource: millicores, MiB, thousandths of extended ones.",
            "most_jobs": "Jobs of it that may be live at a time; NULL: any number.",
            "declared_at": "When it was declared last.",
            "guarantee": "CPU that its LC may have whatever others want, and in which clusters, none: in all; NULL: it has no guarantee.",
        },
    ),
    "tenant_share": Described(
        "Coordination",
        "What the last placement of BE saw of a tenant; there are rows only while several have BE requests, or one has a quota.",
        {
            "tenant": "Name of the tenant.",
            "share": "Its dominant share: the largest share of any resource that its BE pods request, of what LC leaves; 0 to 1.",
            "weighted_share": "That over its weight; the least comes first.",
            "held": "What its BE pods request, by resource: millicores, MiB, pods, thousandths of extended resources.",
            "below_since": "Since when it waits with a smaller share than others; NULL: it does not.",
            "withheld": "Whether it gets nothing more until another that waits below its share has its next request.",
        },
    ),
    "token": Described(
        "Coordination",
        "A token by which a caller is known; only its hash is kept.",
        {
            "token_id": "Number of the token.",
            "tenant": "Tenant of whoever holds it.",
            "name": "A name to tell tokens apart.",
            "allows": "Classes whose requests the holder may send.",
            "digest": "SHA-256 of the token.",
            "tail": "Its last characters.",
            "created_at": "When it was made.",
            "revoked_at": "Since when it is valid no more.",
        },
    ),
    "operator_action": Described(
        "Coordination",
        "What somebody changed in the console: who, what, and what came of it.",
        {
            "action_id": "Order of actions.",
            "actor": "The name that whoever did it gave at the login.",
            "action": "`cancel run`, `cancel job` or `promote checkpoint`.",
            "subject": "Run, job or checkpoint.",
            "outcome": "What came of it, or why it was refused.",
        },
    ),
}


def described_columns(name: str, columns: tuple[str, ...]) -> dict[str, str]:
    """The text of each of a table's or view's columns. Raises: KeyError for one that is described nowhere."""
    own = DICTIONARY[name].columns
    return {column: own[column] if column in own else COMMON[column] for column in columns}


def dictionary_digest() -> str:
    """First digits of the SHA-256 of all texts, by which it is seen that a database has those of another version."""
    return hashlib.sha256(repr((COMMON, sorted(DICTIONARY.items()))).encode()).hexdigest()[:16]
