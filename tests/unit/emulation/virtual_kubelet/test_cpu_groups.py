"""Control groups of local processes, on folders that stand for the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tango.cgroups.groups import Group, Hierarchy
from tango.emulation.virtual_kubelet.cpu_groups import CpuGroups


def home_in(root: Path, version: int) -> Group:
    """A group that others can be made in."""
    home = Hierarchy(root, version).group("tango-1-c1")
    home.folder.mkdir(parents=True)
    return home


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (1, {"cpu.cfs_quota_us": "50000", "cpu.shares": "256"}),
        (2, {"cpu.max": "50000 100000", "cpu.weight": "10"}),
    ],
)
def test_requests_are_weights_and_limits_are_quotas(tmp_path: Path, version: int, expected: dict[str, str]) -> None:
    """As a kubelet writes them: 250 m are 256 shares (weight 10), half a core is half of each period."""
    home = home_in(tmp_path, version)

    CpuGroups(home).put("a", 4711, request_millicores=250, limit_millicores=500)

    assert {name: (home.folder / "a" / name).read_text() for name in expected} == expected
    assert (home.folder / "a" / "cgroup.procs").read_text() == "4711"


@pytest.mark.parametrize(("version", "name", "expected"), [(1, "cpu.cfs_quota_us", "-1"), (2, "cpu.max", "max")])
def test_no_limit_is_no_quota(tmp_path: Path, version: int, name: str, expected: str) -> None:
    """A resize to no limit takes the quota away."""
    home = home_in(tmp_path, version)
    groups = CpuGroups(home)
    groups.put("a", 1, request_millicores=100, limit_millicores=500)

    groups.resize("a", request_millicores=100, limit_millicores=None)

    assert (home.folder / "a" / name).read_text() == expected


def test_where_no_group_can_be_made_nothing_happens(tmp_path: Path) -> None:
    """A folder without the kernel's files is no control group, and nothing is left in it."""
    (tmp_path / "cpu").mkdir()
    groups = CpuGroups.found("c1", root=tmp_path)

    groups.put("a", 1, request_millicores=100, limit_millicores=500)
    groups.close()

    assert groups.home is None
    assert list((tmp_path / "cpu").iterdir()) == []


def test_groups_of_kubelets_that_are_gone_are_removed(tmp_path: Path) -> None:
    """Those of a process that lives stay, and so does what is not Tango's."""
    gone, mine, other = (tmp_path / "cpu" / name for name in ("tango-4194999-c1", f"tango-{os.getpid()}-c2", "docker"))
    for folder in (gone / "pod-work", mine / "pod-work", other):
        folder.mkdir(parents=True)

    CpuGroups.found("c1", root=tmp_path)

    assert (gone.exists(), (mine / "pod-work").exists(), other.exists()) == (False, True, True)
