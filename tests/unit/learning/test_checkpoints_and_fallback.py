"""Checkpoints are checked in full, and the scheduler goes on without one."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tango.errors import CheckpointError
from tango.learning.checkpoint import load_checkpoint, save_checkpoint
from tango.learning.network import PlacementNetwork
from tango.learning.policy import NetworkBePolicy
from tango.learning.shipped import shipped_path
from tango.scheduling.be_policies import place_load_greedy
from tango.settings import BeSettings
from tango.training.files import TrainingFiles
from tests.fakes.be_worlds import be_world


def _saved(path: Path, **changes: object) -> Path:
    save_checkpoint(PlacementNetwork(8), path, name="n", trained={"seed": 1})
    if changes:
        torch.save({**torch.load(path, weights_only=True), **changes}, path)
    return path


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    """Weights, name, training record and digest survive the file."""
    network = PlacementNetwork(8)
    digest = save_checkpoint(network, tmp_path / "a.pt", name="mine", trained={"seed": 7})
    found = load_checkpoint(tmp_path / "a.pt")
    assert (found.name, found.digest, found.trained) == ("mine", digest, {"seed": 7})
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, found.network.state_dict()[name])


@pytest.mark.parametrize("of_training", [False, True])
def test_a_file_that_imports_an_endless_name_is_refused_at_once(tmp_path: Path, of_training: bool) -> None:
    """torch takes minutes over its message about a name of 70,000 characters, and hours where it is longer. A state of a training too."""
    _saved(tmp_path / "a.pt")
    name = b"x" * 300_000
    with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for entry in old.namelist():
            new.writestr(entry, old.read(entry).replace(b"OrderedDict", name))

    files = TrainingFiles(out=tmp_path / "mine.pt")
    (tmp_path / "b.pt").rename(files.state)

    with pytest.raises(CheckpointError, match="is damaged"):
        files.read_state() if of_training else load_checkpoint(files.state)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format_version": 99}, "format 99, expected 1"),
        ({"feature_schema": "other"}, "other features"),
        ({"format_version": True}, "format True, expected 1"),
        ({"hidden": -1}, "width -1"),
        ({"hidden": True}, "width True, expected a whole number"),
        ({"hidden": 8.0}, "width 8.0, expected a whole number"),
        ({"weights": {}}, "do not fit"),
        ({"weights": {k: v * float("nan") for k, v in PlacementNetwork(8).state_dict().items()}}, "not finite"),
        ({"weights": {k: v.double() * 1e300 for k, v in PlacementNetwork(8).state_dict().items()}}, "not finite"),
        (
            {"weights": {k: v.to(torch.int32) for k, v in PlacementNetwork(8).state_dict().items()}},
            r"of torch.int32, expected float32",
        ),
        ({"weights": {k: v > 0 for k, v in PlacementNetwork(8).state_dict().items()}}, r"of torch.bool, expected float32"),
        (
            {"weights": {k: v.to_sparse() for k, v in PlacementNetwork(8).state_dict().items()}},
            r"torch.sparse_coo, expected a dense",
        ),
        ({"weights": {k: 1.0 for k in PlacementNetwork(8).state_dict()}}, "is float, expected a dense tensor"),
        ({"weights": [1.0]}, "do not fit: none, expected a mapping of names"),
    ],
)
def test_a_checkpoint_that_is_wrong_is_refused_with_its_reason(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    """Another format, other features, other shapes and weights that are not finite are told apart."""
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(_saved(tmp_path / "a.pt", **changes))


def test_a_damaged_missing_or_huge_file_is_refused(tmp_path: Path) -> None:
    """No file, half a file and a file over the limit are refused before anything is used of them."""
    half = _saved(tmp_path / "half.pt")
    half.write_bytes(half.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(half)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "none.pt")
    huge = tmp_path / "huge.pt"
    with huge.open("wb") as file:
        file.truncate(17 * 2**20)
    with pytest.raises(CheckpointError, match="at most"):
        load_checkpoint(huge)


def test_flipped_bits_are_seen(tmp_path: Path) -> None:
    """In a weight, where any bits are some number, and in the list of what there is."""
    whole = _saved(tmp_path / "a.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(("/data/0", "/data.pkl"))]
    assert len(entries) == 2
    for entry in entries:
        name_bytes, extra_bytes = struct.unpack_from("<HH", whole, entry.header_offset + 26)
        flipped = bytearray(whole)
        flipped[entry.header_offset + 30 + name_bytes + extra_bytes + 2] ^= 0x10
        (tmp_path / "b.pt").write_bytes(flipped)
        with pytest.raises(CheckpointError, match="damaged: the checksum"):
            load_checkpoint(tmp_path / "b.pt")


def test_what_is_no_checkpoint_is_told_in_plain_words(tmp_path: Path) -> None:
    """A text, nothing at all, and a file that memory would have to hold unpacked."""
    for content in (b"hello\n", b""):
        (tmp_path / "a.pt").write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged, or no checkpoint at all"):
            load_checkpoint(tmp_path / "a.pt")
    with zipfile.ZipFile(_saved(tmp_path / "b.pt")) as archive, zipfile.ZipFile(tmp_path / "c.pt", "w") as packed:
        for entry in archive.infolist():
            packed.writestr(entry.filename, archive.read(entry), zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="is compressed"):
        load_checkpoint(tmp_path / "c.pt")


class _Runs:
    """Unpickled by a careless loader, this would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    """A pickle with a call in it is refused, and the call is not made."""
    torch.save({"format_version": 1, "weights": _Runs(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_without_a_usable_checkpoint_the_fallback_decides_and_the_plan_says_so(tmp_path: Path) -> None:
    """The plan is load-greedy's, carries its name, and gives the reason."""
    pending, snapshot = be_world(1)
    policy = NetworkBePolicy("dcg-be", str(tmp_path / "none.pt"), fallback=place_load_greedy)
    plan = policy(pending, snapshot, BeSettings())
    np.testing.assert_array_equal(plan.node, place_load_greedy(pending, snapshot, BeSettings()).node)
    assert plan.policy == "load-greedy"
    assert "cannot be read" in plan.fallback_reason


def test_a_file_whose_scores_are_not_finite_lets_the_fallback_decide(tmp_path: Path) -> None:
    """Weights that are finite may still overflow: the scheduler starts, and says why it goes without."""
    weights = {name: torch.full_like(weight, 1e30) for name, weight in PlacementNetwork(8).state_dict().items()}
    policy = NetworkBePolicy("dcg-be", str(_saved(tmp_path / "a.pt", weights=weights)), fallback=place_load_greedy)
    assert policy.checkpoint is None
    assert "cannot decide" in policy(*be_world(1), BeSettings()).fallback_reason


def test_a_slow_network_rests_for_a_minute_after_three_slow_ticks(tmp_path: Path) -> None:
    """Two slow ticks are forgiven; after the third the fallback decides until the minute is over."""
    pending, snapshot = be_world(1)
    now = iter(np.arange(0, 1000, 1.0))  # every look at the clock is a second later
    policy = NetworkBePolicy("dcg-be", str(_saved(tmp_path / "a.pt")), fallback=place_load_greedy, clock=lambda: float(next(now)))
    decided = [policy(pending, snapshot, BeSettings(decide_budget_ms=250)).policy for _ in range(3)]
    assert decided == ["dcg-be"] * 3
    resting = policy(pending, snapshot, BeSettings(decide_budget_ms=250))
    assert resting.policy == "load-greedy"
    assert "slower than 250 ms" in resting.fallback_reason
    for _ in range(60):
        later = policy(pending, snapshot, BeSettings(decide_budget_ms=250))
    assert later.policy == "dcg-be"


def test_the_shipped_checkpoint_loads_and_decides() -> None:
    """What comes with Tango is usable as it is."""
    pending, snapshot = be_world(4)
    plan = NetworkBePolicy("dcg-be", "", fallback=place_load_greedy)(pending, snapshot, BeSettings())
    assert plan.policy == "dcg-be"
    assert plan.checkpoint == load_checkpoint(shipped_path()).digest[:12]
    assert (plan.node >= 0).any()
