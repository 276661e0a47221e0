"""A policy of the user's own in a short simulation, where every plan is checked, beside `load-greedy` on the same requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import numpy as np

from tango.analysis.metrics import RunMetrics, run_metrics
from tango.domain.checkpoints import YARDSTICK
from tango.domain.fleet import Fleet
from tango.domain.runs import NewRequests
from tango.fleets import load_fleet
from tango.settings import SimulationSettings
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Given, Progress, simulate
from tango.systems import System, be_policy, lc_policy, mixed, usable_system
from tango.systems import system as known_system
from tango.traces.workloads import Workload, draw_requests

SEED = 1
LOAD = 0.9
"""Of the fleet's CPU: so much that nodes fill up, where plans go wrong first."""

Figure = float | int | str | None
"""As `run_metrics` gives it."""


@dataclass(slots=True)
class AnswerTimes:
    """How often a policy was asked, and how long each answer took."""

    took_s: list[float] = field(default_factory=list)
    requests: int = 0

    def timed(self, policy: Callable[..., Any]) -> Callable[..., Any]:
        """The policy, measured. It keeps its module, by which the step that asks knows whether it is Tango's own."""

        @wraps(policy, updated=())
        def asked(requests: Any, snapshot: Any, settings: Any) -> Any:
            began_s = time.perf_counter()
            try:
                return policy(requests, snapshot, settings)
            finally:
                self.took_s.append(time.perf_counter() - began_s)
                self.requests += len(requests)

        return asked


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyCheck:
    """What a check found. That every plan could be carried out is said by its being there at all."""

    policy: str
    kind: str
    decisions: int
    requests_asked: int
    decide_ms_p50: float
    decide_ms_p99: float
    lc_qos_rate: Figure
    be_cpu_seconds_per_s: Figure
    yardstick_lc_qos_rate: Figure
    yardstick_be_cpu_seconds_per_s: Figure


def check_policy(name: str, kind: str, fleet_name: str, duration_s: float, *, progress: Progress | None = None) -> PolicyCheck:
    """Let an LC policy (`kind` "lc") or BE policy ("be") decide on pattern p3; all else is `tango`'s with `load-greedy` placement.

    Raises: UsageError and ConfigError where it cannot be loaded; PolicyFailed and ImpossiblePlan where it fails, with rows and line.
    """
    settings, base = SimulationSettings(), mixed(known_system("tango"), be=YARDSTICK)
    chosen = usable_system(base.name, settings, lc=name if kind == "lc" else None, be=name if kind == "be" else None)
    other = mixed(base, lc=YARDSTICK) if kind == "lc" else base
    asked = AnswerTimes()
    fleet = load_fleet(fleet_name)
    workload = Workload(lc=("p3",), be=("p3",), load=LOAD, duration_s=duration_s)
    requests = draw_requests(workload, fleet, SEED)
    run = simulate(
        fleet,
        requests,
        chosen,
        settings,
        seed=SEED,
        span_s=duration_s,
        progress=progress,
        end_when_stuck=True,
        given=Given(
            lc=asked.timed(lc_policy(chosen.lc, settings)) if kind == "lc" else None,
            be=asked.timed(be_policy(chosen.be, settings)) if kind == "be" else None,
        ),
    )
    mine, theirs = _figures(run), _figures(_simulated(other, fleet, requests, settings, duration_s))
    p50, p99 = (float(q) * 1e3 for q in np.quantile(asked.took_s, (0.5, 0.99))) if asked.took_s else (float("nan"),) * 2
    return PolicyCheck(
        policy=chosen.lc if kind == "lc" else chosen.be,
        kind=kind,
        decisions=len(asked.took_s),
        requests_asked=asked.requests,
        decide_ms_p50=p50,
        decide_ms_p99=p99,
        lc_qos_rate=mine["lc_qos_rate"],
        be_cpu_seconds_per_s=mine["be_cpu_seconds_per_s"],
        yardstick_lc_qos_rate=theirs["lc_qos_rate"],
        yardstick_be_cpu_seconds_per_s=theirs["be_cpu_seconds_per_s"],
    )


def _simulated(
    system: System, fleet: Fleet, requests: NewRequests, settings: SimulationSettings, duration_s: float
) -> SimulatedRun:
    return simulate(fleet, requests, system, settings, seed=SEED, span_s=duration_s, end_when_stuck=True)


def _figures(run: SimulatedRun) -> RunMetrics:
    return run_metrics(run.outcomes, run.losses, run.samples, run.decisions, run.scaling)
