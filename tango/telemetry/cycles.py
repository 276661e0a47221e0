"""Counts of scheduling cycles, for whoever records them: journals those of LC, the store those of BE."""

from __future__ import annotations

from tango.telemetry.catalogue import DECIDED, DECISION
from tango.telemetry.tallies import count, observe


def count_cycle(
    kind: str, *, snapshot_ms: float, decide_ms: float, apply_s: float, considered: int, placed: int, shed: int
) -> None:
    """Count one cycle of class `kind`, in which the times of its phases and the numbers of its requests were these."""
    for phase, took_s in (("snapshot", snapshot_ms / 1e3), ("decide", decide_ms / 1e3), ("apply", apply_s)):
        observe(DECISION, kind, phase, values=(took_s,))
    for result, number in (("placed", placed), ("unplaced", considered - placed - shed), ("shed", shed)):
        if number > 0:
            count(DECIDED, kind, result, by=number)
