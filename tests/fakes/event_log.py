"""Scaling events in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tango.domain.runs import (
    ScalingRecord,
)
from tests.fakes.memory_state import MemoryState


class MemoryEventLog:
    """Implements `tango.ports.events.EventLog`."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def scaling(self, records: Sequence[ScalingRecord]) -> None:
        """Append."""
        with self._state.lock:
            self._state.scalings.extend(records)

    def forget_candidates(self, *, keep: int) -> int:
        """Of the oldest."""
        with self._state.lock:
            having = [k for k, (record, _) in enumerate(self._state.decisions) if record.weighed]
            going = having[: max(0, len(having) - keep)]
            for k in going:
                record, runs = self._state.decisions[k]
                self._state.decisions[k] = replace(record, weighed=""), runs
        return len(going)
