"""The figures that a comparison takes from its cells: which way is better, and how values and differences are written.

Definitions stand in `docs/metrics.md`; distances are bound minus reached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NOTHING = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One figure that is compared."""

    key: str
    title: str
    unit: str
    """`share`, `ms` or `index`, which are shown in their own ways, else the unit's name, perhaps empty."""
    better: int
    """1: more is better, -1: less is, 0: neither."""
    service: str = ""
    """A figure of this service; of the whole run where empty."""
    distance: bool = False
    """Bound minus reached, not the figure itself."""

    @property
    def name(self) -> str:
        """Unique among the metrics of a comparison, and what JSON calls it."""
        if self.distance:
            return f"{self.key}_to_bound"
        return f"{self.key}:{self.service}" if self.service else self.key

    def show(self, value: float | None) -> str:
        """A value with its unit: `97.31 %`, `85.0 ms`, `12.3`."""
        if value is None:
            return NOTHING
        if self.unit == "share":
            return f"{value * 100:.2f} {'pp' if self.distance else '%'}"
        if self.unit == "ms":
            return f"{_digits(value)} ms" if abs(value) < 1000 else f"{value / 1000:,.2f} s"
        return f"{value:.4f}" if self.unit == "index" else _digits(value)

    def show_difference(self, mean: float | None, half: float | None) -> str:
        """A difference with half its interval: `+1.20 ± 0.31 pp`; pp are percentage points."""
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
        """By what a difference is multiplied to be shown, and in which unit it then is, for differences up to this size."""
        if self.unit == "share":
            return 100.0, "pp"
        if self.unit == "ms":
            return (1e-3, "s") if size >= 1000 else (1.0, "ms")
        return 1.0, "" if self.unit == "index" else self.unit


METRICS: tuple[Metric, ...] = (
    Metric(key="lc_qos_rate", title="QoS rate", unit="share", better=1),
    Metric(key="lc_qos_rate", title="QoS rate to bound", unit="share", better=-1, distance=True),
    Metric(key="lc_latency_p50_ms", title="LC latency p50", unit="ms", better=-1),
    Metric(key="lc_latency_p95_ms", title="LC latency p95", unit="ms", better=-1),
    Metric(key="lc_latency_p99_ms", title="LC latency p99", unit="ms", better=-1),
    Metric(key="fairness_jain", title="Fairness (Jain)", unit="index", better=1),
    Metric(key="be_cpu_seconds_per_s", title="BE throughput", unit="CPU-s/s", better=1),
    Metric(key="be_cpu_seconds_per_s", title="BE throughput to bound", unit="CPU-s/s", better=0, distance=True),
    Metric(key="be_completed", title="BE requests completed", unit="", better=1),
    Metric(key="utilization_cpu", title="CPU utilisation", unit="share", better=1),
    Metric(key="utilization_memory", title="Memory utilisation", unit="share", better=0),
    Metric(key="waste_cpu_seconds", title="Work thrown away", unit="CPU-s", better=-1),
    Metric(key="waste_by_eviction_cpu_seconds", title="Thrown away by evictions", unit="CPU-s", better=-1),
    Metric(key="evictions", title="Evictions", unit="", better=-1),
    Metric(key="resizes", title="Resizes", unit="", better=0),
    Metric(key="decision_ms_p50", title="Time to decide p50", unit="ms", better=-1),
    Metric(key="decision_ms_p99", title="Time to decide p99", unit="ms", better=-1),
)
"""Metrics of whole runs. The BE bound depends on the LC work that the system itself completed, so neither way to it is better."""

PER_SERVICE: tuple[Metric, ...] = (
    Metric(key="qos_rate", title="QoS rate", unit="share", better=1),
    Metric(key="latency_p50_ms", title="Latency p50", unit="ms", better=-1),
    Metric(key="latency_p95_ms", title="Latency p95", unit="ms", better=-1),
    Metric(key="latency_p99_ms", title="Latency p99", unit="ms", better=-1),
)


def _places(size: float, *, at_most: int = 3) -> int:
    """Decimal places that leave three digits of a number of this size."""
    return 2 if size == 0 else min(at_most, max(0, 2 - math.floor(math.log10(size))))


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() else f"{value:,.{_places(abs(value))}f}"
