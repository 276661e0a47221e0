"""Control groups: which version is mounted, what can be set, where pods are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tango.cgroups.groups import Hierarchy, KnobRefused, Pressure, read_pressure
from tango.cgroups.knobs import Knob, millicores, quota_us, weight
from tango.cgroups.open_groups import OpenGroup
from tango.cgroups.pod_groups import PodFinder
from tango.errors import ConfigError
from tests.fakes.cgroupfs import UID, FakeHierarchy, fake_pod

CONTAINER = "4f" * 32


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_mounted_is_seen_by_its_files(tmp_path: Path, version: int) -> None:
    """Version 2 lists its controllers at the top; version 1 has a folder for each."""
    FakeHierarchy(tmp_path, version).make("a")
    (tmp_path / "cgroup.controllers" if version == 2 else tmp_path / "cpu" / "cpu.shares").write_text("cpuset cpu memory")

    assert Hierarchy.mounted(tmp_path) == Hierarchy(tmp_path, version)


def test_a_folder_without_groups_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """So is a version 2 without the CPU controller, as beside a version 1."""
    (tmp_path / "cgroup.controllers").write_text("memory pids")

    with pytest.raises(ConfigError, match=r"no control groups with a CPU controller.*--cgroup-root"):
        Hierarchy.mounted(tmp_path)


@pytest.mark.parametrize(("version", "low", "high"), [(1, 2, 262_144), (2, 1, 10_000)])
def test_amounts_become_the_kernels_within_its_bounds(version: int, low: int, high: int) -> None:
    """As the kubelet computes them: a quota of at least a millisecond, weights between the kernel's least and most."""
    assert (quota_us(500), quota_us(1), quota_us(None), quota_us(250, 50_000)) == (50_000, 1000, None, 12_500)
    assert (millicores(50_000), millicores(None)) == (500, None)
    assert (weight(0, version), weight(10**9, version)) == (low, high)


@pytest.mark.parametrize("version", [1, 2])
def test_knobs_read_back_what_was_written(tmp_path: Path, version: int) -> None:
    """Both versions alike, with no limit as None; a quota keeps the period that was set."""
    group = FakeHierarchy(tmp_path, version).make("a/b")
    values: dict[Knob, tuple[int | None, ...]] = {
        Knob.CPU_QUOTA: (70_000, None),
        Knob.CPU_BURST: (0,),
        Knob.CPU_WEIGHT: (20,),
        Knob.MEMORY_MAX: (1 << 30, None),
        Knob.MEMORY_HIGH: (1 << 29, None),
        Knob.CPU_IDLE: (1, 0),
    }

    for knob, tried in values.items():
        for value in tried:
            group.write(knob, value)
            assert (knob, group.read(knob)) == (knob, value)


def test_a_quota_keeps_the_period_of_its_group(tmp_path: Path) -> None:
    """A node may have a period of its own (the kubelet's cpuCFSQuotaPeriod)."""
    group = FakeHierarchy(tmp_path, 2).make("a")
    group.file(Knob.CPU_QUOTA).write_text("max 20000")

    group.write(Knob.CPU_QUOTA, 10_000)

    assert group.file(Knob.CPU_QUOTA).read_text() == "10000 20000"


def test_a_refusal_has_the_kernels_words_and_tells_whether_the_group_is_gone(tmp_path: Path) -> None:
    """A burst above the quota is invalid; a group that is gone has no file."""
    hierarchy = FakeHierarchy(tmp_path, 2)
    group = hierarchy.make("a")
    group.write(Knob.CPU_QUOTA, 10_000)

    with pytest.raises(KnobRefused, match=r"cpu\.max\.burst: the kernel refuses 20000: Invalid argument") as invalid:
        group.write(Knob.CPU_BURST, 20_000)
    with pytest.raises(KnobRefused, match="No such file") as gone:
        Hierarchy(tmp_path, 2).group("nowhere").write(Knob.CPU_QUOTA, None)

    assert (invalid.value.is_gone, gone.value.is_gone) == (False, True)


def test_the_lowest_limit_on_the_way_up_holds(tmp_path: Path) -> None:
    """A container's quota above its pod's gives it nothing; quotas of other periods are compared as shares."""
    hierarchy = FakeHierarchy(tmp_path, 2)
    pod, container = hierarchy.make("pod"), hierarchy.make("pod/work")
    container.write(Knob.CPU_QUOTA, 80_000)
    pod.file(Knob.CPU_QUOTA).write_text("10000 20000")

    assert (container.effective(Knob.CPU_QUOTA), pod.effective(Knob.CPU_QUOTA)) == (50_000, 10_000)
    assert container.effective(Knob.MEMORY_MAX) is None


