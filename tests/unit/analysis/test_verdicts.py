"""Verdicts on one system, checked by hand: margins, the best of the others, claims after Holm, and what cannot be judged."""

from __future__ import annotations

import json

import pytest

from tango.analysis.comparison import CellResult, compare
from tango.analysis.intervals import holm
from tango.analysis.verdicts import Verdict, Verdicts, judge
from tango.errors import UsageError
from tango.report.verdict_tables import relative_table, verdict_in_words, verdict_table
from tests.fakes.compared_cells import cells


def verdicts_of(*groups: list[CellResult], system: str = "tango") -> Verdicts:
    """The verdicts on a system among the cells."""
    every = [cell for group in groups for cell in group]
    return judge(compare(every, every[0].system), system)


def one(verdicts: Verdicts, baseline: str, metric: str, scenario: str = "p3@0.9") -> Verdict:
    """The verdict against one system."""
    return next(v for v in verdicts.pairs[scenario, baseline] if v.judged.metric.name == metric)


def test_equal_results_hold_with_an_interval_of_nothing():
    """Nothing is divided by the deviation of 0: difference 0, p 1, no claim."""
    found = verdicts_of(cells("base", [0.9, 0.8, 0.7]), cells("tango", [0.9, 0.8, 0.7]))

    for metric in ("lc_qos_rate", "be_cpu_seconds_per_s", "utilization_cpu"):
        row = one(found, "base", metric)
        assert (row.difference.paired[:3], row.difference.paired.p, row.p_holm, row.claim) == ((0.0, 0.0, 0.0), 1.0, 1.0, "")
        assert row.holds is (None if metric == "utilization_cpu" else True)
    assert (found.summary()["pairs_held"], found.summary()["scenarios_held"]) == (1, 1)
    json.dumps(found.as_dict(), allow_nan=False)


def test_margin_is_against_the_lower_end_of_the_interval():
    """0.4 points less without chance holds; the same mean with an interval of 0.4 ± 0.25 points does not."""
    base = cells("base", [0.9, 0.9, 0.9])
    sure = verdicts_of(base, cells("tango", [0.896, 0.896, 0.896]))
    unsure = verdicts_of(base, cells("tango", [0.895, 0.896, 0.897]))

    assert one(sure, "base", "lc_qos_rate").holds is True
    assert one(unsure, "base", "lc_qos_rate").holds is False
    assert (sure.summary()["pairs_held"], unsure.summary()["pairs_held"]) == (1, 0)


def test_margin_of_be_throughput_is_one_per_cent_of_the_other_system():
    """0.5 of 100 holds, 0.5 of 40 does not; utilisation has no margin."""
    small = verdicts_of(cells("base", [0.9] * 3, be=[40.0] * 3), cells("tango", [0.9] * 3, be=[39.5] * 3))
    large = verdicts_of(cells("base", [0.9] * 3, be=[100.0] * 3), cells("tango", [0.9] * 3, be=[99.5] * 3))

    assert (one(small, "base", "be_cpu_seconds_per_s").margin, one(small, "base", "be_cpu_seconds_per_s").holds) == (0.4, False)
    assert (one(large, "base", "be_cpu_seconds_per_s").margin, one(large, "base", "be_cpu_seconds_per_s").holds) == (1.0, True)


def test_other_system_without_any_be_work_is_held_against():
    """A margin of nothing, and a relative difference that is none rather than infinite."""
    found = verdicts_of(cells("base", [0.9] * 2, be=[0.0] * 2), cells("tango", [0.9] * 2, be=[0.0] * 2))
    more = verdicts_of(cells("base", [0.9] * 2, be=[0.0] * 2), cells("tango", [0.9] * 2, be=[1.0, 1.5]))

    assert one(found, "base", "be_cpu_seconds_per_s").holds is True
    row = one(more, "base", "be_cpu_seconds_per_s").as_dict()
    assert (row["relative_mean"], row["mean"], row["holds"]) == (None, 1.25, False)


def test_best_of_the_others_is_chosen_by_figure_and_scenario():
    """By its mean over the seeds in common, so that it may be another for BE than for LC."""
    found = verdicts_of(
        cells("a", [0.9, 0.9], be=[10.0, 10.0]),
        cells("b", [0.8, 0.8], be=[20.0, 20.0]),
        cells("tango", [0.7, 0.7], be=[5.0, 5.0]),
        cells("a", [0.5, 0.5], scenario="p1"),
        cells("b", [0.6, 0.6], scenario="p1"),
        cells("tango", [0.7, 0.7], scenario="p1"),
    )

    best = {(v.scenario, v.judged.metric.name): v.baseline for v in found.rows if v.best}
    assert best["p3@0.9", "lc_qos_rate"] == "a"
    assert best["p3@0.9", "be_cpu_seconds_per_s"] == "b"
    assert best["p1", "lc_qos_rate"] == "b"
    assert len(best) == 6


