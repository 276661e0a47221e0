"""Random snapshots and pending BE requests for tests of placement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tango.domain.requests import BePending
from tango.domain.resource_axis import CPU, MEMORY, PODS, ResourceAxis
from tango.domain.services import Service, ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import BeColumns, FleetRows, InFlightColumns, LcColumns, NodeColumns, Tails, assemble

LC_WORK_S, LC_TARGET_MS, BE_KINDS = 0.04, 200.0, 3
DEVICE = "example.com/device"


def be_world(seed: int, *, ticks: int = 6, devices: bool = False) -> tuple[BePending, FleetSnapshot]:
    """A fleet of 2 to 6 clusters of 2 to 5 nodes with LC on every one, and the BE requests of so many ticks, none of them placed.

    With `devices` a part of the nodes has some, which one of the BE services asks for, and nodes admit few pods.
    """
    rng = np.random.default_rng(seed)
    c = int(rng.integers(2, 7))
    node_cluster = np.repeat(np.arange(c, dtype=np.int32), rng.integers(2, 6, c))
    n = len(node_cluster)
    cpu = rng.choice([4000.0, 6000.0, 8000.0, 16000.0], n)
    memory = cpu * rng.choice([1.024, 2.048, 4.096], n)
    lc_limit = np.maximum(1000.0, cpu * rng.uniform(0.2, 0.9, n))
    in_flight = rng.poisson(rng.uniform(0.02, 0.4) * cpu / 1e3 * 2, n).astype(np.float64)
    count = int(rng.poisson(4 * ticks)) + 2
    limit = rng.choice([500.0, 1000.0, 1500.0, 2000.0, 3000.0], BE_KINDS)
    sizes = np.stack((limit * rng.uniform(0.3, 0.7, BE_KINDS), limit, rng.choice([256.0, 512.0, 1024.0], BE_KINDS)), axis=1)
    kind, entry = rng.integers(0, BE_KINDS, count), rng.integers(0, c, count).astype(np.int32)
    services = _services(sizes, devices=devices)
    requests = ResourceAxis.of(services).pod_requests(services).take(1 + kind, axis=1)
    requests[CPU], requests[MEMORY] = sizes[kind, 0], sizes[kind, 2]
    pending = BePending(
        run_id=np.zeros(count, np.int64),
        request_id=np.arange(count, dtype=np.int64),
        service=(1 + kind).astype(np.int32),
        entry_cluster=entry,
        waited_s=np.sort(rng.uniform(0, 0.5 * ticks, count))[::-1].copy(),
        cpu_work_s=rng.uniform(1, 6, BE_KINDS)[kind] * rng.lognormal(-0.35, 0.83, count),
        requests=requests,
        cpu_limit_millicores=sizes[kind, 1],
        epoch=np.zeros(count, np.int32),
    )
    xy = rng.uniform(0, 100, (c, 2))
    rtt = 2.0 + np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1)) * 0.01
    np.fill_diagonal(rtt, 0.2)

    def of_lc(values: np.ndarray) -> np.ndarray:
        return np.concatenate((values[None], np.zeros((BE_KINDS, n))))

    slack = rng.uniform(-0.2, 1.0, n)
    rows = FleetRows(
        clusters=tuple(f"c{k}" for k in range(c)),
        nodes=tuple(f"n{k}" for k in range(n)),
        services=services,
        node_cluster=node_cluster,
        rtt_ms=rtt,
        bandwidth_mbit_per_s=np.full((c, c), 1000.0),
    )
    allocatable = np.zeros((len(rows.resources), n))
    allocatable[CPU], allocatable[MEMORY], allocatable[PODS] = cpu, memory, 110
    lc_requests = np.zeros(allocatable.shape)
    lc_requests[CPU], lc_requests[MEMORY], lc_requests[PODS] = 200.0, 0.1 * memory, 1
    if devices:
        allocatable[PODS] = rng.integers(2, 9, n)
        allocatable[PODS + 1] = rng.choice([0.0, 1000.0, 4000.0], n)
    snapshot = assemble(
        rows,
        at_s=0.5 * ticks,
        nodes=NodeColumns(
            ready=np.ones(n, np.bool_),
            allocatable=allocatable,
            lc_requests=lc_requests,
            cpu_used=np.minimum(in_flight * 1000.0, lc_limit),
            memory_used=0.1 * memory,
            lc_cpu_limit=lc_limit,
        ),
        lc=LcColumns(
            instance_limit=of_lc(lc_limit),
            instance_count=of_lc(np.ones(n)),
            in_flight=InFlightColumns.of(services, of_lc(in_flight), of_lc(in_flight)),
        ),
        be=BeColumns.of_pods(rows, np.zeros((1 + BE_KINDS, n)), np.zeros(n)),
        tails=Tails(latency_ms=of_lc((1 - slack) * LC_TARGET_MS), samples=of_lc(np.full(n, 9.0)), min_samples=5),
        pending_be=np.bincount(entry, minlength=c).astype(np.float64),
    )
    recent = np.clip(rng.uniform(0.7, 1.3, n) * np.minimum(in_flight * 1000.0, lc_limit), 0.0, cpu)
    return pending, replace(snapshot, lc_cpu_recent=recent)


def _services(sizes: np.ndarray, *, devices: bool) -> tuple[Service, ...]:
    lc = Service(
        name="lc",
        service_class=ServiceClass.LC,
        cpu_work_s=LC_WORK_S,
        memory_mib=1,
        target_ms=LC_TARGET_MS,
        instance_memory_mib=64,
        cpu_request_millicores=200,
    )
    be = (
        Service(
            name=f"be{k}",
            service_class=ServiceClass.BE,
            cpu_work_s=3.0,
            memory_mib=int(memory),
            cpu_request_millicores=int(request),
            cpu_limit_millicores=int(limit),
            extended=((DEVICE, 500),) if devices and k == 0 else (),
        )
        for k, (request, limit, memory) in enumerate(sizes.tolist())
    )
    return (lc, *be)


def asking(
    pending: BePending,
    *,
    cpu_request: np.ndarray | None = None,
    cpu_limit: np.ndarray | None = None,
    memory: np.ndarray | None = None,
) -> BePending:
    """The same requests with other sizes, (k,) each: millicores and MiB."""
    requests = pending.requests.copy()
    if cpu_request is not None:
        requests[CPU] = cpu_request
    if memory is not None:
        requests[MEMORY] = memory
    return replace(
        pending, requests=requests, cpu_limit_millicores=pending.cpu_limit_millicores if cpu_limit is None else cpu_limit
    )


def reordered(snapshot: FleetSnapshot, order: np.ndarray) -> FleetSnapshot:
    """The same fleet with its nodes in another order."""
    by_node = [
        "node_cluster",
        "node_ready",
        "lc_cpu_limit",
        "be_cpu_limit",
        "cpu_used",
        "memory_used",
        "slack",
        "lc_cpu_recent",
    ]
    changed = {name: getattr(snapshot, name)[order] for name in by_node}
    for name in ("allocatable", "lc_requests", "be_requests", "instance_limit", "instance_count", "in_flight", "in_flight_work_s"):
        changed[name] = getattr(snapshot, name)[:, order]
    return replace(snapshot, nodes=tuple(snapshot.nodes[k] for k in order), **changed)
