"""A third resource in a simulated run: it decides who fits, as CPU, memory and the number of pods do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango.analysis.metrics import run_metrics
from tango.domain.fleet import Fleet
from tango.domain.outcomes import STATES
from tango.domain.plans import BePlan
from tango.domain.quantities import Amounts
from tango.domain.requests import BePending
from tango.domain.snapshot import FleetSnapshot
from tango.settings import BeSettings, LeaseSettings, Settings, SimSettings
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Given, simulate
from tango.systems import System
from tests.fakes.sim_worlds import BATCH, WEB, fleet_of, requests_of

GPU = "nvidia.com/gpu"
SETTINGS = Settings(sim=SimSettings(charge_decisions=False, audit=True), lease=LeaseSettings(max_attempts=2))
POLICIES = ("load-greedy", "scoring", "k8s-native", "dcg-be", "gnn-sac")


def world(*, has: Amounts, asks: Amounts, pods: int = 110, lc_asks: Amounts = ()) -> Fleet:
    """One node of eight cores with an LC instance."""
    fleet = fleet_of((8000,), services=(replace(WEB, extended=lc_asks), replace(BATCH, extended=asks)))
    [cluster] = fleet.clusters
    node = replace(cluster.nodes[0], extended=has, pods=pods, memory_mib=16384)
    return replace(fleet, clusters=(replace(cluster, nodes=(node,)),))


def run_of(fleet: Fleet, *, be: str = "load-greedy") -> SimulatedRun:
    """Four pods of 4 CPU-seconds that come at once, on CPU and memory for all of them."""
    system = System(name="s", lc="load-greedy", be=be, sharing="static")
    return simulate(fleet, requests_of(fleet, *[(0.0, "batch", 4.0)] * 4), system, SETTINGS)


@pytest.mark.parametrize("be", POLICIES)
def test_pods_take_turns_at_what_there_is_too_little_of(be: str) -> None:
    """Two devices for four pods that each ask for one: two run, then the others; nobody is placed where he does not fit."""
    run = run_of(world(has=((GPU, 2000),), asks=((GPU, 1000),)), be=be)

    found = run.outcomes
    assert {STATES[state] for state in found.state} == {"succeeded"}
    assert found.attempts.tolist() == [1] * 4
    started = np.sort(found.started_s)
    assert started[1] < 2.0
    assert started[2] >= np.sort(found.finished_s)[0]
    assert run.worst_held <= 0.0


@pytest.mark.parametrize("be", POLICIES)
def test_pods_themselves_are_counted(be: str) -> None:
    """A node that admits three pods, one of which is an LC instance, runs two at a time."""
    run = run_of(world(has=(), asks=(), pods=3), be=be)

    started = np.sort(run.outcomes.started_s)
    assert started[1] < 2.0
    assert started[2] >= np.sort(run.outcomes.finished_s)[0]
    assert run.outcomes.attempts.tolist() == [1] * 4


def test_thousandths_share_a_device() -> None:
    """Four halves on two devices run together."""
    run = run_of(world(has=((GPU, 2000),), asks=((GPU, 500),)))

    assert run.outcomes.started_s.max() < 2.0


def test_what_lc_instances_hold_is_not_there_for_be() -> None:
    """A request that fits nowhere beside them fails at the door, with its reason."""
    run = run_of(world(has=((GPU, 1000),), asks=((GPU, 1000),), lc_asks=((GPU, 500),)))

    assert {STATES[state] for state in run.outcomes.state} == {"failed"}
    assert {run.outcomes.reasons[reason] for reason in run.outcomes.reason} == {"does-not-fit"}


def test_a_policy_that_does_not_count_devices_is_refused_by_name() -> None:
    """A plan that gives one device to four pods is no plan; the message names resource, node and what is there."""
    fleet = world(has=((GPU, 1000),), asks=((GPU, 1000),))
    asked: list[int] = []

    def careless(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
        asked.append(len(pending))
        return BePlan(node=np.zeros(len(pending), np.int32), policy="careless")

    with pytest.raises(Exception, match=rf"{GPU} requests of 4 for node a/a1, which has 1 free"):
        simulate(
            fleet,
            requests_of(fleet, *[(0.0, "batch", 4.0)] * 4),
            System(name="s", lc="load-greedy", be="mine", sharing="static"),
            SETTINGS,
            given=Given(be=careless),
        )
    assert asked == [4]


def test_a_run_tells_how_much_was_held() -> None:
    """In its samples and its figures: one of two devices throughout."""
    fleet = world(has=((GPU, 2000),), asks=(), lc_asks=((GPU, 1000),))
    run = run_of(fleet)

    assert run.samples.extended == (GPU,)
    assert set(run.samples.extended_allocatable.ravel().tolist()) == {2000.0}
    assert set(run.samples.extended_held.ravel().tolist()) == {1000.0}
    metrics = run_metrics(run.outcomes, run.losses, run.samples, run.decisions, run.scaling)
    assert metrics.details[f"held {GPU}"] == pytest.approx(0.5)