def test_claims_are_corrected_over_all_scenarios_systems_and_figures():
    """A difference that one test alone would claim (p about 0.03) is none among twelve; a sure one stays."""
    weak = cells("weak", [0.5] * 4)
    sure = cells("sure", [0.4, 0.41, 0.4, 0.41])
    mine = cells("tango", [0.52, 0.54, 0.56, 0.58])
    other = [cells(s, [0.5, 0.6, 0.7, 0.8], scenario="p1") for s in ("weak", "sure", "tango")]

    found = verdicts_of(weak, sure, mine, *other)

    row = one(found, "weak", "lc_qos_rate")
    assert row.difference.paired.p == pytest.approx(0.0305, abs=1e-4)
    assert (row.holds, row.claim, verdict_in_words(row)) == (True, "", "yes")
    assert one(found, "sure", "lc_qos_rate").claim == "better"
    assert found.summary()["tests"] == 12
    ps = [v.difference.paired.p or 0.0 for v in found.rows]
    assert [v.p_holm for v in found.rows] == holm(ps)


def test_worse_within_the_margin_is_both_held_and_worse():
    """A tenth of a point less in every seed: told, and held."""
    found = verdicts_of(cells("base", [0.9, 0.8, 0.7]), cells("tango", [0.899, 0.799, 0.699]))

    row = one(found, "base", "lc_qos_rate")
    assert (row.holds, row.claim, verdict_in_words(row)) == (True, "worse", "yes, worse")
    assert found.summary()["worse"] == {"lc_qos_rate": 1, "be_cpu_seconds_per_s": 0, "utilization_cpu": 0}
    assert "worse in 1 (QoS rate 0 / 1" in found.sentences()[2]


def test_one_seed_is_not_judged_and_says_so():
    """No interval, no p, no claim, and no word of holding."""
    found = verdicts_of(cells("base", [0.9]), cells("tango", [0.95]))

    assert {(v.holds, v.p_holm, v.claim) for v in found.rows} == {(None, None, "")}
    assert found.sentences() == [
        "tango is not judged: no other system has two seeds in common with it, and without there are no intervals"
    ]
    assert found.notes == ()
    assert found.as_dict()["verdicts"][0]["low"] is None


def test_pair_that_could_not_be_judged_is_not_held():
    """Of two others one shares a single seed: the scenario as a whole is not held, and a note says why."""
    found = verdicts_of(cells("a", [0.5, 0.5]), cells("b", [0.5]), cells("tango", [0.9, 0.9]))

    facts = found.summary()
    assert (facts["pairs"], facts["pairs_held"], facts["scenarios_held"]) == (2, 1, 0)
    assert found.notes == ("p3@0.9: no interval against b, expected two seeds or more with all figures",)


def test_system_that_is_not_there_or_alone_is_refused():
    """There is nothing to judge it against."""
    with pytest.raises(UsageError, match="'dsaco' to be judged is not among the systems"):
        verdicts_of(cells("base", [0.9]), cells("tango", [0.9]), system="dsaco")
    with pytest.raises(UsageError, match="or alone: tango"):
        verdicts_of(cells("tango", [0.9]))


def test_json_of_verdicts_has_the_keys_that_scripts_depend_on():
    """Differences in the figure's unit, relative ones beside them."""
    found = verdicts_of(cells("base", [0.5, 0.5]), cells("tango", [0.6, 0.6]))

    row = found.as_dict()["verdicts"][0]
    assert set(row) >= {"scenario", "baseline", "metric", "mean", "low", "high", "relative_mean", "p", "p_holm", "holds", "best"}
    assert (row["mean"], row["relative_mean"], row["claim"]) == (pytest.approx(0.1), pytest.approx(0.2), "better")
    assert found.as_dict()["judged"]["relative"]["base"]["lc_qos_rate"]["mean"] == pytest.approx(0.2)


def test_table_of_verdicts_has_a_text_for_each_column_and_fits_a_terminal():
    """Without the columns of a wide table at most 120 characters, and the best of the others has its mark."""
    groups = [
        cells(s, [0.55 + k / 100, 0.56, 0.577], be=[2100.0 + k, 2200.0, 2300.0 + k], scenario=scenario)
        for scenario in ("p1@0.8", "p1@1.2")
        for k, s in enumerate(("k8s-native", "load-greedy", "tango"))
    ]

    columns, rows = verdict_table(verdicts_of(*groups))

    assert all(set(column.key for column in columns) <= set(row) for row in rows)
    assert [row["baseline"] for row in rows] == ["k8s-native", "load-greedy"] * 2
    assert [row["lc_qos_rate"].endswith("*") for row in rows] == [False, True, False, True]
    shown = [c for c in columns if not c.wide and c.priority > 2]
    assert sum(max(len(c.title), *(len(row[c.key]) for row in rows)) + 2 for c in shown) - 2 <= 120


def test_relative_differences_are_summed_up_over_scenarios():
    """+20 % and +50 % of the other's QoS rate: +35 % on average, with both ends."""
    found = verdicts_of(
        cells("base", [0.5, 0.5]),
        cells("tango", [0.6, 0.6]),
        cells("base", [0.4] * 2, scenario="p1"),
        cells("tango", [0.6] * 2, scenario="p1"),
    )

    columns, rows = relative_table(found)

    assert [column.title for column in columns] == ["tango relative to", "QoS rate, %", "BE throughput, %", "CPU utilisation, %"]
    assert rows == [
        {"baseline": "base", "lc_qos_rate": "+35.0 (+20.0 to +50.0)", "be_cpu_seconds_per_s": "0", "utilization_cpu": "0"}
    ]
