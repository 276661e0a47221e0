"""Cells: values that name their result, settings that are checked, results that are the same wherever they are made."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tango.domain.checkpoints import CheckpointFile
from tango.domain.tenants import Tenant
from tango.errors import CheckpointError, UsageError
from tango.experiments.cells import Cell, run_cell, settings_with
from tango.experiments.sweeps import KeptResults, StandingProcesses, run_cells
from tango.fleets import load_fleet
from tango.fleets.declarations import dump_fleet
from tango.learning.checkpoint import save_checkpoint
from tango.learning.network import PlacementNetwork
from tango.systems import system
from tango.traces.workloads import Workload

WORKLOAD = Workload(lc=("p3",), be=("p3",), duration_s=10.0, load=0.7)


def cell(**changes: Any) -> Cell:
    """Ten seconds on twelve nodes."""
    values: dict[str, Any] = {"workload": WORKLOAD, "fleet": "demo", "system": system("load-greedy"), "seed": 7}
    return Cell(**(values | changes))


def test_a_cell_is_json_and_back() -> None:
    """What a message or a table holds of it is all of it, its key included."""
    teams = (Tenant(name="blue", weight=2.0, quota=(("cpu", 500), ("memory", 64))), Tenant(name="red", most_jobs=3))
    given = cell(settings={"sim": {"beta": 1.0}}, variation="beta=1", tenants=teams)

    again = Cell.from_dict(json.loads(json.dumps(given.as_dict())))

    assert again == given
    assert again.key() == given.key()
    assert given.scenario.endswith(" beta=1")


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 8},
        {"system": system("ceres")},
        {"fleet": "testbed"},
        {"workload": replace(WORKLOAD, load=0.71)},
        {"settings": {"sim": {"beta": 0.5}}},
        {"bound": False},
        {"tenants": (Tenant(name="blue", weight=2.0),)},
    ],
)
def test_whatever_changes_a_result_changes_the_key(changed: dict[str, Any]) -> None:
    """Else a result would be taken for another."""
    assert cell(**changed).key() != cell().key()


def test_a_trace_file_with_other_content_gives_another_key(tmp_path: Path) -> None:
    """The key holds what is in the file, not its name and time."""
    trace = tmp_path / "t.csv"
    head = "arrival_s,class,service,cluster,cpu_work_s,memory_mib\n"
    keys = []
    for text in (head + "0.0,lc,,,,\n1.0,be,,,,\n", head + "0.0,lc,,,,\n2.0,be,,,,\n", head + "0.0,lc,,,,\n1.0,be,,,,\n"):
        trace.write_text(text)
        keys.append(cell(workload=Workload(lc=(str(trace),), be=(str(trace),), duration_s=5.0)).key())

    assert keys[0] == keys[2] != keys[1]


def checkpoint_file(path: Path, seed: int) -> CheckpointFile:
    """A network with weights drawn from the seed."""
    torch.manual_seed(seed)
    digest = save_checkpoint(PlacementNetwork(8), path, name="n", trained={})
    return CheckpointFile(path=str(path), digest=digest, policy="dcg-be")


def test_another_checkpoint_gives_another_key_and_another_place_of_the_file_does_not(tmp_path: Path) -> None:
    """A cell that a worker on another host computes has the key of the command's."""
    one, copy = (checkpoint_file(tmp_path / name, 1) for name in ("a.pt", "b.pt"))
    other = checkpoint_file(tmp_path / "c.pt", 2)
    keys = [cell(system=system("tango"), checkpoint=file).key() for file in (None, one, copy, other)]

    assert keys[1] == keys[2]
    assert len(set(keys)) == 3
    assert Cell.from_dict(json.loads(json.dumps(cell(checkpoint=one).as_dict()))) == cell(checkpoint=one)


def test_a_cell_decides_by_its_checkpoint_and_by_no_other_of_that_path(tmp_path: Path) -> None:
    """A file that was changed after the cell was made would give a result under a key that is not its own."""
    file = checkpoint_file(tmp_path / "a.pt", 1)
    mine = cell(system=system("tango"), checkpoint=file, bound=False)

    assert run_cell(mine).figures["checkpoint"] == file.digest[:12]
    checkpoint_file(tmp_path / "a.pt", 2)
    with pytest.raises(CheckpointError, match="the file was changed meanwhile"):
        run_cell(mine)
    (tmp_path / "a.pt").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        run_cell(mine)


