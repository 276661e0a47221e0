"""Node failures: an alternating renewal process per node, drawn before the run, so that every system meets the same failures."""

from __future__ import annotations

import numpy as np

from tango.settings.simulation import SimSettings
from tango.sim.codes import NODE_DOWN, NODE_UP
from tango.traces.draws import seeded

Outage = tuple[float, int, int]
"""(seconds, `NODE_DOWN` or `NODE_UP`, node)"""


def draw_outages(settings: SimSettings, nodes: int, span_s: float, seed: int) -> list[Outage]:
    """All failures that begin within the span, and the returns that follow them, in order of time."""
    if settings.mtbf_s <= 0:
        return []
    rng = seeded(seed, "outages")
    outages: list[Outage] = []
    for node in range(nodes):
        at_s = float(rng.exponential(settings.mtbf_s))
        while at_s < span_s:
            back_s = at_s + float(rng.exponential(settings.mttr_s))
            outages += [(at_s, NODE_DOWN, node), (back_s, NODE_UP, node)]
            at_s = back_s + float(rng.exponential(settings.mtbf_s))
    return sorted(outages)


def outage(node: int, *, at_s: float, for_s: float) -> list[Outage]:
    """One node's absence, for worlds made by hand. Raises: ValueError for a time that is no time."""
    if not (0 <= at_s < np.inf and 0 < for_s < np.inf):
        raise ValueError(f"an outage at {at_s} s for {for_s} s, expected finite seconds from 0 on")
    return [(at_s, NODE_DOWN, node), (at_s + for_s, NODE_UP, node)]
