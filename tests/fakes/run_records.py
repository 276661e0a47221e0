"""Runs made by hand and by seed, in the columns in which figures and reports take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.domain.outcomes import (
    SCALING_OUTCOMES,
    STATE_CODE,
    AttemptLosses,
    Decisions,
    HostSamples,
    NodeSamples,
    RequestPhases,
    RunOutcomes,
    ScalingEvents,
)

NAN = float("nan")


class RunRecords(NamedTuple):
    """Everything recorded of one run."""

    outcomes: RunOutcomes
    losses: AttemptLosses
    samples: NodeSamples
    decisions: Decisions
    scaling: ScalingEvents


class MemoryRunRecords:
    """Implements `tango.control.finish_run.RunRecords`, given what was recorded of each run."""

    def __init__(self, recorded: Mapping[int, RunRecords]) -> None:
        self._recorded = recorded

    def outcomes(self, run_id: int) -> RunOutcomes:
        """Given."""
        return self._recorded[run_id].outcomes

    def phases(self, run_id: int) -> RequestPhases | None:
        """As spread over the parts by `phases_of`."""
        return phases_of(self._recorded[run_id].outcomes)

    def hosts(self, run_id: int) -> HostSamples | None:
        """Nobody looked."""

    def losses(self, run_id: int) -> AttemptLosses:
        """Given."""
        return self._recorded[run_id].losses

    def node_samples(self, run_id: int) -> NodeSamples:
        """Given."""
        return self._recorded[run_id].samples

    def decisions(self, run_id: int) -> Decisions:
        """Given."""
        return self._recorded[run_id].decisions

    def scaling_events(self, run_id: int) -> ScalingEvents:
        """Given."""
        return self._recorded[run_id].scaling


def phases_of(outcomes: RunOutcomes) -> RequestPhases:
    """A tenth of what each request waited goes to its release, a fifth to its dispatch, LC's sending has a millisecond, the rest its
    start."""
    waited_s = outcomes.started_s - outcomes.due_s
    none_s = np.where(np.isnan(waited_s), np.nan, 0.0)
    send_s = np.where(outcomes.service_class == 0, np.minimum(0.001, 0.7 * waited_s), np.nan)
    return RequestPhases(
        release_s=0.1 * waited_s,
        repeat_s=none_s,
        dispatch_s=0.2 * waited_s,
        send_s=send_s,
        start_s=0.7 * waited_s - np.nan_to_num(send_s),
        serve_s=outcomes.finished_s - outcomes.started_s,
    )


def f8(values: object) -> NDArray[np.float64]:
    """A float column."""
    return np.asarray(values, dtype=np.float64)


def i4(values: object) -> NDArray[np.int32]:
    """An index column."""
    return np.asarray(values, dtype=np.int32)


def outcomes_of(rows: list[dict[str, object]], **run: object) -> RunOutcomes:
    """A run of few requests, a dict each: `due`, and where they differ from the defaults `cls start end state work` and so on."""

    def column(key: str, default: object) -> list[object]:
        return [row.get(key, default) for row in rows]

    facts: dict[str, object] = {
        "run_id": 7,
        "name": "by hand",
        "status": "completed",
        "system": "tango",
        "fleet": "pair",
        "fleet_hash": "f" * 64,
        "seed": 1,
        "checkpoint": "",
        "speed": 1.0,
        "span_s": 100.0,
        "wall_s": 200.0,
        "clusters": ("c1", "c2"),
        "nodes": ("n1", "n2"),
        "node_cluster": i4([0, 1]),
        "services": ("web", "batch"),
        **run,
    }
    cls = np.asarray(column("cls", 0), dtype=np.int8)
    return RunOutcomes(
        **facts,  # type: ignore[arg-type]
        service_class=cls,
        service=i4([row.get("service", int(c)) for row, c in zip(rows, cls, strict=True)]),
        entry_cluster=i4(column("entry", 0)),
        target_cluster=i4(column("cluster", 0)),
        node=i4(column("node", 0)),
        due_s=f8(column("due", 50.0)),
        target_s=f8([row.get("target", 1.0 if c == 0 else NAN) for row, c in zip(rows, cls, strict=True)]),
        started_s=f8(column("start", NAN)),
        finished_s=f8(column("end", NAN)),
        state=np.asarray([STATE_CODE[str(s)] for s in column("state", "succeeded")], dtype=np.int8),
        reason=np.zeros(len(rows), dtype=np.int16),
        attempts=i4(column("attempts", 1)),
        epoch=i4(column("epoch", 1)),
        cpu_work_s=f8(column("work", 0.1)),
        memory_mib=f8(column("memory", 64.0)),
    )


def losses_of(rows: list[tuple[float, str, float]]) -> AttemptLosses:
    """(at_s, reason, work_lost_s) each."""
    reasons = tuple(sorted({reason for _, reason, _ in rows})) or ("",)
    return AttemptLosses(
        at_s=f8([at for at, _, _ in rows]),
        service=i4([1] * len(rows)),
        node=i4([0] * len(rows)),
        reason=np.asarray([reasons.index(reason) for _, reason, _ in rows], dtype=np.int16),
        reasons=reasons,
        work_lost_s=f8([work for _, _, work in rows]),
    )


def samples_of(rows: list[tuple[float, int, float, float]], *, used: float = NAN) -> NodeSamples:
    """(at_s, node, allocatable millicores, allocatable MiB) each."""
    at, node, cpu, memory = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
    zeros = np.zeros(len(rows))
    return NodeSamples(
        at_s=f8(at),
        node=i4(node),
        cpu_allocatable_millicores=f8(cpu),
        memory_allocatable_mib=f8(memory),
        cpu_used_millicores=zeros + used,
        memory_used_mib=zeros + NAN,
        lc_cpu_limit_millicores=zeros,
        lc_memory_held_mib=zeros,
        be_cpu_request_millicores=zeros,
        be_memory_held_mib=zeros,
        be_pods=zeros,
    )


def decisions_of(rows: list[tuple[float, float]]) -> Decisions:
    """(at_s, decide_ms) each."""
    n = len(rows)
    counts = np.ones(n, dtype=np.int64)
    return Decisions(
        at_s=f8([at for at, _ in rows]),
        kind=np.ones(n, dtype=np.int8),
        cluster=i4([-1] * n),
        policy=np.zeros(n, dtype=np.int16),
        policies=("dcg-be",),
        considered=counts,
        placed=counts,
        unplaced=counts * 0,
        late=counts * 0,
        shed=counts * 0,
        snapshot_ms=np.ones(n),
        decide_ms=f8([ms for _, ms in rows]),
        apply_ms=np.ones(n),
    )


def scaling_of(rows: list[tuple[float, str, str]]) -> ScalingEvents:
    """(at_s, kind, outcome) each."""
    n = len(rows)
    return ScalingEvents(
        at_s=f8([at for at, _, _ in rows]),
        kind=np.asarray([("resize", "evict").index(kind) for _, kind, _ in rows], dtype=np.int8),
        node=i4([0] * n),
        service=i4([0] * n),
        before_millicores=np.full(n, 500.0),
        after_millicores=np.full(n, 750.0),
        slack=np.full(n, 0.1),
        reason=np.zeros(n, dtype=np.int16),
        reasons=("slack below 0.2",),
        actuation_ms=np.full(n, 40.0),
        outcome=np.asarray([SCALING_OUTCOMES.index(o) for _, _, o in rows], dtype=np.int8),
    )


NO_LOSSES = losses_of([])
NO_SAMPLES = samples_of([])
NO_DECISIONS = decisions_of([])
NO_SCALING = scaling_of([])

SERVICES = ("web", "search", "detect", "chat", "train", "encode")
TARGET_S = (0.3, 0.5, 1.0, 2.0)


def seeded_run(
    seed: int = 9,
    *,
    requests: int = 3000,
    span_s: float = 60.0,
    clusters: int = 3,
    nodes_per_cluster: int = 4,
    speed: float = 1.0,
    cluster_names: tuple[str, ...] = (),
) -> RunRecords:
    """A run as a demo gives it: LC share 0.7, BE work of 3 s, a load step in the middle answered by resizes and evictions."""
    rng = np.random.default_rng(seed)
    n, nodes = requests, clusters * nodes_per_cluster
    is_be = rng.random(n) >= 0.7
    arrivals = np.where(rng.random(n) < 0.2, rng.normal(0.55, 0.04, n), rng.random(n))
    due_s = np.sort(np.clip(arrivals, 0.0, 1.0)) * span_s
    service = np.where(is_be, 4 + (rng.random(n) < 0.4), rng.choice(4, n, p=(0.5, 0.25, 0.15, 0.1)))
    target_s = np.where(is_be, np.nan, np.array([*TARGET_S, np.nan, np.nan])[service])
    work_s = np.where(is_be, rng.lognormal(0.8, 0.8, n), 0.15 * np.nan_to_num(target_s, nan=1.0) * rng.lognormal(0.0, 0.5, n))
    stress = 1.0 + 5.0 * np.exp(-(((due_s / span_s - 0.56) / 0.05) ** 2))
    wait_s = np.where(is_be, rng.exponential(0.4, n) * stress**2, rng.exponential(0.015, n) * stress**2)
    started_s = due_s + wait_s
    finished_s = started_s + work_s * np.where(is_be, 1.3, 1.1) + np.where(is_be, 0.0, rng.gamma(2.0, 0.004, n))
    state = np.full(n, STATE_CODE["succeeded"], dtype=np.int8)
    state[rng.random(n) < 0.003] = STATE_CODE["failed"]
    ended = state == STATE_CODE["succeeded"]
    node = rng.integers(0, nodes, n).astype(np.int32)
    node_cluster = np.repeat(np.arange(clusters, dtype=np.int32), nodes_per_cluster)
    outcomes = RunOutcomes(
        run_id=12,
        name="demo",
        status="completed",
        system="tango",
        fleet="demo",
        fleet_hash="3f5a" * 16,
        seed=seed,
        checkpoint="dcg-be/1",
        trace_source="tango trace generate borg --rate 50 --duration 60 --lc-share 0.7 --be-work-s 3 --seed 9",
        settings={"lc.keep_late": True, "be.tick_s": 0.2, "sharing.window_s": 5.0},
        started_at_s=1_760_000_000.0,
        speed=speed,
        span_s=span_s,
        wall_s=float(np.max(finished_s)) / speed,
        clusters=cluster_names or tuple(f"edge-{c + 1}" for c in range(clusters)),
        nodes=tuple(f"edge-{c + 1}-node-{k + 1}" for c in range(clusters) for k in range(nodes_per_cluster)),
        node_cluster=node_cluster,
        services=SERVICES,
        service_class=is_be.astype(np.int8),
        service=service.astype(np.int32),
        entry_cluster=rng.integers(0, clusters, n).astype(np.int32),
        target_cluster=node_cluster[node],
        node=node,
        due_s=due_s / speed,
        target_s=target_s / speed,
        started_s=started_s / speed,
        finished_s=np.where(ended, finished_s, np.nan) / speed,
        state=state,
        reason=np.where(ended, 0, 1).astype(np.int16),
        reasons=("", "attempts-exhausted"),
        attempts=i4(1 + (rng.random(n) < 0.02)),
        epoch=i4(np.ones(n)),
        cpu_work_s=work_s / speed,
        memory_mib=np.where(is_be, 512.0, 64.0),
    )
    at_s = np.arange(0.0, outcomes.wall_s, 1.0)
    load = 0.35 + 0.45 * np.exp(-(((at_s * speed / span_s - 0.58) / 0.09) ** 2))
    grid_at, grid_node = np.repeat(at_s, nodes), np.tile(np.arange(nodes), len(at_s))
    used = np.clip(np.repeat(load, nodes) + rng.normal(0, 0.08, grid_at.size) + 0.1 * (grid_node % 3), 0.02, 1.0)
    cpu = np.where(grid_node % 4 == 0, 8000.0, 4000.0)
    samples = NodeSamples(
        at_s=grid_at,
        node=i4(grid_node),
        cpu_allocatable_millicores=cpu,
        memory_allocatable_mib=cpu * 2,
        cpu_used_millicores=used * cpu,
        memory_used_mib=used * cpu * 1.4,
        lc_cpu_limit_millicores=cpu * 0.5,
        lc_memory_held_mib=cpu * 0.4,
        be_cpu_request_millicores=cpu * used * 0.4,
        be_memory_held_mib=cpu * used,
        be_pods=np.round(used * 6),
    )
    cycles = np.arange(0.0, span_s / speed, 0.2)
    kind = rng.integers(0, 2, cycles.size).astype(np.int8)
    considered = rng.poisson(6, cycles.size)
    unplaced = np.minimum(considered, rng.poisson(0.3, cycles.size))
    decisions = Decisions(
        at_s=cycles,
        kind=kind,
        cluster=i4(np.where(kind == 1, -1, rng.integers(0, clusters, cycles.size))),
        policy=np.where(kind == 1, 1, 0).astype(np.int16),
        policies=("dss-lc", "dcg-be"),
        considered=considered,
        placed=considered - unplaced,
        unplaced=unplaced,
        late=rng.poisson(0.1, cycles.size),
        shed=np.zeros(cycles.size, dtype=np.int64),
        snapshot_ms=rng.gamma(4, 0.5, cycles.size),
        decide_ms=np.where(kind == 1, rng.gamma(6, 1.2, cycles.size), rng.gamma(3, 0.1, cycles.size)),
        apply_ms=rng.gamma(4, 2.0, cycles.size),
    )
    events = 90
    event_at_s = np.sort(np.clip(rng.normal(0.58, 0.12, events), 0.05, 0.98)) * span_s / speed
    evict = rng.random(events) < 0.3
    before = np.where(evict, np.nan, rng.choice((500.0, 750.0, 1000.0), events))
    scaling = ScalingEvents(
        at_s=event_at_s,
        kind=evict.astype(np.int8),
        node=rng.integers(0, nodes, events).astype(np.int32),
        service=i4(np.where(evict, 4, rng.integers(0, 4, events))),
        before_millicores=before,
        after_millicores=before * np.where(event_at_s * speed < 0.62 * span_s, 1.5, 0.8),
        slack=np.where(evict, np.nan, rng.normal(0.1, 0.3, events)),
        reason=evict.astype(np.int16),
        reasons=("slack below 0.2", "evicted"),
        actuation_ms=rng.gamma(4, 12.0, events),
        outcome=np.zeros(events, dtype=np.int8),
    )
    losses = AttemptLosses(
        at_s=event_at_s[evict],
        service=scaling.service[evict],
        node=scaling.node[evict],
        reason=np.zeros(int(evict.sum()), dtype=np.int16),
        reasons=("evicted",),
        work_lost_s=rng.exponential(0.8, int(evict.sum())) / speed,
    )
    return RunRecords(outcomes, losses, samples, decisions, scaling)
