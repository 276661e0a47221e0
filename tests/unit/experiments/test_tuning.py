"""The search for parameters: the same for every system, and a longer one only adds to a shorter one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tango.errors import ConfigError
from tango.experiments.cells import run_cell, settings_with
from tango.experiments.tuning import (
    TRAINING_SEEDS,
    box_of,
    candidates,
    cells_for,
    dump_tuned,
    merged,
    ranking,
    read_tuned,
    tuned_settings,
)
from tango.systems import SYSTEMS, system
from tango.traces.workloads import Workload


@pytest.mark.parametrize("name", [name for name, s in SYSTEMS.items() if s.sharing != "static"])
def test_the_defaults_come_first_and_all_lie_in_the_box(name: str) -> None:
    """Every candidate is a setting that can be."""
    tried = candidates(system(name), 16)

    assert tried[0] == {}
    assert len(tried) == 16
    for settings in tried[1:]:
        settings_with(settings)
        for (group, field), (low, high) in box_of(system(name)).items():
            value = settings[group]["score_weights"][int(field[-1])] if "." in field else settings[group][field]
            assert low <= value <= high


def test_of_settings_that_are_whole_numbers_only_whole_ones_are_tried() -> None:
    """All of them from the lowest to the highest, so that replicas are counted and not weighed."""
    tried = [settings["lc"]["probes"] for settings in candidates(system("prequal"), 200)[1:]]

    assert {type(value) for value in tried} == {int}
    assert sorted(set(tried)) == list(range(2, 9))


def test_a_longer_search_begins_as_the_shorter_one() -> None:
    """More evaluations never lose what fewer found, and no two candidates are alike."""
    short, long = candidates(system("scoring"), 8), candidates(system("scoring"), 24)
    assert long[:8] == short
    assert len({str(c) for c in long}) == 24


def test_a_system_without_parameters_is_evaluated_as_it_is() -> None:
    """`k8s-native` has nothing to tune."""
    assert candidates(system("k8s-native"), 24) == [{}]


def test_the_best_score_wins_and_ties_go_to_the_earlier() -> None:
    """Score: QoS rate and the share of the BE bound, averaged over the cells of a choice."""
    workload = Workload(lc=("p3",), be=("p3",), duration_s=10.0, load=0.7)
    choices = candidates(system("load-greedy"), 2)
    cells = cells_for(system("load-greedy"), choices, [workload], ["demo"], [1])
    one = run_cell(cells[0])
    better = replace(one, figures={**one.figures, "lc_qos_rate": 2.0})

    assert [c.settings for c in ranking(choices, [one, better])] == [choices[1], choices[0]]
    assert [c.settings for c in ranking(choices, [one, one])] == choices
    best = ranking(choices, [one, better])[0]
    assert best.score == pytest.approx(best.lc_qos_rate + best.be_share_of_bound)


def test_training_seeds_are_not_those_of_comparisons() -> None:
    """No tuning on what is compared."""
    from tango.cli.compare import FIRST_SEED
    from tango.domain.seeds import COMPARISON, TRAINING

    assert set(TRAINING_SEEDS) <= set(TRAINING)
    assert COMPARISON.start == FIRST_SEED


def test_what_was_found_is_kept_and_read(tmp_path: Path) -> None:
    """By system; a file of something else is refused with how to make one."""
    workload = Workload(lc=("p3",), be=("p3",), duration_s=10.0, load=0.7)
    choices = [{"sharing": {"grow_below": 0.3}}]
    [best] = ranking(choices, [run_cell(cells_for(system("tango"), choices, [workload], ["demo"], [1])[0])])
    path = tmp_path / "tuned.json"
    path.write_text(dump_tuned({"tango": best}, command="tango tune"))

    assert read_tuned(path) == {"tango": {"sharing": {"grow_below": 0.3}}}
    path.write_text("[]")
    with pytest.raises(ConfigError, match="tango tune --out"):
        read_tuned(path)


def test_the_shipped_parameters_can_be_used() -> None:
    """Each is a setting that can be, and the caller's changes lie above them."""
    for known in SYSTEMS.values():
        settings_with(tuned_settings(known))
    assert merged({"sim": {"beta": 1.0}}, {"sim": {"beta": 2.0}}, {"lc": {"keep_late": False}}) == {
        "sim": {"beta": 2.0},
        "lc": {"keep_late": False},
    }
