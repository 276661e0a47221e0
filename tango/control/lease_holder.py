"""A process as a holder of leases: whose they are and how long they last, which every periodic use case needs together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tango.ports.leases import Fence, LeaseStore
from tango.settings import LeaseSettings

PROBE_S = 1.0
"""Seconds of a lease that is taken only to see whether it is free, and given back at once: all that a crash in between can cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseHolder:
    """Holds leases of periodic jobs, by name, so that each job is done by one process at a time."""

    leases: LeaseStore
    owner: str
    """The process, as `HOST:PID`."""
    settings: LeaseSettings
    """How long leases of requests last, which the jobs grant and end."""
    _turns: dict[str, threading.Lock] = field(default_factory=dict)
    """By job: held by the thread that does it. To the store all threads of a process are one owner, who may renew."""

    @contextmanager
    def at_work(self, job: str, *, ttl_s: float) -> Iterator[Fence | None]:
        """The lease of a job, taken or renewed, to be worked under in the block; None while another process holds it, or while another
        thread of this process is in such a block."""
        turn = self._turns.setdefault(job, threading.Lock())
        if not turn.acquire(blocking=False):
            yield None
            return
        try:
            yield self.acquire(job, ttl_s=ttl_s)
        finally:
            turn.release()

    def acquire(self, job: str, *, ttl_s: float) -> Fence | None:
        """The lease of a job, taken or renewed; None while another process holds it. Threads of one process do not exclude each other."""
        return self.leases.acquire(job, owner=self.owner, ttl_s=ttl_s)

    def nobody_holds(self, job: str) -> bool:
        """Whether a lease is free. It is taken and given back, since only an acquisition tells without a race."""
        # Under another name than the owner's: this process itself may hold the lease, and would only renew it.
        fence = self.leases.acquire(job, owner=f"{self.owner}:probe", ttl_s=PROBE_S)
        if fence is None:
            return False
        self.leases.release(fence)
        return True
