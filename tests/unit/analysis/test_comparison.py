"""Comparisons, checked by hand: pairs of seeds and their intervals, what is left out, what a cell keeps of its run."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from tango.analysis.compared_metrics import METRICS, ComparedMetric
from tango.analysis.comparison import CellLabel, CellResult, cell_result, compare, comparison_table, tenant_table
from tango.analysis.intervals import paired_difference, t_quantile
from tango.analysis.metrics import run_metrics
from tango.analysis.series import BUCKETS, FIRST_MEASURED_BUCKET, run_distributions, run_series
from tango.domain.outcomes import AttemptLosses, NodeSamples, RunOutcomes, ScalingEvents
from tango.domain.tenant_shares import TenantSeries
from tango.errors import UsageError
from tests.fakes.run_records import (
    NAN,
    NO_LOSSES,
    NO_SAMPLES,
    NO_SCALING,
    RunRecords,
    outcomes_of,
    samples_of,
    seeded_run,
)


@dataclasses.dataclass(frozen=True)
class Simulated:
    """A finished run, as a simulation gives it."""

    outcomes: RunOutcomes
    losses: AttemptLosses
    samples: NodeSamples
    scaling: ScalingEvents
    digest: str = "d" * 64
    events: int = 1234
    took_s: float = 0.5
    notes: tuple[str, ...] = ()
    tenants: TenantSeries | None = None


def simulated_cell(records: RunRecords, *, bound: dict[str, float | None] | None = None, notes: tuple[str, ...] = ()) -> CellResult:
    """The cell of a run."""
    run = Simulated(records.outcomes, records.losses, records.samples, records.scaling, notes=notes)
    label = CellLabel(scenario="p3@0.9", system="tango", lc="dss-lc", be="dcg-be", sharing="hrm", seed=9, key="k" * 64)
    return cell_result(run, run_metrics(*records), label, bound=bound)


def cell(
    system: str,
    seed: int,
    *,
    scenario: str = "p3@0.9",
    qos: float | None = 0.9,
    bound: float | None = None,
    p99_ms: float | None = 100.0,
    **others: Any,
) -> CellResult:
    """A cell by hand: its QoS rate, the bound of it, and the p99 of its one service."""
    service = {"service": "web", "service_class": "lc", "qos_rate": qos, "latency_p99_ms": p99_ms}
    known = {
        "key": "",
        "fleet": "pair",
        "fleet_hash": "f" * 64,
        "details": {},
        "services": [service],
        "series": {},
        "distributions": {},
        **others,
    }
    return CellResult(
        scenario=scenario,
        system=system,
        lc="dss-lc",
        be="dcg-be",
        sharing="hrm",
        seed=seed,
        figures={"lc_qos_rate": qos, "simulated_requests": 1000},
        bound={"lc_qos_rate": bound, "be_cpu_seconds_per_s": None},
        distance={"lc_qos_rate": None if bound is None or qos is None else bound - qos, "be_cpu_seconds_per_s": None},
        **known,
    )


# ---- intervals -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (9, 2.2622), (19, 2.0930), (30, 2.0423), (120, 1.9799)],
)
def test_t_quantile_is_that_of_the_printed_tables(degrees: int, quantile: float):
    """0.975 quantiles, to the four places that tables give."""
    assert t_quantile(degrees) == pytest.approx(quantile, abs=6e-5)


def test_t_quantile_of_other_shares_and_of_many_degrees():
    """The median is 0, 0.95 with 10 degrees is 1.8125, and with a hundred thousand degrees it is the normal distribution's 1.95996."""
    assert t_quantile(7, 0.5) == pytest.approx(0.0, abs=1e-12)
    assert t_quantile(10, 0.95) == pytest.approx(1.8125, abs=5e-5)
    assert t_quantile(100_000) == pytest.approx(1.95996, abs=5e-5)


@pytest.mark.parametrize(("degrees", "share"), [(0, 0.975), (3, 1.0), (3, 0.2)])
def test_t_quantile_refuses_what_has_none(degrees: int, share: float):
    """No degree of freedom, or a share outside [0.5, 1)."""
    with pytest.raises(ValueError, match="expected 1 or more"):
        t_quantile(degrees, share)


