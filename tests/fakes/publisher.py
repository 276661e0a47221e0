"""A publisher that keeps what it is given, or behaves as if the broker were away."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tango.domain.requests import Batch
from tango.errors import BrokerUnavailable
from tango.ports.requests import Dispatched


class RecordingPublisher:
    """Implements `tango.ports.messages.Publisher`; while `away` every call raises and nothing is kept."""

    def __init__(self, now_s: Callable[[], float] = lambda: 0.0) -> None:
        self._now_s = now_s
        self.away = False
        self.announced: list[tuple[float, tuple[Batch, ...]]] = []
        """(when, batches) of every call of `arrivals`."""
        self.sent_on: list[tuple[int, str, tuple[int, ...], tuple[int, ...]]] = []
        """(run, cluster, request ids, epochs) of every call of `executions`."""
        self.replays: list[int] = []
        self.simulated: list[int] = []
        """Runs of all calls of `simulations`."""

    def arrivals(self, batches: Sequence[Batch]) -> None:
        """Keep the batches."""
        self._reach()
        self.announced.append((self._now_s(), tuple(batches)))

    def executions(self, run_id: int, cluster: str, dispatched: Dispatched) -> None:
        """Keep what is for the cluster's queue."""
        self._reach()
        self.sent_on.append((run_id, cluster, dispatched.request_ids, dispatched.epochs))

    def replay(self, run_id: int) -> None:
        """Keep the run."""
        self._reach()
        self.replays.append(run_id)

    def simulations(self, run_ids: Sequence[int]) -> None:
        """Keep the runs."""
        self._reach()
        self.simulated += run_ids

    @property
    def batches(self) -> list[Batch]:
        """All announced batches, in order."""
        return [batch for _, batches in self.announced for batch in batches]

    @property
    def request_ids(self) -> list[int]:
        """Requests of all announced batches, in order."""
        return [request_id for batch in self.batches for request_id in batch.request_ids]

    def at_s(self, request_id: int) -> float:
        """When the request was announced first. Raises: StopIteration if it never was."""
        return next(at_s for at_s, batches in self.announced if any(request_id in batch.request_ids for batch in batches))

    def _reach(self) -> None:
        if self.away:
            raise BrokerUnavailable("the broker is away")
