"""When a queue is hopeless: whether a newcomer of a service would still be waited for when those before him have been served.

Two bounds, and the larger counts. Whatever happens, those who wait take their work on the CPU that the service's instances may use. And
while requests are given up, the service is at its limit: what it answered in the last seconds is what it can answer (Little's law). While
nothing is given up, answers per second tell the load and not the limit, so that a burst after a calm would be refused by them.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

WINDOW_S = 2.0
"""Seconds that answers are counted over: longer than most targets, short enough that a service which recovers is believed soon."""
MOST_COUNTED = 10_000
"""Ends that are remembered for each service; at 5,000 a second the window."""
ALWAYS_LET_IN = 8
"""Requests of a service that wait before any is refused: by them it shows that a service which answered nothing answers again."""


@dataclass(slots=True)
class _Queue:
    waiting: int = 0
    ends: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=MOST_COUNTED))
    """(when, whether it was answered) of the requests that have ended within the window."""


class Outlook:
    """What one gateway has seen of each service. Times are of one clock, in seconds."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = defaultdict(_Queue)

    @contextmanager
    def waits(self, service: str) -> Iterator[None]:
        """One more waits meanwhile, at the door too."""
        queue = self._queues[service]
        queue.waiting += 1
        try:
            yield
        finally:
            queue.waiting -= 1

    def ends(self, service: str, *, at_s: float, answered: bool) -> None:
        """One that was accepted was answered, or given up."""
        self._queues[service].ends.append((at_s, answered))

    def wait_s(self, service: str, *, at_s: float, work_s: float, cores: float) -> float:
        """Seconds that those who wait for the service will take, at the least; `work_s` is a request's work in CPU-seconds, `cores` what
        the service's instances may use together, 0: not known."""
        queue = self._queues[service]
        if queue.waiting < ALWAYS_LET_IN:
            return 0.0
        while queue.ends and queue.ends[0][0] < at_s - WINDOW_S:
            queue.ends.popleft()
        bound_s = queue.waiting * work_s / cores if cores > 0.0 else 0.0
        answered = sum(was_answered for _, was_answered in queue.ends)
        if answered == len(queue.ends):
            return bound_s
        return max(bound_s, queue.waiting * WINDOW_S / answered if answered else float("inf"))
