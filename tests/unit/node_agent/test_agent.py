"""The agent on folders that stand for the kernel's, beside a stand-in for the kubelet."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.cgroups.groups import Group
from tango.cgroups.knobs import Knob
from tango.node_agent.agent import NodeAgent
from tango.node_agent.ledger import Ledger
from tango.settings import NodeAgentSettings
from tests.fakes.cgroupfs import FakeHierarchy, FakePod, fake_pod, files_of
from tests.long import example_count

SETTINGS = NodeAgentSettings()


class Node:
    """A node with groups of a version, and an agent that can be killed and started again."""

    def __init__(self, folder: Path, version: int, *, without: frozenset[Knob] = frozenset()) -> None:
        self.hierarchy = FakeHierarchy(folder / "cgroup", version, without)
        self.state = folder / "agent.json"
        self.now_s = 0.0
        self.pods: list[FakePod] = []
        self.pressure = folder / "pressure"
        self.pressure.mkdir()
        self.agent = self.started()

    def started(self) -> NodeAgent:
        """An agent like the first, which knows what that one has left on disk."""
        self.agent = NodeAgent(
            self.hierarchy,
            Ledger(self.hierarchy, self.state, boot_id="b1"),
            SETTINGS,
            cpu_millicores=2000,
            clock=lambda: self.now_s,
            node_pressure=self.pressure,
        )
        for pod in self.pods:
            self.agent.see(pod.body)
        return self.agent

    def pod(self, kind: str, *, cpu: int = 500, memory_mib: int = 256, systemd: bool = True) -> FakePod:
        """One more, which the agent sees."""
        pod = fake_pod(self.hierarchy, len(self.pods) + 1, kind, cpu=cpu, memory_mib=memory_mib, systemd=systemd)
        self.pods.append(pod)
        self.agent.see(pod.body)
        return pod

    def step(self, count: int = 1) -> None:
        """Looks, half a second apart."""
        for _ in range(count):
            self.now_s += 0.5
            self.agent.step()

    def grow(self, pod: FakePod, *, times: int = 1) -> None:
        """Re-assurance asks for a larger request, as for an instance whose slack is short; a look after each."""
        for _ in range(times):
            requests = pod.body["spec"]["containers"][0]["resources"]["requests"]
            pod.ask(request=int(requests["cpu"].removesuffix("m")) + 50)
            self.agent.see(pod.body)
            self.step()

    def uses(self, pod: FakePod, *, cpu_s: float, waits_s: float = 0.0, memory_mib: int = 0) -> None:
        """The kernel accounts this much more CPU and pressure of a pod, and memory in use."""
        group, version = pod.pod, self.hierarchy.version
        if version == 1:
            file = self.hierarchy.root / "cpuacct" / group.path / "cpuacct.usage"
            file.write_text(str(int(file.read_text()) + int(cpu_s * 1e9)))
            (self.hierarchy.root / "memory" / group.path / "memory.usage_in_bytes").write_text(str(memory_mib << 20))
            return
        used, pressure = group.cpu().used_us, group.pressure("cpu")
        assert pressure is not None
        (group.folder / "cpu.stat").write_text(
            f"usage_usec {used + int(cpu_s * 1e6)}\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n"
        )
        waited = pressure.full_us + int(waits_s * 1e6)
        (group.folder / "cpu.pressure").write_text(f"some avg10=0 total={waited}\nfull avg10=0 total={waited}\n")
        (group.folder / "memory.current").write_text(str(memory_mib << 20))


@pytest.fixture(params=[1, 2])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Node:
    """Of either version."""
    return Node(tmp_path, request.param)


def values(*groups: Group, knob: Knob = Knob.CPU_QUOTA) -> list[int | None]:
    """What is set of each."""
    return [group.read(knob) for group in groups]


def test_a_resize_is_there_as_soon_as_it_is_seen(node: Node) -> None:
    """Pod and container, before the kubelet has done anything; what the kubelet does then is the same and nothing remains to restore."""
    pod = node.pod("lc")
    pod.ask(cpu=900)

    settings = node.agent.see(pod.body)
    before = values(pod.pod, pod.container)
    pod.actuate()
    node.agent.see(pod.body)
    node.agent.restore()

    assert before == [90_000, 90_000]
    assert [(one.wanted, one.effective) for one in settings] == [(90_000, 90_000)] * 2
    assert values(pod.pod, pod.container) == before


def test_a_resize_that_the_kubelet_does_not_admit_is_taken_back(node: Node) -> None:
    """`Deferred` comes a moment after the agent has moved; then the limits are what the kubelet had set."""
    pod = node.pod("lc")
    pod.ask(cpu=900)
    node.agent.see(pod.body)

    pod.body["status"]["conditions"] = [{"type": "PodResizePending", "status": "True", "reason": "Deferred"}]
    node.agent.see(pod.body)

    assert values(pod.pod, pod.container) == [50_000, 50_000]
    assert "Deferred" in json.dumps(node.agent.report().as_json())


def test_a_kubelet_that_is_late_does_not_undo_a_newer_size(node: Node) -> None:
    """It actuates the last size but one while the next is asked for: the next look puts it right, and the kubelet arrives there itself."""
    pod = node.pod("lc")
    pod.ask(cpu=600)
    node.agent.see(pod.body)
    pod.ask(cpu=900)
    node.agent.see(pod.body)
    for group in (pod.container, pod.pod):  # what it had been told before
        group.write(Knob.CPU_QUOTA, 60_000)

    node.step()

    assert values(pod.pod, pod.container) == [90_000, 90_000]


def test_a_stop_in_the_middle_of_a_resize_leaves_what_the_object_says(node: Node) -> None:
    """The kubelet may have done it and not yet said so; put back, the old size would stay for good."""
    pod = node.pod("lc")
    pod.ask(cpu=900)
    node.agent.see(pod.body)

    node.agent.restore()

    assert values(pod.pod, pod.container) == [90_000, 90_000]


def test_memory_grows_when_the_kubelet_has_counted_it(node: Node) -> None:
    """What is not admitted may be promised to another pod; CPU does not wait."""
    pod = node.pod("lc")
    pod.ask(cpu=900, memory_mib=512)

    node.agent.see(pod.body)
    early = values(pod.pod, pod.container, knob=Knob.MEMORY_MAX)
    pod.admit()
    node.agent.see(pod.body)

    assert early == [256 << 20] * 2
    assert values(pod.pod, pod.container, knob=Knob.MEMORY_MAX) == [512 << 20] * 2
    assert values(pod.pod, pod.container) == [90_000, 90_000]


def test_memory_in_use_is_reclaimed_before_the_limit_is_lowered_below_it(node: Node) -> None:
    """A limit below what is in use kills; the mark goes when the kubelet has done the rest."""
    pod = node.pod("lc")
    usage = "memory.current" if node.hierarchy.version == 2 else "memory.usage_in_bytes"
    files = [node.hierarchy.controller("memory") / group.path / usage for group in (pod.pod, pod.container)]
    for file in files:
        file.write_text(str(200 << 20))
    pod.ask(memory_mib=128)

    node.agent.see(pod.body)
    held = (pod.container.read(Knob.MEMORY_MAX), pod.container.read(Knob.MEMORY_HIGH))
    for file in files:
        file.write_text(str(100 << 20))
    node.step()
    pod.actuate()
    node.agent.see(pod.body)

    assert held == (256 << 20, 128 << 20)
    assert values(pod.pod, pod.container, knob=Knob.MEMORY_MAX) == [128 << 20] * 2
    assert pod.container.read(Knob.MEMORY_HIGH) is None


def test_be_is_idle_while_there_is_lc_and_its_weight_comes_back(node: Node) -> None:
    """Idle costs BE nothing that LC leaves. With the last LC pod it ends."""
    be = node.pod("be")
    be.pod.write(Knob.CPU_WEIGHT, 77)
    node.step()
    alone = be.pod.read(Knob.CPU_IDLE)

    lc = node.pod("lc")
    node.step()
    beside = be.pod.read(Knob.CPU_IDLE)
    node.agent.gone(lc.body["metadata"]["uid"])
    node.step()

    assert (alone, beside, lc.pod.read(Knob.CPU_IDLE)) == (0, 1, 0)
    assert (be.pod.read(Knob.CPU_IDLE), be.pod.read(Knob.CPU_WEIGHT)) == (0, 77)


def test_an_old_kernel_gives_be_the_least_weight(tmp_path: Path) -> None:
    """`cpu.idle` came with Linux 5.15."""
    node = Node(tmp_path, 2, without=frozenset({Knob.CPU_IDLE, Knob.CPU_BURST}))
    node.pod("lc")
    be = node.pod("be")

    node.step()
    least = be.pod.read(Knob.CPU_WEIGHT)
    node.agent.restore()

    assert (least, be.pod.read(Knob.CPU_WEIGHT)) == (1, 100)


def test_a_be_pod_that_is_resized_is_let_go_first(node: Node) -> None:
    """The kernel refuses a kubelet's weight for an idle group, and in version 1 a container's quota above its pod's."""
    lc, be = node.pod("lc"), node.pod("be")
    node.grow(lc, times=4)
    held = be.pod.read(Knob.CPU_QUOTA)
    be.ask(cpu=800)

    node.agent.see(be.body)
    be.pod.write(Knob.CPU_WEIGHT, 50)
    be.actuate()
    node.agent.see(be.body)
    node.step()

    assert held is not None
    assert held < 50_000
    assert be.pod.read(Knob.CPU_IDLE) == 1
    node.agent.restore()
    assert (values(be.pod, be.container), be.pod.read(Knob.CPU_WEIGHT)) == ([80_000, 80_000], 50)


