"""The agent of c1 in memory: its cluster, its journal, and a run that has a pod there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from tango.control.cluster_agent import AgentStores, ClusterAgent
from tango.domain.services import ServiceClass
from tango.ports.fleet import FleetStore
from tango.ports.requests import BeRequests
from tango.settings import JobSettings, KubeSettings, LeaseSettings
from tests.fakes.cluster_watch import MemoryCluster
from tests.fakes.control_world import ControlWorld
from tests.fakes.journal_world import LC
from tests.fakes.kube_objects import node, pod, running, theirs
from tests.fakes.memory_journal import MemoryJournal
from tests.fakes.own_fleet import published
from tests.fakes.store_world import BATCH, MAX_ATTEMPTS, ZERO_S

Json = dict[str, Any]
Agent = TypeVar("Agent", bound=ClusterAgent)

KUBE = KubeSettings(observe_every_s=0.01, sample_every_s=0.0)
LEASE = LeaseSettings(placement_s=60.0)


def two_nodes() -> MemoryCluster:
    """c1, with two ready nodes."""
    found = MemoryCluster()
    for name in ("c1-n1", "c1-n2"):
        found.put_node(node(name))
    return found


def journal_of(world: ControlWorld, *, told: bool = True) -> MemoryJournal:
    """The journal of c1; `told`: the centre has published its fleet to it."""
    found = MemoryJournal("c1", max_attempts=MAX_ATTEMPTS, lc=LC, wall_s=world.clock.now_s)
    if told:
        found.publish(published())
    return found


def agent_of(
    world: ControlWorld,
    cluster: MemoryCluster,
    *,
    requests: BeRequests | None = None,
    fleet: FleetStore | None = None,
    kube: KubeSettings = KUBE,
    journal: MemoryJournal | None = None,
    zero_s: Callable[[int], float] = lambda run_id: ZERO_S,
    is_busy: Callable[[], bool] = lambda: True,
    kind: type[Agent] = ClusterAgent,  # type: ignore[assignment]
) -> Agent:
    """The agent of c1."""
    stores = AgentStores(
        fleet=fleet or world.fleet,
        requests=requests or world.requests,
        jobs=world.jobs,
        refusals=world.refusals,
        journal=journal or journal_of(world),
        run_zero_s=zero_s,
        is_busy=is_busy,
    )
    return kind("c1", cluster, stores, world.clock, kube=kube, lease=LEASE, job=JobSettings())


def placed(world: ControlWorld, *, lease_s: float = 60.0) -> int:
    """A run whose one BE request was given to c1-n1."""
    run_id = world.pending(BATCH)
    world.place(world.requests.pending_be(limit=1), world.fence(), node=0, lease_s=lease_s)
    return run_id


def be_pod(run_id: int, *, name: str = "be", **status: Any) -> Json:
    """The pod of that request."""
    labels = {"tango/run": str(run_id), "tango/request": "0", "tango/epoch": "1"}
    return pod("be", name=name, on="c1-n1", labels=labels, **status)


def on_c1(name: str, *, ready: bool = True) -> Json:
    """A pod of somebody else's Deployment on c1-n1."""
    found = theirs(name, **running(name="web"))
    found["spec"]["nodeName"] = "c1-n1"
    found["status"]["containerStatuses"][0]["ready"] = ready
    return found


def lc_names(world: ControlWorld, *nodes: str) -> list[str]:
    """Pods of one instance of every LC service on each of these nodes."""
    services = [s.name for s in world.fleet.services() if s.service_class is ServiceClass.LC]
    return sorted(f"lc-{service}-{name}-0" for service in services for name in nodes)


def lc_names_of(cluster: MemoryCluster) -> list[str]:
    """Tango's own pods."""
    return [str(p["metadata"]["name"]) for p in cluster.pods()]
