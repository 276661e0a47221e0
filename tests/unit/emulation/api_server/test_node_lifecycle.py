"""Taints that follow conditions, and evictions by NoExecute taints, with time turned by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tango.emulation.api_server.journal import Journal
from tango.emulation.api_server.node_lifecycle import NodeLifecycle, seconds_left
from tango.emulation.api_server.objects import Objects
from tango.emulation.api_server.resources import BY_PLACE
from tango.emulation.api_server.storage import Storage
from tests.fakes.manual_clock import ManualClock

Json = dict[str, Any]
GPU = {"key": "gpu", "value": "broken", "effect": "NoExecute"}


class World:
    """One node, its pods, and the controllers on a clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.objects = Objects(Storage(Journal(None), history=1000))
        self.nodes = self.objects.storage.of(BY_PLACE["", "v1", "nodes"])
        self.pods = self.objects.storage.of(BY_PLACE["", "v1", "pods"])
        self.objects.create(self.nodes, None, {"metadata": {"name": "n"}}, dry=False)
        self.lifecycle = NodeLifecycle(self.objects, self.clock.call_later, self.clock)

    def node(self, subresource: str = "", **part: Any) -> None:
        """Change the node."""
        self.objects.update(self.nodes, ("", "n"), subresource, lambda old: {**old, **part}, False, "n")

    def pod(self, name: str, *tolerations: Json) -> None:
        """A pod that runs on the node."""
        spec = {"nodeName": "n", "tolerations": list(tolerations), "containers": [{"name": "c", "image": "i:1"}]}
        self.objects.create(self.pods, "default", {"metadata": {"name": name}, "spec": spec}, dry=False)

    def leaving(self) -> dict[str, str]:
        """Reason of the disruption of each pod under deletion."""
        return {
            key[1]: stored.item["status"]["conditions"][0]["reason"]
            for key, stored in self.pods.objects.items()
            if stored.item["metadata"].get("deletionTimestamp")
        }

    def taints(self) -> list[str]:
        """Keys of the node's taints."""
        return [t["key"] for t in self.nodes.objects["", "n"].item["spec"].get("taints") or []]


@pytest.mark.parametrize(
    ("tolerations", "left_s"),
    [
        ([], 0.0),
        ([{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}], 0.0),
        ([{"key": "gpu", "value": "broken", "effect": "NoExecute"}], None),
        ([{"operator": "Exists", "tolerationSeconds": 60}, {"key": "gpu", "operator": "Exists", "tolerationSeconds": 9}], 9.0),
        ([{"key": "gpu", "operator": "Exists", "tolerationSeconds": -1}], 0.0),
    ],
)
def test_the_shortest_matching_toleration_counts(tolerations: list[Json], left_s: float | None) -> None:
    """One without seconds lasts for ever, unless another matches too."""
    assert seconds_left([GPU], tolerations) == left_s


def test_a_noexecute_taint_ends_pods_at_once_or_after_their_seconds() -> None:
    """With the condition that real taint managers write; a pod that comes later has its own time."""
    world = World()
    world.pod("hasty")
    world.pod("patient", {"key": "gpu", "operator": "Exists", "tolerationSeconds": 30})
    world.pod("steady", {"key": "gpu", "operator": "Exists"})

    world.node(spec={"taints": [GPU]})
    world.clock.run_to(10.0)
    assert world.leaving() == {"hasty": "DeletionByTaintManager"}
    world.pod("late", {"key": "gpu", "operator": "Exists", "tolerationSeconds": 30})
    world.clock.run_to(35.0)

    assert set(world.leaving()) == {"hasty", "patient"}
    world.clock.run_to(41.0)
    assert set(world.leaving()) == {"hasty", "patient", "late"}


def test_a_taint_that_goes_in_time_spares_its_pods() -> None:
    """Their time is counted anew when it comes back."""
    world = World()
    world.pod("patient", {"key": "gpu", "operator": "Exists", "tolerationSeconds": 30})
    world.node(spec={"taints": [GPU]})
    world.clock.run_to(29.0)
    world.node(spec={"taints": []})

    world.clock.run_to(60.0)
    assert world.leaving() == {}
    world.node(spec={"taints": [GPU]})
    world.clock.run_to(89.0)
    assert world.leaving() == {}
    world.clock.run_to(91.0)
    assert set(world.leaving()) == {"patient"}


def test_taints_follow_pressure_and_cordon_and_others_stay() -> None:
    """As a cluster's controllers do it; the last change leaves what an administrator has set."""
    world = World()
    mine = {"key": "mine", "effect": "NoSchedule"}
    world.node(spec={"taints": [mine], "unschedulable": True})
    world.node("status", status={"conditions": [{"type": "DiskPressure", "status": "True"}]})

    assert world.taints() == ["mine", "node.kubernetes.io/unschedulable", "node.kubernetes.io/disk-pressure"]

    world.node("status", status={"conditions": [{"type": "DiskPressure", "status": "False"}]})
    spec = {**world.nodes.objects["", "n"].item["spec"], "unschedulable": False}
    world.node(spec=spec)
    assert world.taints() == ["mine"]


def test_nothing_is_evicted_once_the_server_has_stopped() -> None:
    """Its timers go with it."""
    world = World()
    world.pod("patient", {"key": "gpu", "operator": "Exists", "tolerationSeconds": 30})
    world.node(spec={"taints": [GPU]})

    world.lifecycle.close()
    world.clock.run_to(60.0)

    assert world.leaving() == {}