def test_lc_that_is_grown_again_and_again_cuts_be_to_a_share_of_what_it_leaves_and_calm_gives_it_back(node: Node) -> None:
    """Shares go by what each pod uses, never above its own limit; containers follow in version 1, where they must."""
    lc, busy, quiet = node.pod("lc"), node.pod("be", cpu=2000), node.pod("be", cpu=2000)
    for _ in range(8):
        node.uses(lc, cpu_s=0.5)
        node.uses(busy, cpu_s=0.4)
        node.grow(lc)

    # One core is left, of which BE keeps a tenth; a millisecond is the least quota that there is.
    quotas = [one or 0 for one in values(busy.pod, quiet.pod)]
    assert node.agent.restraint.cpu_share == SETTINGS.cpu_floor
    assert sum(quotas) <= 11_000
    assert quotas[0] > quotas[1] >= 1000
    if node.hierarchy.version == 1:
        assert values(busy.container) == values(busy.pod)

    node.step(60)
    assert values(busy.pod, busy.container, quiet.pod) == [200_000] * 3


def test_pressure_on_lc_cuts_be(tmp_path: Path) -> None:
    """Only where others had the CPU: what a pod's own quota keeps from it is no fault of BE's."""
    node = Node(tmp_path, 2)
    lc, be = node.pod("lc"), node.pod("be", cpu=2000)
    node.step()

    node.uses(lc, cpu_s=0.1, waits_s=0.25)
    node.step()

    assert node.agent.restraint.cpu_share == pytest.approx(SETTINGS.tighten)
    assert (be.pod.read(Knob.CPU_QUOTA) or 0) < 200_000
    assert (node.agent.lc_cpu_pressure, node.agent.report().as_json()["lc"]["cpu_pressure"]) == (0.5, 0.25)


