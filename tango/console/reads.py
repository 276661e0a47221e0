"""What the console reads of the world, as functions; the composition binds them. Each may block, and is called in a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tango.ports.live_view import LiveView

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """Reads of the centre and of this machine. Raises, each of them: StoreUnavailable, StoreError."""

    view: LiveView
    processes: Callable[[], Sequence[Row]]
    """Rows of `tango status`; none where no stack of this machine runs."""
    runs: Callable[[], Sequence[Row]]
    """The newest runs, as `tango run list` has them."""
    run: Callable[[int], Row]
    """Facts and figures of one run. Raises: UsageError for one that there is not."""
