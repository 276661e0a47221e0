"""What holds in every run of the engine, whatever the world."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.domain.outcomes import STATE_CODE
from tango.domain.requests import RequestState
from tango.domain.services import ServiceClass
from tango.node_model.state import FINISHED, FREE_LIST, NONE
from tango.settings import LcSettings
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Given, _Run, simulate
from tango.sim.simulation_state import SimulationState
from tango.systems import SYSTEMS
from tests.fakes.sim_worlds import SimWorld, draw_sim_world
from tests.long import example_count

SEEDS = st.integers(0, 1_000_000)
SUCCEEDED = STATE_CODE[RequestState.SUCCEEDED]
LC_LIMIT_MIB = 16 * 64
"""Space for more requests than a world has."""


def run_of(world: SimWorld) -> SimulatedRun:
    """One run."""
    return simulate(
        world.fleet, world.requests, world.system, world.settings, given=Given(outages=world.outages, costs=world.costs)
    )


def run_by_hand(world: SimWorld) -> _Run:
    """A run whose arrays can be looked at, not yet begun."""
    return _Run(
        world.fleet,
        world.requests,
        world.system,
        world.settings,
        seed=0,
        span_s=None,
        given=Given(outages=world.outages, costs=world.costs),
    )


@given(seed=SEEDS)
@settings(max_examples=example_count(80), deadline=None)
def test_every_request_ends_once_and_every_attempt_is_accounted_for(seed: int) -> None:
    """Each stands in a terminal state with a time; an attempt either succeeded or is in the list of losses."""
    world = draw_sim_world(seed)

    run = run_of(world)

    found = run.outcomes
    ended = found.in_state(RequestState.SUCCEEDED, RequestState.FAILED, RequestState.SHED)
    succeeded = found.state == SUCCEEDED
    assert ended.all()
    assert (found.finished_s >= found.due_s).all()
    assert (found.started_s[succeeded] <= found.finished_s[succeeded]).all()
    assert (found.node[succeeded] >= 0).all()
    assert found.epoch.sum() == succeeded.sum() + len(run.losses)
    assert found.attempts.max() <= world.settings.lease.max_attempts


@given(seed=SEEDS)
@settings(max_examples=example_count(80), deadline=None)
def test_no_node_ever_gives_more_cpu_or_memory_than_it_has(seed: int) -> None:
    """Looked at after every event, through failures, evictions and resizes."""
    run = run_of(draw_sim_world(seed))

    assert run.worst_cpu_cores <= 1e-9
    assert run.forbidden_changes == 0
    assert run.worst_held <= 1e-9


@given(seed=SEEDS)
@settings(max_examples=example_count(80), deadline=None)
def test_work_that_counts_and_work_that_was_lost_is_the_work_that_nodes_did(seed: int) -> None:
    """BE: completed plus thrown away is what the node model did. LC: nothing completed that was not done, and nothing more was done
    where no attempt was lost."""
    world = draw_sim_world(seed)
    run = run_by_hand(world)

    run.go(None)

    result, nodes = run.result(), run._world.engine.states.nodes
    done = np.where(result.outcomes.state == SUCCEEDED, world.requests.cpu_work_s, 0.0)
    is_lc = world.requests.service_class == ServiceClass.LC
    lost_lc = np.array([world.fleet.services[s].service_class is ServiceClass.LC for s in result.losses.service], np.bool_)
    assert nodes["be_work_s"].sum() == pytest.approx(done[~is_lc].sum() + result.losses.work_lost_s[~lost_lc].sum(), abs=1e-6)
    assert nodes["lc_work_s"].sum() >= done[is_lc].sum() - 1e-6
    if not lost_lc.any():
        assert nodes["lc_work_s"].sum() == pytest.approx(done[is_lc].sum(), abs=1e-6)


@given(seed=SEEDS, beta=st.sampled_from([0.3, 1.0]))
@settings(max_examples=example_count(80), deadline=None)
def test_lc_is_never_slower_without_be(seed: int, beta: float) -> None:
    """LC comes first on the CPU and interference only inflates, so that each LC request ends no later where BE does no work.

    It holds where nothing but BE differs: round robin looks at no load, static sharing resizes nothing, instances have memory for all
    (else a place that becomes free earlier lets in another request, which may slow a third one), a node has one instance of a service
    (of two, a request takes the one with less in it, which BE changes), and nobody is given up or shed.
    """
    drawn = draw_sim_world(seed, failures=False)
    fleet = replace(
        drawn.fleet,
        beta=beta,
        services=tuple(
            replace(s, instance_memory_mib=LC_LIMIT_MIB, instances_per_node=1, shed_after_targets=0.0) if s.target_ms else s
            for s in drawn.fleet.services
        ),
        clusters=tuple(
            replace(c, nodes=tuple(replace(n, memory_mib=8 * LC_LIMIT_MIB) for n in c.nodes)) for c in drawn.fleet.clusters
        ),
    )
    patient = replace(drawn.settings, lc=LcSettings(timeout_min_s=1e6))
    world = replace(drawn, fleet=fleet, settings=patient, system=SYSTEMS["k8s-native"])
    is_lc = world.requests.service_class == ServiceClass.LC
    # The turn of round robin is the number of the request, so BE stays in the list and has nothing to do.
    idle = replace(world.requests, cpu_work_s=np.where(is_lc, world.requests.cpu_work_s, 0.0))

    beside_be, alone = run_of(world), run_of(replace(world, requests=idle))

    assert (alone.outcomes.state == SUCCEEDED).all()
    assert (alone.outcomes.finished_s[is_lc] <= beside_be.outcomes.finished_s[is_lc] + 1e-9).all()


def test_be_slows_lc_where_it_interferes() -> None:
    """The property above is not empty: in some world BE makes LC later."""
    later = 0
    for seed in range(20):
        world = replace(draw_sim_world(seed, failures=False), system=SYSTEMS["k8s-native"])
        world = replace(world, fleet=replace(world.fleet, beta=1.0))
        is_lc = world.requests.service_class == ServiceClass.LC
        idle = replace(world.requests, cpu_work_s=np.where(is_lc, world.requests.cpu_work_s, 0.0))
        run, alone = run_of(world), run_of(replace(world, requests=idle))
        later += int((run.outcomes.finished_s[is_lc] > alone.outcomes.finished_s[is_lc] + 1e-3).sum())

    assert later > 0


def test_neighbours_slow_each_other_in_worlds_that_declare_it() -> None:
    """The worlds above are drawn with interference by kinds too, and it makes LC and BE later than beta alone does."""
    later = {ServiceClass.LC: 0, ServiceClass.BE: 0}
    for seed in range(40):
        world = replace(draw_sim_world(seed, failures=False), system=SYSTEMS["k8s-native"])
        if not world.fleet.interference:
            continue
        run, alone = run_of(world), run_of(replace(world, fleet=replace(world.fleet, interference=(), beta=0.0)))
        slower = run.outcomes.finished_s > alone.outcomes.finished_s + 1e-3
        for of in later:
            later[of] += int(slower[world.requests.service_class == of].sum())

    assert min(later.values()) > 0


@given(seed=SEEDS, lc=st.sampled_from(["dss-lc", "dss-lc", "load-greedy", "scoring", "ceres"]))
@settings(max_examples=example_count(100), deadline=None)
def test_what_is_believed_after_a_dispatch_is_what_was_published(seed: int, lc: str) -> None:
    """Bit for bit: own nodes, requests under way abroad and the batch are counted in for one dispatch and put back after it."""
    drawn = draw_sim_world(seed)
    run = run_by_hand(replace(drawn, system=replace(drawn.system, lc=lc)))

    for window in range(1, 80):
        run._run_until(window, ask_again=False)
        engine = run._world.engine
        believed, published = engine.belief, engine.published
        np.testing.assert_array_equal(believed.in_flight, published.in_flight)
        np.testing.assert_array_equal(believed.limit_cores, published.limit)
        np.testing.assert_array_equal(believed.price, published.price)
        np.testing.assert_array_equal(believed.best_node, published.best_node)
        np.testing.assert_array_equal(believed.best_price, published.best_price)
        np.testing.assert_array_equal(believed.demand, published.demand)


@given(seed=SEEDS)
@settings(max_examples=example_count(60), deadline=None)
def test_equal_arguments_give_equal_digests(seed: int) -> None:
    """Bit for bit, whatever else has run in the process in between."""
    world = draw_sim_world(seed)

    first = run_of(world)
    run_of(draw_sim_world(seed + 1))
    second = run_of(world)

    assert first.digest == second.digest
    np.testing.assert_array_equal(first.outcomes.finished_s, second.outcomes.finished_s)


def test_another_world_has_another_digest() -> None:
    """The digest tells runs apart: a microsecond of one request's work is enough."""
    world = draw_sim_world(3, failures=False)
    work_s = world.requests.cpu_work_s.copy()
    work_s[-1] += 1e-6

    assert run_of(world).digest != run_of(replace(world, requests=replace(world.requests, cpu_work_s=work_s))).digest


