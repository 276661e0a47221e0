"""The publisher of messages to the broker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tango.domain.requests import Batch
from tango.ports.requests import Dispatched


class Publisher(Protocol):
    """Sends messages to the broker. A message may be delivered twice or never: it only says where to look, and the rows decide."""

    def arrivals(self, batches: Sequence[Batch]) -> None:
        """Publish batches to the queues `lc.<cluster>` and `be.<cluster>`. Raises: BrokerUnavailable."""
        ...

    def executions(self, run_id: int, cluster: str, dispatched: Dispatched) -> None:
        """Publish requests that wait for a place to the queue `exec.<cluster>` of their entry cluster. Raises: BrokerUnavailable."""
        ...

    def replay(self, run_id: int) -> None:
        """Ask a replayer to continue a run. Raises: BrokerUnavailable."""
        ...

    def simulations(self, run_ids: Sequence[int]) -> None:
        """Ask for simulated runs, one message each. Raises: BrokerUnavailable; some messages may have been sent by then."""
        ...
