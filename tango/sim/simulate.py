"""Simulates one run: requests of a trace under one system on one fleet.

requests, fleet ─► SimulationState (arrays) ─► run_windows (compiled) ─► columns of a live run, digest
                                        ▲              │
                                        └── BE tick: snapshot ─► policy ─► checked plan ─► pods
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tango.control.candidates import DecidedLc
from tango.domain.fleet import Fleet
from tango.domain.placement_question import PlacementQuestion
from tango.domain.plans import BePlan
from tango.domain.requests import BePending
from tango.domain.resource_axis import CPU, quantity
from tango.domain.runs import NewRequests
from tango.domain.snapshot import FleetSnapshot
from tango.domain.tenants import Tenant
from tango.errors import Deadlock
from tango.scheduling.budget import within_budget
from tango.scheduling.lc.columns import IN_PYTHON, NO_WEIGHTS, Exploration
from tango.scheduling.lc.rule import LcRule
from tango.settings.explaining import ExplainSettings
from tango.settings.simulated import SimulationSettings
from tango.sim import engine, node_time
from tango.sim.candidates import CandidateKeeper
from tango.sim.codes import DISPATCH, GIVE_WAY, GROW, OVER
from tango.sim.decision_costs import DecisionCosts, recorded_costs
from tango.sim.failures import Outage, draw_outages
from tango.sim.heap import USED, push
from tango.sim.outcomes import (
    BeCycles,
    Samples,
    SimulatedRun,
    decisions_of,
    digest_of,
    losses_of,
    outcomes_of,
    scaling_of,
)
from tango.sim.simulation_state import SimulationState
from tango.sim.tenancy import Tenancy, known_tenants
from tango.sim.views import Views
from tango.systems import BePolicy, LcPolicy, System, be_policy, decided_be, decided_lc, lc_policy
from tango.systems.be_waits import planned_behind_lc
from tango.systems.registry import HOME_BE
from tango.systems.weighing import AskedBe

IDLE_TICKS = 1000
"""BE ticks without anything pending that pass in compiled code; after as many one looks whether the run is stuck."""
MOST_SAMPLES = 1_000_000
"""Rows of node samples; beyond this they are taken less often."""

Progress = Callable[[float, float], None]
"""Called now and then with the share of requests that have ended and the simulated seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a simulation takes from its caller in place of what it would look up or draw."""

    lc: LcPolicy | None = None
    """None: the one of that name in the system, as the next."""
    be: BePolicy | None = None
    outages: Sequence[Outage] | None = None
    """Nodes that go away and come back; None: drawn by the seed, as the settings say how often."""
    costs: DecisionCosts | None = None
    """How long decisions take; None: as recorded. Nothing is charged where the settings say so."""
    explore: Exploration | None = None
    """For training a learned LC policy: noise to sample by, and space for what its choices saw, a row for each request; None: the policy
    decides as it would live."""
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    """Declared tenants by name; others have the weight 1, no quota and no guarantee."""
    waited_s: NDArray[np.float64] | float = 0.0
    """(m,) how long each request had waited when it arrived, which counts in the latencies that are measured, and is not in its target."""
    kept: ExplainSettings | None = None
    """Of how many requests a simulated second the candidates are kept; None: of none. What comes out is the same."""


ALL_AS_DECLARED = Given()


def simulate(
    fleet: Fleet,
    requests: NewRequests,
    system: System,
    settings: SimulationSettings,
    *,
    seed: int = 0,
    span_s: float | None = None,
    given: Given = ALL_AS_DECLARED,
    progress: Progress | None = None,
    end_when_stuck: bool = False,
) -> SimulatedRun:
    """Run to the end of the last request. Equal arguments give equal results, bit for bit.

    `span_s` is the trace's span (default: the last arrival), which the window of the figures follows.
    Raises: Deadlock when nothing can ever run any more, unless `end_when_stuck`: then the run ends there, `stuck` says what waits, and
    those requests stay live; ImpossiblePlan for a plan that cannot be carried out; RequestRejected for guarantees that the fleet cannot
    keep.
    """
    run = _Run(fleet, requests, system, settings, seed=seed, span_s=span_s, given=given)
    run.go(progress, end_when_stuck=end_when_stuck)
    return run.result()


class _Run:
    """One simulation under way."""

    def __init__(
        self,
        fleet: Fleet,
        requests: NewRequests,
        system: System,
        settings: SimulationSettings,
        *,
        seed: int,
        span_s: float | None,
        given: Given = ALL_AS_DECLARED,
    ) -> None:
        self._requests, self._system, self._settings, self._seed = requests, system, settings, seed
        self._lc = given.lc if given.lc is not None else lc_policy(system.lc, settings)
        self._be = given.be if given.be is not None else be_policy(system.be, settings)
        self._be_settings = replace(settings.be, decide_budget_ms=float(np.inf))  # a budget by the clock could not be repeated
        self._span_s = float(requests.due_s[-1]) if span_s is None and len(requests) else float(span_s or 0.0)
        charge = settings.sim.charge_decisions
        self._costs = (given.costs or recorded_costs()) if charge else DecisionCosts([])
        self._notes: list[str] = []
        nodes = sum(len(c.nodes) for c in fleet.clusters)
        for kind, name in (("lc", system.lc), ("be", system.be)):
            if charge and not self._costs.knows(kind, name):
                self._notes.append(f"no decision time is recorded for the {kind} policy {name!r}, none is charged")
        rule = self._lc if isinstance(self._lc, LcRule) else None
        self._world = SimulationState(
            fleet,
            requests,
            settings,
            lc_policy=rule.traits if rule else IN_PYTHON,
            lc_weights=rule.weights(settings.lc) if rule else NO_WEIGHTS,
            sharing=system.sharing,
            charge_s=self._costs.lc_table(system.lc, nodes=nodes),
            waited_s=given.waited_s,
            tenants=given.tenants,
        )
        self._views = Views(self._world)
        self._declared = given.tenants
        self._tenancy = self._tenancy_of(requests)
        self._cycles, self._samples = BeCycles(), Samples()
        self._checkpoint = ""
        self._stuck: tuple[str, ...] = ()
        ticks = self._span_s / settings.sim.be_tick_s
        thinned = int(np.ceil(ticks * nodes / MOST_SAMPLES))
        self._sample_every = max(1, round(settings.sim.sample_every_s / settings.sim.be_tick_s), thinned)
        self._busy_s, self._busy_at_s = np.zeros(nodes), 0.0
        outages = given.outages if given.outages is not None else draw_outages(settings.sim, nodes, self._span_s, seed)
        for at_s, happening, node in outages:
            self._world.grow(events=1)
            push(self._world.engine.heap, self._world.engine.heap_counts, at_s, happening, node, 0, 0.0)
        self._took_s = 0.0
        self._keeper = (
            None if given.kept is None or given.explore is not None else CandidateKeeper(self._world, self._lc, given.kept)
        )
        if given.explore is not None:
            self._world.engine = self._world.engine._replace(explore=given.explore)

    def _tenancy_of(self, requests: NewRequests) -> Tenancy | None:
        """None: one tenant has all BE requests and none is declared, so nothing of tenants is asked."""
        names = known_tenants(requests, self._declared)
        if not names:
            return None
        return Tenancy(
            self._world,
            self._views,
            requests,
            names,
            self._declared,
            self._settings.tenants,
            is_home_only=self._system.be in HOME_BE,
            most_read=self._settings.sim.be_batch_limit,
            grace_s=self._settings.sim.give_way_s,
        )

    # ---- the loop --------------------------------------------------------------------------------------------------------

    def go(self, progress: Progress | None, *, end_when_stuck: bool = False) -> None:
        """Run to the end, or to where nothing can run any more."""
        began_s = time.perf_counter()
        tick, shown_s = 0, began_s
        still_since_s, moved = 0.0, -1
        world = self._world
        every = world.engine.rules.place_every
        while not self._over():
            if tick % self._sample_every == 0 and world.now_s <= self._span_s + self._settings.sim.be_tick_s:
                self._sample()
            self._place(tick)
            # While nothing is pending and no sample is due, there is nothing to come back for.
            is_idle = world.now_s > self._span_s + self._settings.sim.be_tick_s and not world.engine.clock["pending"][0]
            if self._keeper is not None and not is_idle:
                self._ask_in_some(self._keeper, tick * every, (tick + 1) * every)
            self._run_until((tick + (IDLE_TICKS if is_idle else 1)) * every, ask_again=is_idle)
            tick = int(world.engine.clock["window"][0]) // every
            clock = world.engine.clock[0]
            if int(clock["moved"]) != moved or world.now_s <= self._span_s:
                moved, still_since_s = int(clock["moved"]), world.now_s
            elif world.now_s - still_since_s > self._settings.sim.stuck_after_s and not self._anything_runs():
                self._stuck = tuple(self._what_waits())
                if not end_when_stuck:
                    raise Deadlock(at_s=world.now_s, waiting=list(self._stuck))
                waiting = len(self._requests) - int(clock["terminal"])
                self._notes.append(
                    f"deadlock at {world.now_s:g} s, {waiting} requests wait for ever, for instance {self._stuck[0]}"
                )
                break
            if progress is not None and time.perf_counter() - shown_s > 0.1:
                shown_s = time.perf_counter()
                progress(int(clock["terminal"]) / max(1, len(self._requests)), world.now_s)
        self._took_s = time.perf_counter() - began_s

    def _over(self) -> bool:
        return int(self._world.engine.clock["terminal"][0]) == len(self._requests)

    def _anything_runs(self) -> bool:
        """Whether an event or an end of a request or pod is still to come."""
        e = self._world.engine
        return bool(e.heap_counts[USED] > 0 or np.isfinite(e.states.nodes["next_s"]).any())

    def _run_until(self, window: int, *, ask_again: bool) -> None:
        while True:
            came_back = engine.run_windows(self._world.engine, window, ask_again)
            if came_back == GROW:
                self._world.grow()
            elif came_back == DISPATCH:
                self._dispatch()
            else:
                if came_back == OVER:
                    self._world.engine.clock["window"][0] = min(window, self._world.engine.clock["window"][0])
                return

    def _ask_in_some(self, keeper: CandidateKeeper, first: int, after: int) -> None:
        """Run through those of these windows of which candidates are to be kept, with LC dispatched in Python."""
        window = keeper.begins_at(first, after)
        if window < 0:
            return
        self._run_until(window, ask_again=False)
        keeper.asks(True)
        while window < after and keeper.wants():
            window += 1
            self._run_until(window, ask_again=False)
        keeper.asks(False)

    def _sample(self) -> None:
        """Mean use since the last sample; nodes without an event stand behind, so all are brought to now first."""
        world = self._world
        nodes = world.engine.states.nodes
        for_s = world.now_s - self._busy_at_s
        node_time.catch_up(world.engine.states, world.now_s)
        busy_s = nodes["lc_busy_s"] + nodes["be_busy_s"]
        used = (busy_s - self._busy_s) / for_s * 1e3 if for_s > 0 else np.zeros(len(nodes))
        self._busy_s, self._busy_at_s = busy_s, world.now_s
        self._samples.take(world, used)

    def _place(self, tick: int) -> None:
        """One BE tick: snapshot, policy, checked plan, pods."""
        e, tenancy = self._world.engine, self._tenancy
        count = int(e.clock["pending"][0])
        if count == 0:
            if tenancy is not None:
                tenancy.nothing_waits()
            return
        e.lists.pending[:count].sort()  # oldest due time first, also after what came back
        if tenancy is None:
            rows = e.lists.pending[: min(count, self._settings.sim.be_batch_limit)].copy()
            question = self._question(rows)
        else:
            question = self._question(e.lists.pending[:0])
            rows = tenancy.looked_at(question)
            question = replace(question, pending=self._views.pending(rows))
        node = self._decided(tick, question) if len(rows) else np.zeros(0, np.int32)
        giving_way = [] if tenancy is None else tenancy.ended(question, node)
        self._world.grow(events=int(np.count_nonzero(node >= 0)) + len(giving_way))
        for at_s, request, attempt in giving_way:
            push(self._world.engine.heap, self._world.engine.heap_counts, at_s, GIVE_WAY, request, attempt, 0.0)

    def _question(self, rows: NDArray[np.int64]) -> PlacementQuestion:
        """What a placement of these requests decides on."""
        return PlacementQuestion(
            pending=self._views.pending(rows),
            snapshot=self._views.centre(),
            waits=self._views.lc_waits() if self._settings.sim.be_waits_for_lc else {},
            lc_late_share=self._settings.be.lc_late_share,
            lc_first_s=self._settings.be.lc_first_s,
        )

    def _decided(self, tick: int, question: PlacementQuestion) -> NDArray[np.int32]:
        """Nodes of the requests of a question, which are the first of `Lists.pending`; the engine carries the plan out."""
        cycle, pending = f"BE tick {tick} (at {self._world.now_s:g} s)", question.pending
        may, noted = 0 if self._keeper is None else self._keeper.takes(), list[AskedBe]()

        def ask(asked: BePending, seen: FleetSnapshot) -> BePlan:
            found = decided_be(self._be, asked, seen, self._be_settings, cycle=cycle, name=self._system.be)
            if may:
                noted.append(AskedBe(policy=self._be, pending=asked, snapshot=seen, plan=found))
            return found

        plan = planned_behind_lc(ask, pending, question.snapshot, question.crowded, lc_first_s=question.lc_first_s)
        if self._keeper is not None:
            self._keeper.placed(len(self._cycles.at_s), noted, question, plan, may=may)
        now_s, count = self._world.now_s, len(pending)
        placed = int(np.count_nonzero(plan.node >= 0))
        self._checkpoint = plan.checkpoint or self._checkpoint
        if plan.fallback_reason and not self._cycles.fell_back:
            self._cycles.fell_back = True
            self._notes.append(f"the BE policy {self._system.be!r} did not decide, {plan.policy!r} did: {plan.fallback_reason}")
        name = plan.policy if self._costs.knows("be", plan.policy) else self._system.be
        decide_s = float(self._costs.seconds("be", name, nodes=len(question.snapshot.nodes), requests=count)[0])
        self._cycles.add(at_s=now_s, policy=plan.policy, considered=count, placed=placed, decide_s=decide_s)
        clock = self._world.engine.clock[0]
        self._world.engine.lists.placing[:count] = plan.node
        clock["placing"], clock["placing_starts_s"] = count, now_s + decide_s + self._settings.sim.pod_start_s
        return plan.node

    def _dispatch(self) -> None:
        """LC dispatch of one cluster by a policy in Python, on what the engine takes it to believe; the engine carries it out."""
        e, now_s = self._world.engine, self._world.now_s
        home = int(e.clock["asked"][0])
        rows = e.lists.dispatching[e.lists.entry_first[home] : e.lists.entry_first[home + 1]].copy()
        snapshot, arrivals = self._views.dispatcher(), self._views.arrivals(rows)
        cycle = f"the dispatch of cluster {snapshot.clusters[home]} at {now_s:g} s"
        plan = decided_lc(self._lc, arrivals, snapshot, self._settings.lc, cycle=cycle, name=self._system.lc)
        e.choices.node[rows], e.choices.late[rows] = plan.node, plan.late
        plan = within_budget(plan, arrivals, snapshot.services, now_s=now_s)
        e.lists.shed[: len(rows)] = plan.shed
        if self._keeper is not None:
            self._keeper.dispatched(
                DecidedLc(run_id=0, policy=self._lc, plan=plan, arrivals=arrivals, snapshot=snapshot, settings=self._settings.lc)
            )

    def _what_waits(self) -> list[str]:
        e = self._world.engine
        over = {} if self._tenancy is None else self._tenancy.over_quota()
        texts = [
            f"{len(rows)} x BE of tenant {name}: over its quota of "
            + ", ".join(f"{amount} of {resource}" for resource, amount in self._declared[name].shown_quota().items())
            for name, rows in over.items()
        ]
        fleet = self._world.fleet
        waiting = np.setdiff1d(e.lists.pending[: int(e.clock["pending"][0])], np.concatenate(([], *over.values())).astype(np.int64))
        kinds = np.stack((e.arrivals.service[waiting], e.arrivals.entry[waiting]), axis=1)
        for (s, c), count in zip(*np.unique(kinds, axis=0, return_counts=True), strict=True):
            mine = waiting[(kinds == (s, c)).all(axis=1)]
            service = fleet.services[s]
            texts.append(
                f"{count} x BE {service.name} that entered at {fleet.clusters[c].name} (CPU request {service.cpu_request_millicores} m, "
                f"memory {e.arrivals.memory_mib[mine].max():g} MiB at most"
                f"{''.join(f', {quantity(*of)} of {of[0]}' for of in service.extended)}): policy {self._system.be!r} finds no node for it, "
                f"the most that is free is {self._most_free()}"
            )
        for r in e.lists.retries[: int(e.clock["retries"][0])][:8].tolist():
            texts.append(f"LC request {r} of {fleet.services[e.arrivals.service[r]].name}: no ready instance of its service")
        return texts or ["requests that are neither pending nor running: a defect of Tango"]

    def _most_free(self) -> str:
        holdings, names = self._world.engine.holdings, self._world.resources.names
        free = holdings.allocatable - holdings.lc - holdings.placed
        best = int(np.argmax(free[CPU]))
        there = ", ".join(f"{name} {quantity(name, amount)}" for name, amount in zip(names, free[:, best].tolist(), strict=True))
        return f"{there} on node {tuple(self._world.fleet.node_keys)[best]}"

    # ---- the result ------------------------------------------------------------------------------------------------------

    def result(self) -> SimulatedRun:
        """What came of the run, in the columns of a live one, with its digest."""
        world = self._world
        outcomes = outcomes_of(
            world,
            self._requests,
            self._system,
            seed=self._seed,
            span_s=self._span_s,
            status="stuck" if self._stuck else "completed",
            checkpoint=self._checkpoint,
        )
        losses, scaling = losses_of(world), scaling_of(world)
        clock = world.engine.clock[0]
        return SimulatedRun(
            outcomes=outcomes,
            losses=losses,
            samples=self._samples.columns(len(world.node_names), world.resources),
            decisions=decisions_of(world, self._system, self._cycles),
            weighed={} if self._keeper is None else self._keeper.by_decision(),
            scaling=scaling,
            digest=digest_of(outcomes, losses, scaling),
            events=int(clock["events"]),
            took_s=self._took_s,
            notes=tuple(self._notes),
            stuck=self._stuck,
            worst_cpu_cores=float(clock["worst_cpu"]),
            worst_held=float(clock["worst_held"]),
            forbidden_changes=int(clock["forbidden"]),
            lc_busy_s=float(world.engine.states.nodes["lc_busy_s"].sum()),
            be_busy_s=float(world.engine.states.nodes["be_busy_s"].sum()),
            tenants=None if self._tenancy is None else self._tenancy.series(),
            lc_on_nodes=self._samples.lc_on_nodes,
        )
