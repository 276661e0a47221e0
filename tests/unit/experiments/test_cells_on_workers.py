"""What tells simulated runs apart in the database."""

from __future__ import annotations

from pathlib import Path

import pytest

from tango.cli.workloads import variations_of
from tango.experiments.cells import Cell
from tango.experiments.cells_on_workers import ordered, trace_source
from tango.systems import system
from tango.traces.workloads import Workload

NOTHING = {
    "beta": (),
    "staleness": (),
    "window": None,
    "tick": None,
    "mtbf": None,
    "mttr": None,
    "no_charge_decisions": False,
    "changes": (),
}


def _source(duration_s: float = 600.0, **options: object) -> str:
    ((label, settings),) = variations_of({**NOTHING, **options})
    workload = Workload(lc=("p3",), be=("p3",), duration_s=duration_s, load=0.8)
    return trace_source(Cell(workload=workload, fleet="single", system=system("tango"), seed=1, settings=settings, variation=label))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "p3@0.8 600s"),
        ({"duration_s": 60.0}, "p3@0.8 60s"),
        ({"beta": (1.0,), "staleness": (5.0,)}, "p3@0.8 beta=1 staleness=5s 600s"),
        ({"window": 0.05}, "p3@0.8 600s sim.lc_window_s=0.05"),
        ({"beta": (0.0,), "mtbf": 300.0}, "p3@0.8 beta=0 600s sim.mtbf_s=300"),
        ({"changes": ("sim.beta=0.5",)}, "p3@0.8 600s sim.beta=0.5"),
        ({"changes": ("sharing.grow_below=0.3",)}, "p3@0.8 600s sharing.grow_below=0.3"),
        ({"no_charge_decisions": True}, "p3@0.8 600s sim.charge_decisions=False"),
    ],
)
def test_whatever_changes_the_figures_stands_in_the_source(options: dict[str, object], words: str) -> None:
    """`system_comparison` averages over runs of one source: what is told twice is told once, and nothing is left out."""
    assert _source(**options) == words  # type: ignore[arg-type]


def test_a_worker_in_another_folder_finds_the_trace_files_of_a_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are ordered by their full names; this host goes on keeping the result under its own key of the cell."""
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("arrival_s,class\n0,lc\n1,be\n")
    workload = Workload(lc=("t.csv",), be=("p3",), duration_s=10.0, load=0.8)
    cell = Cell(workload=workload, fleet="single", system=system("tango"), seed=1)

    asked = ordered(cell)

    monkeypatch.chdir("/")
    there = Cell.from_dict(asked.simulation.cell)
    assert there.workload.lc == (str(tmp_path / "t.csv"),)
    assert there.workload.be == ("p3",)
    assert there.key() == asked.simulation.key
    monkeypatch.chdir(tmp_path)
    assert cell.key() == asked.key