def test_paired_difference_is_the_textbook_interval():
    """Differences 1, 2, 3: mean 2, deviation 1, half 4.3027 / sqrt(3) = 2.4842; relative to the baseline's mean of 10."""
    paired = paired_difference({1: 11.0, 2: 12.0, 3: 13.0}, {1: 10.0, 2: 10.0, 3: 10.0})

    assert paired.mean == 2.0
    assert paired.low == pytest.approx(2.0 - 2.4842, abs=1e-4)
    assert paired.high == pytest.approx(2.0 + 2.4842, abs=1e-4)
    assert (paired.pairs, paired.relative) == (3, 0.2)


def test_pairing_removes_what_seeds_do_to_both_sides():
    """Seeds differ by hundreds, the systems always by 1: the interval has no width."""
    paired = paired_difference({1: 101.0, 2: 501.0, 3: 901.0}, {3: 900.0, 1: 100.0, 2: 500.0})

    assert (paired.mean, paired.low, paired.high) == (1.0, 1.0, 1.0)


def test_one_pair_has_a_difference_and_no_interval():
    """One seed tells nothing about chance."""
    paired = paired_difference({1: 0.9}, {1: 0.8})

    assert paired.mean == pytest.approx(0.1)
    assert (paired.low, paired.high, paired.pairs) == (None, None, 1)


def test_seeds_without_a_finite_number_on_either_side_are_no_pair():
    """NaN, infinity, None and a missing seed: only seed 1 is left."""
    ours = {1: 3.0, 2: NAN, 3: 1.0, 4: None, 5: 2.0, 7: 1.0}
    theirs = {1: 1.0, 2: 1.0, 3: math.inf, 4: 1.0, 5: None, 6: 1.0}

    paired = paired_difference(ours, theirs)

    assert (paired.mean, paired.pairs) == (2.0, 1)


def test_no_pair_is_no_difference():
    """Everything is None, and nothing is divided by 0."""
    assert paired_difference({1: 1.0}, {2: 1.0}) == (None, None, None, 0, None, None)


def test_relative_difference_to_nothing_is_none():
    """A baseline of 0 evictions has no per cent."""
    assert paired_difference({1: 3.0, 2: 5.0}, {1: 0.0, 2: 0.0}).relative is None


# ---- comparisons ---------------------------------------------------------------------------------------------------------------


def test_comparison_pairs_by_seed_within_each_scenario():
    """Means over seeds, differences seed by seed, scenarios apart, in the order in which the cells come."""
    cells = [
        cell("k8s-native", 1, qos=0.50),
        cell("k8s-native", 2, qos=0.70),
        cell("tango", 2, qos=0.85),
        cell("tango", 1, qos=0.75),
        cell("k8s-native", 1, scenario="p3@1.2", qos=0.4),
        cell("tango", 1, scenario="p3@1.2", qos=0.3),
    ]

    comparison = compare(cells, "k8s-native")

    assert (comparison.scenarios, comparison.systems) == (("p3@0.9", "p3@1.2"), ("k8s-native", "tango"))
    first, second = (comparison.row(s, "tango", "lc_qos_rate") for s in comparison.scenarios)
    assert first is not None
    assert second is not None
    assert (first.value, first.baseline_value) == (pytest.approx(0.8), pytest.approx(0.6))
    assert (first.paired.mean, first.paired.pairs) == (pytest.approx(0.2), 2)
    assert first.half == pytest.approx(12.7062 * math.sqrt(0.005) / math.sqrt(2), rel=1e-4)
    assert (second.paired.mean, second.paired.low) == (pytest.approx(-0.1), None)
    assert comparison.notes == ()


def test_baseline_is_not_compared_with_itself():
    """Its rows hold its means; a difference of 0 to itself would look like a finding."""
    comparison = compare([cell("k8s-native", 1, qos=0.5), cell("tango", 1, qos=0.75)], "k8s-native")

    row = comparison.row("p3@0.9", "k8s-native", "lc_qos_rate")
    assert row is not None
    assert (row.value, row.paired.mean, row.paired.pairs) == (0.5, None, 0)


def test_difference_is_told_apart_from_zero_only_by_its_interval():
    """0.20, 0.21, 0.19 is; 0.2, -0.2, 0.1 and a single pair are not."""
    base = [cell("base", seed, qos=0.5) for seed in (1, 2, 3)]
    sure = [cell("sure", seed, qos=q) for seed, q in ((1, 0.70), (2, 0.71), (3, 0.69))]
    unsure = [cell("unsure", seed, qos=q) for seed, q in ((1, 0.70), (2, 0.30), (3, 0.60))]

    comparison = compare([*base, *sure, *unsure, cell("single", 1, qos=0.9)], "base")

    told = {system: row.told_apart for system in comparison.systems if (row := comparison.row("p3@0.9", system, "lc_qos_rate"))}
    assert told == {"base": False, "sure": True, "unsure": False, "single": False}


