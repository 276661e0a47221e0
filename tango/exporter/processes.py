"""What the processes of this host have counted, added up."""

from __future__ import annotations

from pathlib import Path

from tango.telemetry.catalogue import MetricKind
from tango.telemetry.readings import Readings
from tango.telemetry.slots import read_slots


def counted(folder: Path) -> Readings:
    """The sums over all processes that ever counted in the folder; a gauge is that of those which run, 0 where none of them has it."""
    found = Readings()
    for metric, labels, values, is_running in read_slots(folder):
        found.add(metric, labels, *(values if is_running or metric.kind is not MetricKind.GAUGE else (0.0,)))
    return found
