"""Counting in a folder of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tango.exporter.processes import counted
from tango.telemetry import tallies
from tango.telemetry.catalogue import Metric


@contextmanager
def counting(folder: Path) -> Iterator[None]:
    """Within the block this process counts there."""
    tallies.end()
    assert tallies.begin(str(folder)) is not None
    try:
        yield
    finally:
        tallies.end()


def series(folder: Path, metric: Metric) -> dict[tuple[str, ...], float]:
    """The series of a counter or gauge, by its labels."""
    return {labels: values[0] for labels, values in counted(folder).series(metric).items()}
