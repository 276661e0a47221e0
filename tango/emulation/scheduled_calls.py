"""Calling later, as asyncio's `call_later` does, so that what waits can be given another clock than the event loop's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A handle of a scheduled call."""

    def cancel(self) -> None:
        """Cancel the call."""
        ...


CallLater = Callable[[float, Callable[[], None]], Timer]
"""(delay in seconds, what to call)."""
