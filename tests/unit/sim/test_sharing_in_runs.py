"""Sharing rules as a run shows them: who is evicted, what it costs, and that limits come back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango.domain.outcomes import SCALING_KINDS, STATES
from tango.settings import LcSettings, Settings, SharingSettings, SimSettings
from tango.sim.failures import outage
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Given, simulate
from tango.systems import System
from tests.fakes.sim_worlds import BATCH, WEB, fleet_of, requests_of

SETTINGS = Settings(
    lc=LcSettings(timeout_min_s=1000.0), sharing=SharingSettings(min_samples=2), sim=SimSettings(charge_decisions=False)
)
SMALL_WEB = replace(WEB, cpu_request_millicores=100, cpu_limit_millicores=200, target_ms=300.0)
"""An instance of a fifth of a core: a request of 0.1 CPU-seconds alone takes half a second, and is late."""


def run_of(sharing: str, *rows: tuple[float, str, float], millicores: int = 2000) -> SimulatedRun:
    """One node under a sharing rule."""
    fleet = fleet_of((millicores,), services=(SMALL_WEB, BATCH))
    system = System(name=sharing, lc="load-greedy", be="load-greedy", sharing=sharing)
    return simulate(fleet, requests_of(fleet, *sorted(rows)), system, SETTINGS)


def test_be_is_evicted_least_work_lost_first_and_comes_back_to_finish() -> None:
    """Six pods hold 1800 of 2000 m. LC is late by a quarter at 5 s and asks for 250 of request where 200 is what there is beside BE:
    one pod goes, and it is one of the three that started a second later than the others."""
    early, late = [(0.0, "batch", 8.0)] * 3, [(1.5, "batch", 8.0)] * 3

    run = run_of("hrm", *early, *late, *[(3.0 + 0.3 * k, "web", 0.1) for k in range(8)])

    found = run.outcomes
    is_be = found.service_class == 1
    evicted = is_be & (found.epoch > 1)
    kinds = [SCALING_KINDS[kind] for kind in run.scaling.kind]
    assert {STATES[state] for state in found.state} == {"succeeded"}
    assert kinds.count("evict") == evicted.sum() == len(run.losses) > 0
    assert (found.due_s[evicted] == 1.5).all()
    assert not evicted[is_be & (found.due_s == 0.0)].any()
    assert {found.reasons[reason] for reason in run.losses.reason} == {"evicted"}
    assert (run.losses.work_lost_s > 0).all()
    assert (found.attempts[is_be] == 1).all()  # as live, an eviction costs its request no attempt
    assert (found.finished_s[evicted] > found.finished_s[is_be & ~evicted].max()).all()


def test_nobody_is_evicted_under_the_other_rules() -> None:
    """The same crowd under `static` and `ceres`: LC is as late, and every pod keeps its first attempt."""
    rows = [(0.0, "batch", 8.0)] * 6 + [(3.0 + 0.3 * k, "web", 0.1) for k in range(8)]

    for rule in ("static", "ceres"):
        run = run_of(rule, *rows)
        assert (run.outcomes.epoch == 1).all()
        assert SCALING_KINDS.index("evict") not in run.scaling.kind.tolist()


def test_static_sharing_resizes_nothing() -> None:
    """Requests and limits stay as declared, however late LC is."""
    run = run_of("static", *[(0.1 * k, "web", 0.1) for k in range(40)])

    assert len(run.scaling) == 0


def test_an_instance_that_is_late_grows_and_goes_back_when_it_is_idle() -> None:
    """Under `hrm` its limit rises while its tail is beyond the target, and ends near the declared one."""
    fleet = fleet_of((4000,), services=(SMALL_WEB, BATCH))
    rows = [(0.1 * k, "web", 0.1) for k in range(40)] + [(150.0, "web", 0.01)]
    system = System(name="hrm", lc="load-greedy", be="load-greedy", sharing="hrm")

    scaling = simulate(fleet, requests_of(fleet, *rows), system, SETTINGS).scaling

    limit = scaling.after_millicores
    np.testing.assert_array_equal(scaling.before_millicores[1:], limit[:-1])
    assert scaling.before_millicores[0] == 200
    assert limit.max() >= 800
    assert limit[-1] < 250
    assert np.diff(scaling.at_s).min() >= SETTINGS.sharing.hold_s
    assert scaling.actuation_ms == pytest.approx(100.0)


def test_burst_gives_every_instance_the_node_once_and_moves_requests_alone() -> None:
    """Both instances get four cores at the first round and keep them; what slack moves from then on is one instance's request, up and
    back; no request is late that would be in time on a free node."""
    fleet = fleet_of((4000,), services=(SMALL_WEB, replace(SMALL_WEB, name="chat"), BATCH))
    rows = [(0.1 + 0.02 * k, "web", 0.1) for k in range(200)] + [(150.0, "web", 0.01)]
    system = System(name="burst", lc="dss-lc", be="load-greedy", sharing="burst")

    run = simulate(fleet, requests_of(fleet, *rows), system, SETTINGS)

    scaling = run.scaling
    np.testing.assert_array_equal(scaling.after_millicores, 4000.0)
    assert scaling.before_millicores.tolist() == [200.0, 200.0] + [4000.0] * (len(scaling) - 2)
    assert scaling.at_s[:2].tolist() == [0.0, 0.0]
    assert set(scaling.service[2:].tolist()) == {0}
    assert len(scaling) > 4


def test_burst_evicts_be_for_requests_alone() -> None:
    """A node full of BE: none goes for the limits, in the first round; LC that is late at any size pushes them out for its request."""
    slow = replace(SMALL_WEB, target_ms=20.0)
    fleet = fleet_of((2000,), services=(slow, BATCH))
    rows = [(0.0, "batch", 8.0)] * 6 + [(3.0 + 0.3 * k, "web", 0.1) for k in range(8)]
    system = System(name="burst", lc="load-greedy", be="load-greedy", sharing="burst")

    run = simulate(fleet, requests_of(fleet, *rows), system, SETTINGS)

    evicted = run.scaling.kind == SCALING_KINDS.index("evict")
    grown = ~evicted & (run.scaling.before_millicores == run.scaling.after_millicores)
    assert evicted.any()
    assert set(run.scaling.at_s[evicted].tolist()) <= set(run.scaling.at_s[grown].tolist())
    assert {STATES[state] for state in run.outcomes.state} == {"succeeded"}


def test_an_instance_that_restarted_under_burst_gets_its_node_again() -> None:
    """A node comes back with what is declared: a hold later its limit is the node's once more."""
    fleet = fleet_of((4000,), services=(SMALL_WEB, BATCH))
    rows = [(0.1 * k, "web", 0.05) for k in range(400)]
    system = System(name="burst", lc="dss-lc", be="load-greedy", sharing="burst")
    quick = replace(SETTINGS, sim=SimSettings(charge_decisions=False, lost_after_s=0.5))

    scaling = simulate(
        fleet, requests_of(fleet, *rows), system, quick, given=Given(outages=list(outage(0, at_s=10.05, for_s=5.0)))
    ).scaling

    raised = scaling.before_millicores < scaling.after_millicores
    assert scaling.before_millicores[raised].tolist() == [200.0, 200.0]
    assert scaling.after_millicores[raised].tolist() == [4000.0, 4000.0]
    assert scaling.at_s[raised].tolist() == [0.0, pytest.approx(15.05 + SETTINGS.sharing.hold_s, abs=1.0)]


