"""Simulates a run that was recorded live, from its own rows: what the simulator would have said of it.

Everything runs in wall seconds, as the live run did: its rows hold due times, works and targets divided by the speed, while windows,
ticks, round trips and the time to decide are not sped up. The figures are given in trace time on both sides.

What the live path adds between a due time and the start of service is taken from the run, because it belongs to the machine and not to
the system under evaluation:

- *LC*: what passed from each request's due time to its service beyond half a window and half a round trip, where it met a free place:
  release, message, snapshot, decision, recording, HTTP call; the median for the others. A request reaches the dispatcher so much later
  than it was due. One figure for all hides the tail, which decides where targets are short: of a run at twice the speed, whose
  shortest target was 50 ms of wall time, 94.3 % were answered in time, and 100 % with the median for all.
- *LC, back*: an answer takes as long from the end of service to whoever waits, beyond half a round trip, as the call takes from its
  departure to the start of service (the median). The rows have the way there alone.
- *LC, known*: a worker writes what has ended in groups, and dispatchers read that now and then (`LcSettings.settle_every_s` and
  `snapshot_max_age_s`). Until then it counts as in flight: dispatchers take instances for busy that are idle.
- *BE*: the median of a cycle's snapshot, decision and recording; and as the start of a pod the shortest delays from due time to start
  (the 2nd percentile), which met neither a full fleet nor a tick that had just passed, with the mean wait for the announcement.
- *Resizes* take what they took (median), where there were any.

Clusters see each other as old as a live snapshot may be, since they read one database. All the rest is the fleet's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.analysis.metrics import RunMetrics, run_metrics
from tango.domain.fleet import Fleet
from tango.domain.near_names import near_name
from tango.domain.outcomes import SCALING_KINDS, Decisions, RequestPhases, RunOutcomes, ScalingEvents
from tango.domain.requests import RequestState
from tango.domain.runs import NewRequests
from tango.domain.services import ServiceClass
from tango.domain.tenant_shares import RequestTenants
from tango.domain.tenants import Tenant
from tango.errors import UsageError
from tango.experiments.cells import settings_with
from tango.settings import ReplaySettings, Settings
from tango.sim.decision_costs import DecisionCost, DecisionCosts
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Given, Progress, simulate
from tango.systems import System

WINDOW_STEP_S = 0.005
"""Windows are whole multiples of it, of which a BE tick and a sharing tick have a whole number."""
SHORTEST = 0.02
"""Quantile of the delays of BE that counts as the start of a pod."""
LEAST_S = 1e-6
"""In place of nothing, where a time is divided by or has to be above zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDelays:
    """What the live path took, in wall seconds."""

    lc_window_s: float
    """Mean window of release."""
    lc_way_s: NDArray[np.float64]
    """(n,) from due time to the call's departure, without half a window; 0 for BE."""
    lc_dispatch_s: float
    """The median of it, over requests that met a free place."""
    lc_back_s: float
    """From the end of service to the answer, without half a round trip."""
    lc_settle_s: float
    """From the end of service until dispatchers know of it."""
    be_cycle_s: float
    pod_start_s: float
    actuation_s: float | None
    """None: nothing was resized."""

    def as_dict(self) -> dict[str, float | None]:
        """These figures as a dictionary, for output."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "lc_way_s"}


def live_delays(
    outcomes: RunOutcomes,
    decisions: Decisions,
    scaling: ScalingEvents,
    fleet: Fleet,
    settings: Settings,
    *,
    phases: RequestPhases | None,
) -> LiveDelays:
    """What a recorded run says of the path that it took; where it says nothing, as the settings are.

    `phases` of the same requests; None: they are not known, and answers take half a round trip and no more.
    """
    window_s = _window_s(outcomes, settings)
    of_lc, of_be = (outcomes.service_class == int(c) for c in (ServiceClass.LC, ServiceClass.BE))
    waited_s = outcomes.started_s - outcomes.due_s - _half_rtt_s(outcomes, fleet)
    free = of_lc & _met_a_free_place(outcomes, fleet)
    way_s = np.maximum(0.0, waited_s - window_s / 2)
    median_s = float(np.median(way_s[free])) if free.any() else 0.0
    be_s = waited_s[of_be & (outcomes.epoch == 1) & outcomes.in_state(RequestState.SUCCEEDED)]
    be_s = be_s[~np.isnan(be_s)]
    cycles = decisions.kind == int(ServiceClass.BE)
    cycle_ms = (decisions.snapshot_ms + decisions.decide_ms + decisions.apply_ms)[cycles]
    cycle_s = float(np.median(cycle_ms)) / 1e3 if len(cycle_ms) else 0.0
    resizes = scaling.actuation_ms[(scaling.kind == SCALING_KINDS.index("resize")) & ~np.isnan(scaling.actuation_ms)]
    announced_s = settings.replay.be_window_s / 2
    start_s = np.zeros(0) if phases is None else (phases.start_s - _half_rtt_s(outcomes, fleet))[of_lc]
    there_s = start_s[~np.isnan(start_s)]
    return LiveDelays(
        lc_window_s=window_s,
        lc_way_s=np.where(free, way_s, np.where(of_lc, median_s, 0.0)),
        lc_dispatch_s=median_s,
        lc_back_s=max(0.0, float(np.median(there_s))) if len(there_s) else 0.0,
        lc_settle_s=_settle_s(np.count_nonzero(of_lc) / max(outcomes.span_s / outcomes.speed, LEAST_S), settings),
        be_cycle_s=cycle_s,
        pod_start_s=max(0.0, float(np.quantile(be_s, SHORTEST)) - cycle_s) + announced_s if len(be_s) else settings.sim.pod_start_s,
        actuation_s=float(np.median(resizes)) / 1e3 if len(resizes) else None,
    )


def replay(
    outcomes: RunOutcomes,
    delays: LiveDelays,
    fleet: Fleet,
    system: System,
    settings: Settings,
    changes: Mapping[str, Mapping[str, Any]],
    *,
    owners: RequestTenants | None = None,
    tenants: Mapping[str, Tenant] | None = None,
    progress: Progress | None = None,
) -> tuple[SimulatedRun, RunMetrics]:
    """Simulate the run's requests on its fleet, under `system` and with `changes` of settings; with the figures in trace time.

    `owners` says whose the requests are (None: all are one tenant's), `tenants` what is declared of tenants.

    Raises: UsageError for clusters or services that the fleet does not have; what `simulate` raises.
    """
    sim = dataclasses.replace(
        settings.sim,
        lc_window_s=delays.lc_window_s,
        be_tick_s=settings.be.tick_s,
        be_batch_limit=settings.be.batch_limit,
        staleness_s=settings.lc.snapshot_max_age_s,
        pod_start_s=delays.pod_start_s,
        settle_s=delays.lc_settle_s,
    )
    requests = requests_of(outcomes, fleet)
    if owners is not None:
        requests = dataclasses.replace(requests, tenant=owners.tenant, tenants=owners.tenants)
    reached_s = requests.due_s + delays.lc_way_s
    order = np.argsort(reached_s, kind="stable")
    back_s = np.where(requests.service_class == int(ServiceClass.LC), delays.lc_back_s, 0.0)
    run = simulate(
        _in_wall_time(fleet, outcomes.speed, delays),
        _reaching(requests, reached_s, back_s, order),
        system,
        _changed(dataclasses.replace(settings, sim=sim), changes),
        seed=outcomes.seed,
        span_s=outcomes.span_s / outcomes.speed,
        progress=progress,
        given=Given(costs=_costs(system, delays), tenants=tenants or {}, waited_s=(delays.lc_way_s + back_s)[order]),
    )
    run = dataclasses.replace(
        run,
        outcomes=_as_recorded(run.outcomes, outcomes, requests, back_s, order),
        tenants=None if run.tenants is None else dataclasses.replace(run.tenants, tenant=run.tenants.tenant[np.argsort(order)]),
    )
    return run, run_metrics(run.outcomes, run.losses, run.samples, run.decisions, run.scaling)


def requests_of(outcomes: RunOutcomes, fleet: Fleet) -> NewRequests:
    """The requests of a recorded run, with the fleet's numbers of services and clusters. Raises: UsageError for unknown ones."""
    services, clusters = tuple(s.name for s in fleet.services), tuple(c.name for c in fleet.clusters)
    return NewRequests(
        due_s=outcomes.due_s,
        target_s=outcomes.target_s,
        service_class=outcomes.service_class,
        service=_renumbered(outcomes.service, outcomes.services, services, "service"),
        cluster=_renumbered(outcomes.entry_cluster, outcomes.clusters, clusters, "cluster"),
        cpu_work_s=outcomes.cpu_work_s,
        memory_mib=outcomes.memory_mib,
        services=services,
        clusters=clusters,
    )


def _reaching(
    requests: NewRequests, reached_s: NDArray[np.float64], back_s: NDArray[np.float64], order: NDArray[np.intp]
) -> NewRequests:
    """The requests as the dispatchers see them: in order of their coming, with what is left of their targets once the way of the answer is
    taken off."""
    left_s = np.fmax(LEAST_S, requests.target_s - (reached_s - requests.due_s) - back_s)
    return dataclasses.replace(
        requests,
        due_s=reached_s[order],
        target_s=np.where(np.isnan(requests.target_s), np.nan, left_s)[order],
        tenant=None if requests.tenant is None else requests.tenant[order],
        **{name: getattr(requests, name)[order] for name in ("service_class", "service", "cluster", "cpu_work_s", "memory_mib")},
    )


def _as_recorded(
    simulated: RunOutcomes, recorded: RunOutcomes, requests: NewRequests, back_s: NDArray[np.float64], order: NDArray[np.intp]
) -> RunOutcomes:
    """Outcomes in the recorded order, with figures from the due times on, under the recorded run's number and speed."""
    place = np.argsort(order)
    made = ("target_cluster", "node", "started_s", "state", "reason", "attempts", "epoch")
    return dataclasses.replace(
        simulated,
        run_id=recorded.run_id,
        speed=recorded.speed,
        span_s=recorded.span_s,
        due_s=requests.due_s,
        target_s=requests.target_s,
        service_class=requests.service_class,
        service=requests.service,
        entry_cluster=requests.cluster,
        cpu_work_s=requests.cpu_work_s,
        memory_mib=requests.memory_mib,
        finished_s=simulated.finished_s[place] + np.where(simulated.in_state(RequestState.SUCCEEDED)[place], back_s, 0.0),
        **{name: getattr(simulated, name)[place] for name in made},
    )


def _renumbered(index: NDArray[np.int32], names: tuple[str, ...], known: tuple[str, ...], what: str) -> NDArray[np.int32]:
    place = np.array([known.index(name) if name in known else -1 for name in names] or [-1], np.int32)
    found = place[index]
    if (found < 0).any():
        missing = sorted({names[k] for k in np.unique(index[found < 0])})
        raise UsageError(
            f"the fleet has no {what} {', '.join(missing)}, which requests of the run name{near_name(missing, known)}; it has: "
            + ", ".join(known)
        )
    return found


def _in_wall_time(fleet: Fleet, speed: float, delays: LiveDelays) -> Fleet:
    """The fleet with its services' works and targets as the sped-up run had them."""
    services = tuple(
        dataclasses.replace(s, cpu_work_s=s.cpu_work_s / speed, target_ms=None if s.target_ms is None else s.target_ms / speed)
        for s in fleet.services
    )
    actuation_s = fleet.actuation_delay_s if delays.actuation_s is None else delays.actuation_s
    return dataclasses.replace(fleet, services=services, actuation_delay_s=actuation_s)


def _costs(system: System, delays: LiveDelays) -> DecisionCosts:
    """A table of one entry for each class: the run's own cycles for BE, and next to nothing for LC, whose way has it already."""
    return DecisionCosts(
        [
            DecisionCost(kind=kind, policy=policy, nodes=1, requests=1, ms=1e3 * max(LEAST_S, seconds))
            for kind, policy, seconds in (("lc", system.lc, 0.0), ("be", system.be, delays.be_cycle_s))
        ]
    )


def _changed(settings: Settings, changes: Mapping[str, Mapping[str, Any]]) -> Settings:
    """`settings` with the changes that `settings_with` accepts."""
    accepted = settings_with(changes)
    for group, values in changes.items():
        fresh = {name: getattr(getattr(accepted, group), name) for name in values}
        settings = dataclasses.replace(settings, **{group: dataclasses.replace(getattr(settings, group), **fresh)})
    return settings


def _window_s(outcomes: RunOutcomes, settings: Settings) -> float:
    """The window of release at the run's mean rate, as `ReleaseWindow` has it, of which both ticks have a whole number."""
    replay_settings: ReplaySettings = settings.replay
    rate_per_s = len(outcomes) / max(outcomes.span_s / outcomes.speed, LEAST_S)
    share = min(1.0, rate_per_s / replay_settings.longest_window_at_per_s)
    wanted_s = max(replay_settings.window_s, replay_settings.longest_window_s * share)
    steps = [round(tick_s / WINDOW_STEP_S) for tick_s in (settings.be.tick_s, settings.sharing.tick_s)]
    fitting = [k for k in range(1, min(steps) + 1) if all(step % k == 0 for step in steps)]
    return min(fitting, key=lambda k: abs(math.log(k * WINDOW_STEP_S / wanted_s))) * WINDOW_STEP_S


def _settle_s(lc_per_s: float, settings: Settings) -> float:
    """Mean seconds from an end until its group is written and read: the first of a group waits `settle_every_s`, those that end meanwhile
    wait for what is left of it. As if one worker had all of them: of several, each has smaller groups, whose members wait longer."""
    whole_s = settings.lc.settle_every_s
    others = lc_per_s * whole_s
    return whole_s * (1.0 + others / 2) / (1.0 + others) + settings.lc.snapshot_max_age_s / 2


def _half_rtt_s(outcomes: RunOutcomes, fleet: Fleet) -> NDArray[np.float64]:
    """(n,) of LC requests that ran: half the round trip from the entry to the node; 0 for BE, and between clusters that are not known."""
    rtt_s = fleet.rtt_ms() / 1e3
    place = {c.name: k for k, c in enumerate(fleet.clusters)}
    at = np.array([place.get(name, -1) for name in outcomes.clusters] or [-1])
    entry, target = at[outcomes.entry_cluster], at[outcomes.target_cluster]
    known = (entry >= 0) & (target >= 0) & (outcomes.target_cluster >= 0) & (outcomes.service_class == int(ServiceClass.LC))
    return np.where(known, rtt_s[entry, target] / 2, 0.0)


def _met_a_free_place(outcomes: RunOutcomes, fleet: Fleet) -> NDArray[np.bool_]:
    """(n,) LC requests that began when their service had fewer requests in service on the node than it has places there."""
    places = {s.name: s.concurrency * s.instances_per_node for s in fleet.services if s.service_class is ServiceClass.LC}
    found = np.zeros(len(outcomes), np.bool_)
    ran = np.flatnonzero(outcomes.in_state(RequestState.SUCCEEDED) & (outcomes.node >= 0) & ~np.isnan(outcomes.started_s))
    kinds = np.stack((outcomes.service[ran], outcomes.node[ran]), axis=1)
    for service, node in np.unique(kinds, axis=0).tolist():
        rows = ran[(kinds == (service, node)).all(axis=1)]
        rows = rows[np.argsort(outcomes.started_s[rows], kind="stable")]
        ended = np.searchsorted(np.sort(outcomes.finished_s[rows]), outcomes.started_s[rows], side="right")
        found[rows] = np.arange(len(rows)) - ended < places.get(outcomes.services[service], 0)
    return found
