"""Upper bounds on what any schedule could reach, by two linear programmes that know the whole trace.

`qos` bounds the LC QoS rate with LC alone on the fleet; `be` bounds BE throughput beside the LC work that a given run completed;
`packing` solves both with HiGHS. `docs/bound.md` has definitions, proofs, tightness and cost; `python -m tango.bound.loss` measures how
far the bounds lie above the optimum of tiny worlds.
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
    """Both bounds for a run's requests and fleet."""

    lc_qos_rate: float | None
    """0 to 1; None if no LC request arrived in the measured span."""
    be_cpu_seconds_per_s: float | None
    """None if the measured span has no length."""
    bucket_s: float
    """Length of a time bucket in the QoS programme; the BE programme chooses its own."""
    solve_s: float = field(compare=False)
    """Wall seconds that both programmes took; for display only, since it differs between machines."""


def qos_bound(fleet: Fleet, requests: NewRequests, *, span_s: float) -> float | None:
    """An upper bound on the LC QoS rate of any schedule with LC alone on the fleet; None without LC requests in the measured span."""
    return qos_of(fleet, requests, span_s=span_s).rate


def be_bound(fleet: Fleet, outcomes: RunOutcomes) -> float | None:
    """An upper bound on BE CPU-seconds per second in the measured span, beside the LC work that the run completed.

    It is never below the run's own figure. None if the measured span has no length.
    """
    return be_of(fleet, outcomes)


def bound_of(fleet: Fleet, requests: NewRequests, outcomes: RunOutcomes) -> Bound:
    """Both bounds of a simulated run, whose speed is 1."""
    begun_s = time.perf_counter()
    qos = qos_of(fleet, requests, span_s=outcomes.span_s)
    be = be_of(fleet, outcomes)
    return Bound(lc_qos_rate=qos.rate, be_cpu_seconds_per_s=be, bucket_s=qos.bucket_s, solve_s=time.perf_counter() - begun_s)


__all__ = ["Bound", "be_bound", "bound_of", "qos_bound"]
