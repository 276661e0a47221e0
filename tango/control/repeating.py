"""A step that a thread of its own repeats: what goes on beside the work of a process, and must not be stopped by any one failure."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import structlog

from tango.errors import TangoError

log = structlog.get_logger(__name__)

LONGEST_PAUSE_S = 5.0
"""Longest pause after failures, in seconds: what was away is noticed this soon after it is back."""


class Repeating:
    """Calls `step` again and again; it gives the seconds to wait until the next call.

    A step that fails is called again after a pause, which doubles with each failure in a row up to `longest_pause_s`, less a random part
    up to half, so that many processes do not come back together. A failure that is no `TangoError` is a defect: it is logged with its
    trace and counted in `broken`, and the step goes on too.
    """

    def __init__(self, name: str, step: Callable[[], float], *, longest_pause_s: float = LONGEST_PAUSE_S) -> None:
        self._name = name
        self._step = step
        self._longest_pause_s = longest_pause_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.broken = 0
        self.progressed_at_s = -float("inf")
        """Monotonic time at which a step last ended well: by it others see that the thread lives."""

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def stop(self, *, within_s: float = 5.0) -> None:
        """Ask the thread to end after the step that it is in, and wait for it."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(within_s)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                wait_s = self._step()
                failures, self.progressed_at_s = 0, time.monotonic()
            except TangoError as error:
                failures += 1
                log.warning("step_failed", step=self._name, failures=failures, error=str(error))
            except Exception:
                failures += 1
                self.broken += 1
                log.exception("step_broken", step=self._name, broken=self.broken)
            if failures:
                wait_s = min(self._longest_pause_s, 0.1 * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)
            self._stopping.wait(max(0.0, wait_s))