def test_services_and_distances_to_the_bound_are_compared_as_well():
    """QoS rate and p99 of each LC service; the bound minus what was reached."""
    cells = [cell("k8s-native", 1, qos=0.5, bound=1.0, p99_ms=400.0), cell("tango", 1, qos=0.8, bound=1.0, p99_ms=150.0)]

    comparison = compare(cells, "k8s-native")

    found = {name: row.paired.mean for (_, system, name), row in comparison.rows.items() if system == "tango"}
    assert found["latency_p99_ms:web"] == -250.0
    assert found["qos_rate:web"] == pytest.approx(0.3)
    assert found["lc_qos_rate_to_bound"] == pytest.approx(-0.3)
    assert found["be_cpu_seconds_per_s"] is None


def test_seeds_that_lack_a_partner_are_left_out_and_told():
    """The mean of a system is over all its seeds, the difference over pairs, and a note names the seeds."""
    cells = [cell("k8s-native", s, qos=0.5) for s in (1, 2, 4)] + [cell("tango", s, qos=0.5 + s / 10) for s in (1, 2, 3)]

    comparison = compare(cells, "k8s-native")

    row = comparison.row("p3@0.9", "tango", "lc_qos_rate")
    assert row is not None
    assert (row.value, row.seeds) == (pytest.approx(0.7), 3)
    assert (row.paired.mean, row.paired.pairs) == (pytest.approx(0.15), 2)
    assert comparison.notes == (
        "p3@0.9: k8s-native lacks seed 3 of tango, left out of its differences",
        "p3@0.9: tango lacks seed 4 of k8s-native, left out of its differences",
    )


def test_comparison_without_its_baseline_has_figures_and_a_note():
    """A baseline that failed takes the differences with it, not the rest."""
    comparison = compare([cell("tango", 1, qos=0.8)], "k8s-native")

    row = comparison.row("p3@0.9", "tango", "lc_qos_rate")
    assert row is not None
    assert (row.value, row.paired.pairs, row.paired.mean) == (0.8, 0, None)
    assert comparison.notes == ("p3@0.9: the baseline k8s-native has no result, so there are no differences",)


def test_cell_that_is_there_twice_is_refused():
    """Two results of one system, scenario and seed cannot both be right."""
    with pytest.raises(UsageError, match=r"tango with seed 1 in scenario 'p3@0\.9' is there twice"):
        compare([cell("tango", 1), cell("tango", 1)], "tango")


def test_cells_that_served_other_requests_cannot_be_paired():
    """Another fleet, or another number of requests for the same scenario and seed."""
    other = dataclasses.replace(cell("tango", 1), figures={"lc_qos_rate": 0.9, "simulated_requests": 999})

    with pytest.raises(UsageError, match=r"simulated_requests differ \(1000, 999\)"):
        compare([cell("k8s-native", 1), other], "k8s-native")
    with pytest.raises(UsageError, match="fleet_hash differ"):
        compare([cell("k8s-native", 1), cell("tango", 1, fleet_hash="e" * 64)], "k8s-native")


def test_remarks_of_cells_are_told_once_per_system():
    """Each seed says the same; the comparison says it once."""
    cells = [cell("tango", s, notes=["no decision time is recorded"]) for s in (1, 2, 3)]

    assert compare(cells, "tango").notes == ("tango: no decision time is recorded",)


def test_comparison_as_json_has_the_keys_that_scripts_depend_on():
    """Cells, differences against the baseline with mean, low and high, and bounds; NaN never gets in."""
    cells = [cell("k8s-native", 1, qos=0.5, bound=1.0), cell("tango", 1, qos=NAN, bound=1.0)]

    document = json.loads(json.dumps(compare(cells, "k8s-native").as_dict(), allow_nan=False))

    assert set(document) == {"cells", "differences", "bound", "tenants", "baseline", "notes"}
    assert {row["system"] for row in document["differences"]} == {"tango"}
    qos = next(row for row in document["differences"] if row["metric"] == "lc_qos_rate")
    assert set(qos) >= {"scenario", "system", "metric", "mean", "low", "high", "pairs", "relative", "value", "unit", "better"}
    assert (qos["mean"], qos["value"], qos["pairs"]) == (None, None, 0)
    assert document["bound"][0] == {
        "scenario": "p3@0.9",
        "system": "k8s-native",
        "seeds": 1,
        "lc_qos_rate": 1.0,
        "be_cpu_seconds_per_s": None,
        "lc_qos_rate_distance": 0.5,
        "be_cpu_seconds_per_s_distance": None,
        "be_share_of_bound": None,
    }


