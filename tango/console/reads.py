"""What the console reads of the world and does to it, as functions that the composition binds. Each may block: a thread calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tango.domain.identity import RequestKey
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
    compared: Callable[[Sequence[int]], Row]
    """Facts and figures of several runs. Raises: UsageError for one that there is not."""
    request: Callable[[RequestKey], Row]
    """The way of a request and its attempts. Raises: UsageError for one that there is not."""
    jobs: Callable[[], Sequence[Row]]
    """The latest jobs."""
    job: Callable[[RequestKey], Row]
    """A job, and the end of its log. Raises: UsageError for one that there is not."""
    checkpoints: Callable[[], Row]
    """Registered checkpoints with their roles, and what changed of these."""
    actions: Callable[[], Sequence[Row]]
    """What was changed in the console, the newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Does:
    """What the console changes. Each says what came of it, in a sentence. Raises: TangoError where it was refused."""

    cancel_run: Callable[[int], str]
    cancel_job: Callable[[RequestKey], str]
    promote: Callable[[str, str], str]
    """(digest, who) -> makes a checkpoint live."""
    record: Callable[[str, str, str, str], None]
    """(who, action, subject, outcome) -> keeps it."""
