"""The centre's side of journals: which requests a cluster is to take, and the copies that it ships back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tango.domain.shares import Followed, JournalGap, LcInFlight, LcWait, PublishedFleet, ShareRows, ShareState, Shipment, ShippedTo


class ShareStore(Protocol):
    """Shares, copies and positions in the centre's store. Raises: StoreUnavailable, StoreError."""

    def centre(self) -> str:
        """The identity of this centre, drawn when its database was made."""
        ...

    def followed(self, clusters: Sequence[str]) -> Followed:
        """Runs that have not ended (`domain.runs.ENDED`), with the shares of these clusters; a cluster without any has an empty list."""
        ...

    def open_share(self, run_id: int, cluster: str) -> bool:
        """Give the share to the cluster's journal, before the first of it is taken; False where the run is not open any more.

        From then on only the journal changes its requests; a share that was never opened is cancelled with the rest of its run.
        Twice: the same answer while the run is open.
        """
        ...

    def share_rows(self, run_id: int, cluster: str, *, beyond: int, limit: int) -> ShareRows:
        """At most `limit` requests of the share that are live, in order of id, with ids above `beyond`."""
        ...

    def handed(self, run_id: int, cluster: str, *, up_to: int, complete: bool) -> None:
        """Note that the journal has the share up to this id, and whether it takes no more. A smaller id than is noted changes nothing."""
        ...

    def shares(self, run_id: int) -> list[ShareState]:
        """All shares of a run, by cluster."""
        ...

    def apply(self, shipment: Shipment) -> int:
        """Write a shipment in one transaction, if it begins after the last one of its journal; gives the position from then on.

        A shipment that was applied before changes nothing. One that leaves a gap changes nothing either: the position that is given
        says where to begin. Copies of requests that are terminal, or of a run that was deleted, change nothing.
        """
        ...

    def go_on(self, cluster: str, journal: str, *, first: int) -> int:
        """Let the next shipment of the journal begin with `first`, since this centre was restored; give how many events of it are lost by
        that, which `gaps` tells from then on. A position that is beyond stays, and nothing is lost. Runs are numbered from far beyond the
        last one from now on, for the journals may know of runs that this centre has forgotten."""
        ...

    def gaps(self) -> list[JournalGap]:
        """By cluster, what has been lost of the events of its journals since it joined; none where nothing was."""
        ...

    def position(self, cluster: str, journal: str) -> int:
        """Up to which sequence number a journal has been shipped; 0: nothing of it."""
        ...

    def positions(self) -> list[ShippedTo]:
        """By cluster, the position of its latest journal."""
        ...

    def note_in_flight(self, cluster: str, found: Sequence[LcInFlight], wait: LcWait) -> None:
        """Replace what the cluster's journal has in flight, which the fleet's snapshots count, and how much its requests wait."""
        ...

    def lc_waits(self) -> dict[str, LcWait]:
        """Clusters with LC requests that are late, and how much they wait. What one told that is away now says nothing any more."""
        ...

    def published_fleet(self, cluster: str, *, at_s: float) -> PublishedFleet:
        """The fleet for one cluster; LC requests in flight of that cluster's journal, which it knows better, are not counted."""
        ...