def test_a_report_is_of_the_time_since_the_last_one_and_disturbs_no_look(tmp_path: Path) -> None:
    """It may come a moment before a look, which then still measures from the look before."""
    node = Node(tmp_path, 2)
    lc = node.pod("lc")
    node.step()
    node.uses(lc, cpu_s=0.4, waits_s=0.2, memory_mib=64)
    node.now_s += 0.4
    first = node.agent.report().as_json()["lc"]

    node.now_s -= 0.4
    node.step()
    node.now_s += 0.5
    second = node.agent.report().as_json()["lc"]

    assert (first["cpu_used_millicores"], first["memory_mib"], first["cpu_pressure"]) == (444, 64, 0.222)
    assert node.agent.lc_cpu_pressure == pytest.approx(0.4)
    assert (second["cpu_used_millicores"], second["cpu_pressure"]) == (0, 0.0)


def test_looks_are_rare_while_nothing_presses_and_at_once_where_pods_change(node: Node) -> None:
    """A pod that comes, an LC pod that grows and one that goes are looked at at once; quotas are given out at the faster pace."""
    lc = node.pod("lc")
    begun = node.agent.next_look_s
    node.step()
    calm = node.agent.next_look_s
    be = node.pod("be")
    came = node.agent.next_look_s
    node.step()
    settled = node.agent.next_look_s
    node.grow(lc)
    grown = node.agent.next_look_s
    node.step(60)
    over = node.agent.next_look_s
    node.agent.gone(be.body["metadata"]["uid"])

    assert (begun, came, node.agent.next_look_s) == (0.0, 0.0, 0.0)
    assert (calm, settled, over) == (SETTINGS.calm_tick_s,) * 3
    assert grown == SETTINGS.tick_s


