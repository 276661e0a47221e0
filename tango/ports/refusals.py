"""What clusters, services there and nodes are paused for, at the centre."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tango.domain.refusals import Pauses, Refusal


class RefusalStore(Protocol):
    """The rows of `tango.domain.refusals`. Raises: StoreUnavailable, StoreError."""

    def note(self, refusals: Sequence[Refusal], *, role: str) -> None:
        """Begin a pause for each, or a longer one where the last is over. Several of one scope count once while it is paused."""
        ...

    def clear(self, cluster: str, services: Sequence[str], *, role: str, node: str = "") -> None:
        """A pod of each of these services was taken: rows of this role of the cluster, and of the services there, go.

        With `node` the rows of that node go, and no others.
        """
        ...

    def pauses(self) -> Pauses:
        """All rows that are not forgotten, by cluster, service and node."""
        ...
