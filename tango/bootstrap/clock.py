"""The clock of this machine as an implementation of the port `Clock`."""

from __future__ import annotations

import time


class SystemClock:
    """Implements `tango.ports.clock.Clock`."""

    def now_s(self) -> float:
        """Unix time in seconds."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Block this thread."""
        time.sleep(seconds)
