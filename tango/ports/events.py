"""The log of scaling events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tango.domain.runs import ScalingRecord


class EventLog(Protocol):
    """Scaling events, for people and reports."""

    def scaling(self, records: Sequence[ScalingRecord]) -> None:
        """Append scaling events."""
        ...
