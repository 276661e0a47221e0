"""How a simulation ends when it cannot go on: a deadlock that says who waits, a plan that is refused as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tango.domain.outcomes import STATES
from tango.domain.plans import BePlan, LcPlan
from tango.domain.requests import BePending, LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.errors import Deadlock, ImpossiblePlan
from tango.settings import BeSettings, LcSettings, Settings, SimSettings
from tango.sim.codes import NODE_DOWN, PENDING, RELEASED
from tango.sim.heap import USED
from tango.sim.simulate import Given, _Run, simulate
from tango.systems import SYSTEMS, BePolicy, LcPolicy, System
from tests.fakes.sim_worlds import BATCH, WEB, fleet_of, requests_of

GREEDY = System(name="greedy", lc="load-greedy", be="load-greedy", sharing="static")
SETTINGS = Settings(sim=SimSettings(charge_decisions=False, lost_after_s=0.2))
LARGE = replace(BATCH, name="large", cpu_request_millicores=1500, cpu_limit_millicores=2000)


# ---- deadlock ----------------------------------------------------------------------------------------------------------


def test_be_that_fits_in_no_node_of_its_entry_cluster_ends_the_run_as_a_deadlock() -> None:
    """`k8s-native` never looks beyond the entry cluster: the message says who waits, where, for what, and how much is free."""
    fleet = fleet_of((1000, 1000), (4000,), services=(WEB, BATCH, LARGE))
    requests = requests_of(fleet, (0.0, "batch", 1.0), (0.0, "large", 1.0), (0.5, "large", 1.0))

    with pytest.raises(Deadlock) as refused:
        simulate(fleet, requests, SYSTEMS["k8s-native"], SETTINGS)

    [waiting] = refused.value.waiting
    assert waiting.startswith("2 x BE large that entered at a (CPU request 1500 m, memory 128 MiB at most)")
    assert "'k8s-native' finds no node" in waiting
    assert "on node b/b1" in waiting
    assert 60.0 < refused.value.at_s < 70.0


def test_be_that_fits_nowhere_fails_at_the_door() -> None:
    """No node of the fleet could ever hold it, so nobody waits for it; what fits elsewhere is not refused."""
    fleet = fleet_of((1000,), (2000,), services=(WEB, BATCH, replace(LARGE, cpu_request_millicores=1950)))
    requests = requests_of(fleet, (0.25, "large", 1.0), (0.5, "batch", 1.0))

    found = simulate(fleet, requests, GREEDY, SETTINGS).outcomes

    assert [STATES[state] for state in found.state] == ["failed", "succeeded"]
    assert [found.reasons[reason] for reason in found.reason] == ["does-not-fit", ""]
    assert (found.node[0], found.attempts[0], found.finished_s[0]) == (-1, 0, 0.25)


def test_a_pod_that_runs_for_minutes_is_no_deadlock() -> None:
    """Nothing starts or ends for longer than `stuck_after_s`, but something runs."""
    fleet = fleet_of((2000,))

    found = simulate(fleet, requests_of(fleet, (0.0, "batch", 500.0)), GREEDY, SETTINGS).outcomes

    assert found.finished_s[0] == pytest.approx(501.2)


def test_be_that_waits_for_lc_to_shrink_is_no_deadlock() -> None:
    """LC grew over the node while it was late; step by step, ten seconds each, it gives back what BE waits for."""
    small = replace(WEB, cpu_request_millicores=100, cpu_limit_millicores=200, target_ms=300.0)
    fleet = fleet_of((2000,), services=(small, replace(BATCH, cpu_request_millicores=1800, cpu_limit_millicores=1900)))
    rows = [(0.1 * k, "web", 0.2) for k in range(60)] + [(8.0, "batch", 1.0)]
    patient = replace(SETTINGS, lc=LcSettings(timeout_min_s=1000.0))

    run = simulate(fleet, requests_of(fleet, *rows), replace(GREEDY, sharing="hrm"), patient)

    assert STATES[run.outcomes.state[-1]] == "succeeded"
    assert run.outcomes.finished_s[-1] > 8.0 + SETTINGS.sim.stuck_after_s
    assert run.scaling.after_millicores.max() == 2000


def test_no_deadlock_is_seen_while_a_node_is_still_to_come_back() -> None:
    """A machine away for longer than `stuck_after_s` is something to wait for; one that never comes back is not."""
    fleet = fleet_of((2000,))
    requests = requests_of(fleet, (1.0, "batch", 1.0))
    gone = [(0.5, NODE_DOWN, 0)]

    with pytest.raises(Deadlock, match="1 x BE batch that entered at a"):
        simulate(fleet, requests, GREEDY, SETTINGS, given=Given(outages=gone))


# ---- plans of policies written in Python -------------------------------------------------------------------------------

PAIR = fleet_of((1000, 1000))
BE_ROWS = ((0.0, "batch", 1.0), (0.0, "batch", 1.0), (0.1, "batch", 1.0), (0.2, "batch", 1.0))
LC_ROWS = ((0.0, "web", 0.1), (0.05, "web", 0.1))


def be_policy_of(node: object) -> Callable[[BePending, FleetSnapshot, BeSettings], BePlan]:
    """A policy that returns these nodes whatever it is asked."""
    return lambda pending, snapshot, settings: BePlan(node=node, policy="mine")  # type: ignore[arg-type]


def lc_policy_of(
    node: object, *, late: object = None, shed: object = None
) -> Callable[[LcArrivals, FleetSnapshot, LcSettings], LcPlan]:
    """Likewise for LC."""

    def policy(arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
        no = np.zeros(len(arrivals), np.bool_)
        return LcPlan(
            node=node,  # type: ignore[arg-type]
            late=no if late is None else late,  # type: ignore[arg-type]
            shed=no if shed is None else shed,  # type: ignore[arg-type]
            expected_s=np.ones(len(arrivals)),
            policy="mine",
        )

    return policy


def run_of(rows: tuple[tuple[float, str, float], ...], *, lc: LcPolicy | None = None, be: BePolicy | None = None) -> _Run:
    """A run on a pair of nodes of one core, of which the second is gone before anything is decided."""
    given = Given(lc=lc, be=be, outages=[(0.01, NODE_DOWN, 1)])
    return _Run(PAIR, requests_of(PAIR, *rows), GREEDY, SETTINGS, seed=0, span_s=None, given=given)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (np.array([0, 2, -1, -1]), r"row 1 \(request 1\): node 2, expected a row from 0 to 1, or -1"),
        (np.array([0, -2, -1, -1]), r"row 1 \(request 1\): node -2"),
        (np.array([0.0, np.nan, -1.0, -1.0]), r"row 1 \(request 1\): node nan"),
        (np.array([0.5, -1.0, -1.0, -1.0]), r"row 0 \(request 0\): node 0.5"),
        (np.array([0, 0, 0, 0]), r"rows 0, 1, 2, 3: cpu requests of 1200m for node a/a1, which has 900m free"),
        (np.array([-1, -1, -1, 1]), r"row 3 \(request 3\): node a/a2 is not ready"),
        (np.array([0, -1, -1]), r"shape \(3,\)"),
        (np.array([[0, -1, -1, -1]]), r"shape \(1, 4\)"),
        (np.array(["a1", "", "", ""]), "expected one row number for each of 4 requests"),
    ],
)
def test_nothing_of_a_be_plan_that_is_impossible_is_applied(node: object, expected: str) -> None:
    """One bad row and the run stops, with the policy, the tick and the row; the good rows stand in no books either."""
    run = run_of(BE_ROWS, be=be_policy_of(node))

    with pytest.raises(ImpossiblePlan, match=expected) as refused:
        run.go(None)

    e = run._world.engine
    assert refused.value.policy == "mine"
    assert refused.value.cycle == "BE tick 1 (at 1 s)"
    assert e.clock["pending"][0] == 4
    assert e.progress["state"].tolist() == [PENDING] * 4
    assert e.progress["attempts"].sum() == e.heap_counts[USED] == 0
    assert e.holdings.placed.sum() == 0


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (lc_policy_of(np.array([0, 2])), r"row 1 \(request 1\): node 2"),
        (lc_policy_of(np.array([0.0, np.nan])), r"row 1 \(request 1\): node nan"),
        (lc_policy_of(np.array([0, 1])), r"row 1 \(request 1\): node a/a2 has no ready instance of web"),
        (lc_policy_of(np.array([0])), r"node has shape \(1,\)"),
        (lc_policy_of(np.array([0, 0]), late=np.zeros(1, np.bool_)), r"late has shape \(1,\)"),
        (lc_policy_of(np.array([0, 0]), shed=np.zeros(3, np.bool_)), r"shed has shape \(3,\)"),
        (lc_policy_of(np.array([0, 0]), shed=np.array([0.0, np.nan])), r"shed has shape \(2,\) and type float64"),
    ],
)
def test_nothing_of_an_lc_plan_that_is_impossible_is_applied(
    policy: Callable[[LcArrivals, FleetSnapshot, LcSettings], LcPlan], expected: str
) -> None:
    """Likewise for a dispatch, which names its cluster and its time."""
    run = run_of(tuple((due_s + 0.41, name, work_s) for due_s, name, work_s in LC_ROWS), lc=policy)

    with pytest.raises(ImpossiblePlan, match=expected) as refused:
        run.go(None)

    e = run._world.engine
    assert refused.value.policy == "mine"
    assert refused.value.cycle == "the dispatch of cluster a at 0.5 s"
    assert e.progress["state"].tolist() == [RELEASED] * 2
    assert e.progress["attempts"].sum() == e.heap_counts[USED] == 0


def test_a_plan_that_leaves_requests_alone_is_possible() -> None:
    """-1 keeps a request waiting: the policy is asked again in the next tick and the next window."""
    asked: list[int] = []

    def later(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
        asked.append(len(pending))
        return BePlan(node=np.full(len(pending), 0 if len(asked) > 2 else -1), policy="mine")

    fleet = fleet_of((1000,))
    run = simulate(fleet, requests_of(fleet, (0.0, "batch", 1.0)), GREEDY, SETTINGS, given=Given(be=later))

    assert asked == [1, 1, 1]
    assert run.outcomes.started_s[0] == pytest.approx(3.2)
    assert run.decisions.policies[run.decisions.policy[0]] == "mine"
