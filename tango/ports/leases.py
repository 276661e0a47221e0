"""Named leases, and the fences by which writes of earlier holders are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """A held lease: its name, its holder, and its epoch, a fencing token by which writes of earlier holders are refused."""

    name: str
    owner: str
    epoch: int


class LeaseStore(Protocol):
    """Named leases, one row each, by which periodic work is done by one process at a time."""

    def acquire(self, name: str, *, owner: str, ttl_s: float) -> Fence | None:
        """Take or renew the lease; None while another owner holds it. A change of owner raises the epoch."""
        ...

    def release(self, fence: Fence) -> None:
        """Give the lease up early; nothing happens when another owner has taken it since."""
        ...

    def forget(self, prefix: str, *, idle_s: float) -> int:
        """Forget the leases whose names begin with `prefix` and that nobody has held for `idle_s` seconds; gives how many. The epoch of one
        that is taken again begins anew."""
        ...
