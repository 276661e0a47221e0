"""A built-in LC policy is one file and one line of `built_in`."""

from __future__ import annotations

import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tango
from tango.compiled import inlined, one_of
from tango.scheduling import lc
from tango.scheduling.lc.built_in import POLICIES, traits_of
from tango.settings import Settings
from tango.systems import lc_names, lc_policy

NEW_POLICY = """
from tango.compiled import inlined
from tango.scheduling.lc.policy import CompiledPolicy


@inlined
def _last_of_entry(t, b, ask, sent, explore):
    return t.members[t.first[ask.entry + 1] - 1]


POLICY = CompiledPolicy(name="last-of-entry", choose=_last_of_entry)
"""
ASK_IT = """
from tango.domain.smallest import smallest_arrivals, smallest_snapshot
from tango.settings import LcSettings, Settings
from tango.systems import lc_names, lc_policy, mixed, system
plan = lc_policy("last-of-entry", Settings())(smallest_arrivals(), smallest_snapshot(), LcSettings())
print("last-of-entry" in lc_names(), mixed(system("tango"), lc="last-of-entry").name, plan.policy, plan.node.tolist())
"""


def test_every_file_of_a_policy_has_its_line() -> None:
    """No policy is written and then forgotten, and none is on the list twice."""
    modules = (importlib.import_module(f"{lc.__name__}.{found.name}") for found in pkgutil.iter_modules(lc.__path__))
    written = {module.POLICY.name for module in modules if hasattr(module, "POLICY")}

    listed = [policy.name for policy in POLICIES]

    assert sorted(listed) == sorted(written)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_the_registry_gives_each_policy_of_the_list(policy: object) -> None:
    """By its name, with the traits of its file and the place of its line."""
    place = POLICIES.index(policy)  # type: ignore[arg-type]
    listed = POLICIES[place]

    found = lc_policy(listed.name, Settings())

    assert listed.name in lc_names()
    assert found.traits == traits_of(listed)  # type: ignore[attr-defined]
    assert found.traits.place == place  # type: ignore[attr-defined]


def test_one_file_and_one_line_make_a_policy_that_dispatches(tmp_path: Path) -> None:
    """A copy of the package with a new file and its line: the registry knows the policy, mixes take it, and it plans."""
    source = Path(tango.__file__).parent
    copy = shutil.copytree(source, tmp_path / "tango", ignore=shutil.ignore_patterns("__pycache__", "*.pt"))
    (copy / "scheduling" / "lc" / "last_of_entry.py").write_text(NEW_POLICY)
    built_in = copy / "scheduling" / "lc" / "built_in.py"
    text = built_in.read_text().replace("    load_greedy,\n", "    last_of_entry,\n    load_greedy,\n", 1)
    built_in.write_text(text.replace("    scoring.POLICY,", "    scoring.POLICY,\n    last_of_entry.POLICY,"))

    done = subprocess.run(
        [sys.executable, "-c", ASK_IT],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_DISABLE_JIT": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.stdout.split() == ["True", "last-of-entry/dcg-be/burst", "last-of-entry", "[0]"], done.stderr


@inlined
def _double(value: float) -> float:
    return 2.0 * value


@inlined
def _negated(value: float) -> float:
    return -value


def test_a_chain_calls_the_kernel_whose_place_is_asked_for() -> None:
    """Kernels that are the default take no link of their own, and any other place means the default."""
    chosen = one_of([_double, _negated, _double], otherwise=_negated)

    assert [chosen(place, 3.0) for place in (0, 1, 2, 3, -1)] == [6.0, -3.0, 6.0, -3.0, -3.0]
