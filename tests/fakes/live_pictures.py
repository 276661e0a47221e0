"""Pictures of a fleet, made by hand, for whatever shows them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tango.domain.live_view import (
    ClusterHeard,
    DecisionsLately,
    LiveLately,
    LiveNodes,
    LiveNow,
    LiveRun,
    QueuedWork,
    SeenDecision,
    ServiceLately,
    with_sums,
)

AT_S = 1_700_000_000.0
MEASURED = ("cpu_used_millicores", "memory_used_mib", "lc_cpu_pressure", "memory_pressure")


def nodes_of(cluster: str, count: int, **columns: Any) -> LiveNodes:
    """Nodes n1 … of four cores, ready and empty but for what `columns` says of all."""
    values: dict[str, Any] = {
        "cluster": (cluster,) * count,
        "name": tuple(f"n{k + 1}" for k in range(count)),
        "zone": ("",) * count,
        "ready": np.ones(count, bool),
        "schedulable": np.ones(count, bool),
        "cpu_millicores": np.full(count, 4000, np.int64),
        "memory_mib": np.full(count, 8192, np.int64),
        "pods_most": np.full(count, 110, np.int64),
        **{name: np.full(count, np.nan) for name in MEASURED},
    }
    for name in LiveNodes.__dataclass_fields__:
        values.setdefault(name, np.zeros(count, np.int64))
    return LiveNodes(**(values | {name: np.asarray(column) for name, column in columns.items()}))


def picture(*, nodes: int = 2, runs: int = 1, **changed: Any) -> LiveNow:
    """A cluster c1 with a run on it; `changed` are fields of `LiveNow`."""
    of = nodes_of("c1", nodes, cpu_lc_millicores=np.full(nodes, 2000), cpu_be_millicores=np.full(nodes, 1000))
    heard = ClusterHeard(name="c1", is_away=False, age_s=0.2, lc_under_way=7, lc_late=0)
    values: dict[str, Any] = {
        "at_s": AT_S,
        "fleet": "demo",
        "clusters": with_sums([heard], of),
        "nodes": of,
        "queue": (QueuedWork(service_class="be", service="batch", cluster="c1", state="pending", requests=12, oldest_s=75.0),),
        "queue_is_cut": False,
        "tenants": (),
        "runs": tuple(run_of(run_id) for run_id in range(runs, 0, -1)),
        "paused": (),
        "decisions": (decision_of(),),
        "scaling": (),
    }
    return LiveNow(**(values | changed))


def run_of(run_id: int, **changed: Any) -> LiveRun:
    """Half done."""
    values: dict[str, Any] = {
        "run_id": run_id,
        "kind": "replayed",
        "name": f"trace {run_id}",
        "status": "running",
        "system": "tango",
        "speed": 1.0,
        "span_s": 60.0,
        "elapsed_s": 30.0,
        "accepted": 200,
        "to_come": 80,
        "waiting": 12,
        "in_flight": 8,
        "succeeded": 95,
        "lost": 5,
        "lc_ended": 80,
        "lc_in_time": 76,
        "be_ended": 20,
        "be_succeeded": 19,
    }
    return LiveRun(**(values | changed))


def decision_of(**changed: Any) -> SeenDecision:
    """A placement."""
    values: dict[str, Any] = {
        "at_s": AT_S - 1.0,
        "kind": "be",
        "cluster": "",
        "policy": "dcg-be",
        "checkpoint": "0123456789abcdef",
        "considered": 12,
        "placed": 9,
        "unplaced": 3,
        "late": 0,
        "shed": 0,
        "snapshot_ms": 1.0,
        "decide_ms": 3.0,
        "apply_ms": 2.0,
        "note": "",
    }
    return SeenDecision(**(values | changed))


def lately_of(**changed: Any) -> LiveLately:
    """A service that missed a quarter in its last ten seconds."""
    web = ServiceLately(
        service="web",
        service_class="lc",
        target_ms=100.0,
        ended=200,
        in_time=150,
        lost=30,
        latency_p50_ms=40.0,
        latency_p95_ms=140.0,
        ended_by_bucket=(100, 100),
        in_time_by_bucket=(100, 50),
        tenant="blue",
    )
    decided = DecisionsLately(
        kind="be",
        policy="dcg-be",
        checkpoint="0123456789abcdef",
        cycles=60,
        considered=100,
        placed=90,
        unplaced=10,
        shed=0,
        decide_p50_ms=3.0,
        decide_p99_ms=9.0,
        whole_p99_ms=20.0,
    )
    values: dict[str, Any] = {"at_s": AT_S, "window_s": 300.0, "bucket_s": 10.0, "services": (web,), "decisions": (decided,)}
    return LiveLately(**(values | changed))
