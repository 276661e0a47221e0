"""Recorded runs side by side: figures, differences to the first, and what the runs do not have in common."""

from __future__ import annotations

from typing import Any

from tango.analysis.metrics import RunMetrics, ServiceFigures
from tango.analysis.run_differences import difference_rows, what_differs


def run_of(qos: float | None, p99: float, resizes: int, **services: float) -> RunMetrics:
    """The figures of a run, with a QoS rate for each LC service."""
    figures: dict[str, Any] = {"lc_qos_rate": qos, "lc_latency_p99_ms": p99, "resizes": resizes, "system": "tango"}
    fields = ServiceFigures.__dataclass_fields__
    rows = tuple(
        ServiceFigures(**{**dict.fromkeys(fields, None), "service": name, "service_class": "lc", "qos_rate": rate})  # type: ignore[arg-type]
        for name, rate in services.items()
    )
    return RunMetrics(figures=figures, services=rows, details={})


def test_each_run_differs_from_the_first() -> None:
    """What is better depends on the figure; of resizes neither more nor fewer is."""
    rows = {row.metric.name: row for row in difference_rows([run_of(0.9, 100.0, 5), run_of(0.95, 120.0, 9), run_of(0.9, 90.0, 5)])}

    qos, p99, resizes = rows["lc_qos_rate"], rows["lc_latency_p99_ms"], rows["resizes"]
    assert qos.values == (0.9, 0.95, 0.9)
    assert [round(qos.difference(k) or 0.0, 6) for k in (1, 2)] == [0.05, 0.0]
    assert [qos.verdict(k) for k in (1, 2)] == ["better", "same"]
    assert [p99.verdict(k) for k in (1, 2)] == ["worse", "better"]
    assert (resizes.difference(1), resizes.verdict(1)) == (4.0, "")


def test_what_a_run_does_not_have_is_left_empty() -> None:
    """A figure that none has is no row; a service that only one has is one."""
    rows = difference_rows([run_of(None, 100.0, 5, web=0.9), run_of(0.9, 100.0, 5, web=0.8, chat=1.0)])

    by_name = {(row.service, row.metric.key): row for row in rows}
    assert by_name["", "lc_qos_rate"].values == (None, 0.9)
    assert (by_name["", "lc_qos_rate"].difference(1), by_name["", "lc_qos_rate"].verdict(1)) == (None, "")
    assert by_name["web", "qos_rate"].verdict(1) == "worse"
    assert by_name["chat", "qos_rate"].values == (None, 1.0)
    assert ("", "evictions") not in by_name


def test_what_the_runs_do_not_have_in_common_is_told() -> None:
    """Else a difference of traces would be taken for one of systems."""
    one = {"kind": "live", "system": "tango", "fleet": "demo", "speed": 1.0}

    assert what_differs([one, dict(one)]) == []
    assert what_differs([one, {**one, "system": "load-greedy", "speed": 2.0}]) == ["system: tango, load-greedy", "speed: 1.0, 2.0"]
