"""The figures of a run, checked by hand on runs of a few requests."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango.analysis.metrics import RunMetrics, jain_index, measured_span, run_metrics
from tango.domain.outcomes import RunOutcomes
from tests.fakes.run_records import (
    NAN,
    NO_DECISIONS,
    NO_LOSSES,
    NO_SAMPLES,
    NO_SCALING,
    decisions_of,
    f8,
    losses_of,
    outcomes_of,
    samples_of,
    scaling_of,
    seeded_run,
)

RUN_SHOW_KEYS = [
    "run",
    "status",
    "system",
    "fleet",
    "seed",
    "checkpoint",
    "accepted",
    "succeeded",
    "failed",
    "shed",
    "cancelled",
    "live",
    "lc_arrived",
    "lc_qos_rate",
    "lc_latency_p50_ms",
    "lc_latency_p95_ms",
    "lc_latency_p99_ms",
    "be_completed",
    "be_cpu_seconds_per_s",
    "utilization_cpu",
    "utilization_memory",
    "waste_cpu_seconds",
    "evictions",
    "resizes",
    "decisions",
    "decision_ms_p50",
    "decision_ms_p99",
    "fairness_jain",
    "wall_s",
]


def figures_of(outcomes: RunOutcomes, **tables: object) -> RunMetrics:
    """Figures of requests, with empty tables for what is not given."""
    parts = {"losses": NO_LOSSES, "samples": NO_SAMPLES, "decisions": NO_DECISIONS, "scaling": NO_SCALING, **tables}
    return run_metrics(outcomes, **parts)


def test_figures_have_exactly_the_keys_that_scripts_depend_on():
    """`run show -o json` prints these keys, in this order, whatever happened."""
    metrics = figures_of(outcomes_of([{"due": 50.0, "start": 50.1, "end": 50.2}]))

    assert list(metrics) == RUN_SHOW_KEYS


def test_window_opens_at_a_tenth_of_the_span_and_closes_with_the_last_arrival():
    """LC requests due before 10 s of a span of 100 s do not count; the one due at its very end does."""
    rows = [{"due": due, "start": due, "end": due + 0.5} for due in (0.0, 9.9, 10.0, 55.0, 100.0)]

    metrics = figures_of(outcomes_of(rows))

    assert metrics["lc_arrived"] == 3
    assert metrics["accepted"] == 5


def test_last_arrival_stays_in_the_window_when_the_speed_does_not_divide_evenly():
    """Rounding of due times at odd speeds does not lose the last arrival."""
    span_s, speed = 59.7, 7.3
    rows = [{"due": span_s / speed + 1e-9, "start": 9.0, "end": 9.1}]

    metrics = figures_of(outcomes_of(rows, span_s=span_s, speed=speed))

    assert metrics["lc_arrived"] == 1


def test_latency_counts_from_the_due_time_and_not_from_the_start():
    """A request due at 50 s that waits until 59 s for service and ends at 59.5 s took 9.5 s."""
    metrics = figures_of(outcomes_of([{"due": 50.0, "start": 59.0, "end": 59.5}]))

    assert metrics["lc_latency_p50_ms"] == pytest.approx(9500.0)
    assert metrics["lc_qos_rate"] == 0.0


def test_failed_shed_and_given_up_requests_are_missed_but_late_ones_still_finish():
    """Of five LC requests one is in time: one late, one failed, one shed, one unfinished after ten targets."""
    rows = [
        {"due": 50.0, "start": 50.0, "end": 50.5},
        {"due": 50.0, "start": 50.0, "end": 52.0},
        {"due": 50.0, "state": "failed", "end": 50.1},
        {"due": 50.0, "state": "shed"},
        {"due": 50.0, "state": "running", "start": 51.0},
    ]

    metrics = figures_of(outcomes_of(rows, wall_s=61.0, status="running"))

    assert metrics["lc_qos_rate"] == pytest.approx(1 / 5)
    assert metrics["live"] == 1
    assert metrics["lc_latency_p50_ms"] == pytest.approx(1250.0)


def test_live_request_is_not_decided_before_ten_targets_have_passed():
    """While a run is live, what may still be in time is left out, and counted as undecided."""
    rows = [
        {"due": 50.0, "start": 50.0, "end": 50.5},
        {"due": 58.0, "state": "running", "start": 58.0},
        {"due": 70.0, "state": "accepted"},
    ]

    metrics = figures_of(outcomes_of(rows, wall_s=60.0, status="running"))

    assert metrics["lc_qos_rate"] == 1.0
    assert metrics["lc_arrived"] == 2
    assert metrics.details["lc_undecided"] == 1


def test_request_that_ends_exactly_at_its_target_is_in_time():
    """Within the target includes the target."""
    metrics = figures_of(outcomes_of([{"due": 50.0, "target": 0.5, "start": 50.0, "end": 50.5}]))

    assert metrics["lc_qos_rate"] == 1.0


def test_work_is_spread_over_its_running_interval_and_cut_at_the_window():
    """A BE request of 20 CPU-s that runs from 0 to 20 s has done 10 of them inside the measured span 10 … 100 s: 10 / 90 per second."""
    metrics = figures_of(outcomes_of([{"cls": 1, "due": 0.0, "start": 0.0, "end": 20.0, "work": 20.0}]))

    assert metrics["be_cpu_seconds_per_s"] == pytest.approx(10.0 / 90.0)
    assert metrics["be_completed"] == 1


def test_work_done_after_the_last_arrival_is_not_counted():
    """A BE request that runs from 95 to 105 s has half of its work in the measured span and is not completed in it."""
    metrics = figures_of(outcomes_of([{"cls": 1, "due": 90.0, "start": 95.0, "end": 105.0, "work": 4.0}]))

    assert metrics["be_cpu_seconds_per_s"] == pytest.approx(2.0 / 90.0)
    assert metrics["be_completed"] == 0


def test_work_of_failed_and_running_requests_is_not_useful():
    """Only attempts that counted are useful work."""
    rows = [
        {"cls": 1, "due": 20.0, "start": 20.0, "end": 40.0, "work": 20.0, "state": "failed"},
        {"cls": 1, "due": 20.0, "start": 20.0, "work": 20.0, "state": "running"},
    ]

    assert figures_of(outcomes_of(rows))["be_cpu_seconds_per_s"] == 0.0


def test_utilisation_weighs_nodes_by_capacity():
    """9 CPU-s of work and 90 s x 1000 MiB held, over (1 + 4) cores and (1000 + 4000) MiB for 90 s."""
    rows = [{"cls": 1, "due": 10.0, "start": 10.0, "end": 100.0, "work": 9.0, "memory": 1000.0}]
    samples = samples_of([(50.0, 0, 1000.0, 1000.0), (50.0, 1, 4000.0, 4000.0), (51.0, 0, 1000.0, 1000.0)], used=500.0)

    metrics = figures_of(outcomes_of(rows), samples=samples)

    assert metrics["utilization_cpu"] == pytest.approx(9.0 / (5 * 90))
    assert metrics["utilization_memory"] == pytest.approx(0.2)
    assert metrics.details["busy_cpu"] == pytest.approx(1500 / 6000)


def test_pressure_of_nodes_is_the_mean_of_what_their_agents_told():
    """Only samples of the measured span that have it; a run whose nodes have no agents has no such details."""
    outcomes = outcomes_of([{"due": 50.0, "start": 50.1, "end": 50.2}])
    samples = samples_of(
        [(5.0, 0, 1000.0, 1000.0), (20.0, 0, 1000.0, 1000.0), (30.0, 0, 1000.0, 1000.0), (30.0, 1, 1000.0, 1000.0)]
    )
    told = replace(samples, lc_cpu_pressure=f8([0.9, 0.1, 0.3, NAN]), memory_pressure=f8([NAN] * 4))

    details = figures_of(outcomes, samples=told).details

    found = {key: value for key, value in details.items() if "pressure" in key or "throttled" in key}
    assert found == {name: pytest.approx(0.2) for name in ("lc_cpu_pressure_worst_node", "pressure lc_cpu_pressure c1/n1")}
    assert not [key for key in figures_of(outcomes, samples=samples).details if "pressure" in key]


def test_waste_evictions_resizes_and_decisions_are_those_of_the_window():
    """What happened before 10 s is left out; a refused resize is none; an attempt lost otherwise is waste but no eviction."""
    losses = losses_of([(5.0, "evicted", 9.0), (50.0, "evicted", 1.5), (60.0, "node-lost", 2.0)])
    scaling = scaling_of(
        [(5.0, "resize", "done"), (50.0, "resize", "done"), (51.0, "resize", "infeasible"), (52.0, "evict", "done")]
    )
    decisions = decisions_of([(5.0, 100.0), (20.0, 1.0), (30.0, 3.0)])

    metrics = figures_of(outcomes_of([{}]), losses=losses, scaling=scaling, decisions=decisions)

    assert metrics["waste_cpu_seconds"] == pytest.approx(3.5)
    assert metrics["evictions"] == 1
    assert metrics.details["waste_by_eviction_cpu_seconds"] == pytest.approx(1.5)
    assert metrics["resizes"] == 1
    assert metrics["decisions"] == 2
    assert metrics["decision_ms_p50"] == pytest.approx(2.0)


def test_results_are_given_in_trace_time():
    """At speed 10 a wall latency of 50 ms is 500 ms of trace; rates stay, lost work is multiplied."""
    rows = [
        {"due": 5.0, "target": 0.06, "start": 5.0, "end": 5.05, "work": 0.01},
        {"cls": 1, "due": 1.0, "start": 1.0, "end": 10.0, "work": 9.0},
    ]

    metrics = figures_of(outcomes_of(rows, speed=10.0, wall_s=12.0), losses=losses_of([(5.0, "evicted", 0.2)]))

    assert metrics["lc_latency_p50_ms"] == pytest.approx(500.0)
    assert metrics["be_cpu_seconds_per_s"] == pytest.approx(1.0)
    assert metrics["waste_cpu_seconds"] == pytest.approx(2.0)
    assert metrics["wall_s"] == 12.0
    assert metrics.services[0].target_ms == pytest.approx(600.0)


def test_fairness_compares_the_qos_rates_of_the_entry_clusters():
    """Rates 1 and 0 give Jain's index 1/2; rates 1 and 1 give 1."""
    good, bad = {"due": 50.0, "start": 50.0, "end": 50.1}, {"due": 50.0, "start": 50.0, "end": 55.0}

    uneven = figures_of(outcomes_of([{**good, "entry": 0}, {**bad, "entry": 1}]))
    even = figures_of(outcomes_of([{**good, "entry": 0}, {**good, "entry": 1}]))

    assert uneven["fairness_jain"] == pytest.approx(0.5)
    assert even["fairness_jain"] == pytest.approx(1.0)


