"""Bounds: what no schedule could beat, by two linear programmes that know the whole trace.

`qos` bounds the LC QoS rate with LC alone on the fleet, `be` the BE throughput beside the LC work that a judged run completed; `packing`
solves both with HiGHS. Definitions, proofs, tightness and cost stand in `docs/bound.md`; `python -m tango.bound.loss` measures how far
the bounds lie above the optimum of tiny worlds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tango.bound.be import be_of
from tango.bound.qos import qos_of
from tango.domain.fleet import Fleet
from tango.domain.outcomes import RunOutcomes
from tango.domain.runs import NewRequests


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What no schedule could beat on a run's requests and fleet."""

    lc_qos_rate: float | None
    """None where no LC request arrived in the window."""
    be_cpu_seconds_per_s: float | None
    """None where the window has no length."""
    bucket_s: float
    """Of the QoS programme; the BE programme cuts the window into a fixed number of buckets."""
    solve_s: float = field(compare=False)
    """Wall seconds that both took. For display only: no part of a digest."""


def qos_bound(fleet: Fleet, requests: NewRequests, *, span_s: float) -> float | None:
    """The highest LC QoS rate that any schedule could reach with LC alone on the fleet."""
    return qos_of(fleet, requests, span_s=span_s).rate


def be_bound(fleet: Fleet, outcomes: RunOutcomes) -> float | None:
    """The most BE CPU-seconds per second in the window beside the LC work that the run completed; never below the run's own figure."""
    return be_of(fleet, outcomes)


def bound_of(fleet: Fleet, requests: NewRequests, outcomes: RunOutcomes) -> Bound:
    """Both bounds of a simulated run, whose speed is 1."""
    begun_s = time.perf_counter()
    qos = qos_of(fleet, requests, span_s=outcomes.span_s)
    be = be_of(fleet, outcomes)
    return Bound(lc_qos_rate=qos.rate, be_cpu_seconds_per_s=be, bucket_s=qos.bucket_s, solve_s=time.perf_counter() - begun_s)


__all__ = ["Bound", "be_bound", "bound_of", "qos_bound"]
