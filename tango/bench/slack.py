"""`tango bench slack`: what learned policies decide differently when they see the measured slack of nodes, and not a slack of 1.

`slack` is one of the columns that `dcg-be`, `gnn-sac` and `dsaco` read. Each decision of a simulated run is asked for twice, with the
snapshot as it is and with a slack of 1 on every node, and the nodes are compared; the run goes on with the first. A second run, whose
policy never sees a slack but 1, tells what the difference is worth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.analysis.metrics import RunMetrics, run_metrics
from tango.bench.figures import Figure
from tango.domain.snapshot import FleetSnapshot
from tango.fleets import load_fleet
from tango.settings import Settings
from tango.sim.simulate import Given, simulate
from tango.systems import be_policy, lc_policy, mixed, system
from tango.traces.workloads import Workload, draw_requests

BLIND = "the same policy with a slack of 1 everywhere"
Told = Callable[[str], None]


@dataclass(slots=True)
class ComparedPolicy:
    """A policy that asks twice, and counts; with `blind` it decides by what it does not see."""

    seeing: Callable[..., Any]
    without: Callable[..., Any]
    """Another instance of the same policy: some remember what they saw."""
    blind: bool = False
    decided: int = 0
    different: int = 0
    slack: list[NDArray[np.float64]] = field(default_factory=list)

    def __call__(self, requests: Any, snapshot: FleetSnapshot, settings: Any) -> Any:
        """The plan of the one that is in force."""
        plan = self.seeing(requests, snapshot, settings)
        other = self.without(requests, replace(snapshot, slack=np.ones(len(snapshot.nodes))), settings)
        self.decided += int(np.count_nonzero((plan.node >= 0) | (other.node >= 0)))
        self.different += int(np.count_nonzero(plan.node != other.node))
        self.slack.append(snapshot.slack)
        return other if self.blind else plan


def measure(
    *, fleet: str = "testbed", load: float = 1.0, duration_s: float = 120.0, seed: int = 3, told: Told = lambda _: None
) -> list[Figure]:
    """For each learned policy: the share of its choices that differ, and QoS and BE work beside those of a policy that is blind."""
    declared, settings = load_fleet(fleet), Settings()
    requests = draw_requests(Workload(lc=("p3",), be=("p3",), duration_s=duration_s, load=load), declared, seed)
    found = []
    for kind, name, base in (("be", "dcg-be", "tango"), ("be", "gnn-sac", "gnn-sac"), ("lc", "dsaco", "dsaco")):
        of = f"{name} ({fleet}, load {load:g}, {duration_s:g} s, seed {seed})"
        told(of)
        runs: list[tuple[ComparedPolicy, RunMetrics]] = []
        for blind in (False, True):
            policy: Callable[..., Any] = be_policy if kind == "be" else lc_policy
            compared = ComparedPolicy(policy(name, settings), policy(name, settings), blind=blind)
            mine = mixed(system(base), **{kind: name})
            given = Given(be=compared) if kind == "be" else Given(lc=compared)
            run = simulate(declared, requests, mine, settings, seed=seed, span_s=duration_s, given=given)
            runs.append((compared, run_metrics(run.outcomes, run.losses, run.samples, run.decisions, run.scaling)))
        (compared, seeing), (_, without) = runs
        slack = np.concatenate(compared.slack)
        found += [
            Figure(name=f"choices that differ, {of}", value=compared.different / max(1, compared.decided), unit="share"),
            Figure(name=f"nodes seen with a slack below 1, {of}", value=float((slack < 1).mean()), unit="share"),
            Figure(
                name=f"LC answered in time, {of}",
                value=float(seeing["lc_qos_rate"] or 0.0),
                unit="share",
                yardstick=BLIND,
                yardstick_value=float(without["lc_qos_rate"] or 0.0),
            ),
            Figure(
                name=f"BE completed, {of}",
                value=float(seeing["be_completed"] or 0),
                unit="requests",
                yardstick=BLIND,
                yardstick_value=float(without["be_completed"] or 0),
            ),
        ]
    return found
