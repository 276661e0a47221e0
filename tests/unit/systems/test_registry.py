"""Systems and policies by name, and policies that an installed package offers: the example of docs/policies.md, run as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tango.errors import UsageError
from tango.settings import Settings
from tango.systems import SYSTEMS, be_policy, lc_policy, mixed, system
from tests.commands import run_tango

pytestmark = pytest.mark.timeout(600)
"""The first simulation of a fresh checkout compiles the engine."""

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "policies.md").read_text()
EXAMPLE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]


def install(folder: Path, entry_points: str, module: str) -> None:
    """What an installed package leaves: a module, and its metadata with entry points."""
    (folder / "my_policies.py").write_text(module)
    metadata = folder / "my_policies-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-policies\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[tango.policies]\n{entry_points}\n")


def tango(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with the package on the path."""
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "TANGO_HOME": str(folder / "home")}
    return run_tango(arguments, environment=environment, timeout_s=500.0)


SIMULATE = ("simulate", "p3", "--fleet", "testbed", "--load", "0.9", "--duration", "20", "--no-bound", "-o", "json")


def test_the_policy_of_the_documentation_runs_as_it_stands_there(tmp_path: Path) -> None:
    """Installed by the entry point of the page, it places every BE request of a simulation, in at most 30 lines."""
    assert len([line for line in EXAMPLE.splitlines() if line.strip()]) <= 30
    install(tmp_path, "be.near-home = my_policies:place_near_home", EXAMPLE)

    done = tango(tmp_path, *SIMULATE, "--be", "near-home")

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["system"] == "dss-lc/near-home/burst"
    assert figures["succeeded"] == figures["accepted"] > 1000
    assert "no decision time is recorded for the be policy 'near-home'" in done.stderr


def test_an_impossible_plan_of_an_installed_policy_is_stopped_with_its_name(tmp_path: Path) -> None:
    """The command ends with status 1, and says which policy, which cycle and which rows."""
    install(tmp_path, "be.near-home = my_policies:place_near_home", EXAMPLE.replace("node[k] = best", "node[k] = 99"))

    done = tango(tmp_path, *SIMULATE, "--be", "near-home")

    assert done.returncode == 1
    assert "policy 'near-home' returned an impossible plan in BE tick" in done.stderr
    assert "node 99, expected a row from 0 to 15, or -1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("entry_point", "told"),
    [
        ("near-home = my_policies:place_near_home", "expected lc.NAME or be.NAME"),
        ("be.load-greedy = my_policies:place_near_home", "a name that Tango does not use"),
    ],
)
def test_an_entry_point_with_a_wrong_name_is_told(tmp_path: Path, entry_point: str, told: str) -> None:
    """A package cannot hide a policy of Tango's, and a slip in the name is not overlooked."""
    install(tmp_path, entry_point, EXAMPLE)

    done = tango(tmp_path, *SIMULATE, "--be", "near-home")

    assert done.returncode == 2
    assert told in done.stderr


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("raise RuntimeError('broken')", "my_policies.py:11: RuntimeError: broken"),
        ("return None", "policy 'near-home' returned NoneType in BE tick 1 (at 1 s), expected BePlan"),
    ],
)
def test_a_policy_that_fails_is_told_as_such(tmp_path: Path, fault: str, told: str) -> None:
    """With its name and the cycle, not as a defect of Tango."""
    module = EXAMPLE.replace("    free =", f"    {fault}\n    free =", 1)
    assert fault in module
    install(tmp_path, "be.near-home = my_policies:place_near_home", module)

    done = tango(tmp_path, *SIMULATE, "--be", "near-home")

    assert done.returncode == 1
    assert told in done.stderr
    assert "defect in Tango" not in done.stderr


def test_a_changed_policy_is_simulated_again(tmp_path: Path) -> None:
    """Its source is part of a cell's key: else editing it would show the old result."""
    install(tmp_path, "be.near-home = my_policies:place_near_home", EXAMPLE)
    compare = ("compare", "p3", "--fleet", "testbed", "--load", "0.9", "--duration", "20", "--seeds", "1", "--no-bound")
    mix = ("--systems", "dss-lc/near-home/hrm")
    first = tango(tmp_path, *compare, *mix)
    again = tango(tmp_path, *compare, *mix)
    (tmp_path / "my_policies.py").write_text(EXAMPLE.replace("free[MEMORY], -np.inf", "free[0], -np.inf"))

    changed = tango(tmp_path, *compare, *mix)

    assert [done.returncode for done in (first, again, changed)] == [0, 0, 0]
    assert "1 of 1 cells were finished before" in again.stderr
    assert "finished before" not in changed.stderr


def test_an_entry_point_that_cannot_be_imported_is_told(tmp_path: Path) -> None:
    """The message names the policy, where it comes from and what happened."""
    install(tmp_path, "be.near-home = my_policies:gone", EXAMPLE)

    done = tango(tmp_path, *SIMULATE, "--be", "near-home")

    assert done.returncode == 2
    assert "the BE policy 'near-home' (my_policies:gone) cannot be loaded" in done.stderr


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    """Of systems, policies and sharing rules."""
    with pytest.raises(UsageError, match="known systems: k8s-native, load-greedy"):
        system("tangoo")
    with pytest.raises(UsageError, match=r"no LC policy .x.; known: .*dss-lc"):
        mixed(system("tango"), lc="x")
    with pytest.raises(UsageError, match="no sharing rule 'x'; known: static, hrm, ceres, burst"):
        mixed(system("tango"), sharing="x")
    with pytest.raises(UsageError, match="no BE policy 'x'"):
        be_policy("x", Settings())
    with pytest.raises(UsageError, match="no LC policy 'x'"):
        lc_policy("x", Settings())


def test_a_mix_that_is_a_system_bears_its_name() -> None:
    """So that an ablation which changes nothing is not taken for another system."""
    assert mixed(system("tango"), be="load-greedy").name == "dss-lc/load-greedy/burst"
    assert mixed(system("tango"), lc="load-greedy", be="load-greedy", sharing="hrm") == SYSTEMS["load-greedy"]


def test_every_part_of_every_system_exists() -> None:
    """The registry's names lead to policies."""
    for known in SYSTEMS.values():
        assert callable(lc_policy(known.lc, Settings()))
        assert callable(be_policy(known.be, Settings()))
