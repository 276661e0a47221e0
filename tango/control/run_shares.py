"""What each cluster has of a run's LC requests, and how much of it the centre knows by shipments."""

from __future__ import annotations

from typing import TypedDict

from tango.ports.fleet import FleetStore
from tango.ports.shares import ShareStore


class ShownShare(TypedDict):
    """A cluster's share of a run, as `tango run show` gives it."""

    cluster: str
    lc_requests: int
    lc_terminal: int
    """How many of them are known to be terminal."""
    shipped_to: int
    """Sequence number up to which the cluster's latest journal has been shipped, all runs together; 0: nothing yet."""
    shipped_at_s: float | None
    """Unix time of that shipment."""
    away_since_s: float | None
    """Unix time at which the cluster was last heard of, where that is too long ago; what it has told by then is all that is known."""


def run_shares(run_id: int, shares: ShareStore, fleet: FleetStore) -> list[ShownShare]:
    """The shares of a run by cluster; empty for a run without LC requests and for a simulated one."""
    away = fleet.away()
    shipped = {position.cluster: position for position in shares.positions()}
    found = []
    for share in shares.shares(run_id):
        at = shipped.get(share.cluster)
        found.append(
            ShownShare(
                cluster=share.cluster,
                lc_requests=share.accepted,
                lc_terminal=share.terminal,
                shipped_to=at.sequence if at else 0,
                shipped_at_s=at.at_s if at else None,
                away_since_s=away.get(share.cluster),
            )
        )
    return found
