"""QoS of the last minutes by service, from counters that only ever grow: the difference to what they were at the window's beginning."""

from __future__ import annotations

import threading
from collections import deque

from tango.telemetry.catalogue import QOS, SERVICE_REQUESTS
from tango.telemetry.readings import Labels, Readings

LEFT_OUT = "cancelled"
"""The outcome that is neither met nor missed: the caller did not want it any more."""
IN_TIME = "in_time"


class QosWindow:
    """Counts of a few minutes, noted every so often. Thread-safe."""

    def __init__(self, *, window_s: float) -> None:
        self._window_s = window_s
        self._noted: deque[tuple[float, dict[Labels, float]]] = deque()
        self._lock = threading.Lock()

    def note(self, counts: Readings, *, now_s: float) -> None:
        """Keep the counts of now, and forget all but the last of those from before the window."""
        with self._lock:
            self._noted.append((now_s, {key: values[0] for key, values in counts.series(SERVICE_REQUESTS).items()}))
            while len(self._noted) > 1 and self._noted[1][0] <= now_s - self._window_s:
                self._noted.popleft()

    def ratios(self) -> Readings:
        """`tango_qos_ratio` of each service of which requests have ended in the window."""
        with self._lock:
            (_, before), (_, now) = (self._noted[0], self._noted[-1]) if self._noted else ((0.0, {}), (0.0, {}))
        ended: dict[str, float] = {}
        met: dict[str, float] = {}
        for (service, outcome), count in now.items():
            more = count - before.get((service, outcome), 0.0)
            if outcome != LEFT_OUT and more > 0:
                ended[service] = ended.get(service, 0.0) + more
                met[service] = met.get(service, 0.0) + (more if outcome == IN_TIME else 0.0)
        found = Readings()
        for service, count in ended.items():
            found.add(QOS, (service,), met[service] / count)
        return found
