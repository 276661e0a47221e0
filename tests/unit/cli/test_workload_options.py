"""What a command line says of its requests becomes a workload that has all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tango.cli.workloads import systems_of, variations_of, workloads_of
from tango.domain.fleet import Fleet
from tango.errors import UsageError
from tango.experiments.tuning import tuned_settings
from tango.fleets import load_fleet
from tango.systems import system
from tango.traces.workloads import draw_requests

HEAD = "arrival_s,class,service,cluster,cpu_work_s,memory_mib\n"
FLEET: Fleet = load_fleet("demo")


def options(**changed: Any) -> dict[str, Any]:
    """As click gives them when nothing is said."""
    values: dict[str, Any] = {
        "be_trace": (),
        "loads": (),
        "lc_load_share": 0.4,
        "duration": None,
        "from_s": 0.0,
        "be_from_s": None,
        "map": (),
        "be_map": (),
        "hotspots": 0,
        "hotspot_factor": 5.0,
        "lc": None,
        "be": None,
        "sharing": None,
        "beta": (),
        "staleness": (),
        "window": None,
        "tick": None,
        "mtbf": None,
        "mttr": None,
        "no_charge_decisions": False,
        "changes": (),
    }
    return values | changed


@pytest.mark.parametrize("rows", [["0.0,lc,,,,"], ["0.0,lc,,,,", "1.0,be,,,,", "2.5,lc,,,,"], ["1.0,be,,,,", "1.0,be,,,,"]])
def test_every_request_of_a_file_is_taken(tmp_path: Path, rows: list[str]) -> None:
    """The last arrival too, one alone, all at one instant, and files of one class."""
    trace = tmp_path / "t.csv"
    trace.write_text(HEAD + "\n".join(rows) + "\n")

    [workload] = workloads_of([str(trace)], options(), resample=False)

    assert len(draw_requests(workload, FLEET, 0)) == len(rows)


def test_what_is_neither_pattern_nor_file_is_refused() -> None:
    """With the patterns that there are."""
    with pytest.raises(UsageError, match="'p9' is neither a pattern"):
        workloads_of(["p9"], options(), resample=False)


def test_each_load_is_a_workload_of_its_own() -> None:
    """In the order in which they are said; a pattern without one has the usual load, a file none."""
    found = workloads_of(["p3"], options(loads=(1.2, 0.6)), resample=False)

    assert [workload.label for workload in found] == ["p3@1.2", "p3@0.6"]
    assert [workload.load for workload in workloads_of(["p3"], options(), resample=False)] == [0.8]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"from_s": 5.0}, r"\(--from\) 5 begins within trace files"),
        ({"from_s": 5.0, "be_trace": ("p1",)}, r"\(--from\) 5 begins within trace files"),
        ({"from_s": 5.0, "be_trace": ("FILE",), "be_from_s": 0.0}, r"\(--from\) 5 begins within trace files"),
        ({"be_from_s": 5.0, "be_trace": ("p1",)}, r"\(--be-from\) 5 begins within trace files, and BE comes from the pattern p1"),
    ],
)
def test_a_beginning_that_no_file_would_be_read_from_is_refused(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    """Patterns have none; it would be left aside without a word."""
    trace = tmp_path / "t.csv"
    trace.write_text(HEAD + "0.0,be,,,,\n9.0,be,,,,\n")
    if given.get("be_trace") == ("FILE",):
        given = given | {"be_trace": (str(trace),)}

    with pytest.raises(UsageError, match=told):
        workloads_of(["p3"], options(**given), resample=False)

    [workload] = workloads_of(["p3"], options(from_s=5.0, be_trace=(str(trace),)), resample=False)
    assert workload.from_s == 5.0


def test_variations_are_all_combinations_with_the_other_changes() -> None:
    """Each with a label of what varies, and with what is said once."""
    found = variations_of(options(beta=(0.0, 1.0), staleness=(5.0,), window=0.2, changes=("sharing.hold_s=4",)))

    assert [label for label, _ in found] == ["beta=0 staleness=5s", "beta=1 staleness=5s"]
    assert found[1][1] == {"sim": {"lc_window_s": 0.2, "beta": 1.0, "staleness_s": 5.0}, "sharing": {"hold_s": 4}}
    with pytest.raises(UsageError, match=r"expected GROUP\.NAME=VALUE"):
        variations_of(options(changes=("hold_s=4",)))


def test_a_mix_is_named_by_its_parts() -> None:
    """In place of a system's own part, or all three at once."""
    assert [s.name for s in systems_of("tango,scoring", options(be="load-greedy"))] == [
        "dss-lc/load-greedy/burst",
        "scoring/load-greedy/hrm",
    ]
    assert systems_of("load-greedy/load-greedy/hrm", options()) == (system("load-greedy"),)
    with pytest.raises(UsageError, match="no system is named"):
        systems_of(" , ", options())


def test_a_mix_has_the_thresholds_of_the_system_whose_rule_it_has() -> None:
    """Else an ablation would change the parameters beside the part."""
    for mix in systems_of("dss-lc/load-greedy/hrm,dss-lc/load-greedy/burst", options()):
        assert tuned_settings(mix) == {"sharing": tuned_settings(system("tango"))["sharing"]}