def test_a_pod_that_is_calm_keeps_a_few_files_open_and_gives_them_back(tmp_path: Path) -> None:
    """Looks open nothing anew, and a pod that goes leaves no descriptor."""

    def open_files() -> int:
        return sum(1 for one in Path("/proc/self/fd").iterdir() if str(tmp_path) in os.path.realpath(one))

    node = Node(tmp_path, 2)
    pods = [node.pod("lc"), node.pod("be")]
    node.step(3)
    after_three = open_files()
    node.step(20)
    after_more = open_files()
    for pod in pods:
        node.agent.gone(pod.body["metadata"]["uid"])

    assert 0 < after_three == after_more <= 12
    assert open_files() == 0


def test_memory_pressure_of_the_node_marks_be_and_not_lc(node: Node) -> None:
    """Before anything is evicted BE's pages are reclaimed."""
    lc, be = node.pod("lc"), node.pod("be", memory_mib=1000)
    for stalled_us in (0, 400_000):
        node.uses(be, cpu_s=0.0, memory_mib=900)
        (node.pressure / "memory").write_text(f"some avg10=0 total={stalled_us}\nfull avg10=0 total={stalled_us}\n")
        node.step()

    assert be.pod.read(Knob.MEMORY_HIGH) == 810 << 20
    assert lc.pod.read(Knob.MEMORY_HIGH) is None
    node.step(60)
    assert be.pod.read(Knob.MEMORY_HIGH) is None


def test_a_writer_who_insists_is_left_alone_and_told(node: Node) -> None:
    """A stand-in takes idleness back after each look and writes its own weight, as `systemctl daemon-reload` does: after some rounds the
    agent gives up for a while and reports it, and what remains in the end is the other's last word."""
    node.pod("lc")
    be = node.pod("be")
    for _ in range(10):
        node.step()
        if be.pod.read(Knob.CPU_IDLE) == 1:
            be.pod.write(Knob.CPU_IDLE, 0)
            be.pod.write(Knob.CPU_WEIGHT, 50)

    (told,) = node.agent.report().as_json()["differs"]
    node.agent.restore()

    assert told["refused"] == "others have written it 5 times in 60 s; left alone"
    assert (told["pod"], told["knob"], told["wanted"], told["effective"]) == ("tango/be-2", "cpu-idle", 1, 0)
    assert (be.pod.read(Knob.CPU_IDLE), be.pod.read(Knob.CPU_WEIGHT)) == (0, 50)


