"""Recorded runs side by side, live or simulated: figures of each, and how each differs from the first.

One run is one sample: there are no intervals, and whether a difference is more than chance `tango compare` tells, by seeds. Of what the
runs do not have in common the reader is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from tango.analysis.compared_metrics import METRICS, PER_SERVICE, ComparedMetric
from tango.analysis.metrics import RunMetrics

FACTS = ("kind", "system", "fleet", "fleet_hash", "trace_source", "speed", "seed", "reassure")
"""What two runs may differ in besides what was decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceRow:
    """A figure of all runs; None where a run does not have it."""

    metric: ComparedMetric
    values: tuple[float | None, ...]

    @property
    def service(self) -> str:
        """The service whose figure it is; empty: of the whole run."""
        return self.metric.service

    def difference(self, k: int) -> float | None:
        """Of the k-th run to the first; None where either does not have the figure."""
        first, other = self.values[0], self.values[k]
        return None if first is None or other is None else other - first

    def verdict(self, k: int) -> str:
        """`better`, `worse`, `same`, or empty where neither way is better."""
        difference = self.difference(k)
        if difference is None or not self.metric.better:
            return ""
        return "same" if difference == 0 else "better" if difference * self.metric.better > 0 else "worse"


def difference_rows(runs: Sequence[RunMetrics]) -> list[DifferenceRow]:
    """Rows of the figures that at least one run has: those of whole runs, then those of LC services, service by service."""
    rows = []
    for metric in METRICS:
        if not metric.distance:
            rows.append(DifferenceRow(metric=metric, values=tuple(_number(run.get(metric.key)) for run in runs)))
    by_name = [{figures.service: asdict(figures) for figures in run.services if figures.service_class == "lc"} for run in runs]
    for service in dict.fromkeys(name for services in by_name for name in services):
        for metric in PER_SERVICE:
            of_service = ComparedMetric(key=metric.key, title=metric.title, unit=metric.unit, better=metric.better, service=service)
            values = tuple(_number(services.get(service, {}).get(metric.key)) for services in by_name)
            rows.append(DifferenceRow(metric=of_service, values=values))
    return [row for row in rows if any(value is not None for value in row.values)]


def what_differs(facts: Sequence[Mapping[str, object]]) -> list[str]:
    """What the runs do not have in common, in words: `system: tango, load-greedy`."""
    found = []
    for name in FACTS:
        values = [fact.get(name) for fact in facts]
        if any(value != values[0] for value in values):
            found.append(f"{name.replace('_', ' ')}: {', '.join(str(value) for value in values)}")
    return found


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
