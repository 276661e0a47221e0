"""Taints that follow conditions, and evictions by NoExecute taints, with time turned by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tango.emulation.api_server.journal import ObjectLog
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
        self.objects = Objects(Storage(ObjectLog(None), history=1000))
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
            key[1]: next(c["reason"] for c in stored.item["status"]["conditions"] if c["type"] == "DisruptionTarget")
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


# ---- kubelets that are silent ------------------------------------------------------------------------------------------


class Kubelet:
    """A kubelet of the world's node that renews its lease every ten seconds while it lives."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lives = True
        leases = world.objects.storage.of(BY_PLACE["coordination.k8s.io", "v1", "leases"])
        body = {"metadata": {"name": "n"}, "spec": {"holderIdentity": "n", "leaseDurationSeconds": 40}}
        world.objects.create(leases, "kube-node-lease", body, dry=False)
        self._leases = leases
        self.posts("True")
        self._renew()

    def posts(self, ready: str) -> None:
        """The condition Ready."""
        beat = f"2026-01-01T00:{int(self.world.clock()) // 60:02d}:{int(self.world.clock()) % 60:02d}Z"
        condition = {"type": "Ready", "status": ready, "reason": "KubeletReady", "lastHeartbeatTime": beat}
        self.world.node("status", status={"conditions": [condition]})

    def _renew(self) -> None:
        if self.lives:
            minutes, seconds = divmod(int(self.world.clock()), 60)
            stamp = f"2026-01-01T00:{minutes:02d}:{seconds:02d}.000000Z"
            self.world.objects.update(
                self._leases,
                ("kube-node-lease", "n"),
                "",
                lambda old: {**old, "spec": {**old["spec"], "renewTime": stamp}},
                False,
                "n",
            )
        self.world.clock.call_later(10.0, self._renew)


def ready_of(world: World) -> tuple[str, str]:
    """Status and reason of the node's condition Ready."""
    conditions = world.nodes.objects["", "n"].item["status"]["conditions"]
    (found,) = [c for c in conditions if c["type"] == "Ready"]
    return found["status"], found["reason"]


UNREACHABLE = "node.kubernetes.io/unreachable"
NOT_READY = "node.kubernetes.io/not-ready"


def test_a_kubelet_that_renews_its_lease_keeps_its_node_ready() -> None:
    """However long ago it has posted a status."""
    world = World()
    Kubelet(world)

    world.clock.run_to(600.0)

    assert ready_of(world) == ("True", "KubeletReady")
    assert world.taints() == []


def test_a_kubelet_that_falls_silent_makes_its_node_unreachable() -> None:
    """After fifty seconds: conditions Unknown, both taints, pods not ready; they are evicted after the usual five minutes, at once those
    that tolerate no time, and those never that tolerate it for ever."""
    world = World()
    kubelet = Kubelet(world)
    world.pod("usual")
    world.pod("hasty", {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0})
    world.pod("steady", {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute"})
    serving = {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"}
    world.objects.update(world.pods, ("default", "usual"), "status", lambda old: {**old, "status": serving}, False, "usual")
    world.clock.run_to(100.0)
    kubelet.lives = False

    world.clock.run_to(145.0)
    early = ready_of(world), world.taints()
    world.clock.run_to(160.0)

    assert early == (("True", "KubeletReady"), [])
    assert ready_of(world) == ("Unknown", "NodeStatusUnknown")
    assert world.taints() == [UNREACHABLE, UNREACHABLE]
    effects = [t["effect"] for t in world.nodes.objects["", "n"].item["spec"]["taints"]]
    assert effects == ["NoSchedule", "NoExecute"]
    assert world.pods.objects["default", "usual"].item["status"]["conditions"][0]["status"] == "False"
    assert world.leaving() == {"hasty": "DeletionByTaintManager"}
    world.clock.run_to(470.0)
    assert set(world.leaving()) == {"hasty", "usual"}


def test_a_kubelet_that_is_back_makes_its_node_ready_and_spares_its_pods() -> None:
    """With the status that it posts; its lease alone says nothing of conditions."""
    world = World()
    kubelet = Kubelet(world)
    world.pod("usual")
    kubelet.lives = False
    world.clock.run_to(80.0)
    lost = ready_of(world)

    kubelet.lives = True
    kubelet.posts("True")
    world.clock.run_to(900.0)

    assert lost == ("Unknown", "NodeStatusUnknown")
    assert ready_of(world) == ("True", "KubeletReady")
    assert (world.taints(), world.leaving()) == ([], {})


def test_a_node_that_says_that_it_is_not_ready_is_tainted_so() -> None:
    """And no longer once it is ready again."""
    world = World()
    kubelet = Kubelet(world)

    kubelet.posts("False")
    not_ready = world.taints()
    kubelet.posts("True")

    assert not_ready == [NOT_READY, NOT_READY]
    assert world.taints() == []


def test_a_node_whose_kubelet_never_came_is_unknown_after_a_minute() -> None:
    """Until then it has the taint with which it was made."""
    world = World()
    world.clock.run_to(55.0)
    before = world.nodes.objects["", "n"].item.get("status"), world.taints()
    world.clock.run_to(70.0)

    assert "conditions" not in (before[0] or {})
    assert before[1] == [NOT_READY]
    assert ready_of(world) == ("Unknown", "NodeStatusNeverUpdated")


def test_time_in_which_the_controller_stood_still_is_held_against_nobody() -> None:
    """A server that gets no CPU for minutes hears of nobody meanwhile."""
    world = World()
    kubelet = Kubelet(world)
    world.clock.run_to(20.0)
    kubelet.lives = False
    world.clock.now_s += 300.0  # timers that were due meanwhile come now, all at once
    world.clock.run_to(325.0)
    kubelet.lives = True

    world.clock.run_to(500.0)

    assert ready_of(world) == ("True", "KubeletReady")
