"""Where a pod runs on this machine, and why a container of it cannot be started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class CannotStart(Exception):
    """A container cannot be started as it is; `reason` is that of its waiting state."""

    def __init__(self, reason: str, message: str, *, again: bool = False) -> None:
        """`again`: what is missing may come, so that a kubelet looks again."""
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.again = again


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPlace:
    """Where a pod runs here."""

    ip: str
    port: int
    """At which its instance answers, told as PORT."""
    folder: Path
    """In which its processes start, unless they name another."""
    files: Path
    """Of its logs and termination messages."""
