"""Tiny simulated worlds: drawn from a seed, or put together by hand.

Times and works are drawn from continuous distributions, so that nothing falls on the edge of a window by rounding alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tango.domain.fleet import Cluster, Fleet, NetworkModel, Node
from tango.domain.interference import ServiceInterference
from tango.domain.quantities import Amounts
from tango.domain.runs import NewRequests
from tango.domain.services import Service, ServiceClass
from tango.settings import LcSettings, LeaseSettings, Settings, SharingSettings, SimSettings
from tango.sim.decision_costs import DecisionCost, DecisionCosts
from tango.sim.failures import Outage, outage
from tango.systems import SYSTEMS, System

MIXES: tuple[System, ...] = (
    SYSTEMS["k8s-native"],
    SYSTEMS["load-greedy"],
    SYSTEMS["scoring"],
    SYSTEMS["ceres"],
    System(name="flow", lc="dss-lc", be="load-greedy", sharing="burst"),
    System(name="flow-hrm", lc="dss-lc", be="scoring", sharing="hrm"),
    System(name="flow-static", lc="dss-lc", be="k8s-native", sharing="static"),
    System(name="greedy-ceres", lc="load-greedy", be="load-greedy", sharing="ceres"),
    System(name="greedy-burst", lc="load-greedy", be="load-greedy", sharing="burst"),
    System(name="greedy-static", lc="load-greedy", be="scoring", sharing="static"),
)
"""Every LC policy, BE policy and sharing rule that needs no network of its own."""

DEVICE = "example.com/device"
WEB = Service(
    name="web",
    service_class=ServiceClass.LC,
    cpu_work_s=0.1,
    memory_mib=16,
    target_ms=400.0,
    instance_memory_mib=64,
    payload_kib=0.0,
)
BATCH = Service(
    name="batch",
    service_class=ServiceClass.BE,
    cpu_work_s=2.0,
    memory_mib=128,
    cpu_request_millicores=300,
    cpu_limit_millicores=1000,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimWorld:
    """Everything that `simulate` takes."""

    fleet: Fleet
    requests: NewRequests
    settings: Settings
    system: System
    outages: tuple[Outage, ...] = ()
    costs: DecisionCosts | None = None


def fleet_of(
    *clusters: tuple[int, ...], services: tuple[Service, ...] = (WEB, BATCH), memory_mib: int = 1024, beta: float = 0.0
) -> Fleet:
    """Clusters of nodes with so many millicores each: node `a1` is the first of cluster `a`."""
    return Fleet(
        name="by hand",
        clusters=tuple(
            Cluster(
                name=name,
                nodes=tuple(
                    Node(name=f"{name}{k + 1}", cpu_millicores=cpu, memory_mib=memory_mib) for k, cpu in enumerate(millicores)
                ),
            )
            for name, millicores in zip("abcdef", clusters, strict=False)
        ),
        services=services,
        beta=beta,
        staleness_s=1.0,
        actuation_delay_s=0.1,
    )


def requests_of(fleet: Fleet, *rows: tuple[float, str, float], entry: int | list[int] = 0) -> NewRequests:
    """Requests of (due_s, service, CPU-seconds), in order of due time; memory and target are the service's."""
    names = [s.name for s in fleet.services]
    service = np.array([names.index(name) for _, name, _ in rows], np.int32)
    mine = [fleet.services[s] for s in service]
    return NewRequests(
        due_s=np.array([due_s for due_s, _, _ in rows], np.float64),
        target_s=np.array([s.target_ms / 1e3 if s.target_ms is not None else np.nan for s in mine], np.float64),
        service_class=np.array([s.service_class for s in mine], np.int8),
        service=service,
        cluster=np.broadcast_to(np.asarray(entry, np.int32), (len(rows),)).copy(),
        cpu_work_s=np.array([work_s for _, _, work_s in rows], np.float64),
        memory_mib=np.array([float(s.memory_mib) for s in mine], np.float64),
        services=tuple(names),
        clusters=tuple(c.name for c in fleet.clusters),
    )


