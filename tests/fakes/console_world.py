"""A console over a fleet that is made up: seeded figures that look like a working day, of any number of clusters and nodes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tango.console.reads import Does, Reads
from tango.domain.candidates import SECONDS, Weighed, WeighedNode, shown
from tango.domain.identity import RequestKey
from tango.domain.live_view import (
    BUCKET_S,
    WINDOW_S,
    ClusterHeard,
    DecisionsLately,
    LiveLately,
    LiveNodes,
    LiveNow,
    LiveTenant,
    QueuedWork,
    SeenScaling,
    ServiceLately,
    with_sums,
)
from tango.errors import UsageError
from tests.fakes.live_pictures import decision_of, nodes_of, run_of

SEED = 7
LC = (
    ("map-tiles", 200.0, 0.994),
    ("object-detection", 500.0, 0.981),
    ("sensor-query", 100.0, 0.968),
    ("speech-to-text", 300.0, 0.874),
)
BE = (("log-compaction", 0.99), ("model-update", 0.97), ("video-transcode", 0.93))
NODES = (24, 6, 6, 4)
"""Of the clusters of a picture."""
DIGEST = "4deacf9fd447" + "0" * 52


class WorkingDay:
    """A view whose figures move a little each time, as they do."""

    def __init__(self, nodes: Sequence[int] = NODES) -> None:
        self._of = nodes
        self._looks = 0

    def now(self) -> LiveNow:
        """Everything ready but one node that is gone and one that is closed."""
        self._looks += 1
        rng = np.random.default_rng(SEED)
        columns = [self._nodes(f"c{k + 1}", n, rng) for k, n in enumerate(self._of)]
        parts: dict[str, list[Any]] = {name: [getattr(part, name) for part in columns] for name in LiveNodes.__dataclass_fields__}
        joined: dict[str, Any] = {
            name: np.concatenate(of) if isinstance(of[0], np.ndarray) else tuple(text for part in of for text in part)
            for name, of in parts.items()
        }
        nodes = LiveNodes(**joined)
        heard = [
            ClusterHeard(name=f"c{k + 1}", is_away=False, age_s=0.3, lc_under_way=11 + 3 * k, lc_late=2 if k == 1 else 0)
            for k in range(len(self._of))
        ]
        waiting = [("video-transcode", "c1", 41, 96.0), ("model-update", "c2", 17, 31.0), ("log-compaction", "c1", 6, 4.0)]
        at_s = time.time()
        return LiveNow(
            at_s=at_s,
            fleet="testbed",
            clusters=with_sums(heard, nodes),
            nodes=nodes,
            queue=tuple(
                QueuedWork(service_class="be", service=service, cluster=cluster, state="pending", requests=n, oldest_s=age)
                for service, cluster, n, age in waiting
            ),
            queue_is_cut=False,
            tenants=(
                LiveTenant(tenant="maps", weight=3.0, share=0.31, weighted_share=0.103, below_s=12.0, withheld=False),
                LiveTenant(tenant="video", weight=1.0, share=0.42, weighted_share=0.42, below_s=None, withheld=True),
            ),
            runs=(
                run_of(12, name="afternoon", accepted=60_000, to_come=21_400, waiting=64, in_flight=93, succeeded=37_690, lost=753,
                       lc_ended=26_900, lc_in_time=25_850, be_ended=11_543, be_succeeded=11_410, elapsed_s=1_874.0, span_s=3_000.0),
                run_of(11, name="live 2026-11-30", kind="live", accepted=8_214, to_come=0, waiting=0, in_flight=4, succeeded=8_205,
                       lost=5, lc_ended=8_110, lc_in_time=8_093, span_s=0.0, elapsed_s=32_400.0),
            ),
            paused=(),
            decisions=tuple(
                decision_of(at_s=at_s - k, kind="be" if k % 3 == 0 else "lc", policy="dcg-be" if k % 3 == 0 else "dss-lc",
                            cluster="" if k % 3 == 0 else f"c{k % 4 + 1}", considered=3 + k % 5, placed=3 + k % 4, unplaced=0)
                for k in range(15)
            ),
            scaling=tuple(
                SeenScaling(at_s=at_s - 4 * k, kind="resize" if k % 4 else "evict", cluster="c1", node=f"n{k + 1}",
                            service="speech-to-text", pod=f"lc-speech-to-text-n{k + 1}-0", before_millicores=1500,
                            after_millicores=2500, reason="grow" if k % 4 else "lc-needs-cpu", outcome="done", actuation_ms=138.0 + k)
                for k in range(8)
            ),
        )  # fmt: skip

    def _nodes(self, cluster: str, n: int, rng: np.random.Generator) -> LiveNodes:
        whole = np.full(n, 8000, np.int64)
        lc = np.rint(whole * rng.uniform(0.12, 0.4, n)).astype(np.int64)
        be = np.rint((whole - lc) * rng.uniform(0.05, 0.85, n)).astype(np.int64)
        ready, schedulable = np.ones(n, bool), np.ones(n, bool)
        if cluster == "c1":
            ready[min(17, n - 1)], schedulable[min(5, n - 1)] = False, False
        return nodes_of(
            cluster, n, cpu_millicores=whole, cpu_lc_millicores=lc, cpu_be_millicores=be, cpu_other_millicores=np.full(n, 200),
            cpu_used_millicores=(lc * 0.7 + be * 0.8), memory_mib=np.full(n, 16_384), memory_lc_mib=np.full(n, 3_300),
            memory_be_mib=np.rint(be * 0.9).astype(np.int64), pods_lc=np.full(n, 4), pods_be=be // 900, ready=ready,
            schedulable=schedulable,
        )  # fmt: skip

    def lately(self) -> LiveLately:
        """Three services that keep their targets, and one that lost some of its time."""
        rng = np.random.default_rng(SEED)
        buckets = round(WINDOW_S / BUCKET_S)
        services = []
        for name, target_ms, rate in LC:
            ended = rng.integers(300, 420, buckets)
            dip = np.where(np.arange(buckets) > 20, 3.2, 0.6) if rate < 0.9 else np.ones(buckets)
            good = np.rint(ended * np.clip(1 - (1 - rate) * dip * rng.uniform(0.5, 1.4, buckets), 0, 1)).astype(int)
            services.append(_service(name, "lc", target_ms, ended, good))
        for name, rate in BE:
            ended = rng.integers(4, 30, buckets)
            services.append(_service(name, "be", None, ended, np.rint(ended * rate).astype(int)))
        common = {"considered": 0, "unplaced": 0, "shed": 0}
        decided = (
            DecisionsLately(kind="be", policy="dcg-be", checkpoint=DIGEST, cycles=598, placed=2_114, decide_p50_ms=3.1,
                            decide_p99_ms=9.4, whole_p99_ms=31.0, **common | {"considered": 2_180, "unplaced": 66}),
            DecisionsLately(kind="lc", policy="dss-lc", checkpoint="", cycles=4_410, placed=42_300, decide_p50_ms=0.4,
                            decide_p99_ms=1.6, whole_p99_ms=4.2, **common | {"considered": 42_307, "shed": 7}),
        )  # fmt: skip
        return LiveLately(at_s=time.time(), window_s=WINDOW_S, bucket_s=BUCKET_S, services=tuple(services), decisions=decided)


def _service(name: str, kind: str, target_ms: float | None, ended: Any, good: Any) -> ServiceLately:
    return ServiceLately(
        service=name,
        service_class=kind,
        target_ms=target_ms,
        ended=int(ended.sum()),
        in_time=int(good.sum()),
        lost=int((ended - good).sum()) // (4 if kind == "lc" else 1),
        latency_p50_ms=0.4 * target_ms if target_ms else 2_300.0,
        latency_p95_ms=(0.86 if good.sum() / ended.sum() > 0.9 else 1.3) * target_ms if target_ms else 5_400.0,
        ended_by_bucket=tuple(int(n) for n in ended),
        in_time_by_bucket=tuple(int(n) for n in good),
        tenant="vision" if name.startswith("a") else "default",
    )


NAMES = ("postgres", "broker", "apiserver", "kubelet", "agent", "worker-1", "worker-2", "gateway", "scheduler", "replayer",
         "simulator", "beat", "flower", "console", "metrics")  # fmt: skip


def processes(*down: str) -> list[dict[str, Any]]:
    """All run but those that are named."""
    return [
        {"name": name, "role": name.partition("-")[0], "pid": None if name in down else 4100 + k,
         "state": "backing off" if name in down else "running", "restarts": int(name in down), "ended_s": 1.0 if name in down else None}
        for k, name in enumerate(NAMES)
    ]  # fmt: skip


def _runs() -> list[dict[str, Any]]:
    at_s = time.time()
    return [
        {"run": k, "kind": "live" if k == 11 else "replayed", "name": name, "status": status, "system": system, "fleet": "testbed",
         "started_at_s": at_s - 4_000 * (13 - k), "duration_s": 1_800.0 + 90 * k, "accepted": 60_000, "lc_qos_rate": qos,
         "be_cpu_seconds_per_s": be, "seed": 1, "speed": 1.0}
        for k, name, status, system, qos, be in (
            (12, "afternoon", "running", "tango", None, None), (11, "live 2026-11-30", "running", "tango", None, None),
            (10, "morning", "completed", "tango", 0.971, 41.8), (9, "morning", "completed", "k8s-native", 0.812, 30.2),
            (8, "morning", "completed", "load-greedy", 0.948, 40.1), (7, "night", "cancelled", "ceres", 0.902, 22.4))
    ]  # fmt: skip


def _request(key: RequestKey) -> dict[str, Any]:
    phases = {"release_s": 0.004, "repeat_s": 0.0, "dispatch_s": 0.012, "send_s": 0.006, "start_s": 0.021, "serve_s": 0.094}
    return {
        "run_id": key.run_id, "request_id": key.request_id, "class": "lc", "service": "speech-to-text", "cluster": "c2",
        "target_cluster": "c1", "node": "n7", "state": "succeeded", "attempt": 1, "decision_id": 918, "due_s": 61.0, "target_s": 0.3,
        "finished_s": 61.137, "reason": "", "late": False, "speed": 1.0, "settle_s": 0.002, **phases,
        "explanation": {"reason": "Done", "words": "it was answered within its target", "figures": {}, "would_change": "", "position": 0},
        "candidates": [shown(_weighed(key))], "candidates_not_kept": "",
        "attempts": [{"epoch": 1, "cluster": "c1", "node": "n7", "pod": "lc-speech-to-text-n7-0", "started_s": 61.04,
                      "finished_s": 61.137, "latency_s": 0.137, "outcome": "succeeded", "reason": "", "work_lost_s": 0.0}],
    }  # fmt: skip


def _weighed(key: RequestKey) -> Weighed:
    def candidate(node: str, link_s: float, waits_s: float, refused: str = "") -> WeighedNode:
        parts = {"link": link_s, "its own work": 0.05, "work already there": waits_s, "crowding": 0.0}
        figures = {"requests in flight there": round(waits_s / 0.025), "cores of its instances": 2.0}
        return WeighedNode(node=node, price=sum(parts.values()), parts=parts, figures=figures, refused=refused)

    full = "the line to c4 carried no more of its batch within the target"
    return Weighed(
        run_id=key.run_id, request_id=key.request_id, epoch=1, policy="dss-lc", rule="the least expected time to the answer", unit=SECONDS,
        highest_wins=False, limit=0.3, takers=37, chosen="c1/n7",
        candidates=(candidate("c4/n2", 0.012, 0.0, full), candidate("c1/n7", 0.02, 0.0), candidate("c2/n1", 0.0, 0.05),
                    candidate("c2/n3", 0.0, 0.075), candidate("c1/n2", 0.02, 0.075)),
    )  # fmt: skip


def _job(key: RequestKey | None = None) -> dict[str, Any]:
    at_s = time.time()
    row = {"job": str(key or "11-250004"), "service": "video-transcode", "tenant": "default", "state": "running", "reason": "",
           "waiting": "", "cluster": "c1", "node": "n3", "attempts": 1, "exit_code": None, "message": "", "retries": 2,
           "retries_used": 0, "priority": 0, "submitted_at_s": at_s - 90.0, "started_at_s": at_s - 84.0, "ended_at_s": None,
           "has_ended": False}  # fmt: skip
    log = "reading s3://clips/1138.mkv\nframe 1200 of 8192, 42.0 a second\nframe 2400 of 8192, 41.7 a second\n"
    return row | {"log": log, "remarks": [], "containers": [], "args": [], "command": None}


def made_up(nodes: Sequence[int] = NODES, *down: str) -> tuple[Reads, Does]:
    """What a console reads and does there."""

    def run(run_id: int) -> dict[str, Any]:
        found = next((row for row in _runs() if row["run"] == run_id), None)
        if found is None:
            raise UsageError(f"there is no run {run_id}")
        figures = {"lc_qos_rate": found["lc_qos_rate"], "be_cpu_seconds_per_s": found["be_cpu_seconds_per_s"], "evictions": 214.0}
        ended = found["lc_qos_rate"] is not None
        times = {"submitted_at_s": found["started_at_s"] - 2.0, "ended_at_s": found["started_at_s"] + 1_800 if ended else None}
        return found | times | {"trace_source": "p3.csv", "figures": figures if ended else {}}

    def compared(run_ids: Sequence[int]) -> dict[str, Any]:
        rows = [run(run_id) for run_id in run_ids]
        values = [[row["lc_qos_rate"] for row in rows], [row["be_cpu_seconds_per_s"] for row in rows]]
        texts = [[f"{value:.1%}" for value in values[0]], [f"{value:.1f}" for value in values[1]]]
        titles = ("QoS rate", "BE throughput")
        figures = [
            {"name": name, "better": 1, "values": of, "texts": text} for name, of, text in zip(titles, values, texts, strict=True)
        ]
        return {"runs": [row | {"run_id": row["run"]} for row in rows], "figures": figures}

    roles = {"name": "dcg-be", "digest": DIGEST, "policy": "dcg-be", "role": "live", "decides": True, "refused": ""}
    other = {"name": "mine", "digest": "a" * 64, "policy": "dcg-be", "role": "", "decides": False, "refused": ""}
    checkpoints = [row | {"registered_at_s": time.time() - 86_400} for row in (roles, other)]
    reads = Reads(
        view=WorkingDay(nodes),
        processes=lambda: processes(*down),
        runs=_runs,
        run=run,
        compared=compared,
        request=_request,
        jobs=lambda: [_job()],
        job=_job,
        checkpoints=lambda: {"checkpoints": checkpoints, "history": []},
        actions=list,
    )
    does = Does(
        cancel_run=lambda run_id: f"run {run_id} is stopped",
        cancel_job=lambda key: f"job {key} is cancelled",
        promote=lambda digest, actor: f"{digest[:12]} decides from the scheduler's next tick on",
        record=lambda *_: None,
    )
    return reads, does
