"""Notes how requests were answered, for policies that go by it: one step, called by the engine and by the live executor. Compiled.

Averages are exponential in time, as in the peak-EWMA of Finagle and Linkerd: what was seen `HALF_LIFE_S` ago counts for half. A replica
that fails several times in a row is put out for a while, as Envoy's outlier detection does it: longer each time, and never more than a
share of all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place

HALF_LIFE_S = 5.0
"""Seconds after which an observation counts for half. Chosen as the lookback of tail latencies: short enough to follow a burst,
long enough for some answers of a replica that gets one a second."""
EJECTED_AFTER = 5
"""Failures in a row that put a replica out. Envoy's `consecutive_5xx` and Istio's `consecutive5xxErrors`, by default."""
EJECTED_S, LONGEST_EJECTED_S = 30.0, 300.0
"""Seconds that a replica is out the first time, twice as long the second, and so on up to the longest. Envoy's `base_ejection_time` and
`max_ejection_time`, by default."""
MOST_EJECTED_SHARE = 0.1
"""Share of the fleet's nodes on which a service may be out at once, and always one. Envoy's `max_ejection_percent`, by default."""


@in_place
def note_answer(seen: NDArray[np.void], row: int, at_s: float, answer_s: float, served_s: float) -> None:
    """A request was answered at `at_s`, `answer_s` after it was sent, of which service took `served_s`."""
    of = seen[row]
    weight = 1.0 if of.answers == 0 else 1.0 - 0.5 ** (max(0.0, at_s - of.at_s) / HALF_LIFE_S)
    of.answer_s += weight * (answer_s - of.answer_s)
    of.served_s += weight * (served_s - of.served_s)
    of.failing -= weight * of.failing
    of.answers += 1
    of.failed_in_row = 0
    of.at_s = max(of.at_s, at_s)


@in_place
def note_failure(seen: NDArray[np.void], row: int, first: int, nodes: int, at_s: float) -> None:
    """An attempt came to nothing; the rows of the same service on all nodes are `first` to `first + nodes`."""
    of = seen[row]
    weight = 1.0 if of.at_s <= 0.0 else 1.0 - 0.5 ** (max(0.0, at_s - of.at_s) / HALF_LIFE_S)
    of.failing += weight * (1.0 - of.failing)
    of.failed_in_row += 1
    of.at_s = max(of.at_s, at_s)
    if of.failed_in_row < EJECTED_AFTER or of.out_until_s > at_s:
        return
    out = 0
    for k in range(first, first + nodes):
        if seen[k].out_until_s > at_s:
            out += 1
    if out + 1 <= max(1.0, MOST_EJECTED_SHARE * nodes):
        of.ejections += 1
        of.out_until_s = at_s + min(LONGEST_EJECTED_S, EJECTED_S * of.ejections)
        of.failed_in_row = 0
