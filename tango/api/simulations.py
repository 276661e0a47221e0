"""One simulation, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from tango.analysis.comparison import CellResult
from tango.analysis.intervals import finite
from tango.analysis.metrics import Figure, arrived_in_measured_span, lc_outcomes_of
from tango.api.fleets import FleetLike, as_fleet
from tango.api.policies import Changes, SystemLike, as_system
from tango.api.tables import known, named, table_of
from tango.api.workloads import WorkloadLike, as_workload
from tango.domain.fleet import Fleet
from tango.domain.outcomes import STATES
from tango.domain.runs import NewRequests
from tango.domain.services import ServiceClass
from tango.domain.tenants import Tenant
from tango.experiments.cells import given_by, label_of, result_of, settings_with
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Progress
from tango.sim.simulate import simulate as simulated
from tango.traces.workloads import draw_requests

NO_CHANGES: Changes = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What came of one simulation. Figures are over the measured span, which leaves out the first tenth of the arrivals' time."""

    fleet: Fleet
    requests: NewRequests
    """What was served, in order of the due times."""
    run: SimulatedRun
    """The run itself: outcomes, samples of nodes, decisions and scaling as columns."""
    result: CellResult
    """Its figures, series and distributions, as `tango simulate -o json` has them."""

    @property
    def figures(self) -> Mapping[str, Figure]:
        """All figures of the run by name; docs/metrics.md says what each is."""
        return self.result.figures

    @property
    def lc_qos_rate(self) -> float | None:
        """Share of LC requests that were answered within their targets, 0 to 1; None without LC requests."""
        return finite(self.figures["lc_qos_rate"])

    @property
    def be_cpu_seconds_per_s(self) -> float | None:
        """Useful BE work: CPU-seconds per second."""
        return finite(self.figures["be_cpu_seconds_per_s"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures has to know, such as a policy whose time to decide nobody has measured."""
        return tuple(self.result.notes)

    def services(self) -> pa.Table:
        """A row for each service: `service service_class arrived … qos_rate latency_p50_ms … latency_p999_ms cpu_seconds_per_s`."""
        return table_of(self.result.services)

    def tenants(self) -> pa.Table:
        """A row for each tenant with its share and fair share; none where one has all BE requests and none is declared."""
        return table_of(self.result.tenants)

    def outcomes(self) -> pa.Table:
        """A row for each request, in order of the due times. Times are seconds since the first could arrive; what never was is null.

        `latency_ms` runs from the due time to the answer, or to the end of BE work. `met_target` is null for BE and for LC outside the
        measured span (`measured`), which the figures do not count.
        """
        of = self.run.outcomes
        lc, is_lc = lc_outcomes_of(of), of.service_class == int(ServiceClass.LC)
        return pa.table(
            {
                "request": pa.array(np.arange(len(of))),
                "service": named(of.service, of.services),
                "service_class": named(of.service_class, [kind.label for kind in ServiceClass]),
                "entry_cluster": named(of.entry_cluster, of.clusters),
                "cluster": named(of.target_cluster, of.clusters),
                "node": named(of.node, of.nodes),
                "due_s": pa.array(of.due_s),
                "target_s": known(of.target_s),
                "started_s": known(of.started_s),
                "finished_s": known(of.finished_s),
                "latency_ms": known((of.finished_s - of.due_s) * 1e3),
                "state": named(of.state, STATES),
                "reason": named(of.reason, of.reasons),
                "attempts": pa.array(of.attempts),
                "cpu_work_s": pa.array(of.cpu_work_s),
                "memory_mib": pa.array(of.memory_mib),
                "measured": pa.array(arrived_in_measured_span(of)),
                "met_target": pa.array(lc.met, mask=~(is_lc & lc.arrived)),
            }
        )


def simulate(
    workload: WorkloadLike | NewRequests,
    system: SystemLike = "tango",
    *,
    fleet: FleetLike,
    seed: int = 0,
    settings: Changes = NO_CHANGES,
    tuned: bool = True,
    tenants: Sequence[Tenant] = (),
    bound: bool = False,
    end_when_stuck: bool = False,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate requests under one system on a fleet, to the end of the last one. Equal arguments give equal results, bit for bit.

    `workload` is one, a pattern or trace file, or requests that `draw_requests` or `map_trace` made for this fleet; the seed draws what a
    workload leaves open, and failures of nodes. `settings` change single ones, over the parameters that `tango tune` found if `tuned`.
    `bound` solves the offline bound too (docs/bound.md). `progress` is called with the share of requests that ended, and simulated seconds.
    Raises: Deadlock when requests wait for ever, unless `end_when_stuck`; PolicyFailed and ImpossiblePlan, with the rows, where a policy
    fails; UsageError for names and settings that there are not; as `workload`.
    """
    where, chosen = as_fleet(fleet), as_system(system)
    if isinstance(workload, NewRequests):
        requests, scenario, span_s = workload, "requests", None
    else:
        drawn = as_workload(workload)
        requests, scenario, span_s = draw_requests(drawn, where, seed), drawn.label, drawn.duration_s
    run = simulated(
        where,
        requests,
        chosen.system,
        settings_with(chosen.settings_with(settings, tuned=tuned), chosen.checkpoint),
        seed=seed,
        span_s=span_s,
        given=given_by(chosen.own, tenants),
        progress=progress,
        end_when_stuck=end_when_stuck,
    )
    named_so = label_of(chosen.system, scenario, seed)
    result = result_of(run, named_so, where, requests if bound else None)
    return Simulation(fleet=where, requests=requests, run=run, result=called(result, chosen.called))


def called(result: CellResult, name: str) -> CellResult:
    """The result under another name of its system."""
    changed: dict[str, Any] = {"system": name, "figures": {**result.figures, "system": name}}
    return replace(result, **changed)
