"""The key of a cell follows what its result depends on, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tango.experiments.cells import code_digest, sources_of
from tango.sources import ROOT, digest_of
from tango.systems import SYSTEMS, system

RUN_AND_TELL = """
import json, sys
opened = set()
sys.addaudithook(lambda event, given: opened.add(str(given[0])) if event == "open" else None)
from pathlib import Path
from tango.experiments.cells import Cell, run_cell, sources_of
from tango.systems import system
from tango.traces.workloads import Workload
name = sys.argv[1]
run_cell(Cell(workload=Workload(lc=("p3",), be=("p3",), duration_s=2.0, load=0.3), fleet="single", system=system(name), seed=1))
root = Path(sys.modules["tango"].__file__).parent
loaded = [m.__file__ for k, m in list(sys.modules.items()) if k.partition(".")[0] == "tango"]
data = [p for p in opened if p.startswith(str(root)) and "__pycache__" not in p and not p.endswith(".py")]
print(json.dumps([str(Path(p).relative_to(root)) for p in {*loaded, *data}]))
"""
OF_THE_CELL_ITSELF = {"fleets/data/single.yaml"}
"""Read, and in the key by its content."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tango's package in a folder of its own, to be edited."""
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("copy") / "tango", ignore=shutil.ignore_patterns("__pycache__"))


@cache
def digest_before_edits(copy: Path, of: str) -> str:
    """The digest of a system's sources as they are."""
    return digest_of(sources_of(system(of), root=copy), root=copy)


def digest_after_edit(copy: Path, file: str, of: str) -> tuple[str, str]:
    """The digests of a system's sources before and after a comment (or a space) was added to a file; it is put back."""
    path = copy / file
    content = path.read_bytes()
    before = digest_before_edits(copy, of)
    path.write_bytes(content + (b"\n# edited\n" if file.endswith(".py") else b"\n"))
    try:
        return before, digest_of(sources_of(system(of), root=copy), root=copy)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize(
    "file",
    [
        "control/execute_lc.py",
        "control/place_be.py",
        "cli/compare.py",
        "report/comparison_page.py",
        "store/simulations.py",
        "experiments/sweeps.py",
        "experiments/tuning.py",
        "experiments/data/tuned.json",
        "fleets/data/paper.yaml",
        "training/loop.py",
        "analysis/verdicts.py",
        "scheduling/lc/batch_plan.py",
        "systems/batch_step.py",
        "settings/callers.py",
        "settings/clusters.py",
        "settings/whole.py",
        "domain/jobs.py",
        "domain/tokens.py",
    ],
)
def test_an_edit_of_what_no_result_depends_on_keeps_the_key(copy: Path, file: str) -> None:
    """Live use cases and what they alone need, commands, pages, training; settings and fleets stand in the cell by their values."""
    before, after = digest_after_edit(copy, file, "tango")

    assert before == after


@pytest.mark.parametrize(
    "file",
    [
        "experiments/cells.py",
        "sim/engine.py",
        "sim/data/decision_costs.json",
        "node_model/kernel.py",
        "node_model/__init__.py",
        "scheduling/lc/dss_lc.py",
        "scheduling/sharing_step.py",
        "systems/registry.py",
        "traces/generators.py",
        "analysis/metrics.py",
        "bound/be.py",
        "learning/network.py",
        "learning/features.py",
        "learning/data/dcg-be.pt",
        "domain/snapshot.py",
        "settings/decisions.py",
        "compiled.py",
        "__init__.py",
    ],
)
def test_an_edit_of_what_a_result_depends_on_changes_the_key(copy: Path, file: str) -> None:
    """Engine, node model, policies, sharing, metrics, the bound, workloads, the network and its weights."""
    before, after = digest_after_edit(copy, file, "tango")

    assert before != after


def test_new_weights_throw_away_the_results_of_their_own_policy_alone(copy: Path) -> None:
    """A retrained `dcg-be` leaves systems alone that do not ask it, and cells that bring a checkpoint of their own."""
    changed = {name for name in SYSTEMS if len(set(digest_after_edit(copy, "learning/data/dcg-be.pt", name))) == 2}

    assert changed == {"tango"}
    assert code_digest(system("tango")) != code_digest(system("tango"), "dcg-be")
    assert not [path for path in sources_of(system("tango"), own_checkpoint="dcg-be") if path.suffix == ".pt"]


@pytest.mark.parametrize(
    "name", ["tango", "scoring", *(pytest.param(name, marks=pytest.mark.long) for name in ("dsaco", "gnn-sac"))]
)
def test_a_run_reads_nothing_that_its_key_does_not_hold(name: str) -> None:
    """Every module that is loaded and every file of Tango that is opened by a cell is among its sources."""
    done = subprocess.run([sys.executable, "-c", RUN_AND_TELL, name], capture_output=True, text=True, timeout=300, check=True)

    read = set(json.loads(done.stdout.splitlines()[-1])) - OF_THE_CELL_ITSELF

    assert "sim/engine.py" in read
    assert read - {path.relative_to(ROOT).as_posix() for path in sources_of(system(name))} == set()