def test_figures_without_anything_to_stand_on_are_null():
    """A run without requests has counts of 0 and no rate, latency or utilisation."""
    metrics = figures_of(outcomes_of([], span_s=0.0, wall_s=0.0))

    none = ["lc_qos_rate", "lc_latency_p50_ms", "be_cpu_seconds_per_s", "utilization_cpu", "decision_ms_p99", "fairness_jain"]
    assert [metrics[key] for key in none] == [None] * len(none)
    assert metrics["accepted"] == metrics["live"] == metrics["lc_arrived"] == 0


def test_services_have_rows_of_their_own_that_add_up():
    """Arrivals and throughput by service sum to those of the run."""
    records = seeded_run(requests=800)

    metrics = run_metrics(*records)

    lc = [row for row in metrics.services if row.service_class == "lc"]
    be = [row for row in metrics.services if row.service_class == "be"]
    assert sum(row.arrived for row in lc) == metrics["lc_arrived"]
    assert sum(row.cpu_seconds_per_s or 0.0 for row in be) == pytest.approx(metrics["be_cpu_seconds_per_s"])
    assert all(row.qos_rate is None for row in be)
    assert sum(r.arrived * (r.qos_rate or 0.0) for r in lc) == pytest.approx(metrics["lc_arrived"] * metrics["lc_qos_rate"])