def test_ceres_cuts_be_limits_while_lc_is_short_of_slack_and_gives_them_back() -> None:
    """A pod beside late LC takes longer than its work; one that comes when LC is long gone takes exactly its work."""
    rows = [(0.0, "batch", 8.0), (100.0, "batch", 8.0), *[(1.0 + 0.1 * k, "web", 0.1) for k in range(40)]]

    ceres, static = (run_of(rule, *rows, millicores=4000).outcomes for rule in ("ceres", "static"))

    took_s = [(run.finished_s - run.started_s)[run.service_class == 1] for run in (ceres, static)]
    assert took_s[0][0] > 10.0
    assert [took_s[0][1], *took_s[1]] == pytest.approx([8.0, 8.0, 8.0])


def test_be_gets_all_that_lc_leaves_idle() -> None:
    """On a node of two cores two pods with a limit of one core each have them, with LC instances standing by."""
    found = run_of("hrm", (0.0, "batch", 4.0), (0.0, "batch", 4.0)).outcomes

    assert found.finished_s == pytest.approx([5.2, 5.2])


def test_lc_takes_its_cpu_from_be_at_once() -> None:
    """LC before BE: a request is served as if it were alone, and the pods take as much longer as it took."""
    rows = [(0.0, "batch", 4.0), (0.0, "batch", 4.0), (2.0, "web", 0.1)]

    found = run_of("static", *rows).outcomes

    assert found.finished_s[2] - found.started_s[2] == pytest.approx(0.5 + 0.0001)
    assert found.finished_s[:2] == pytest.approx([5.25, 5.25])
