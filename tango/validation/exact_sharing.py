"""Exact sharing of a node's cores among requests whose starts and works are known: what a recorded run is held to."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray


def shared_sojourns_s(started_s: NDArray[np.float64], work_s: NDArray[np.float64], cores: int) -> NDArray[np.float64]:
    """(n,) seconds from start to end of requests that share `cores`, none having more than one.

    `started_s` (n,) is when each begins, in any order, `work_s` (n,) its CPU-seconds, above 0. All that are there have the same share,
    min(1, cores / how many), so one clock that runs at this rate is enough: a request ends when it has gone by the request's work.
    Nothing is approximated, and no code of the node model is used: it is held to this.
    Source: Parekh and Gallager, "A generalized processor sharing approach to flow control in integrated services networks", IEEE/ACM
    Transactions on Networking 1 (1993), section III, virtual time.
    """
    ended_s = np.empty(len(started_s))
    there: list[tuple[float, int]] = []
    now_s = virtual_s = 0.0

    def advance(until_s: float) -> None:
        nonlocal now_s, virtual_s
        while there:
            rate = min(1.0, cores / len(there))
            ends_s = now_s + (there[0][0] - virtual_s) / rate
            if ends_s > until_s:
                break
            virtual_s, ending = heapq.heappop(there)
            now_s = ended_s[ending] = max(now_s, ends_s)
        if np.isfinite(until_s):
            virtual_s += (until_s - now_s) * min(1.0, cores / max(1, len(there)))
            now_s = until_s

    for request in np.argsort(started_s, kind="stable").tolist():
        advance(float(started_s[request]))
        heapq.heappush(there, (virtual_s + float(work_s[request]), request))
    advance(np.inf)
    found: NDArray[np.float64] = ended_s - started_s
    return found