def test_figures_do_not_depend_on_the_speed():
    """The same run, replayed 4 times faster, has the same figures but for the wall time."""
    slow, fast = run_metrics(*seeded_run(speed=1.0)), run_metrics(*seeded_run(speed=4.0))

    for key in ("lc_qos_rate", "lc_latency_p99_ms", "be_completed", "be_cpu_seconds_per_s", "utilization_cpu", "fairness_jain"):
        assert fast[key] == pytest.approx(slow[key]), key
    assert fast["wall_s"] == pytest.approx(slow["wall_s"] / 4.0)


@st.composite
def runs(draw: st.DrawFn) -> RunOutcomes:
    """Runs of up to twelve requests in any state."""
    times = st.floats(0.0, 120.0)
    rows = []
    for _ in range(draw(st.integers(0, 12))):
        due = draw(st.floats(0.0, 100.0))
        start = due + draw(times)
        state = draw(st.sampled_from(["succeeded", "failed", "shed", "cancelled", "running", "accepted"]))
        ended = state in ("succeeded", "failed")
        rows.append(
            {
                "cls": draw(st.integers(0, 1)),
                "entry": draw(st.integers(0, 1)),
                "due": due,
                "state": state,
                "start": start if state in ("succeeded", "failed", "running") else NAN,
                "end": start + draw(times) if ended else NAN,
                "work": draw(st.floats(0.0, 10.0)),
            }
        )
    return outcomes_of(rows, speed=draw(st.sampled_from([0.5, 1.0, 20.0])), wall_s=draw(times))


@given(runs())
def test_states_add_up_and_rates_stay_in_their_bounds(outcomes: RunOutcomes):
    """accepted = terminal + live; rates lie in 0 … 1; useful work never exceeds the work there was; quantiles are ordered."""
    metrics = figures_of(outcomes, samples=samples_of([(50.0, 0, 1000.0, 1000.0)]))

    assert metrics["accepted"] == sum(metrics[key] for key in ("succeeded", "failed", "shed", "cancelled", "live"))
    for key in ("lc_qos_rate", "fairness_jain"):
        assert metrics[key] is None or 0.0 <= metrics[key] <= 1.0 + 1e-12
    latencies = [metrics[key] for key in ("lc_latency_p50_ms", "lc_latency_p95_ms", "lc_latency_p99_ms")]
    assert latencies == [None] * 3 or 0.0 <= latencies[0] <= latencies[1] <= latencies[2]
    window_s = measured_span(outcomes).length_s
    done = (metrics["be_cpu_seconds_per_s"] or 0.0) * window_s
    work = outcomes.cpu_work_s[outcomes.service_class == 1]
    assert 0.0 <= done <= float(work.sum()) * (1 + 1e-9) + 1e-9
    assert all(value is None or isinstance(value, (int, str)) or math.isfinite(value) for value in metrics.values())


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_jain_index_lies_between_one_nth_and_one(values: list[float]):
    """1/n … 1 for n values, and undefined when all are 0."""
    index = jain_index(f8(values))

    if index is None:
        assert max(values) == 0.0
    else:
        assert 1.0 / len(values) - 1e-9 <= index <= 1.0 + 1e-9
