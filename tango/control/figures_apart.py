"""The figures of ended runs, computed once, each in a process of its own.

A run of a million requests is a minute of CPU and a gigabyte: in the scheduler's process BE would stand still meanwhile. So the
reconciler orders them, and here somebody claims an order, starts a process that computes it, and ends it when it takes too long. What is
killed anywhere in between is claimed again when its lease is over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from tango.ports.clock import Clock
from tango.ports.figures import FiguresClaim, FiguresStore

log = structlog.get_logger(__name__)

LEASE_S = 30.0
"""Seconds that a claim stands without being renewed, which is done three times as often: what died is computed again this soon."""
MOST_CLAIMS = 3
"""Claims of one order, after which its run is completed without figures: one that kills each process would go round for ever."""
DEADLINE_S = 900.0
"""Seconds that computing the figures of one run may take. A million requests take about a minute here."""
LOOK_EVERY_S = 15.0
"""Seconds between two looks for orders that somebody else has left; what is ordered here is begun at once."""


class Computing(Protocol):
    """A process that computes the figures of one claim and saves them."""

    def wait(self, timeout_s: float) -> int | None:
        """Its exit status; None while it goes on after `timeout_s`."""
        ...

    def kill(self) -> None:
        """End it, and wait until it has ended."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FiguresApart:
    """Orders figures, and sees to it that they are computed. `next` is called again and again by one thread."""

    store: FiguresStore
    begin: Callable[[FiguresClaim], Computing]
    clock: Clock
    _ordered: threading.Event = field(default_factory=threading.Event)

    def order(self, run_id: int) -> bool:
        """Ask for the figures of a run whose requests are all terminal; give whether nobody had."""
        is_new = self.store.order(run_id)
        if is_new:
            self._ordered.set()
        return is_new

    def next(self) -> float:
        """Have one order computed, if there is one; else wait for one. Gives 0, the seconds until the next call."""
        claim = self.store.claim(lease_s=LEASE_S, most_claims=MOST_CLAIMS)
        if claim is None:
            self._ordered.wait(LOOK_EVERY_S)
            self._ordered.clear()
            return 0.0
        computing = self.begin(claim)
        until_s = self.clock.now_s() + DEADLINE_S
        try:
            while (status := computing.wait(LEASE_S / 3)) is None:
                if not self.store.renew(claim, lease_s=LEASE_S):
                    log.warning("figures_left", run_id=claim.run_id, reason="somebody newer has claimed them, or they are there")
                    return 0.0
                if self.clock.now_s() > until_s:
                    log.error("figures_too_slow", run_id=claim.run_id, deadline_s=DEADLINE_S)
                    return 0.0
        finally:
            computing.kill()
        log.log(
            20 if status == 0 else 40, "figures_computed" if status == 0 else "figures_failed", run_id=claim.run_id, status=status
        )
        return 0.0
