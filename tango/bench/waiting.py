"""Waiting with a deadline, for what a benchmark started and cannot be told about."""

from __future__ import annotations

import time
from collections.abc import Callable

from tango.errors import TangoError


def wait_until(holds: Callable[[], bool], *, timeout_s: float, failure: str, every_s: float = 0.005) -> None:
    """Ask every `every_s` seconds until `holds` returns True. Raises: TangoError with the message `failure` after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline_s:
            raise TangoError(failure)
        time.sleep(every_s)