def test_others_pods_are_never_written(node: Node) -> None:
    """Neither one without Tango's label nor what lies above the pods."""
    foreign = fake_pod(node.hierarchy, 9, "be")
    foreign.body["metadata"]["labels"] = {"app": "shop"}
    before = files_of(node.hierarchy.root)
    node.pod("lc")
    be = node.pod("be")
    node.agent.see(foreign.body)
    foreign.ask(cpu=900)
    node.agent.see(foreign.body)
    node.step(3)

    after = files_of(node.hierarchy.root)
    assert {path for path, text in before.items() if after[path] != text} == set()
    assert be.pod.read(Knob.CPU_IDLE) == 1


def test_a_pod_whose_groups_come_later_is_found_by_the_next_look(node: Node) -> None:
    """The API may tell of a pod before its groups are there."""
    node.pod("lc")
    be = fake_pod(FakeHierarchy(node.hierarchy.root.parent / "later", node.hierarchy.version), 5, "be")
    node.agent.see(be.body)
    node.step()
    group = node.hierarchy.make(be.container.path)

    node.step()

    assert node.hierarchy.group(group.path.rpartition("/")[0]).read(Knob.CPU_IDLE) == 1


def test_pods_that_went_while_no_agent_ran_are_let_go(node: Node) -> None:
    """Their label was taken away after a kill: the next agent knows from its file what is to be put back."""
    node.pod("lc")
    be = node.pod("be")
    node.step()
    be.body["metadata"]["labels"] = {}

    node.started().seen_all()

    assert (be.pod.read(Knob.CPU_IDLE), list(node.agent.report().pods)) == (0, ["tango/lc-1"])


actions = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 3), st.integers(1, 20)),
        st.tuples(st.just("actuate"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("grow"), st.sampled_from([0, 1]), st.just(0)),
        st.tuples(st.just("step"), st.integers(1, 4), st.just(0)),
        st.tuples(st.just("kill"), st.just(0), st.just(0)),
    ),
    max_size=12,
)


@given(version=st.sampled_from([1, 2]), todo=actions)
@settings(max_examples=example_count(25), deadline=None)
def test_whatever_happens_the_kernel_refuses_nothing_and_all_is_put_back(
    tmp_path_factory: pytest.TempPathFactory, version: int, todo: list[tuple[str, int, int]]
) -> None:
    """Resizes, a kubelet that is early or late, slack that is short, kill -9 at any point: no write of agent or kubelet is refused, no
    container has more than the API says, and after a stop every file is as a node without an agent would have it."""
    node = Node(tmp_path_factory.mktemp("node"), version)
    for kind in ("lc", "lc", "be", "be"):
        pod = node.pod(kind, systemd=len(node.pods) % 2 == 0)
        pod.pod.write(Knob.CPU_WEIGHT, 20 + len(node.pods))
        pod.container.write(Knob.CPU_BURST, 30_000)
    for what, which, value in todo:
        if what == "ask":
            node.pods[which].ask(cpu=100 * value)
            node.agent.see(node.pods[which].body)
        elif what == "actuate":
            node.pods[which].container.write(Knob.CPU_BURST, 0)  # a runtime that sets limits anew knows no burst
            node.pods[which].actuate()
            node.agent.see(node.pods[which].body)
        elif what == "grow":
            node.grow(node.pods[which])
        elif what == "step":
            node.step(which)
        else:
            node.started()
        refused = [one.refused for pod in node.agent.report().pods.values() for one in pod.differs if one.refused]
        assert not [text for text in refused if "kernel" in text]
        for pod in node.pods:
            asked = int(pod.body["spec"]["containers"][0]["resources"]["limits"]["cpu"].removesuffix("m")) * 100
            assert all(quota is not None and quota <= asked for quota in values(pod.pod, pod.container))

    node.agent.restore()

    for number, pod in enumerate(node.pods, 1):
        asked = int(pod.body["spec"]["containers"][0]["resources"]["limits"]["cpu"].removesuffix("m")) * 100
        assert values(pod.pod, pod.container) == [asked, asked]
        assert (pod.pod.read(Knob.CPU_IDLE), pod.pod.read(Knob.CPU_WEIGHT)) == (0, 20 + number)
