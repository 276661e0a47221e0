"""What the clusters of an agent process follow, read from the centre once for all of them.

Each cluster looks four times a second while runs are open. A process that serves fifty would ask the centre two hundred times.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from tango.domain.runs import RunInfo
from tango.domain.shares import Followed, ShareState
from tango.ports.shares import ShareStore

READ_AGAIN_S = 0.1
"""Seconds that a reading serves. Shorter than any cluster waits between two looks (`JournalSettings.follow_every_s`), so that none is given
what was read before its own last look had noted what it took."""


class Following:
    """Readings of one process; thread-safe."""

    def __init__(self, shares: ShareStore, clusters: Sequence[str], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._shares = shares
        self._clusters = tuple(clusters)
        self._monotonic = monotonic
        self._reading = threading.Lock()
        self._found: Followed | None = None
        self._read_at_s = -float("inf")
        self._is_open = True

    def of(self, cluster: str) -> Sequence[tuple[RunInfo, ShareState]]:
        """The runs of one of the clusters, as they were at most `READ_AGAIN_S` ago. Raises: StoreUnavailable."""
        with self._reading:
            now_s = self._monotonic()
            if self._found is None or now_s - self._read_at_s > READ_AGAIN_S:
                self._found, self._read_at_s = self._shares.followed(self._clusters), now_s
                self._is_open = self._found.is_open
            return self._found.shares[cluster]

    def read_anew(self) -> None:
        """The next to ask is given what the centre has then: something has just been changed there."""
        with self._reading:
            self._found = None

    def is_open(self) -> bool:
        """Whether any trace was being replayed when that was last read; true before anything was."""
        return self._is_open
