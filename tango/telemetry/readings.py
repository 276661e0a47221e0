"""Figures as they were read: for each metric its series, each by the values of the metric's labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tango.telemetry.catalogue import CATALOGUE, Metric

Labels = tuple[str, ...]


class Readings:
    """Series by metric and label values; what is added to one series twice is summed."""

    def __init__(self) -> None:
        self._series: dict[str, dict[Labels, list[float]]] = {}

    def add(self, metric: Metric, labels: Sequence[str] = (), *values: float) -> None:
        """Add to a series: one value, or of a histogram `Metric.places` of them.

        Raises: ValueError for a wrong number of labels or values.
        """
        if len(labels) != len(metric.labels) or len(values) != metric.places:
            raise ValueError(f"{metric.name}: {len(labels)} labels and {len(values)} values for {metric.labels}, {metric.places}")
        of_metric = self._series.setdefault(metric.name, {})
        key = tuple(labels)
        known = of_metric.get(key)
        of_metric[key] = list(values) if known is None else [a + b for a, b in zip(known, values, strict=True)]

    def merge(self, other: Readings) -> None:
        """Add all of another's."""
        for metric, labels, values in other:
            self.add(metric, labels, *values)

    def series(self, metric: Metric) -> dict[Labels, list[float]]:
        """The series of one metric; empty where it has none."""
        return self._series.get(metric.name, {})

    def value(self, metric: Metric, *labels: str) -> float | None:
        """The value of a series that has one; None where there is no such series."""
        found = self.series(metric).get(labels)
        return found[0] if found else None

    def __iter__(self) -> Iterator[tuple[Metric, Labels, list[float]]]:
        """All series, in the order of the catalogue, and then of their labels."""
        for name, metric in CATALOGUE.items():
            for labels in sorted(self._series.get(name, {})):
                yield metric, labels, self._series[name][labels]
