"""How late event loops are: once a second each says by how much it was called later than it had asked."""

from __future__ import annotations

import asyncio

from tango.telemetry.catalogue import LOOP_LAG
from tango.telemetry.tallies import begin, observe

EVERY_S = 1.0
"""Seconds between two looks at how late a loop is."""


def watch_lag(loop: asyncio.AbstractEventLoop, name: str) -> None:
    """Observe the lag of a loop under this name for as long as it runs; called in it. Not where nothing is counted."""
    if begin() is None:
        return
    due_s = loop.time() + EVERY_S

    def turned() -> None:
        observe(LOOP_LAG, name, values=(max(0.0, loop.time() - due_s),))
        watch_lag(loop, name)

    loop.call_later(EVERY_S, turned)