def test_a_fleet_given_as_text_gives_the_result_of_the_built_in_one() -> None:
    """Other hosts have no file of the user's: the cell carries the declaration."""
    by_text = cell(fleet=dump_fleet(load_fleet("demo")))

    assert run_cell(by_text).figures["digest"] == run_cell(cell()).figures["digest"]


def test_settings_are_changed_by_name_and_checked() -> None:
    """Numbers stay numbers; an unknown name, another type or a value out of bounds is refused with what was expected."""
    changed = settings_with(
        {"sim": {"beta": 1, "be_tick_s": 2}, "lc": {"score_weights": [1, 0, 0, 0]}, "sharing": {"min_samples": 3}}
    )

    assert (changed.sim.beta, changed.sim.be_tick_s, changed.lc.score_weights) == (1.0, 2.0, (1.0, 0.0, 0.0, 0.0))
    assert changed.sharing.min_samples == 3
    for wrong, told in (
        ({"kube": {"attempts": 1}}, "expected one of lc, be, sharing, tenants, sim"),
        ({"sim": {"betta": 1.0}}, "there is no setting sim.betta .did you mean .beta.*expected one of .*beta"),
        ({"sim": {"beta": "much"}}, "sim.beta is 'much'"),
        ({"sim": {"charge_decisions": 1}}, "sim.charge_decisions is 1, expected something like True"),
        ({"lc": {"score_weights": [1, 2]}}, r"lc.score_weights is \[1, 2\]"),
    ):
        with pytest.raises(UsageError, match=told):
            settings_with(wrong)


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    """Digests and all figures but the time that it took, whichever process made a cell and in whichever order they ended.

    Processes that stand serve the next cells too, and are gone with their block.
    """
    cells = [cell(seed=seed, system=system(name)) for seed in (1, 2) for name in ("k8s-native", "load-greedy")]

    alone = run_cells(cells)
    with StandingProcesses(2) as processes:
        together = run_cells(cells[:2], processes=processes, kept=KeptResults(tmp_path))
        first = sorted(child.pid for child in multiprocessing.active_children())
        together += run_cells(cells[2:], processes=processes, kept=KeptResults(tmp_path))
        second = sorted(child.pid for child in multiprocessing.active_children())

    assert first == second
    assert len(first) == 2
    assert not set(first) & {child.pid for child in multiprocessing.active_children()}
    for one, other in zip(alone, together, strict=True):
        assert {**one.figures, "wall_s": 0} == {**other.figures, "wall_s": 0}
        assert one.bound == other.bound
        assert one.series == other.series
    assert len({r.figures["digest"] for r in alone}) == 4


def test_a_finished_cell_is_not_run_again(tmp_path: Path) -> None:
    """A sweep that was killed goes on; `forget` begins again."""
    told: list[tuple[int, bool]] = []

    def done(made: Cell, _result: object, was_kept: bool) -> None:
        told.append((made.seed, was_kept))

    first, second = cell(seed=1), cell(seed=2)
    [made] = run_cells([first], kept=KeptResults(tmp_path), done=done)
    [found, _] = run_cells([first, second], kept=KeptResults(tmp_path), done=done)
    run_cells([first], kept=KeptResults(tmp_path, forget=True), done=done)

    assert told == [(1, False), (1, True), (2, False), (1, False)]
    assert found == made


def test_a_damaged_result_is_made_anew(tmp_path: Path) -> None:
    """Half a file, as a full disk leaves it, counts as none."""
    [made] = run_cells([cell()], kept=KeptResults(tmp_path))
    path = tmp_path / f"{cell().key()}.json"
    path.write_text(path.read_text()[:100])

    [again] = run_cells([cell()], kept=KeptResults(tmp_path))

    assert again.figures["digest"] == made.figures["digest"]
    assert KeptResults(tmp_path).find(cell().key()) is not None