def test_share_of_the_bound_is_of_each_seed_beside_its_own():
    """20 of 40 and 30 of 40: 0.625 on average; in the wide table as a per cent."""
    both = [
        dataclasses.replace(
            cell("tango", seed),
            figures={"be_cpu_seconds_per_s": reached, "simulated_requests": 1000},
            bound={"lc_qos_rate": None, "be_cpu_seconds_per_s": 40.0},
        )
        for seed, reached in ((1, 20.0), (2, 30.0))
    ]

    comparison = compare(both, "tango")

    assert comparison.as_dict()["bound"][0]["be_share_of_bound"] == 0.625
    assert comparison_table(comparison)[1][0]["be_share_of_bound"] == "62.50 %"


def test_terminal_table_has_a_row_per_system_and_a_text_for_each_column():
    """Mean, difference with half its interval, distance to the bound; a scenario column only where there are several."""
    cells = [cell("k8s-native", s, qos=0.5, bound=1.0) for s in (1, 2)] + [
        cell("tango", s, qos=0.7 + s / 100, bound=1.0) for s in (1, 2)
    ]

    columns, rows = comparison_table(compare(cells, "k8s-native"))

    assert [row["system"] for row in rows] == ["k8s-native", "tango"]
    assert all(set(column.key for column in columns) <= set(row) for row in rows)
    assert "scenario" not in [column.key for column in columns]
    assert [rows[0][key] for key in ("seeds", "lc_qos_rate", "lc_qos_rate_difference")] == ["2", "50.00 %", "baseline"]
    assert [rows[1][key] for key in ("lc_qos_rate", "lc_qos_rate_difference", "lc_qos_rate_to_bound", "be_completed")] == [
        "71.50 %",
        "+21.5 ± 6.4 pp",
        "28.50 pp",
        "–",
    ]


def test_what_each_tenant_got_is_a_mean_over_the_seeds():
    """A row for each system and tenant; what a seed does not tell is left out of the mean. Without tenants there are no rows."""

    def got(tenant: str, share: float | None) -> dict[str, Any]:
        return {
            **dict.fromkeys(("requests", "cpu_seconds", "gave_way"), 10),
            **dict.fromkeys(("wait_mean_s", "below", "withheld", "over_quota"), 0.5),
            "tenant": tenant,
            "weight": 3.0,
            "share": share,
            "fair_share": 0.75,
        }

    cells = [cell("tango", seed, tenants=[got("blue", share), got("red", None)]) for seed, share in ((1, 0.6), (2, 0.8))]
    comparison = compare([*cells, cell("scoring", 1)], "tango")

    columns, rows = tenant_table(comparison)

    assert [(row["system"], row["tenant"], row["share"], row["fair_share"]) for row in rows] == [
        ("tango", "blue", "70.00 %", "75.00 %"),
        ("tango", "red", "–", "75.00 %"),
    ]
    assert all({column.key for column in columns} <= set(row) for row in rows)
    (blue, red) = comparison.as_dict()["tenants"]
    assert (blue["tenant"], blue["seeds"], blue["share"], red["share"]) == ("blue", 2, pytest.approx(0.7), None)


def test_differences_are_written_with_as_many_digits_as_they_carry():
    """The larger of difference and half interval has three digits; seconds where milliseconds get long."""
    by_name: dict[str, ComparedMetric] = {metric.name: metric for metric in METRICS}

    assert by_name["lc_qos_rate"].show_difference(0.01234, 0.0005) == "+1.23 ± 0.05 pp"
    assert by_name["lc_latency_p99_ms"].show_difference(-2345.6, 12.0) == "-2.35 ± 0.01 s"
    assert by_name["lc_latency_p99_ms"].show_difference(-23.456, None) == "-23.5 ms"
    assert by_name["evictions"].show_difference(0.0, 0.0) == "0"
    assert by_name["be_completed"].show(12345.0) == "12,345"
    assert by_name["fairness_jain"].show(0.99998) == "1.0000"
    assert by_name["evictions"].show(None) == "–"


