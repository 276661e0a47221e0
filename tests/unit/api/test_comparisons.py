"""Comparisons from Python: named systems and functions side by side, paired by seed, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tango import api
from tango.domain.seeds import COMPARISON
from tango.domain.tenants import Tenant
from tango.errors import UsageError
from tango.scheduling.be_policies import place_load_greedy

pytestmark = pytest.mark.timeout(600)
"""The first simulation of a fresh checkout compiles the engine."""

TRAFFIC = api.workload("p3", load=0.9, duration_s=5)


def as_load_greedy(pending: Any, snapshot: Any, settings: Any) -> Any:
    """Decides as the built-in policy does."""
    return place_load_greedy(pending, snapshot, settings)


def nothing(pending: Any, snapshot: Any, settings: Any) -> Any:
    """Places nothing, so that BE work waits for ever."""
    return api.BePlan(node=api.nowhere(pending), policy="nothing")


ALIKE: dict[str, Any] = {"settings": {"sim": {"charge_decisions": False}}, "tuned": False}
"""What a policy of Tango's own takes to decide is charged, what a function takes is not; and a mix is tuned as `tango` is."""


def test_a_function_serves_the_same_requests_as_the_systems_beside_it() -> None:
    """One that decides as a built-in policy does has its results in every seed, under its own name."""
    mine = api.system("load-greedy", be=as_load_greedy)

    found = api.compare(TRAFFIC, ["load-greedy", mine], fleet="single", seeds=2, **ALIKE)

    runs = found.runs().to_pylist()
    assert [(row["system"], row["seed"]) for row in runs] == [
        (name, COMPARISON.start + k) for k in (0, 1) for name in ("load-greedy", "load-greedy/as_load_greedy/hrm")
    ]
    assert runs[0]["digest"] == runs[1]["digest"] != runs[3]["digest"] == runs[2]["digest"]
    assert {row["mean"] for row in found.differences().to_pylist() if row["metric"] == "lc_qos_rate"} == {0.0}


def test_every_table_has_its_rows() -> None:
    """By scenario, system and seed, as they say; what is printed is the table of the command."""
    two = [TRAFFIC, api.workload("p1", load=0.5, duration_s=5)]
    idle = api.system("load-greedy", be=nothing, called="idle")

    found = api.compare(two, ["load-greedy", idle], fleet="single", seeds=(7, 9), baseline="idle")

    assert (len(found.runs()), len(found.means()), len(found.services())) == (8, 4, 16)
    work = {(r["scenario"], r["system"]): r["be_cpu_seconds_per_s"] for r in found.means().to_pylist()}
    assert work["p3@0.9", "idle"] == 0 < work["p3@0.9", "load-greedy"]
    assert {row["system"] for row in found.differences().to_pylist()} == {"load-greedy"}
    assert str(found).splitlines()[0].startswith("scenario  system")
    assert any("deadlock" in note for note in found.notes)
    assert len(found.judge("idle").sentences()) > 1


def test_tenants_are_declared_for_all_runs(tmp_path: Path) -> None:
    """A row for each system and tenant of a trace; without tenants there is none."""
    trace = tmp_path / "teams.csv"
    rows = "".join(f"{k * 0.01:g},be,batch,2,{name}\n" for k in range(40) for name in ("blue", "red"))
    trace.write_text("arrival_s,class,service,cpu_work_s,tenant\n" + rows)
    teams = api.workload(trace, resample=False)

    found = api.compare(teams, ["load-greedy", "k8s-native"], fleet="single", seeds=1, tenants=[Tenant(name="blue", weight=3.0)])

    told = found.tenants().to_pylist()
    assert [(row["system"], row["tenant"], row["weight"], row["requests"]) for row in told] == [
        (system, tenant, weight, 40) for system in ("load-greedy", "k8s-native") for tenant, weight in (("blue", 3.0), ("red", 1.0))
    ]


def test_what_a_function_gave_is_never_taken_for_what_another_would(tmp_path: Path) -> None:
    """Cells of named policies are kept and found again; a function is computed anew, since its name does not tell what it does."""
    systems = ["load-greedy", api.system("load-greedy", be=as_load_greedy, called="mine")]
    finished = list[tuple[int, int]]()

    first = api.compare(TRAFFIC, systems, fleet="single", seeds=1, keep_in=tmp_path, progress=lambda *of: finished.append(of))
    kept = sorted(tmp_path.iterdir())
    again = api.compare(TRAFFIC, systems, fleet="single", seeds=1, keep_in=tmp_path)

    assert len(kept) == 1
    assert sorted(tmp_path.iterdir()) == kept
    assert finished == [(1, 2), (2, 2)]
    assert again.runs().column("digest") == first.runs().column("digest")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"systems": ["tango", "tango"]}, r"the system 'tango' is there 2 times, expected each once"),
        ({"systems": []}, r"no system is given"),
        ({"seeds": 0}, r"no seed is given"),
        ({"seeds": (1, 1)}, r"the seed '1' is there 2 times"),
        ({"workloads": []}, r"no workload is given"),
        ({"workloads": [TRAFFIC, TRAFFIC]}, r"the workload 'p3@0.9' is there 2 times"),
        ({"workloads": "p9"}, r"'p9' is neither a pattern"),
        ({"baseline": "tnago"}, r"the baseline 'tnago' \(did you mean 'tango'\?\) is not among the systems: tango"),
        ({"fleet": "sigle"}, r"there is no fleet 'sigle' \(did you mean 'single'\?\)"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_simulated(given: dict[str, Any], told: str) -> None:
    """With what was found."""
    arguments: dict[str, Any] = {"workloads": TRAFFIC, "systems": ["tango"], "fleet": "single", **given}

    with pytest.raises(UsageError, match=told):
        api.compare(arguments.pop("workloads"), arguments.pop("systems"), **arguments)
