"""The compiled engine against the same world in plain Python (`tests/fakes/reference_engine.py`)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tango.domain.outcomes import SCALING_KINDS, STATES
from tango.domain.services import ServiceClass
from tango.sim import engine
from tango.sim.engine import run_windows
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Given, simulate
from tests.fakes.reference_engine import ReferenceEngine
from tests.fakes.sim_worlds import SimWorld, draw_sim_world
from tests.long import example_count

CLOSE_S = 1e-6


def both(world: SimWorld) -> tuple[ReferenceEngine, SimulatedRun]:
    """The same world in both engines; worlds in which rounding decides are passed over."""
    reference = ReferenceEngine(world.fleet, world.requests, world.system, world.settings, outages=world.outages, costs=world.costs)
    reference.go()
    assume(not reference.close_calls)
    run = simulate(
        world.fleet, world.requests, world.system, world.settings, given=Given(outages=list(world.outages), costs=world.costs)
    )
    return reference, run


def assert_same(reference: ReferenceEngine, run: SimulatedRun) -> None:
    """Every request ended alike, every attempt was lost alike, every resize and eviction was decided alike."""
    found, rows = run.outcomes, reference.rows
    assert [STATES[code] for code in found.state] == [row.state for row in rows]
    assert [found.reasons[k] for k in found.reason] == [row.reason for row in rows]
    assert found.node.tolist() == [row.node for row in rows]
    assert found.epoch.tolist() == [row.attempts for row in rows]
    assert found.attempts.tolist() == [row.attempts - row.given_back for row in rows]
    np.testing.assert_allclose(found.finished_s, [row.finished_s for row in rows], rtol=0, atol=CLOSE_S)
    assert run.decisions.late.sum() == reference.late
    np.testing.assert_allclose(found.started_s, [row.started_s for row in rows], rtol=0, atol=CLOSE_S)

    losses = run.losses
    lost = sorted(
        (round(at_s, 5), node, losses.reasons[reason], round(work_s, 5))
        for at_s, node, reason, work_s in zip(losses.at_s, losses.node, losses.reason, losses.work_lost_s, strict=True)
    )
    expected = sorted((round(at_s, 5), node, reason, round(work_s, 5)) for at_s, _, node, reason, work_s in reference.losses)
    assert [row[1:3] for row in lost] == [row[1:3] for row in expected]
    np.testing.assert_allclose([row[0] for row in lost], [row[0] for row in expected], rtol=0, atol=2e-5)
    np.testing.assert_allclose(sorted(row[3] for row in lost), sorted(row[3] for row in expected), rtol=0, atol=2e-5)

    scaling = run.scaling
    assert [SCALING_KINDS[kind] for kind in scaling.kind] == [kind for _, kind, *_ in reference.scalings]
    assert scaling.node.tolist() == [node for _, _, node, *_ in reference.scalings]
    assert scaling.service.tolist() == [service for _, _, _, service, *_ in reference.scalings]
    np.testing.assert_allclose(scaling.at_s, [at_s for at_s, *_ in reference.scalings], rtol=0, atol=CLOSE_S)
    np.testing.assert_array_equal(scaling.after_millicores, [after for *_, after in reference.scalings])


@given(seed=st.integers(0, 1_000_000))
@settings(max_examples=example_count(80), deadline=None)
def test_the_engine_does_what_the_reference_does(seed: int) -> None:
    """Random tiny worlds without failures: the same ends, nodes and decisions within a microsecond."""
    reference, run = both(draw_sim_world(seed, failures=False))

    assert_same(reference, run)
    assert run.forbidden_changes == 0


@given(seed=st.integers(0, 1_000_000))
@settings(max_examples=example_count(80), deadline=None)
def test_the_engine_does_what_the_reference_does_while_nodes_fail(seed: int) -> None:
    """Likewise with nodes that go down and come back: what is lost, when it is noticed and where it goes next."""
    reference, run = both(draw_sim_world(seed))

    assert_same(reference, run)
    assert run.forbidden_changes == 0


def with_a_long_job(world: SimWorld, work_s: float) -> SimWorld:
    """The same with so much work in its last BE request, which runs on when everything else is over."""
    work = world.requests.cpu_work_s.copy()
    last = np.flatnonzero(world.requests.service_class == int(ServiceClass.BE))[-1:]
    work[last] = work_s
    return dataclasses.replace(world, requests=dataclasses.replace(world.requests, cpu_work_s=work))


@given(seed=st.integers(0, 1_000_000))
@settings(max_examples=example_count(20), deadline=None)
def test_what_is_passed_over_while_a_long_job_runs_would_have_changed_nothing(seed: int) -> None:
    """The reference goes through every window, round of the sharing rule and publication."""
    reference, run = both(with_a_long_job(draw_sim_world(seed, failures=False), 40.0))

    assert_same(reference, run)


def test_a_long_job_costs_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A placement with nothing to place is no reason to come back from compiled code."""
    called = []

    def counted(*arguments: Any) -> int:
        called.append(arguments[1])
        return run_windows(*arguments)

    monkeypatch.setattr(engine, "run_windows", counted)
    world = with_a_long_job(draw_sim_world(7, failures=False), 10_000.0)
    run = simulate(world.fleet, world.requests, world.system, world.settings)

    assert run.outcomes.finished_s.max() > 2_000.0
    assert len(called) < 500


def test_the_drawn_worlds_have_in_them_what_they_are_drawn_for() -> None:
    """Evictions, cuts of BE limits, resizes, timeouts, shed requests, exhausted attempts and every reason of a loss occur; nodes are
    crowded, and under `burst` CPU requests move alone, with evictions."""
    reasons, states, kinds, cut, crowded, burst, all_seen = set(), set(), set(), False, 0, set(), False
    for seed in range(200):
        world = draw_sim_world(seed)
        reference = ReferenceEngine(
            world.fleet, world.requests, world.system, world.settings, outages=world.outages, costs=world.costs
        )
        reference.go()
        reasons |= {reason for _, _, _, reason, _ in reference.losses} | {row.reason for row in reference.rows}
        states |= {row.state for row in reference.rows}
        kinds |= {kind for _, kind, *_ in reference.scalings}
        cut |= bool((reference.be_share < 1).any())
        crowded += int(reference.crowded > 0)
        if world.system.sharing == "burst":
            burst |= {kind if before != after else "request" for _, kind, _, _, before, after in reference.scalings}
        all_seen = (
            states == {"succeeded", "failed", "shed"}
            and kinds == {"resize", "evict"}
            and cut
            and crowded > 5
            and burst == {"resize", "request", "evict"}
            and reasons >= {"evicted", "node-lost", "instance-unreachable", "timed-out", "target-unreachable", "attempts-exhausted"}
        )
        if all_seen:
            break
    assert all_seen, f"within 200 worlds: {states=}, {kinds=}, {cut=}, {crowded=}, {burst=}, {reasons=}"
