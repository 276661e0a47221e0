"""Virtual nodes on a clock that tests turn by hand, addresses that nobody listens on, and pods for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from tango.domain.fleet import Cluster, Fleet, NetworkModel, Node
from tango.emulation.virtual_kubelet.network import ClusterNetwork
from tango.emulation.virtual_kubelet.node_pool import NodePool
from tango.emulation.virtual_kubelet.node_timeline import NodeTimeline
from tango.node_model.interference import traits_of
from tests.fakes.manual_clock import ManualClock

Json = dict[str, Any]
NODES = (Node(name="n1", cpu_millicores=4000, memory_mib=4096), Node(name="n2", cpu_millicores=1000, memory_mib=1024))
FLEET = Fleet(
    name="f",
    clusters=(Cluster(name="here", nodes=NODES),),
    services=(),
    network=NetworkModel(local_rtt_ms=20.0),
    beta=0.0,
    actuation_delay_s=0.5,
)


class Listener:
    """Listens nowhere."""

    def __init__(self) -> None:
        self.open = True

    def close(self) -> None:
        """Stop."""
        self.open = False


class Addresses:
    """Gives addresses in order; `refusals` makes the next calls fail."""

    def __init__(self) -> None:
        self.refusals = 0
        self.listeners: dict[str, Listener] = {}

    async def listen(
        self, connection: Callable[[], asyncio.Protocol], *, node: str, port: int, preferred: str = ""
    ) -> tuple[Listener, str]:
        """An address, the preferred one if there is one."""
        if self.refusals:
            self.refusals -= 1
            raise OSError(98, f"port {port} is taken")
        address = preferred or f"127.9.0.{len(self.listeners) + 1}"
        self.listeners[address] = Listener()
        return self.listeners[address], address

    def give_back(self, address: str) -> None:
        """Forget it."""
        del self.listeners[address]


class ClockedPool:
    """A pool on a clock, and what it reported in order."""

    def __init__(self, fleet: Fleet = FLEET) -> None:
        self.clock = ManualClock()
        timeline = NodeTimeline(
            [n.cpu_millicores / 1000 for n in NODES],
            beta=0.0,
            call_later=self.clock.call_later,
            traits=traits_of(fleet.services, fleet.interference),
            clock=self.clock,
            wall=self.clock,
        )
        self.addresses = Addresses()
        self.reports: list[str] = []
        self.pool = NodePool(
            fleet,
            fleet.clusters[0],
            timeline=timeline,
            network=ClusterNetwork(fleet, "here"),
            addresses=self.addresses,
            report=self.reports.append,
        )

    def status(self, uid: str) -> Json:
        """What is to be said of a pod; empty when nothing is."""
        return self.pool.status(uid) or {}

    def told(self, uid: str) -> Json:
        """The termination message."""
        return dict(json.loads(self.status(uid)["containerStatuses"][0]["state"]["terminated"]["message"]))


def resources(cpu: str = "500m", limit: str = "1", memory: str = "256Mi") -> Json:
    """Requests and limits of one container."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": limit, "memory": memory}}


def be(uid: str, *, work_s: float = 1.0, node: str = "n1", memory_mib: int = 64, **sizes: str) -> Json:
    """A BE pod bound to a node."""
    env = [{"name": "TANGO_CPU_WORK_S", "value": str(work_s)}, {"name": "TANGO_MEMORY_MIB", "value": str(memory_mib)}]
    container = {"name": "work", "image": "i", "env": env, "resources": resources(**sizes)}
    return {
        "metadata": {"uid": uid, "name": f"pod-{uid}", "namespace": "tango", "generation": 1, "labels": {"tango/class": "be"}},
        "spec": {"nodeName": node, "containers": [container]},
        "status": {"phase": "Pending"},
    }


def lc(uid: str, *, node: str = "n1", generation: int = 1, **sizes: str) -> Json:
    """An LC instance bound to a node."""
    container = {"name": "work", "image": "i", "ports": [{"containerPort": 8080}], "resources": resources(**sizes)}
    return {
        "metadata": {
            "uid": uid,
            "name": f"pod-{uid}",
            "namespace": "tango",
            "generation": generation,
            "labels": {"tango/class": "lc"},
        },
        "spec": {"nodeName": node, "containers": [container]},
        "status": {"phase": "Pending"},
    }


def never() -> None:
    """For requests that must not be refused."""
    raise AssertionError("refused")


def conditions(status: Json) -> dict[str, Json]:
    """Conditions that stand, by type."""
    return {c["type"]: c for c in status["conditions"] if "$patch" not in c}


def limit(status: Json) -> str:
    """The CPU limit in effect."""
    return str(status["containerStatuses"][0]["resources"]["limits"]["cpu"])