def only(requests: NewRequests, service_class: ServiceClass) -> NewRequests:
    """The requests of one class."""
    rows = requests.service_class == service_class
    columns = ("due_s", "target_s", "service_class", "service", "cluster", "cpu_work_s", "memory_mib")
    tenant = None if requests.tenant is None else requests.tenant[rows]
    return replace(requests, tenant=tenant, **{name: getattr(requests, name)[rows] for name in columns})


def draw_sim_world(seed: int, *, failures: bool = True) -> SimWorld:
    """One to three clusters of one to three nodes, up to forty requests in bursts, every setting that matters drawn too."""
    rng = np.random.default_rng(seed)
    services = _draw_services(rng)
    of_devices = np.random.default_rng((seed, 1))
    devices = of_devices.random() < 0.5
    clusters = tuple(
        Cluster(
            name=f"c{c}",
            x_km=float(rng.uniform(0, 2000)),
            nodes=tuple(
                Node(
                    name=f"c{c}n{n}",
                    cpu_millicores=int(rng.choice((1500, 2000, 4000))),
                    memory_mib=int(rng.choice((1024, 2048))),
                    pods=int(of_devices.choice((110, 6))),
                    # Some on the first node of each cluster at least, so that whoever asks fits there (`k8s-native` places at home).
                    extended=_draw_devices(of_devices, some=n == 0) if devices else (),
                )
                for n in range(rng.integers(1, 4))
            ),
        )
        for c in range(rng.integers(1, 4))
    )
    if devices:
        asker = next(s.name for s in services if s.service_class is ServiceClass.BE)
        asked = ((DEVICE, int(of_devices.choice((500, 1000)))),)
        services = tuple(replace(s, extended=asked) if s.name == asker else s for s in services)
    fleet = Fleet(
        name="drawn",
        clusters=clusters,
        services=services,
        network=NetworkModel(
            base_rtt_ms=float(rng.choice((2.0, 40.0))), bandwidth_mbit_per_s=float(rng.choice((10.0, 100.0, 1e4)))
        ),
        beta=float(rng.choice((0.0, 0.3, 1.0))),
        staleness_s=float(rng.choice((0.1, 0.3, 1.0, 5.0))),
        actuation_delay_s=float(rng.choice((0.03, 0.15))),
        interference=_draw_interference(np.random.default_rng((seed, 2)), services),
    )
    outages: tuple[Outage, ...] = ()
    if failures and rng.random() < 0.4:
        nodes = sum(len(c.nodes) for c in clusters)
        drawn = [
            outage(node, at_s=float(rng.uniform(0.3, 5.0)), for_s=float(rng.uniform(0.5, 8.0)))
            for node in rng.permutation(nodes)[: rng.integers(1, nodes + 1)].tolist()
        ]
        outages = tuple(sorted(event for pair in drawn for event in pair))
    return SimWorld(
        fleet=fleet,
        requests=_draw_requests(rng, fleet),
        settings=_draw_settings(rng),
        system=MIXES[rng.integers(len(MIXES))],
        outages=outages,
        costs=_draw_costs(rng),
    )


def _draw_interference(rng: np.random.Generator, services: tuple[Service, ...]) -> tuple[ServiceInterference, ...]:
    """In a third of the worlds most services exert pressure, and most of those say how sensitive they are."""
    if rng.random() >= 1 / 3:
        return ()
    return tuple(
        ServiceInterference(
            service=service.name,
            pressure=tuple(rng.choice((0.0, 0.5, 3.0), 3).tolist()),
            sensitivity=tuple(rng.choice((0.0, 0.4, 1.0), 3).tolist()) if rng.random() < 0.8 else None,
        )
        for service in services
        if rng.random() < 0.8
    )


def _draw_devices(rng: np.random.Generator, *, some: bool) -> Amounts:
    amount = int(rng.choice((1000, 2000) if some else (0, 0, 1000, 2000)))
    return ((DEVICE, amount),) if amount else ()


