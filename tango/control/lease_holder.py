"""A process as a holder of leases: whose they are and how long they last, which every periodic use case needs together."""

from __future__ import annotations

from dataclasses import dataclass

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

    def acquire(self, job: str, *, ttl_s: float) -> Fence | None:
        """The lease of a job, taken or renewed; None while another process holds it."""
        return self.leases.acquire(job, owner=self.owner, ttl_s=ttl_s)

    def nobody_holds(self, job: str) -> bool:
        """Whether a lease is free. It is taken and given back, since only an acquisition tells without a race."""
        # Under another name than the owner's: this process itself may hold the lease, and would only renew it.
        fence = self.leases.acquire(job, owner=f"{self.owner}:probe", ttl_s=PROBE_S)
        if fence is None:
            return False
        self.leases.release(fence)
        return True
