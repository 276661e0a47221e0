"""The states of requests: LC in the journal of the cluster that they entered, BE in the centre's store.

Every method that writes applies one event of `tango.domain.lifecycle`, or one of several. Rows are left alone where that event cannot
happen, whose epoch is another, or whose run is not open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tango.domain.lifecycle import Outcome
from tango.domain.plans import BePlan, LcPlan
from tango.domain.requests import Batch, LcArrivals, LcWork
from tango.domain.runs import DecisionRecord, PendingRequests, Placement
from tango.domain.snapshot import FleetSnapshot
from tango.domain.tracing import BeTrack, Track
from tango.ports.leases import Fence


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The result of one release step."""

    batches: tuple[Batch, ...]
    next_due_s: float | None
    """Due time of the first request not released yet, in wall seconds since the run began; None when all are released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartHere:
    """Rows of an `LcArrivals` that the dispatching process runs itself: they skip `dispatched` and its message."""

    rows: NDArray[np.bool_]
    """(m,) mask over the requests of the message."""
    owner: str
    lease_s: float
    """Seconds of the lease under which they are executed."""
    planned_s: float
    """When their plan was made, in wall seconds since the run began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched:
    """LC requests that a plan dispatched; those that another worker had dispatched before are missing."""

    request_ids: tuple[int, ...] = ()
    """Requests that wait for a worker of the cluster to claim them."""
    epochs: tuple[int, ...] = ()
    """Their epochs, in the same order."""
    started: tuple[LcWork, ...] = ()
    """Requests that the dispatching process has claimed and is to run itself."""


class LcRequests(Protocol):
    """LC requests of one cluster's journal. Raises: StoreUnavailable."""

    def release_due(self, run_id: int, *, until_s: float, limit: int) -> Released:
        """accepted → released for at most `limit` requests due by `until_s`, earliest first, grouped into batches."""
        ...

    def shed_overdue(self, run_id: int, *, until_s: float, after_targets: Mapping[str, float], limit: int) -> int:
        """accepted → released → shed in one step; gives how many.

        Looks at the first `limit` requests that are due by `until_s` and not released, and sheds those of the named services that have
        waited longer than so many targets by then.
        """
        ...

    def waiting(self) -> int:
        """How many requests are released and wait for their dispatch, of all runs that are open."""
        ...

    def waiting_lc(self, run_id: int, request_ids: Sequence[int], snapshot: FleetSnapshot) -> LcArrivals:
        """The given requests that are still `released`, in order of due time. Reads only."""
        ...

    def record_dispatch(
        self,
        run_id: int,
        arrivals: LcArrivals,
        plan: LcPlan,
        snapshot: FleetSnapshot,
        decision: DecisionRecord,
        *,
        lease_s: float,
        here: StartHere | None = None,
    ) -> Dispatched:
        """released → dispatched (epoch + 1, lease), → running for rows of `here`, or → shed, as planned, for rows that still have the
        epoch that was read. The decision is recorded in the same transaction; its `placed` counts the rows that changed.
        """
        ...

    def claim_execution(
        self, run_id: int, request_ids: Sequence[int], epochs: Sequence[int], *, owner: str, lease_s: float
    ) -> list[LcWork]:
        """dispatched → running for rows with these epochs; rows that another worker has claimed are not given."""
        ...

    def tracks(self, run_id: int, request_ids: Sequence[int]) -> dict[int, Track]:
        """What their rows and calls say for their traces; those that are not here any more are missing. Reads only, and only where
        distributed traces are on."""
        ...

    def heartbeat(self, owner: str, *, lease_s: float) -> None:
        """The process `owner` lives: what it runs stands for `lease_s` more seconds. One row, however many requests it runs."""
        ...

    def settle(self, outcomes: Sequence[Outcome]) -> int:
        """End attempts where the request is in flight under that epoch; gives how many were ended.

        A requeue sends the request back to `released` or, when the attempts are used up, fails it with `attempts-exhausted`. A second
        call ends none.
        """
        ...

    def requeue_expired(self, *, limit: int) -> list[Batch]:
        """Requests in flight whose own lease or whose owner's has run out → released (attempt + 1), or failed when attempts are used up.

        Gives the batches to publish. Each expired epoch gets one attempt.
        """
        ...

    def unclaimed(self, *, older_than_s: float, limit: int) -> list[Batch]:
        """Batches of requests that have been `released` for longer: their message may be lost, so they are to be published again."""
        ...


class BeRequests(Protocol):
    """BE requests in the centre's store. Raises: StoreUnavailable, StoreError."""

    def release_due(self, run_id: int, *, until_s: float, limit: int) -> Released:
        """accepted → released for at most `limit` BE requests due by `until_s`, earliest first, grouped into batches."""
        ...

    def renew(self, run_id: int, request_ids: Sequence[int], epochs: Sequence[int], *, lease_s: float) -> int:
        """Extend the leases of rows in flight with these epochs; gives how many there were."""
        ...

    def settle(self, outcomes: Sequence[Outcome]) -> int:
        """End attempts, with one `attempt` row each, where the request is in flight under that epoch; gives how many were ended.

        A requeue sends the request back to `pending` or, when the attempts are used up, fails it with `attempts-exhausted`. A second
        call ends none. Many outcomes take several transactions.
        """
        ...

    def admit_be(self, run_id: int, request_ids: Sequence[int], *, most_memory_mib: Mapping[str, float]) -> int:
        """released → pending for rows that ask for at most so much memory, by their service, else → failed with `does-not-fit`.

        Rows of a service that is not in the mapping stay released: it was declared a moment ago, and they are published again.
        """
        ...

    def pending_be(self, *, limit: int, behind: Mapping[tuple[int, str], tuple[float, int]] | None = None) -> PendingRequests:
        """At most `limit` pending BE requests of each tenant, of all active runs, by age and share: the oldest of each run and tenant, then
        the second oldest of each, and so on; of these the one that has waited longest first. Of a run and tenant in `behind` only those
        after this due time and id. Where there are many tenants, fewer of each. Reads only."""
        ...

    def record_placement(
        self,
        batch: PendingRequests,
        plan: BePlan,
        snapshot: FleetSnapshot,
        decision: DecisionRecord,
        *,
        fence: Fence,
        lease_s: float,
    ) -> list[Placement]:
        """pending → placed (epoch + 1, lease, pod name), with the decision row, in one transaction; gives the placements made.

        Raises: Fenced if another scheduler has taken the lease since; nothing is written then.
        """
        ...

    def mark_running(self, placements: Iterable[tuple[int, int, int, float]], *, lease_s: float) -> int:
        """placed → running for (run, request, epoch, started Unix s) that the agent saw start; renews the running ones."""
        ...

    def requeue_expired(self, *, limit: int) -> int:
        """Requests in flight whose lease ran out → pending (attempt + 1), or failed when attempts are used up; gives how many.

        Each expired epoch gets one `attempt` row. What runs in a cluster that is away stands (`LeaseSettings.silent_s`, `away_s`), and
        when its agent is back it has the time of a lease (`placement_s`) to renew it.
        """
        ...

    def unclaimed(self, *, older_than_s: float, limit: int) -> list[Batch]:
        """Batches of BE requests that have been `released` for longer: their message may be lost, so they are published again."""
        ...

    def tracks(self, run_id: int, request_ids: Sequence[int]) -> dict[int, BeTrack]:
        """What their rows and attempts say for their traces; those that there are not are missing. Reads only, and only where distributed
        traces are on."""
        ...