# ---- cells ---------------------------------------------------------------------------------------------------------------------


def test_cell_has_the_figures_of_its_run_and_what_the_simulation_took():
    """The keys of `simulate -o json`; `wall_s` is the simulation's, the simulated time stands in the details."""
    records = seeded_run()

    result = simulated_cell(records, bound={"lc_qos_rate": 0.99, "be_cpu_seconds_per_s": 50.0}, notes=("a remark",))

    metrics = run_metrics(*records)
    assert set(result.figures) == {*metrics, "digest", "simulated_requests", "events"}
    assert [result.figures[key] for key in ("simulated_requests", "events", "wall_s")] == [3000, 1234, 0.5]
    assert result.details["simulated_s"] == records.outcomes.wall_s
    assert result.distance["lc_qos_rate"] == pytest.approx(0.99 - float(metrics["lc_qos_rate"] or 0.0))
    assert [row["service"] for row in result.services] == [s.service for s in metrics.services]
    assert list(result.notes) == ["a remark"]


def test_cell_without_a_bound_has_no_distance():
    """Nothing is invented where no bound was asked for."""
    result = simulated_cell(seeded_run(requests=300))

    assert set(result.bound.values()) == {None}
    assert set(result.distance.values()) == {None}


def test_cell_survives_json_unchanged():
    """To a dictionary, to text, and back: the same value, and no NaN in it."""
    result = simulated_cell(seeded_run(), bound={"lc_qos_rate": 0.99, "be_cpu_seconds_per_s": None})

    text = json.dumps(result.as_dict(), allow_nan=False)

    assert CellResult.from_dict(json.loads(text)) == result
    assert len(text) < 60_000


def test_cell_of_a_thousand_clusters_keeps_quantiles_and_stays_small():
    """The names of a large fleet are left out."""
    result = simulated_cell(seeded_run(requests=5000, clusters=1000, nodes_per_cluster=2))

    clusters = result.distributions["clusters"]
    assert "names" not in clusters
    assert (clusters["count"], len(clusters["shares"])) == (1000, len(clusters["utilization_cpu"]))
    assert len(json.dumps(result.as_dict())) < 60_000


def test_result_that_lacks_a_part_is_refused_with_the_remedy():
    """A file of an older version is named as such, and not taken as far as it goes."""
    values = cell("tango", 1).as_dict()
    del values["series"], values["bound"]

    with pytest.raises(UsageError, match=r"lacks bound, series: .* simulate it again"):
        CellResult.from_dict(values | {"of a later version": 1})


# ---- series --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_series_over_the_window_sum_to_the_figures(speed: float):
    """A run of 3,000 requests: what is drawn and what is printed cannot disagree."""
    records = seeded_run(speed=speed)

    result = simulated_cell(records)

    measured = {name: np.array(values[FIRST_MEASURED_BUCKET:BUCKETS], dtype=np.float64) for name, values in result.series.items()}
    figures = result.figures
    assert result.series["edge_s"][FIRST_MEASURED_BUCKET] == result.details["window_start_s"]
    assert measured["lc_arrived"].sum() == figures["lc_arrived"]
    for name in ("be_completed", "evictions", "resizes"):
        assert measured[name].sum() == figures[name], name
    for name in ("be_cpu_seconds_per_s", "utilization_cpu"):
        assert measured[name].mean() == pytest.approx(figures[name], rel=1e-5), name
    assert measured["waste_cpu_seconds"].sum() == pytest.approx(figures["waste_cpu_seconds"], rel=1e-5)
    assert measured["lc_met"].sum() / measured["lc_arrived"].sum() == pytest.approx(figures["lc_qos_rate"], rel=1e-12)


