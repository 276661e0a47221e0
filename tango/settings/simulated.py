"""The settings that a simulation depends on: those that the live system has in common with it, and those of the simulated world."""

from __future__ import annotations

from dataclasses import dataclass, field

from tango.settings.decisions import BeSettings, LcSettings, SharingSettings
from tango.settings.runs import LeaseSettings
from tango.settings.simulation import SimSettings
from tango.settings.tenants import TenantSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSettings:
    """Part of `Settings`. What is not here changes no simulated result, so an edit of it keeps every result that is stored."""

    checkpoint: str = ""
    """Path of the BE network's checkpoint; empty: the one that is shipped. What is promoted in the registry goes before it."""
    checkpoint_policy: str = "dcg-be"
    """The learned BE policy that `checkpoint` is of; by default that of the system `tango`."""
    lease: LeaseSettings = field(default_factory=LeaseSettings)
    """How long claims hold without a heartbeat."""
    lc: LcSettings = field(default_factory=LcSettings)
    """Dispatch and execution of latency-critical requests."""
    be: BeSettings = field(default_factory=BeSettings)
    """Placement of best-effort requests."""
    sharing: SharingSettings = field(default_factory=SharingSettings)
    """How LC instances grow and shrink, and when BE gives way."""
    tenants: TenantSettings = field(default_factory=TenantSettings)
    """Shares of tenants: when others give way."""
    sim: SimSettings = field(default_factory=SimSettings)
    """The simulated world."""
