"""The runs that callers feed: which system decides for them, the one that is open, and numbers for its requests."""

from __future__ import annotations

from typing import Protocol

from tango.domain.runs import LiveUse, RunInfo


class LiveRunStore(Protocol):
    """Live runs at the centre. Raises: StoreUnavailable, StoreError."""

    def use(self) -> LiveUse:
        """What decides for live runs; the default before anybody has said it."""
        ...

    def set_use(self, use: LiveUse) -> RunInfo:
        """Let this decide from now on: the open run is closed unless it is of just this, and the next one is opened, which is given.

        Raises: UsageError before a fleet is declared.
        """
        ...

    def want(self) -> RunInfo:
        """Somebody sends requests: open a run if none is open, and have there be one from now on. Raises: UsageError as `set_use`."""
        ...

    def turn(self) -> RunInfo | None:
        """Close the open run where its day is over, and open the next one; give the one that is open, None where nobody wants one.

        To be called often. A closed run that nothing was accepted in is deleted once every journal has let it go.
        """
        ...

    def numbers(self, run_id: int, cluster: str) -> tuple[int, int] | None:
        """(first, last) of a block of numbers for requests that enter the cluster, given to nobody else; None where the run is not open
        or has no more."""
        ...
