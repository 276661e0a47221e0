"""The store of runs, from their submission to their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tango.domain.identity import PodKey
from tango.domain.retention import StoredRun
from tango.domain.runs import NewRequests, NewRun, RunInfo, RunKind, RunStatus, StateCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """The result of one step of sweeping a cancelled run."""

    cancelled: int
    """Number of requests that this step cancelled."""
    last_request: int | None
    """The greatest of their ids, after which the next step continues; None when there was nothing to cancel."""
    pods: tuple[PodKey, ...]
    """Pods of the cancelled BE requests that were in flight; they may still run and are to be deleted. Not those of jobs: the agent of
    their cluster gives them their grace, and keeps their logs before they go."""


class RunStore(Protocol):
    """Runs from their submission to their figures. Raises: StoreUnavailable, StoreError."""

    def create_run(self, run: NewRun, requests: NewRequests) -> int:
        """Store a run and all its requests in one transaction and give its id. All of it or, on any error, none of it."""
        ...

    def run(self, run_id: int) -> RunInfo:
        """Raises: UsageError if there is no such run; the message lists the latest ones."""
        ...

    def runs(self, *, limit: int = 50, kind: RunKind | None = None) -> list[RunInfo]:
        """The latest runs, newest first; of one kind, or of both."""
        ...

    def active_runs(self) -> list[RunInfo]:
        """Live runs whose requests may still be released, dispatched and placed. Simulated runs are never among them."""
        ...

    def cancelling_runs(self) -> list[int]:
        """Runs that were cancelled and may still have live requests."""
        ...

    def begin(self, run_id: int, *, at_s: float) -> float:
        """Set the run's time zero to Unix time `at_s` unless it is set, and give the one in force. A second call changes nothing."""
        ...

    def set_status(self, run_id: int, status: RunStatus) -> None:
        """Set the run's status where `domain.runs.can_become` allows the change; otherwise nothing happens."""
        ...

    def cancel(self, run_id: int) -> bool:
        """Stop the run: from now on nothing of it is released, dispatched or placed. One row is written, however large the run.

        A live run is `cancelling` until `close_cancelled`, a simulated one, which has no live requests, is `cancelled` at once.
        Gives whether this call stopped it; twice, or for a run that has ended: False.
        """
        ...

    def sweep_cancelled(self, run_id: int, *, beyond: int = -1) -> Swept:
        """Cancel the first live requests of a cancelling run whose ids are above `beyond`: one chunk, one transaction.

        What was in flight gets its `attempt` row. Nothing happens to a run that is not cancelling; twice: the rest is swept.
        """
        ...

    def close_cancelled(self, run_id: int) -> bool:
        """cancelling → cancelled, where no request is live any more; give whether it was closed now."""
        ...

    def counts(self, run_id: int) -> StateCounts:
        """Requests per state at one instant, as they are kept: costs the same for a thousand requests and for a million."""
        ...

    def terminal(self, run_ids: Sequence[int]) -> dict[int, int]:
        """How many requests of each of these runs are terminal, as `counts` has it; runs without any may be left out."""
        ...

    def fold_counts(self) -> set[int]:
        """Add up what `counts` reads, so that it stays little. Changes no count; twice at once, one of them does nothing.

        Gives the runs that are busy: something of them has changed since the last time, or is under way.
        """
        ...

    def all_terminal(self, run_id: int) -> bool:
        """Whether no request of the run will change any more; costs the same for a thousand requests and for a million."""
        ...

    def stored(self) -> list[StoredRun]:
        """All runs with what they take up, in order of their ids."""
        ...

    def delete_attempts(self, run_id: int, *, beyond: int = -1) -> int | None:
        """Delete a chunk of what is recorded under an ended run, from the first attempt of a request above `beyond` on.

        Gives the last request of the chunk, after which the next call goes on; None when nothing was left. The run stays: interrupted
        here it can be deleted again. Raises: UsageError while it has not ended.
        """
        ...

    def delete(self, run_id: int, *, why: str = "", within_s: float = 60.0) -> None:
        """Delete a run with everything recorded under it. With `why`, that it was deleted is remembered.

        Others may use the table of requests meanwhile and are never made to wait for long; where they hold it, this waits `within_s`.
        Raises: UsageError while the run has not ended, StoreBusy when others have held the table for all of that time.
        """
        ...

    def delete_observations(self, *, before_s: float) -> int:
        """Delete a chunk of what was observed of the live fleet (samples, resizes, evictions, decisions) before Unix time `before_s`.

        Gives how many rows were deleted, 0 when nothing is left. What was observed while a run was going that is still there stays.
        """
        ...
