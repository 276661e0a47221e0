"""What the agent has set and what it found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tango.cgroups.groups import Group
from tango.cgroups.knobs import Knob
from tango.errors import FileUnusable
from tango.node_agent.ledger import REWRITES, Ledger
from tango.node_agent.wanted import Move, WantedValue, in_order, with_burst
from tests.fakes.cgroupfs import FakeHierarchy


@pytest.fixture
def hierarchy(tmp_path: Path) -> FakeHierarchy:
    """Version 2, with a pod and its container."""
    found = FakeHierarchy(tmp_path / "cgroup", 2)
    found.make("pod/work")
    return found


@pytest.fixture
def pod(hierarchy: FakeHierarchy) -> Group:
    """The pod."""
    return hierarchy.group("pod")


def ledger_of(hierarchy: FakeHierarchy, tmp_path: Path, *, boot_id: str = "b1") -> Ledger:
    """One whose file is kept beside."""
    return Ledger(hierarchy, tmp_path / "agent.json", boot_id=boot_id)


def test_what_is_written_is_read_back_and_put_back_in_the_end(hierarchy: FakeHierarchy, pod: Group, tmp_path: Path) -> None:
    """Wanted beside effective, which is the lowest on the way up."""
    pod.write(Knob.CPU_QUOTA, 40_000)
    ledger = ledger_of(hierarchy, tmp_path)
    work = hierarchy.group("pod/work")

    (setting,) = ledger.apply([WantedValue(work, Knob.CPU_QUOTA, 60_000)], now_s=0.0)
    restored = ledger.restore()

    assert (setting.wanted, setting.effective, setting.refused) == (60_000, 40_000, "")
    assert work.read(Knob.CPU_QUOTA) is None
    assert [one.path for one in restored] == ["pod/work"]


def test_what_is_set_already_is_nobodys_change(hierarchy: FakeHierarchy, pod: Group, tmp_path: Path) -> None:
    """It is not noted, so it is not put back either when somebody changes it later."""
    pod.write(Knob.CPU_QUOTA, 40_000)
    ledger = ledger_of(hierarchy, tmp_path)

    assert ledger.apply([WantedValue(pod, Knob.CPU_QUOTA, 40_000)], now_s=0.0) == []
    pod.write(Knob.CPU_QUOTA, 50_000)
    ledger.restore()

    assert pod.read(Knob.CPU_QUOTA) == 50_000


def test_after_a_kill_the_next_one_knows_what_was_found(hierarchy: FakeHierarchy, pod: Group, tmp_path: Path) -> None:
    """The file is written before the kernel's: at whatever moment the process dies, what was there can be put back."""
    pod.write(Knob.CPU_QUOTA, 40_000)
    ledger_of(hierarchy, tmp_path).apply([WantedValue(pod, Knob.CPU_QUOTA, 10_000)], now_s=0.0)

    second = ledger_of(hierarchy, tmp_path)
    second.apply([WantedValue(pod, Knob.CPU_QUOTA, 5_000)], now_s=0.0)
    second.restore()

    assert second.taken_over == 1
    assert pod.read(Knob.CPU_QUOTA) == 40_000


def test_a_file_that_cannot_be_written_keeps_the_kernels_as_they_are(hierarchy: FakeHierarchy, pod: Group, tmp_path: Path) -> None:
    """Nothing is changed that could not be put back."""
    folder = tmp_path / "state"
    folder.mkdir()
    ledger = Ledger(hierarchy, folder / "agent.json", boot_id="b1")
    shutil.rmtree(folder)

    with pytest.raises(FileUnusable, match="state"):
        Ledger(hierarchy, folder / "agent.json", boot_id="b1")
    with pytest.raises(FileUnusable, match="state"):
        ledger.apply([WantedValue(pod, Knob.CPU_QUOTA, 10_000)], now_s=0.0)

    assert pod.read(Knob.CPU_QUOTA) is None


@pytest.mark.parametrize("left", ["", "{", '{"format": "another/1"}', '{"format": "tango-node-agent/1"}'])
def test_a_file_of_something_else_counts_for_nothing(hierarchy: FakeHierarchy, tmp_path: Path, left: str) -> None:
    """What is set now is then taken for what was found."""
    (tmp_path / "agent.json").write_text(left)

    assert ledger_of(hierarchy, tmp_path).taken_over == 0


def test_groups_of_another_boot_are_others(hierarchy: FakeHierarchy, pod: Group, tmp_path: Path) -> None:
    """Even under the same path."""
    ledger_of(hierarchy, tmp_path).apply([WantedValue(pod, Knob.CPU_QUOTA, 10_000)], now_s=0.0)

    assert ledger_of(hierarchy, tmp_path, boot_id="b2").taken_over == 0


def test_what_others_write_is_theirs(hierarchy: FakeHierarchy, pod: Group, tmp_path: Path) -> None:
    """It is what is put back in the end, and is not overwritten by the end itself."""
    ledger = ledger_of(hierarchy, tmp_path)
    tight = WantedValue(pod, Knob.CPU_QUOTA, 10_000)
    ledger.apply([tight], now_s=0.0)
    pod.write(Knob.CPU_QUOTA, 70_000)
    ledger.apply([tight], now_s=1.0)

    assert pod.read(Knob.CPU_QUOTA) == 10_000
    ledger.restore()
    assert pod.read(Knob.CPU_QUOTA) == 70_000

    ledger.apply([tight], now_s=2.0)
    pod.write(Knob.CPU_QUOTA, 80_000)
    ledger.restore()
    assert pod.read(Knob.CPU_QUOTA) == 80_000


