"""One node model, two worlds: what the virtual kubelet serves by the clock, the simulator's engine computes.

The same requests go to the same nodes in both. The virtual kubelet gets them as HTTP would bring them: LC at the end of their window
through the network of the node's cluster, BE pods when they start; its timers are those of an event loop, in whole milliseconds and late.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tango.domain.fleet import Fleet
from tango.domain.outcomes import RunOutcomes
from tango.domain.plans import LcPlan
from tango.domain.requests import LcArrivals, RequestState
from tango.domain.services import ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.emulation.virtual_kubelet.lc_instance import LcInstance
from tango.emulation.virtual_kubelet.network import ClusterNetwork
from tango.emulation.virtual_kubelet.node_timeline import NodeTimeline
from tango.emulation.workload.http1 import Work
from tango.node_model.interference import traits_of
from tango.settings import LcSettings, Settings
from tango.sim.decision_costs import DecisionCosts
from tango.sim.simulate import Given, simulate
from tango.systems import System
from tests.fakes.manual_clock import ManualClock
from tests.fakes.sim_worlds import SimWorld, draw_sim_world
from tests.long import example_count

LATE_S = 0.0007
TICK_S = 0.001
WINDOW_S = 0.1
ZERO_S = 100.0
"""Where the manual clock begins."""


def world_of(seed: int) -> SimWorld:
    """A drawn world in which nobody is resized, evicted or given up, with one instance of a service on a node."""
    drawn = draw_sim_world(seed, failures=False)
    services = tuple(replace(s, instances_per_node=1) for s in drawn.fleet.services)
    return replace(
        drawn,
        fleet=replace(drawn.fleet, services=services),
        system=System(name="fixed", lc="load-greedy", be="load-greedy", sharing="static"),
        settings=Settings(lc=LcSettings(timeout_min_s=1e6)),
    )


def simulated(world: SimWorld, assigned: np.ndarray) -> RunOutcomes:
    """The engine's run, with every LC request on the node that it was assigned."""

    def fixed(arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
        no = np.zeros(len(arrivals), np.bool_)
        node = assigned[arrivals.request_id].astype(np.int32)
        return LcPlan(node=node, late=no, shed=no, expected_s=np.zeros(len(arrivals)), policy="fixed")

    return simulate(
        world.fleet, world.requests, world.system, world.settings, given=Given(lc=fixed, costs=DecisionCosts([]))
    ).outcomes


@dataclass(slots=True)
class LiveFleet:
    """The virtual kubelets of all clusters on one clock, and what they answered."""

    fleet: Fleet
    clock: ManualClock = field(default_factory=lambda: ManualClock(late_s=LATE_S))
    timelines: list[NodeTimeline] = field(default_factory=list)
    instances: dict[tuple[int, int], LcInstance] = field(default_factory=dict)
    place: list[tuple[int, int]] = field(default_factory=list)
    """(cluster, node within it) of every node"""
    started_s: dict[int, float] = field(default_factory=dict)
    answered_s: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for c, cluster in enumerate(self.fleet.clusters):
            cores = [node.cpu_millicores / 1e3 for node in cluster.nodes]
            timeline = NodeTimeline(
                cores,
                beta=self.fleet.beta,
                call_later=self.clock.call_later,
                traits=traits_of(self.fleet.services, self.fleet.interference),
                clock=self.clock,
                wall=lambda: self.clock.now_s,
            )
            network = ClusterNetwork(self.fleet, cluster.name)
            for n in range(len(cluster.nodes)):
                for s, service in enumerate(self.fleet.services):
                    if service.service_class is ServiceClass.LC:
                        memory = float(service.instance_memory_mib)
                        row = timeline.add_instance(
                            n,
                            limit_cores=service.cpu_limit_millicores / 1e3,
                            memory_mib=memory,
                            concurrency=service.concurrency,
                            service=s,
                        )
                        self.instances[len(self.place), s] = LcInstance(
                            timeline, network, name="", node=n, row=row, largest_memory_mib=memory
                        )
                self.place.append((c, n))
            self.timelines.append(timeline)

    def call(self, r: int, node: int, world: SimWorld) -> None:
        """An LC request is sent to its instance now."""
        requests = world.requests
        service = int(requests.service[r])

        def served(started_s: float, _finished_s: float) -> None:
            self.started_s[r] = started_s - ZERO_S
            self.answered_s[r] = self.clock.now_s - ZERO_S

        work = Work(
            float(requests.cpu_work_s[r]),
            float(requests.memory_mib[r]),
            self.fleet.clusters[requests.cluster[r]].name,
            self.fleet.services[service].payload_kib,
        )

        def refused() -> None:
            raise AssertionError(f"request {r} was refused")

        self.instances[node, service].begin(work, served, refused)

    def start(self, r: int, node: int, world: SimWorld) -> None:
        """A BE pod starts now."""
        service = self.fleet.services[world.requests.service[r]]
        cluster, n = self.place[node]

        def ended(started_s: float, finished_s: float) -> None:
            self.started_s[r], self.answered_s[r] = started_s, finished_s

        self.timelines[cluster].add_pod(
            n,
            weight=float(service.cpu_request_millicores),
            limit_cores=service.cpu_limit_millicores / 1e3,
            work_s=float(world.requests.cpu_work_s[r]),
            service=int(world.requests.service[r]),
            memory_mib=float(world.requests.memory_mib[r]),
            ended=ended,
        )


def live(world: SimWorld, assigned: np.ndarray, run: RunOutcomes) -> LiveFleet:
    """Everything sent to the virtual kubelets when the simulator sent it, and run to its end."""
    fleet = LiveFleet(world.fleet)
    is_lc = world.requests.service_class == ServiceClass.LC
    window = np.ceil(world.requests.due_s / WINDOW_S)
    sent_s = np.where(is_lc, window * WINDOW_S, run.started_s)
    for r in np.lexsort((world.requests.cluster, sent_s)).tolist():
        fleet.clock.run_to(float(sent_s[r]))
        if is_lc[r]:
            fleet.call(r, int(assigned[r]), world)
        else:
            fleet.start(r, int(run.node[r]), world)
    fleet.clock.run_to(10_000.0)
    return fleet


# Requests end on two nodes within one tick of the timer, the later one on the node that comes first, and share a link.
@example(seed=350325)
@given(seed=st.integers(0, 1_000_000))
@examples(max_examples=example_count(80), deadline=None)
def test_both_worlds_end_requests_at_the_same_time(seed: int) -> None:
    """Starts and ends on nodes agree to the microsecond, answers come at most a tick of the live timers later: well within 1 %."""
    world = world_of(seed)
    assigned = np.random.default_rng(seed).integers(0, len(list(world.fleet.nodes)), len(world.requests))

    run = simulated(world, assigned)
    found = live(world, assigned, run)

    assert run.in_state(RequestState.SUCCEEDED).all()
    rows = range(len(world.requests))
    answered_s = np.array([found.answered_s[r] for r in rows])
    assert [found.started_s[r] for r in rows] == pytest.approx(run.started_s.tolist(), abs=1e-6)
    assert answered_s == pytest.approx(run.finished_s, rel=0.01)
    late_s = answered_s - run.finished_s
    is_lc = world.requests.service_class == ServiceClass.LC
    assert late_s.min() > -1e-6
    assert late_s[~is_lc].max(initial=0.0) < 1e-6
    assert late_s[is_lc].max(initial=0.0) < TICK_S + LATE_S + 1e-6
