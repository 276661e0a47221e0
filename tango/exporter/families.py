"""Figures in the form that `prometheus_client` writes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tango.telemetry.catalogue import CATALOGUE, Metric, MetricKind
from tango.telemetry.readings import Labels, Readings


class StackCollector(Collector):
    """What `read` gives, at each scrape anew."""

    def __init__(self, read: Callable[[], Readings]) -> None:
        self._read = read

    def collect(self) -> Iterator[Family]:
        """The families of all metrics that have a series."""
        found = self._read()
        for metric in CATALOGUE.values():
            if series := found.series(metric):
                yield family(metric, sorted(series.items()))


def family(metric: Metric, series: Iterable[tuple[Labels, list[float]]]) -> Family:
    """One metric with its series."""
    if metric.kind is MetricKind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        bounds = [*map(floatToGoString, metric.buckets), "+Inf"]
        for labels, values in series:
            histogram.add_metric(labels, list(zip(bounds, accumulate(values[:-1]), strict=True)), values[-1])
        return histogram
    of_kind = CounterMetricFamily if metric.kind is MetricKind.COUNTER else GaugeMetricFamily
    found = of_kind(metric.name, metric.meaning, labels=metric.labels)
    for labels, values in series:
        found.add_metric(labels, values[0])
    return found
