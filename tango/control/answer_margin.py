"""How much later answers come than a plan expected, by service: learned from what this process has started and seen answered.

A plan expects the mean: a request's work varies, others arrive at the node meanwhile, and the call itself takes time. Under overload
all requests that are let in expect to be answered just in time, so that, without a margin, a quarter of them is late and has taken its
place from one that would not have been (`tango bench overload`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tango.domain.services import Service

IN_TIME = 0.6
"""Share of the answers that come within the margin: a little more than the median. With 0.9 the queues were too short for the scatter of
arrivals: at ten times what two cores serve 77 % of their work was in time and 3 % late, with 0.6 84 and 16 %."""
STEP_TARGETS = 0.02
"""How far one answer moves the margin, in targets of its service: some hundred answers go from none to half a target."""
MOST_TARGETS = 0.5
"""Greatest margin, in targets: whatever happened before, a request that expects to be answered in half its time is let in."""


class AnswerMargin:
    """A quantile of the delay of answers for each service, followed by steps up and down (stochastic approximation: Robbins and Monro
    1951). Thread-safe: dispatch asks in one thread, calls tell in another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._margin_s: dict[str, float] = {}

    def answered(self, service: str, *, late_by_s: float, target_s: float) -> None:
        """A request was answered so many seconds later than its plan expected; less than 0: earlier."""
        with self._lock:
            before_s = self._margin_s.get(service, 0.0)
            step_s = STEP_TARGETS * target_s * (IN_TIME if late_by_s > before_s else IN_TIME - 1.0)
            self._margin_s[service] = min(MOST_TARGETS * target_s, max(0.0, before_s + step_s))

    def seconds(self, services: Sequence[Service]) -> NDArray[np.float64]:
        """(s,) the margin of each of these services; 0 before its first answer."""
        with self._lock:
            return np.array([self._margin_s.get(service.name, 0.0) for service in services])
