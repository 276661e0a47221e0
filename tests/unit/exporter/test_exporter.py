"""The scrape: its parts fail apart, its window looks back as far as it says, and what is served is what Prometheus reads."""

from __future__ import annotations

import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tango.errors import StoreUnavailable, UsageError
from tango.exporter import Part, Parts, QosWindow
from tango.exporter.serving import serve
from tango.settings import MetricsSettings
from tango.telemetry import catalogue as of
from tango.telemetry.catalogue import CATALOGUE, MetricKind
from tango.telemetry.readings import Readings


def one(service: str = "web", outcome: str = "late", count: float = 1.0) -> Readings:
    """A reading of one series."""
    found = Readings()
    found.add(of.SERVICE_REQUESTS, (service, outcome), count)
    return found


def everything() -> Readings:
    """A series of every metric."""
    found = Readings()
    for k, metric in enumerate(CATALOGUE.values()):
        found.add(metric, [f"{label}-{k}" for label in metric.labels], *(float(k + j) for j in range(metric.places)))
    return found


def scrape(read: Callable[[], Readings]) -> str:
    """What a listener answers."""
    listener = serve(read, host="127.0.0.1", port=0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{listener.port}/metrics", timeout=10.0) as answer:
            return str(answer.read().decode())
    finally:
        listener.close()


def test_a_scrape_has_every_series_under_its_name_and_type() -> None:
    """Read back by a parser of Prometheus' format: names, types, labels, values, and cumulative buckets."""
    text = scrape(everything)
    families = {family.name: family for family in text_string_to_metric_families(text)}

    for k, metric in enumerate(CATALOGUE.values()):
        family = families[metric.name.removesuffix("_total") if metric.kind is MetricKind.COUNTER else metric.name]
        labels = {label: f"{label}-{k}" for label in metric.labels}
        samples = {(s.name, s.labels.get("le")): s.value for s in family.samples}
        assert family.type == metric.kind
        assert all(labels.items() <= s.labels.items() for s in family.samples)
        assert {name for name, _ in samples} == set(metric.series)
        if metric.kind is MetricKind.HISTOGRAM:
            counts = [float(k + j) for j in range(metric.places - 1)]
            assert samples[f"{metric.name}_count", None] == samples[f"{metric.name}_bucket", "+Inf"] == sum(counts)
            assert samples[f"{metric.name}_sum", None] == k + metric.places - 1
        else:
            assert samples[metric.name, None] == k


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian package prometheus)")
def test_promtool_finds_nothing_wrong_with_names_and_types() -> None:
    """`promtool check metrics`, on a scrape with a series of every metric."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=scrape(everything), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_part_that_fails_or_hangs_costs_no_other_part() -> None:
    """It is told by `tango_up`, whether its reason is known, is a defect, or is that it takes too long."""
    hangs = threading.Event()

    def away() -> Readings:
        raise StoreUnavailable("away")

    def broken() -> Readings:
        raise KeyError("a defect")

    def late() -> Readings:
        hangs.wait(30.0)
        return one("late")

    parts = [Part("good", one), Part("away", away), Part("broken", broken), Part("late", late)]
    found = Parts(parts, MetricsSettings(deadline_s=0.2)).read()
    hangs.set()

    assert {part: values[0] for (part,), values in found.series(of.UP).items()} == {"good": 1, "away": 0, "broken": 0, "late": 0}
    assert found.series(of.SERVICE_REQUESTS) == {("web", "late"): [1.0]}


def test_many_scrapes_ask_a_part_once_a_moment() -> None:
    """What was read is given to all of them; a part that is still being read is not asked again."""
    asked = []

    def read() -> Readings:
        asked.append(1)
        return one()

    parts = Parts([Part("store", read)], MetricsSettings(reuse_s=60.0))
    found = [parts.read() for _ in range(5)]

    assert len(asked) == 1
    assert all(reading.value(of.SERVICE_REQUESTS, "web", "late") == 1.0 for reading in found)


def test_the_window_looks_back_as_far_as_it_says() -> None:
    """By hand: 8 of 10 in time at first; in the last 100 s 1 of 4, one of them shed; what callers took back does not count."""
    window = QosWindow(window_s=100.0)

    def note(at_s: float, **counts: float) -> None:
        found = Readings()
        for outcome, count in counts.items():
            found.merge(one("web", outcome, count))
        window.note(found, now_s=at_s)

    assert window.ratios().series(of.QOS) == {}
    note(0.0)
    note(10.0, in_time=8.0, late=2.0)
    assert window.ratios().value(of.QOS, "web") == pytest.approx(0.8)
    note(115.0, in_time=9.0, late=4.0, shed=1.0, cancelled=70.0)
    assert window.ratios().value(of.QOS, "web") == pytest.approx(0.25)
    note(300.0, in_time=9.0, late=4.0, shed=1.0, cancelled=90.0)
    assert window.ratios().series(of.QOS) == {}


def test_a_port_that_is_taken_is_told_with_what_to_do() -> None:
    """And not by a trace."""
    listener = serve(one, host="127.0.0.1", port=0)
    try:
        with pytest.raises(UsageError, match="TANGO_METRICS_PORT"):
            serve(one, host="127.0.0.1", port=listener.port)
    finally:
        listener.close()