@pytest.mark.parametrize("version", [1, 2])
def test_accounts_are_in_microseconds_and_bytes(tmp_path: Path, version: int) -> None:
    """Version 1 accounts nanoseconds, in files of two controllers."""
    group = FakeHierarchy(tmp_path, version).make("a")
    stat = group.folder / "cpu.stat"
    if version == 1:
        stat.write_text("nr_periods 4\nnr_throttled 1\nthrottled_time 5000000\n")
        (tmp_path / "cpuacct" / "a" / "cpuacct.usage").write_text("7000000")
        (tmp_path / "memory" / "a" / "memory.usage_in_bytes").write_text("4096")
    else:
        stat.write_text("usage_usec 7000\nnr_periods 4\nnr_throttled 1\nthrottled_usec 5000\n")
        (group.folder / "memory.current").write_text("4096")

    account = group.cpu()

    assert (account.used_us, account.periods, account.throttled, account.throttled_us) == (7000, 4, 1, 5000)
    assert (group.memory_bytes(), group.memory_events()["oom_kill"]) == (4096, 0)


@pytest.mark.parametrize("version", [1, 2])
def test_an_open_group_tells_what_the_group_tells_now(tmp_path: Path, version: int) -> None:
    """Its files stay open and are read anew; one that this kernel does not have is no error; a group that is gone is."""
    group = FakeHierarchy(tmp_path, version).make("a")
    open_group = OpenGroup(group)
    before = open_group.cpu(), open_group.memory_bytes(), open_group.pressure("cpu"), open_group.read(Knob.CPU_QUOTA)
    group.write(Knob.CPU_QUOTA, 20_000)
    (group.account("memory.current" if version == 2 else "memory.usage_in_bytes")).write_text("8192")

    assert before == (group.cpu(), 0, group.pressure("cpu"), None)
    assert (open_group.memory_bytes(), open_group.read(Knob.CPU_QUOTA)) == (8192, 20_000)
    assert (OpenGroup(group).pressure("io"), open_group.pressure("io")) == (None, None)
    open_group.close()
    shutil.rmtree(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_group.cpu()


def test_pressure_is_read_as_totals(tmp_path: Path) -> None:
    """A kernel without pressure stall information, or with it turned off (reads fail), tells nothing."""
    file = tmp_path / "cpu"
    file.write_text("some avg10=1.00 avg60=0.00 avg300=0.00 total=300\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=200\n")

    assert read_pressure(file) == Pressure(300, 200)
    assert read_pressure(tmp_path / "none") is None


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("folder", "container"),
    [
        ("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice", "cri-containerd-{id}.scope"),
        ("kubepods.slice/kubepods-pod{slice}.slice", "crio-{id}.scope"),
        (
            "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{slice}.slice",
            "{id}",
        ),
        ("kubepods/burstable/pod{uid}", "{id}"),
        ("kubepods/pod{uid}", "crio-{id}"),
        ("docker/abc/kubelet/kubepods/burstable/pod{uid}", "{id}"),
    ],
)
def test_groups_of_a_pod_are_found(tmp_path: Path, version: int, folder: str, container: str) -> None:
    """By UID and container id, with both drivers, with runtimes' own names, and on nodes that are containers themselves."""
    hierarchy = FakeHierarchy(tmp_path, version)
    uid = UID.format(7)
    path = folder.format(uid=uid, slice=uid.replace("-", "_"))
    hierarchy.make(f"{path}/{container.format(id=CONTAINER)}")
    hierarchy.make(f"{path}/crio-conmon-{CONTAINER}.scope")
    hierarchy.make("system.slice/ssh.service")

    found = PodFinder(hierarchy).find(uid, [f"containerd://{CONTAINER}", "containerd://" + "0" * 64, ""])

    assert found is not None
    assert found.pod.path == path
    assert {key: group.path for key, group in found.containers.items()} == {
        f"containerd://{CONTAINER}": f"{path}/{container.format(id=CONTAINER)}"
    }


def test_a_pod_without_groups_is_not_found_until_it_has_some(tmp_path: Path) -> None:
    """A pod is seen at the API server before its groups are made, and after they have gone."""
    hierarchy = FakeHierarchy(tmp_path, 2)
    finder = PodFinder(hierarchy)

    assert finder.find(UID.format(1), []) is None
    pod = fake_pod(hierarchy, 1, "lc")
    found = finder.find(UID.format(1), [])
    assert found is not None
    assert found.pod.path == pod.pod.path