def test_what_is_rewritten_over_and_over_is_left_alone_for_a_while(hierarchy: FakeHierarchy, pod: Group, tmp_path: Path) -> None:
    """Two controllers that each insist would write for ever; the report says what is the matter."""
    ledger = ledger_of(hierarchy, tmp_path)
    tight = WantedValue(pod, Knob.CPU_QUOTA, 10_000)
    ledger.apply([tight], now_s=0.0)
    for round_s in range(REWRITES):
        pod.write(Knob.CPU_QUOTA, 70_000)
        (setting,) = ledger.apply([tight], now_s=float(round_s))

    assert "others have written it 5 times" in setting.refused
    assert (setting.effective, pod.read(Knob.CPU_QUOTA)) == (70_000, 70_000)
    ledger.apply([tight], now_s=1000.0)
    assert pod.read(Knob.CPU_QUOTA) == 10_000


def test_a_refusal_is_told_and_the_rest_is_done(hierarchy: FakeHierarchy, pod: Group, tmp_path: Path) -> None:
    """A quota below the burst is refused by the kernel; the memory limit that comes after it is set."""
    pod.write(Knob.CPU_QUOTA, 50_000)
    pod.write(Knob.CPU_BURST, 20_000)

    refused, done = ledger_of(hierarchy, tmp_path).apply(
        [WantedValue(pod, Knob.CPU_QUOTA, 10_000), WantedValue(pod, Knob.MEMORY_MAX, 1 << 20)], now_s=0.0
    )

    assert "Invalid argument" in refused.refused
    assert refused.effective == 50_000
    assert (done.refused, done.effective) == ("", 1 << 20)


def test_a_weight_lost_to_idleness_comes_back(hierarchy: FakeHierarchy, pod: Group, tmp_path: Path) -> None:
    """The kernel forgets the weight of a group that becomes idle, and refuses one until it no longer is."""
    pod.write(Knob.CPU_WEIGHT, 39)
    ledger = ledger_of(hierarchy, tmp_path)
    ledger.keep(pod, Knob.CPU_WEIGHT)
    ledger.apply([WantedValue(pod, Knob.CPU_IDLE, 1)], now_s=0.0)

    ledger_of(hierarchy, tmp_path).restore()

    assert (pod.read(Knob.CPU_IDLE), pod.read(Knob.CPU_WEIGHT)) == (0, 39)


def test_groups_that_are_gone_are_forgotten(hierarchy: FakeHierarchy, pod: Group, tmp_path: Path) -> None:
    """Pods end while the agent runs, and while it does not."""
    ledger = ledger_of(hierarchy, tmp_path)
    gone = hierarchy.make("gone")
    ledger.apply([WantedValue(pod, Knob.CPU_QUOTA, 10_000), WantedValue(gone, Knob.CPU_QUOTA, 10_000)], now_s=0.0)
    for file in gone.folder.iterdir():
        file.unlink()
    gone.folder.rmdir()

    assert ledger.apply([WantedValue(gone, Knob.CPU_QUOTA, 20_000)], now_s=1.0) == []
    assert ledger_of(hierarchy, tmp_path).taken_over == 1


def test_limits_grow_from_the_pod_down_and_shrink_from_the_containers_up(hierarchy: FakeHierarchy) -> None:
    """Where one container grows and another shrinks, the one that shrinks makes room first."""
    pod, a, b = hierarchy.group("pod"), hierarchy.group("pod/a"), hierarchy.group("pod/b")

    def order(pod_to: int | None, a_to: int, b_to: int) -> list[str]:
        moves = in_order(Knob.CPU_QUOTA, Move(pod, 100, pod_to), [Move(a, 50, a_to), Move(b, 50, b_to)])
        return [change.group.path.rpartition("/")[2] for change in moves]

    assert order(200, 100, 100) == ["pod", "a", "b"]
    assert order(None, 50, 100) == ["pod", "b"]
    assert order(60, 30, 30) == ["a", "b", "pod"]
    assert order(100, 70, 30) == ["b", "a"]
    assert order(120, 90, 30) == ["b", "pod", "a"]


@pytest.mark.parametrize(
    ("quota", "now", "found", "expected"),
    [
        (10_000, 20_000, 20_000, [("cpu-burst", 10_000), ("cpu-quota", 10_000)]),
        (50_000, 10_000, 20_000, [("cpu-quota", 50_000), ("cpu-burst", 20_000)]),
        (None, 10_000, 20_000, [("cpu-quota", None), ("cpu-burst", 20_000)]),
        (30_000, 20_000, 20_000, [("cpu-quota", 30_000)]),
        (30_000, None, 0, [("cpu-quota", 30_000)]),
    ],
)
def test_the_burst_stays_within_the_quota(
    pod: Group, quota: int | None, now: int | None, found: int, expected: list[tuple[str, int | None]]
) -> None:
    """Down with the burst first, up with the quota first; as far as it can be the burst is what it was."""
    changes = with_burst(WantedValue(pod, Knob.CPU_QUOTA, quota), burst_now_us=now, burst_found_us=found)

    assert [(str(change.knob), change.value) for change in changes] == expected
