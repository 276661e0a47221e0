"""Calls every decision once on the smallest fleet, so that a process that reports itself ready decides at full speed."""

from __future__ import annotations

from tango.domain.smallest import smallest_arrivals, smallest_pending, smallest_snapshot
from tango.scheduling.be_headroom import most_memory_mib
from tango.scheduling.be_kueue import place_kueue
from tango.scheduling.be_policies import place_kube, place_load_greedy, place_scoring
from tango.scheduling.lc.rule import LC_RULES
from tango.scheduling.sharing import plan_sharing
from tango.settings.decisions import BeSettings, LcSettings, SharingSettings


def warm_up() -> None:
    """Run every compiled kernel once; milliseconds where the machine code is cached, seconds where it is not."""
    for plan in LC_RULES.values():
        plan(smallest_arrivals(), smallest_snapshot(), LcSettings())
    warm_up_be()


def warm_up_be() -> None:
    """Run once the kernels of BE placement and of sharing, which the scheduler uses."""
    for place in (place_load_greedy, place_scoring, place_kube, place_kueue):
        place(smallest_pending(), smallest_snapshot(), BeSettings())
    most_memory_mib(smallest_snapshot().free, smallest_pending().requests)
    plan_sharing({}, [], {}, {}, {}, 0.0, SharingSettings())