def test_work_is_spread_over_the_buckets_in_which_it_was_done():
    """A span of 60 s, so a bucket is a second: 3 CPU-seconds over [10.5, 13.5] are half a bucket, two whole ones and a half."""
    rows = [
        {"cls": 1, "due": 1.0, "start": 10.5, "end": 13.5, "work": 3.0},
        {"cls": 1, "due": 1.0, "start": 20.25, "end": 20.75, "work": 0.5},
        {"cls": 1, "due": 1.0, "start": 30.0, "end": 30.0, "work": 0.25},
        {"cls": 1, "due": 1.0, "start": 59.0, "end": 63.0, "work": 4.0},
        {"cls": 1, "due": 1.0, "start": 80.0, "end": 90.0, "work": 9.0},
        {"cls": 1, "due": 1.0, "start": 40.0, "end": 41.0, "work": 9.0, "state": "failed"},
    ]

    series = run_series(outcomes_of(rows, span_s=60.0), NO_LOSSES, NO_SAMPLES, NO_SCALING)

    work = {k: v for k, v in enumerate(series["be_cpu_seconds_per_s"]) if v}
    assert work == {10: 0.5, 11: 1.0, 12: 1.0, 13: 0.5, 20: 0.5, 30: 0.25, 59: 1.0}
    assert series["utilization_cpu"] == [None] * BUCKETS


def test_waiting_be_requests_are_counted_from_due_time_to_start():
    """Due at 5 and started at 7.5: waits at the ends of the buckets of seconds 5 and 6; one never starts, one failed."""
    rows = [
        {"cls": 1, "due": 5.0, "start": 7.5, "end": 9.0},
        {"cls": 1, "due": 58.0, "state": "pending"},
        {"cls": 1, "due": 3.0, "state": "failed"},
    ]

    series = run_series(outcomes_of(rows, span_s=60.0), NO_LOSSES, NO_SAMPLES, NO_SCALING)

    assert {k: v for k, v in enumerate(series["be_waiting"]) if v} == {4: 1, 5: 1, 6: 1, 57: 1, 58: 1, 59: 1}


def test_busy_cpu_is_of_the_samples_that_were_measured():
    """Two nodes of 1 and 3 cores, half of each in use; the unmeasured sample does not count."""
    samples = samples_of([(1.5, 0, 1000.0, 1.0), (1.5, 1, 3000.0, 1.0), (30.5, 0, 1000.0, 1.0)])
    used = samples.cpu_allocatable_millicores / 2
    used[2] = NAN

    series = run_series(
        outcomes_of([{"due": 1.0}], span_s=60.0), NO_LOSSES, dataclasses.replace(samples, cpu_used_millicores=used), NO_SCALING
    )

    assert {k: v for k, v in enumerate(series["busy_cpu"]) if v is not None} == {1: 0.5}


def test_run_without_a_span_has_no_series():
    """One request at the run's zero: there is no time to draw over."""
    outcomes = outcomes_of([{"due": 0.0, "start": 0.0, "end": 0.1}], span_s=0.0, wall_s=1.0)

    assert run_series(outcomes, NO_LOSSES, NO_SAMPLES, NO_SCALING) == {}


def test_latencies_of_each_service_are_kept_as_quantiles_beside_its_target():
    """Latencies 0.1 … 0.5 s of the measured span: the median is 300 ms; the late arrival before the measured span is no part."""
    rows = [{"due": 50.0, "start": 50.0, "end": 50.0 + k / 10} for k in range(1, 6)]
    rows += [{"due": 1.0, "start": 1.0, "end": 9.0}, {"due": 60.0, "state": "failed"}, {"cls": 1, "due": 50.0}]

    distributions = run_distributions(outcomes_of(rows), NO_SAMPLES)

    (web,) = distributions["latency"]
    assert (web["service"], web["target_ms"], web["completed"]) == ("web", 1000, 5)
    at = dict(zip(distributions["latency_shares"], web["quantiles_ms"], strict=True))
    assert [at[share] for share in (0.0, 0.5, 1.0)] == [100, 300, 500]


def test_figures_of_clusters_are_of_their_own_nodes_and_entries():
    """c1 did 9 of its 90 core-seconds and met one of two; c2 did nothing and nobody came."""
    rows = [
        {"cls": 1, "due": 20.0, "start": 20.0, "end": 29.0, "work": 9.0, "node": 0},
        {"due": 50.0, "start": 50.0, "end": 50.5, "work": 0.0},
        {"due": 50.0, "start": 50.0, "end": 58.0, "work": 0.0},
    ]
    samples = samples_of([(50.0, 0, 1000.0, 1.0), (50.0, 1, 1000.0, 1.0)])

    clusters = run_distributions(outcomes_of(rows), samples)["clusters"]

    assert clusters == {"count": 2, "names": ["c1", "c2"], "utilization_cpu": [0.1, 0], "qos_rate": [0.5, None]}
