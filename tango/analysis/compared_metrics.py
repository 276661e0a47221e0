"""The metrics that a comparison takes from its cells: which direction is better, and how values and differences are printed.

Definitions are in `docs/metrics.md`. A distance is the bound minus the value reached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NOTHING = "–"
"""What a person is shown where there is no value; JSON and YAML have null there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedMetric:
    """One metric that is compared."""

    key: str
    """Key of the figure in a cell's figures, details or services."""
    title: str
    unit: str
    """`share`, `ms` and `index` have formats of their own; any other text is printed as the unit."""
    better: int
    """1: higher is better; -1: lower is better; 0: neither."""
    service: str = ""
    """The service whose figure it is; empty: that of the whole run."""
    distance: bool = False
    """Whether it is the distance to the bound and not the figure itself."""

    @property
    def name(self) -> str:
        """The metric's name in JSON, unique among the metrics of a comparison."""
        if self.distance:
            return f"{self.key}_to_bound"
        return f"{self.key}:{self.service}" if self.service else self.key

    def show(self, value: float | None) -> str:
        """A value as text with its unit: `97.31 %`, `85.0 ms`, `12.3`; a dash for None."""
        if value is None:
            return NOTHING
        if self.unit == "share":
            return f"{value * 100:.2f} {'pp' if self.distance else '%'}"
        if self.unit == "ms":
            return f"{_digits(value)} ms" if abs(value) < 1000 else f"{value / 1000:,.2f} s"
        return f"{value:.4f}" if self.unit == "index" else _digits(value)

    def show_difference(self, mean: float | None, half: float | None) -> str:
        """A mean difference and half of its interval as text: `+1.20 ± 0.31 pp` (percentage points)."""
        if mean is None:
            return NOTHING
        if mean == 0.0 and not half:
            return "0"
        scale, unit = self.axis(max(abs(mean), half or 0.0))
        unit = f" {unit}" if self.unit in ("share", "ms") else ""
        places = _places(max(abs(mean), half or 0.0) * scale, at_most=4 if self.unit == "index" else 3)
        text = f"{mean * scale:+,.{places}f}"
        return text + (unit if half is None else f" ± {half * scale:,.{places}f}{unit}")

    def axis(self, size: float) -> tuple[float, str]:
        """(factor, unit) with which differences of up to `size` are printed."""
        if self.unit == "share":
            return 100.0, "pp"
        if self.unit == "ms":
            return (1e-3, "s") if size >= 1000 else (1.0, "ms")
        return 1.0, "" if self.unit == "index" else self.unit


METRICS: tuple[ComparedMetric, ...] = (
    ComparedMetric(key="lc_qos_rate", title="QoS rate", unit="share", better=1),
    ComparedMetric(key="lc_qos_rate", title="QoS rate to bound", unit="share", better=-1, distance=True),
    ComparedMetric(key="lc_latency_p50_ms", title="LC latency p50", unit="ms", better=-1),
    ComparedMetric(key="lc_latency_p95_ms", title="LC latency p95", unit="ms", better=-1),
    ComparedMetric(key="lc_latency_p99_ms", title="LC latency p99", unit="ms", better=-1),
    ComparedMetric(key="fairness_jain", title="Fairness (Jain)", unit="index", better=1),
    ComparedMetric(key="be_cpu_seconds_per_s", title="BE throughput", unit="CPU-s/s", better=1),
    ComparedMetric(key="be_cpu_seconds_per_s", title="BE throughput to bound", unit="CPU-s/s", better=0, distance=True),
    ComparedMetric(key="be_completed", title="BE requests completed", unit="", better=1),
    ComparedMetric(key="utilization_cpu", title="CPU utilisation", unit="share", better=1),
    ComparedMetric(key="utilization_memory", title="Memory utilisation", unit="share", better=0),
    ComparedMetric(key="waste_cpu_seconds", title="Work thrown away", unit="CPU-s", better=-1),
    ComparedMetric(key="waste_by_eviction_cpu_seconds", title="Thrown away by evictions", unit="CPU-s", better=-1),
    ComparedMetric(key="evictions", title="Evictions", unit="", better=-1),
    ComparedMetric(key="resizes", title="Resizes", unit="", better=0),
    ComparedMetric(key="decision_ms_p50", title="Time to decide p50", unit="ms", better=-1),
    ComparedMetric(key="decision_ms_p99", title="Time to decide p99", unit="ms", better=-1),
)
"""Metrics of whole runs. The BE bound depends on the LC work that the system itself completed, so neither way to it is better."""

PER_SERVICE: tuple[ComparedMetric, ...] = (
    ComparedMetric(key="qos_rate", title="QoS rate", unit="share", better=1),
    ComparedMetric(key="latency_p50_ms", title="Latency p50", unit="ms", better=-1),
    ComparedMetric(key="latency_p95_ms", title="Latency p95", unit="ms", better=-1),
    ComparedMetric(key="latency_p99_ms", title="Latency p99", unit="ms", better=-1),
)


SHARES = frozenset(metric.key for metric in (*METRICS, *PER_SERVICE) if metric.unit == "share")
"""Keys of figures that are shares: people are shown them in per cent, machines as fractions."""


def _places(size: float, *, at_most: int = 3) -> int:
    """Decimal places that leave three digits of a number of this size."""
    return 2 if size == 0 else min(at_most, max(0, 2 - math.floor(math.log10(size))))


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() else f"{value:,.{_places(abs(value))}f}"
