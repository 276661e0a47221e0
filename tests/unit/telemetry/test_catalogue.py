"""The catalogue of metrics follows the conventions, says all of each, and is the reference page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tango.report.metrics_page import metrics_page
from tango.telemetry.catalogue import CATALOGUE, LABELS, Metric, MetricKind
from tango.telemetry.readings import Readings

ROOT = Path(__file__).parents[3]
UNITS = {"seconds": "_seconds", "bytes": "_bytes", "ratio": "_ratio", "cores": "_cores"}
FORBIDDEN = {"run", "run_id", "request", "request_id", "pid", "pod", "node", "owner", "host", "instance"}
"""Labels whose values would grow with what happens. Tenants are told by name where they are declared, and else as `other`."""


def test_the_page_is_that_of_the_catalogue() -> None:
    """After a change: `python -m tango.report.metrics_page > docs/prometheus.md`."""
    assert (ROOT / "docs" / "prometheus.md").read_text(encoding="utf-8") == metrics_page()


@pytest.mark.parametrize("metric", CATALOGUE.values(), ids=CATALOGUE)
def test_a_metric_follows_the_conventions(metric: Metric) -> None:
    """Of Prometheus for names and units; a meaning ends with a full stop, and each label is explained."""
    assert re.fullmatch(r"(tango|celery)_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is MetricKind.COUNTER)
    assert bool(metric.buckets) == (metric.kind is MetricKind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert metric.meaning.endswith(".")
    assert set(metric.labels) <= set(LABELS)
    assert not set(metric.labels) & FORBIDDEN
    if metric.name.startswith("tango_") and (ending := UNITS.get(metric.unit)):
        assert metric.name.removesuffix("_total").endswith(ending)


def test_every_label_is_used() -> None:
    """None is explained that no metric has."""
    assert set(LABELS) == {label for metric in CATALOGUE.values() for label in metric.labels}


def test_readings_add_up_and_refuse_what_is_no_series() -> None:
    """A wrong number of labels or of values would be told as another series."""
    bound = next(m for m in CATALOGUE.values() if m.name == "tango_evictions_total")
    found, other = Readings(), Readings()
    found.add(bound, ("evicted",), 1.0)
    other.add(bound, ("evicted",), 2.0)
    found.merge(other)

    assert found.value(bound, "evicted") == 3.0
    assert found.value(bound, "nobody") is None
    with pytest.raises(ValueError, match="1 labels and 2 values"):
        found.add(bound, ("evicted",), 1.0, 2.0)
    with pytest.raises(ValueError, match="0 labels"):
        found.add(bound, (), 1.0)
