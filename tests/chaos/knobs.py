"""The settings of a chaos world, drawn by its seed.

Every rhythm is drawn between its shipped value and several times that, as FoundationDB randomises its knobs: rare orders of events become
frequent, and a simulated hour costs a few seconds. What holds must hold at every rhythm. Leases, deadlines and attempts are the shipped
ones but for some that are drawn too, so that they run out.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace

from tango.settings import Settings

STRETCH = 8.0
"""Most by which a rhythm is stretched: 8 looks a second then come once a second, still far below every lease."""
CONSTANTS = (
    ("tango.control.keep_journal", "LONGEST_LOOK_S", 0.5, 3.0),
    ("tango.control.keep_journal", "IDLE_LOOK_S", 1.0, 4.0),
    ("tango.control.keep_journal", "LEASE_S", 4.0, 12.0),
    ("tango.control.keep_journal", "SWEEP_S", 2.0, 5.0),
    ("tango.control.repeating", "LOOK_S", 5.0, 5.0),
    ("tango.control.fleet_view", "IDLE_AFTER_S", 0.2, 0.2),
    ("tango.control.cluster_agent", "DEPLOY_EVERY_S", 2.0, 4.0),
    ("tango.control.cluster_agent", "DEPLOY_AGAIN_S", 8.0, 20.0),
    ("tango.control.cluster_agent", "TOLD_AGAIN_S", 5.0, 10.0),
    ("tango.control.cluster_agent", "MEASURE_EVERY_S", 60.0, 60.0),
    ("tango.control.cluster_agent", "REPORTS_EVERY_S", 60.0, 60.0),
)
"""Rhythms that are constants of modules: module, name, least and most in seconds."""


def drawn_settings(dice: random.Random) -> Settings:
    """The settings of one world."""
    s = Settings()

    def stretched(shipped: float, most: float = STRETCH) -> float:
        return shipped * dice.uniform(most / 2, most)

    return replace(
        s,
        journal=replace(
            s.journal,
            follow_every_s=stretched(s.journal.follow_every_s, 16.0),
            idle_every_s=stretched(s.journal.idle_every_s, 8.0),
            publish_every_s=stretched(s.journal.publish_every_s, 24.0),
            publish_idle_s=stretched(s.journal.publish_idle_s, 8.0),
            ship_every_s=stretched(s.journal.ship_every_s, dice.choice((12.0, 12.0, 40.0))),
            shipment_events=dice.choice((3, 50, 4000)),
            share_rows=dice.choice((7, 60, 5000)),
            ahead_s=dice.choice((30.0, 1800.0)),
            numbers_ahead=dice.choice((5, 40, 1000)),
        ),
        lc=replace(
            s.lc,
            snapshot_max_age_s=stretched(s.lc.snapshot_max_age_s, 20.0),
            settle_every_s=stretched(s.lc.settle_every_s, 20.0),
            max_in_flight=dice.choice((4, 40, 1000)),
            start_here=dice.random() < 0.5,
            keep_late=dice.random() < 0.8,
        ),
        lease=replace(s.lease, max_attempts=dice.choice((2, 3, 6, 12))),
        outlier=replace(s.outlier, look_every_s=stretched(s.outlier.look_every_s)),
        be=replace(s.be, tick_s=stretched(s.be.tick_s, 20.0)),
        sharing=replace(s.sharing, tick_s=stretched(s.sharing.tick_s, 6.0), min_samples=2, window_s=20.0),
        ticks=replace(s.ticks, reconcile_s=stretched(s.ticks.reconcile_s, 3.0)),
        replay=replace(s.replay, be_window_s=stretched(s.replay.be_window_s, 20.0)),
        job=replace(s.job, look_every_s=stretched(s.job.look_every_s, 8.0)),
        cancel=replace(s.cancel, tick_s=stretched(s.cancel.tick_s, 4.0)),
        kube=replace(
            s.kube,
            observe_every_s=stretched(s.kube.observe_every_s, 14.0),
            sample_every_s=stretched(s.kube.sample_every_s, 3.0),
        ),
        gateway=replace(
            s.gateway,
            view_every_s=stretched(s.gateway.view_every_s),
            look_every_s=stretched(s.gateway.look_every_s),
        ),
        store=replace(s.store, chunk_rows=dice.choice((2, 30, 1000))),
    )


@contextmanager
def drawn_constants(dice: random.Random) -> Generator[None]:
    """For the length of a block the constants above have drawn values."""
    kept = []
    try:
        for name, constant, least_s, most_s in CONSTANTS:
            module = importlib.import_module(name)
            kept.append((module, constant, getattr(module, constant)))
            setattr(module, constant, dice.uniform(least_s, most_s))
        yield
    finally:
        for module, constant, value in kept:
            setattr(module, constant, value)