def shrink(world: SimulationState) -> None:
    """Leave every array that grows space for what is in it, and no more."""
    e = world.engine
    requests = e.states.requests[:1].copy()
    requests["next"] = NONE
    e.states.pool[FREE_LIST] = 0
    tiny = {
        name: getattr(e.lists, name)[:1].copy()
        for name in ("retries", "dispatching", "shed", "abroad_request", "abroad_s", "slots", "losses", "scalings", "cycles")
    }
    world.engine = e._replace(
        heap=e.heap[: max(1, int(e.heap_counts[0]))].copy(),
        states=e.states._replace(requests=requests),
        lists=e.lists._replace(**tiny, out=np.zeros(1, FINISHED)),
    )


@given(seed=SEEDS)
@settings(max_examples=example_count(80), deadline=None)
def test_the_digest_does_not_depend_on_how_arrays_grow(seed: int) -> None:
    """A run that begins with space for one of everything ends like any other."""
    world = draw_sim_world(seed)
    tight = run_by_hand(world)
    shrink(tight._world)

    tight.go(None)

    assert tight.result().digest == run_of(world).digest


@settings(max_examples=example_count(10), deadline=None)
@given(seed=SEEDS)
def test_a_run_does_not_depend_on_what_nodes_are_called(seed: int) -> None:
    """Clusters whose nodes have the same names give the run that clusters with names of their own give."""
    world = draw_sim_world(seed)
    alike = tuple(
        replace(c, nodes=tuple(replace(node, name=f"n{k}") for k, node in enumerate(c.nodes))) for c in world.fleet.clusters
    )

    twin = run_of(replace(world, fleet=replace(world.fleet, clusters=alike)))

    assert twin.digest == run_of(world).digest
