"""The cells of a comparison: all combinations, in an order that shares requests, each once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tango.domain.checkpoints import CheckpointFile
from tango.domain.tenants import Tenant
from tango.errors import UsageError
from tango.experiments.comparison_cells import ComparedSystems, comparison_cells
from tango.experiments.tuning import merged, tuned_settings
from tango.systems import system
from tango.traces.workloads import Workload

WORKLOAD = Workload(lc=("p3",), be=("p3",), duration_s=10.0, load=0.7)
TWO = (system("load-greedy"), system("tango"))
AGED = {"sim": {"staleness_s": 4.0}}


def test_every_combination_is_there_once_and_systems_vary_fastest() -> None:
    """All systems of a seed come one after another, so that a process draws their requests once."""
    cells = comparison_cells(
        ComparedSystems(systems=TWO, tuned=False),
        [WORKLOAD, replace(WORKLOAD, load=0.9)],
        fleet="demo",
        seeds=range(3, 5),
        variations=[("", {}), ("staleness=4s", AGED)],
        bound=False,
    )

    found = [(cell.workload.load, cell.variation, cell.seed, cell.system.name) for cell in cells]
    assert found == [
        (load, label, seed, name)
        for load in (0.7, 0.9)
        for label in ("", "staleness=4s")
        for seed in (3, 4)
        for name in ("load-greedy", "tango")
    ]
    assert [cell.settings for cell in cells[:6:5]] == [{}, AGED]
    assert {(cell.fleet, cell.bound) for cell in cells} == {("demo", False)}


def test_what_the_user_changes_goes_over_what_was_tuned() -> None:
    """Without it, a tuned value would silently win over an option of the command line."""
    (changed,) = {key for group in tuned_settings(TWO[1]).values() for key in group if key == "grow_below"}
    mine = {"sharing": {changed: 0.123}}

    (cell,) = comparison_cells(ComparedSystems(systems=TWO[1:]), [WORKLOAD], fleet="demo", seeds=(1,), variations=[("", mine)])

    assert cell.settings == merged(tuned_settings(TWO[1]), mine)
    assert cell.settings["sharing"][changed] == 0.123
    assert len(cell.settings["sharing"]) > 1


def test_a_checkpoint_goes_to_the_systems_that_it_is_of() -> None:
    """The others decide by rules, or by what is shipped."""
    file = CheckpointFile(path="x.pt", digest="d" * 64, policy="dcg-be")

    greedy, tango = comparison_cells(
        ComparedSystems(systems=TWO, checkpoints={"tango": file}), [WORKLOAD], fleet="demo", seeds=(1,)
    )

    assert (greedy.checkpoint, tango.checkpoint) == (None, file)


def test_tenants_are_declared_in_every_cell() -> None:
    """And are part of its key: what was simulated without them says nothing of what they get."""
    blue = Tenant(name="blue", weight=3.0)

    cells = comparison_cells(ComparedSystems(systems=TWO), [WORKLOAD], fleet="demo", seeds=(1,), tenants=[blue])

    assert [cell.tenants for cell in cells] == [(blue,), (blue,)]
    assert cells[0].key() != replace(cells[0], tenants=()).key()


def test_a_scenario_that_is_there_twice_is_refused() -> None:
    """Its cells could not be told apart in the comparison."""
    with pytest.raises(UsageError, match=r"'.+' is there twice, expected each TRACE, --load, --beta and --staleness once"):
        comparison_cells(ComparedSystems(systems=TWO), [WORKLOAD, WORKLOAD], fleet="demo", seeds=(1,))
