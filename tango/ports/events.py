"""The log of scaling events and of decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tango.domain.runs import ScalingRecord


class EventLog(Protocol):
    """What happened, for people and reports."""

    def scaling(self, records: Sequence[ScalingRecord]) -> None:
        """Append scaling events."""
        ...

    def forget_candidates(self, *, keep: int) -> int:
        """Delete the candidates of decisions but for the newest `keep` that have some, a bounded number of them; gives how many."""
        ...
