"""Scaling events in memory."""

from __future__ import annotations

from collections.abc import Sequence

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
