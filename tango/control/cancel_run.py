"""Cancel: stop a run by one row, and sweep what it has left in the background.

The command only stops the run: from then on the store releases, dispatches and places nothing of it, so that an overload ends at once
however large the run is. What is live is cancelled by this sweep, chunk by chunk, each in its own transaction and in the one order of
locks; beside it results and heartbeats of the same requests go on. The run is `cancelling` until nothing is live any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from tango.domain.identity import PodKey
from tango.domain.runs import RunStatus
from tango.ports.clock import Clock
from tango.ports.clusters import ClusterCalls
from tango.ports.leases import LeaseStore
from tango.ports.runs import RunStore
from tango.settings import CancelSettings

log = structlog.get_logger(__name__)

LEASE = "sweep-cancelled"


class CancelledPods(Protocol):
    """The recorded pods of cancelled requests."""

    def cancelled_pods(self, run_id: int) -> list[PodKey]:
        """Pods of the BE attempts that the run's cancellation ended and that are no jobs; they may still run."""
        ...


def requests_left(run_id: int, *, runs: RunStore) -> int | None:
    """How many requests of a cancelled run are still live: 0 when it is swept; None for a run that was not cancelled."""
    status = runs.run(run_id).status
    if status is RunStatus.CANCELLING:
        counts = runs.counts(run_id)
        return counts.accepted - counts.terminal
    return 0 if status is RunStatus.CANCELLED else None


def cancel_active(runs: RunStore) -> list[int]:
    """Cancel every live run that is active, such as what an interrupted command left; gives the runs that this call stopped."""
    return [run.run_id for run in runs.active_runs() if runs.cancel(run.run_id)]


class CancelSweep:
    """The background part of every cancellation. One object per process; any number of processes may call it, one sweeps at a time."""

    def __init__(
        self,
        *,
        runs: RunStore,
        records: CancelledPods,
        leases: LeaseStore,
        clusters: Callable[[], ClusterCalls],
        clock: Clock,
        order_figures: Callable[[int], bool],
        settings: CancelSettings,
    ) -> None:
        """`order_figures` has the figures of a run computed that was closed."""
        self._runs, self._records, self._leases = runs, records, leases
        self._order_figures = order_figures
        self._clusters, self._clock, self._settings = clusters, clock, settings
        self._beyond: dict[int, int] = {}
        """Last request id that the sweep of each run has passed. Only a hint, to skip rows: after a restart they are read again."""

    def sweep(self, *, owner: str) -> dict[str, int]:
        """Sweep for one slice of time (`CancelSettings.slice_s`); gives how many requests were cancelled, pods deleted and runs closed.

        Safe to repeat and to interrupt anywhere: a chunk is cancelled or not, and pods are deleted once more before a run is closed.
        """
        report = {"cancelled": 0, "pods": 0, "closed": 0}
        if not (waiting := self._runs.cancelling_runs()):
            return report
        fence = self._leases.acquire(LEASE, owner=owner, ttl_s=self._settings.lease_s)
        if fence is None:
            return report
        until_s = self._clock.now_s() + self._settings.slice_s
        for run_id in waiting:
            cancelled, pods, is_swept = self._sweep_requests(run_id, until_s)
            if pods:
                self._clusters().delete_pods(pods)
            report["cancelled"] += cancelled
            report["pods"] += len(pods)
            report["closed"] += is_swept and self._close(run_id)
        self._leases.release(fence)
        log.info("cancelled_runs_swept", **report)
        return report

    def _sweep_requests(self, run_id: int, until_s: float) -> tuple[int, list[PodKey], bool]:
        """Cancel chunks until `until_s`; gives the requests cancelled, their pods, and whether none is left."""
        cancelled, pods = 0, list[PodKey]()
        while self._clock.now_s() < until_s:
            swept = self._runs.sweep_cancelled(run_id, beyond=self._beyond.get(run_id, -1))
            cancelled += swept.cancelled
            pods += swept.pods
            if swept.last_request is None:
                return cancelled, pods, True
            self._beyond[run_id] = swept.last_request
        return cancelled, pods, False

    def _close(self, run_id: int) -> bool:
        """Delete the run's pods once more, then close it.

        A pod that was recorded may not have been made yet when its request was swept: the scheduler may have been between the two.
        """
        if pods := self._records.cancelled_pods(run_id):
            self._clock.sleep(self._settings.late_pod_s)
            self._clusters().delete_pods(pods)
        self._beyond.pop(run_id, None)
        is_closed = self._runs.close_cancelled(run_id)
        if is_closed:
            self._order_figures(run_id)
        return is_closed
