"""The store of simulated runs, from their order to their result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tango.domain.simulations import ClaimedSimulation, NewSimulation, OpenedSimulation, SimulatedRows, SimulationProgress


class SimulationStore(Protocol):
    """Simulated runs from their order to their result. Raises: StoreUnavailable, StoreError."""

    def open(self, cells: Sequence[NewSimulation], *, record: bool, forget: bool) -> list[OpenedSimulation]:
        """The run of each cell, in order and in one transaction: one under way or, unless `forget`, finished under its key, else a new
        one. With `record`, only runs whose rows are kept count. Two commands at once share their runs.
        """
        ...

    def claim(self, run_id: int, *, owner: str, lease_s: float, most_claims: int) -> ClaimedSimulation | None:
        """Claim an accepted run, or a running one whose lease is over, under a new epoch. None: another worker holds it, or it has ended.

        A run that has been claimed `most_claims` times without an end fails instead.
        """
        ...

    def renew(self, claim: ClaimedSimulation, *, lease_s: float) -> bool:
        """Extend the lease; False when the run has ended or was claimed again since."""
        ...

    def finish(
        self,
        claim: ClaimedSimulation,
        *,
        result: Mapping[str, Any],
        figures: Mapping[str, float | int | str | None],
        rows: SimulatedRows | None,
    ) -> bool:
        """Complete the run with its result (JSON), its figures (`run_metric`) and perhaps its rows, all of it or nothing.

        False when it has ended already; an older epoch counts too, since equal cells have equal results.
        """
        ...

    def fail(self, claim: ClaimedSimulation, message: str) -> bool:
        """Fail the run with this message; False when it has ended or was claimed again since."""
        ...

    def states(self, run_ids: Sequence[int]) -> list[SimulationProgress]:
        """Status and failure of simulated runs, in order of their ids; deleted ones are left out."""
        ...

    def result(self, run_id: int) -> Mapping[str, Any] | None:
        """The result that `finish` was given; None while there is none."""
        ...

    def unclaimed(self, run_ids: Sequence[int], *, after_s: float, busy: bool, limit: int) -> list[int]:
        """Open runs without a live lease whose message may be lost, oldest first, to be published again.

        A run is not given again before `after_s` has passed, and while workers are `busy`, twice as long each time; a run whose lease
        has run out is given at once.
        """
        ...

    def anybody_works(self) -> bool:
        """Whether any worker holds a lease on a simulated run."""
        ...
