"""Shares of tenants: how long one waits below its share before others give way."""

from __future__ import annotations

from dataclasses import dataclass

from tango.settings.bounds import LONGEST_S, within


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantSettings:
    """What is done for a tenant that gets nothing although it has less than others (`tango.scheduling.fair_shares`)."""

    hold_after_s: float = 5.0
    """Seconds that a tenant waits below its share until those with larger shares get nothing more before it has its next request. Many
    placements: what fits somewhere has its node by then, and what is left waits for room that smaller requests would take bit by bit."""
    reclaim_after_s: float = 30.0
    """Seconds after which pods of others are evicted for it. Longer than most pods take to end by themselves, since an eviction throws work
    away; short beside jobs of minutes, whose tenant would else keep a fleet that was empty when it came."""
    reclaim_share: float = 0.05
    """Largest dominant share of the fleet that is evicted at once, but for the first request of whom it is for, which is whole. A twentieth
    is a node of twenty: what it costs stays small, and half of a fleet has changed hands after ten times."""
    reclaim_every_s: float = 10.0
    """Seconds between two times. A pod has left and the next has started by then, so that what was given is seen before more is taken."""

    def __post_init__(self) -> None:
        within(self, 0.0, LONGEST_S, "hold_after_s", "reclaim_after_s", "reclaim_every_s")
        within(self, 0.0, 1.0, "reclaim_share")
