"""How far the CPU of a host is used: whether what a run's figures tell is the system, or a machine that had nothing left for it."""

from __future__ import annotations

from typing import NamedTuple


class CpuTimes(NamedTuple):
    """What the kernel has counted since the host began, CPU-seconds over all CPUs."""

    total_s: float
    idle_s: float
    """In which no task was there to run, waiting for the disk included."""
    stolen_s: float
    """In which a hypervisor ran somebody else's."""


class HostUse(NamedTuple):
    """How far a host's CPU was used in the time since the sample before."""

    host: str
    used: float
    """Share of its CPU time that was not idle, whoever used it, stolen time included; 0 to 1."""
    stolen: float
    """Share of it that a hypervisor gave to others; 0 to 1."""


def use_between(host: str, before: CpuTimes, after: CpuTimes) -> HostUse | None:
    """Of the time between two readings; None where none has passed by the kernel's count, which goes in hundredths of a second."""
    passed_s = after.total_s - before.total_s
    if passed_s <= 0.0:
        return None
    idle, stolen = (after.idle_s - before.idle_s) / passed_s, (after.stolen_s - before.stolen_s) / passed_s
    return HostUse(host, min(1.0, max(0.0, 1.0 - idle)), min(1.0, max(0.0, stolen)))