def _draw_services(rng: np.random.Generator) -> tuple[Service, ...]:
    lc = tuple(
        Service(
            name=f"lc{k}",
            service_class=ServiceClass.LC,
            cpu_work_s=float(rng.uniform(0.05, 0.3)),
            memory_mib=16,
            target_ms=float(rng.choice((200.0, 600.0))),
            instance_memory_mib=int(rng.choice((32, 64, 128))),
            instances_per_node=int(rng.integers(1, 3)),
            cpu_request_millicores=int(rng.choice((50, 150))),
            cpu_limit_millicores=int(rng.choice((200, 300, 600))),
            payload_kib=float(rng.choice((0.0, 20.0, 200.0))),
            shed_after_targets=float(rng.choice((0.0, 0.0, 1.0, 3.0))),
        )
        for k in range(rng.integers(1, 3))
    )
    be = tuple(
        Service(
            name=f"be{k}",
            service_class=ServiceClass.BE,
            cpu_work_s=2.0,
            memory_mib=64,
            cpu_request_millicores=int(rng.choice((100, 400, 800))),
            cpu_limit_millicores=int(rng.choice((900, 1500, 3000))),
        )
        for k in range(2)
    )
    return tuple((lc + be)[k] for k in rng.permutation(len(lc) + 2))


def _draw_requests(rng: np.random.Generator, fleet: Fleet) -> NewRequests:
    count = int(rng.integers(1, 41))
    burst_s = rng.uniform(0.0, 4.0, 3)
    due_s = np.sort(
        np.where(rng.random(count) < 0.6, rng.choice(burst_s, count) + rng.exponential(0.15, count), rng.uniform(0, 5, count))
    )
    is_lc = rng.random(count) < rng.choice((0.5, 0.8))
    by_class = [[s for s, service in enumerate(fleet.services) if service.service_class == cls] for cls in ServiceClass]
    service = np.array([rng.choice(by_class[0 if lc else 1]) for lc in is_lc], np.int32)
    mine = [fleet.services[s] for s in service]
    mean_s = np.array([s.cpu_work_s for s in mine])
    return NewRequests(
        due_s=due_s,
        target_s=np.array([s.target_ms / 1e3 if s.target_ms is not None else np.nan for s in mine]),
        service_class=np.array([s.service_class for s in mine], np.int8),
        service=service,
        cluster=rng.integers(0, len(fleet.clusters), count).astype(np.int32),
        cpu_work_s=mean_s * rng.lognormal(0.0, 0.7, count),
        memory_mib=np.where(is_lc, 16.0, rng.choice((64.0, 128.0, 256.0), count)),
        services=tuple(s.name for s in fleet.services),
        clusters=tuple(c.name for c in fleet.clusters),
    )


def _draw_settings(rng: np.random.Generator) -> Settings:
    return Settings(
        lc=LcSettings(
            keep_late=bool(rng.random() < 0.8),
            timeout_targets=float(rng.choice((2.0, 10.0))),
            timeout_min_s=float(rng.choice((0.7, 5.0))),
        ),
        lease=LeaseSettings(max_attempts=int(rng.choice((2, 6)))),
        sharing=SharingSettings(
            tick_s=float(rng.choice((0.5, 1.0))),
            window_s=float(rng.choice((1.0, 3.0))),
            min_samples=int(rng.choice((1, 2, 4))),
            hold_s=0.9,
            shrink_hold_s=float(rng.choice((1.4, 4.0))),
            reserve_millicores=int(rng.choice((0, 200))),
        ),
        sim=SimSettings(
            lc_window_s=float(rng.choice((0.05, 0.1))),
            be_tick_s=float(rng.choice((0.5, 1.0))),
            be_batch_limit=int(rng.choice((3, 5000))),
            pod_start_s=float(rng.choice((0.0, 0.23))),
            lost_after_s=float(rng.choice((0.37, 3.1))),
            settle_s=float(rng.choice((0.0, 0.03, 0.12))),
            audit=True,
        ),
    )


def _draw_costs(rng: np.random.Generator) -> DecisionCosts:
    """Half of the worlds decide in no time; in the others a decision takes milliseconds."""
    if rng.random() < 0.5:
        return DecisionCosts([])
    names = {("lc", s.lc) for s in MIXES} | {("be", s.be) for s in MIXES}
    return DecisionCosts(
        [
            DecisionCost(kind=kind, policy=policy, nodes=nodes, requests=m, ms=3.0 * m**0.5)
            for kind, policy in sorted(names)
            for nodes in (1, 10)
            for m in (1, 100)
        ]
    )
