"""The disks of journals in a chaos world: what a loss of power leaves of one, and how one is lost whole."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

WRITTEN_BACK = 0.05
"""Part of the transactions after which the kernel has written everything back by itself: a loss of power then takes only what follows."""


@dataclass(slots=True)
class Disk:
    """The disk of one cluster's journal. SQLite commits to it without waiting; what has been waited for is kept here as an image."""

    path: Path
    dice: random.Random
    losses: int = 0
    """Losses of power that are still to come: without any, no image is kept."""
    _durable: bytes | None = field(default=None, init=False)

    def written(self, connection: sqlite3.Connection) -> None:
        """A transaction was committed."""
        if self.losses and self.dice.random() < WRITTEN_BACK:
            self._durable = connection.serialize()

    def synced(self, connection: Callable[[], sqlite3.Connection]) -> None:
        """Somebody has waited for the disk."""
        if self.losses:
            self._durable = connection().serialize()

    def lose_power(self) -> None:
        """What nobody has waited for is gone. Whoever has the file open is dead by now."""
        self.losses -= 1
        self.vanish()
        if self._durable is None:
            return
        self.path.write_bytes(self._durable)
        # There was a write-ahead log, since nobody has closed the journal.
        Path(f"{self.path}-wal").touch()

    def vanish(self) -> None:
        """The disk is another one, and empty."""
        for name in (str(self.path), f"{self.path}-wal", f"{self.path}-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
