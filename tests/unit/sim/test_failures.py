"""Nodes that fail and come back, in worlds small enough for paper."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango.domain.lifecycle import FREE_EPOCHS
from tango.domain.outcomes import STATES
from tango.settings import LcSettings, LeaseSettings, Settings, SimSettings
from tango.sim.codes import NODE_DOWN
from tango.sim.failures import Outage, draw_outages, outage
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Given, simulate
from tango.systems import System
from tests.fakes.sim_worlds import fleet_of, requests_of

GREEDY = System(name="greedy", lc="load-greedy", be="load-greedy", sharing="static")
PAIR = fleet_of((2000, 2000))
RTT_S = 0.0002


def run_with(
    outages: list[Outage], *rows: tuple[float, str, float], lost_after_s: float = 0.5, attempts: int = 6, timeout_s: float = 60.0
) -> SimulatedRun:
    """Some requests on a pair of nodes, a tenth of a second a window, pods that start after 0.2 s."""
    settings = Settings(
        lc=LcSettings(timeout_min_s=timeout_s),
        lease=LeaseSettings(max_attempts=attempts),
        sim=SimSettings(lost_after_s=lost_after_s, charge_decisions=False),
    )
    return simulate(PAIR, requests_of(PAIR, *rows), GREEDY, settings, given=Given(outages=outages))


def ends(run: SimulatedRun) -> list[tuple[str, str, int, int]]:
    """(state, reason, node, attempts) of every request."""
    found = run.outcomes
    return [
        (STATES[state], found.reasons[reason], node, attempts)
        for state, reason, node, attempts in zip(
            found.state.tolist(), found.reason.tolist(), found.node.tolist(), found.attempts.tolist(), strict=True
        )
    ]


def losses(run: SimulatedRun) -> list[tuple[float, int, str, float]]:
    """(time, node, reason, CPU-seconds) of every attempt that was lost."""
    found = run.losses
    return [
        (round(at_s, 9), node, found.reasons[reason], round(work_s, 9))
        for at_s, node, reason, work_s in zip(
            found.at_s.tolist(), found.node.tolist(), found.reason.tolist(), found.work_lost_s.tolist(), strict=True
        )
    ]


def test_an_lc_request_on_a_node_that_dies_runs_elsewhere_once_that_is_noticed() -> None:
    """Lost at 1.05 s, noticed at 1.55 s, dispatched to the other node at 1.6 s, where it takes its 1.5 s from the start."""
    run = run_with(outage(0, at_s=1.05, for_s=100.0), (0.0, "web", 1.5))

    assert ends(run) == [("succeeded", "", 1, 2)]
    assert losses(run) == [(1.05, 0, "node-lost", 0.0)]
    assert run.outcomes.started_s[0] == pytest.approx(1.6 + RTT_S / 2)
    assert run.outcomes.finished_s[0] == pytest.approx(1.6 + 1.5 + RTT_S)


def test_a_be_request_on_a_node_that_dies_is_requeued_and_its_work_counted_as_lost() -> None:
    """It started at 1.2 s on one core; at 2.25 s 1.05 CPU-seconds are lost; noticed at 2.75 s, it starts anew at 3.2 s elsewhere."""
    run = run_with(outage(0, at_s=2.25, for_s=100.0), (0.0, "batch", 5.0))

    assert ends(run) == [("succeeded", "", 1, 1)]
    assert run.outcomes.epoch.tolist() == [2]
    assert losses(run) == [(2.25, 0, "node-lost", 1.05)]
    assert (run.outcomes.started_s[0], run.outcomes.finished_s[0]) == pytest.approx((3.2, 8.2))


def test_a_node_that_fails_for_good_takes_nothing_with_it() -> None:
    """Ten requests of each class and one node that never comes back: all of them succeed on the other."""
    rows = sorted([(0.3 * k, "web", 0.2) for k in range(10)] + [(0.3 * k, "batch", 0.5) for k in range(10)])

    run = run_with([(1.23, NODE_DOWN, 0)], *rows)

    assert {state for state, *_ in ends(run)} == {"succeeded"}
    late = run.outcomes.started_s > 1.23
    assert (run.outcomes.node[late] == 1).all()


def test_a_node_that_is_back_takes_requests_again() -> None:
    """Down from 1 s to 3 s; alone in its world, so that what comes at 5 s can run nowhere else."""
    fleet = fleet_of((2000,))
    requests = requests_of(fleet, (0.5, "web", 0.1), (5.0, "web", 0.1), (5.0, "batch", 0.1))

    run = simulate(fleet, requests, GREEDY, Settings(), given=Given(outages=outage(0, at_s=1.0, for_s=2.0)))

    assert ends(run) == [("succeeded", "", 0, 1)] * 3
    assert losses(run) == []


def test_be_waits_through_an_outage_of_the_whole_fleet_and_lc_is_given_up() -> None:
    """Both nodes are away for two minutes: no user waits that long, a BE request does, and nobody calls it a deadlock."""
    outages = sorted(outage(0, at_s=0.5, for_s=120.0) + outage(1, at_s=0.5, for_s=120.0))

    run = run_with(outages, (2.0, "web", 0.1), (2.0, "batch", 1.0), timeout_s=5.0)

    assert ends(run) == [("failed", "timed-out", -1, 0), ("succeeded", "", 0, 1)]
    # The last round of sharing before more than five seconds were over was at 7 s.
    assert run.outcomes.finished_s.tolist() == pytest.approx([8.0, 122.2])


def test_attempts_that_are_used_up_end_a_request() -> None:
    """Its node dies under it twice, and two attempts are all it has: failed when the second loss is noticed."""
    outages = sorted(outage(0, at_s=2.0, for_s=100.0) + outage(1, at_s=4.0, for_s=100.0))

    run = run_with(outages, (0.0, "web", 50.0), attempts=2)

    assert ends(run) == [("failed", "attempts-exhausted", 1, 2)]
    assert losses(run) == [(2.0, 0, "node-lost", 0.0), (4.0, 1, "node-lost", 0.0)]
    assert run.outcomes.finished_s[0] == pytest.approx(4.5)


def test_a_be_request_whose_nodes_die_has_its_attempts_left() -> None:
    """Its node dies under it twice, and two attempts are all it has. As live neither counts: the third one is its first."""
    outages = sorted(outage(0, at_s=2.0, for_s=1.0) + outage(1, at_s=4.0, for_s=100.0))

    run = run_with(outages, (0.0, "batch", 5.0), attempts=2)

    assert ends(run) == [("succeeded", "", 0, 1)]
    assert losses(run) == [(2.0, 0, "node-lost", 0.8), (4.0, 1, "node-lost", 0.8)]
    assert run.outcomes.epoch.tolist() == [3]


def test_a_be_request_whose_nodes_go_on_dying_fails_at_last() -> None:
    """Beyond `FREE_EPOCHS` each loss counts: after two of them its two attempts are used up."""
    outages = sorted(found for k in range(FREE_EPOCHS + 9) for n in (0, 1) for found in outage(n, at_s=2.0 + 2.0 * k, for_s=1.0))

    run = run_with(outages, (0.0, "batch", 50.0), attempts=2)

    assert ends(run)[0][:2] == ("failed", "attempts-exhausted")
    assert (run.outcomes.attempts.tolist(), run.outcomes.epoch.tolist()) == ([2], [FREE_EPOCHS + 2])
    assert {reason for _, _, reason, _ in losses(run)} == {"node-lost"}


def test_round_robin_takes_a_bounced_request_to_the_next_endpoint() -> None:
    """Sent at 1.1 s to a node that is gone and not yet known to be: it bounces once, and is served by the other."""
    system = replace(GREEDY, lc="round-robin")
    settings = Settings(sim=SimSettings(charge_decisions=False))

    run = simulate(PAIR, requests_of(PAIR, (1.05, "web", 0.1)), system, settings, given=Given(outages=[(1.0, NODE_DOWN, 0)]))

    assert ends(run) == [("succeeded", "", 1, 2)]
    assert losses(run) == [(1.1001, 0, "instance-unreachable", 0.0)]


def test_a_short_outage_is_over_before_anybody_notices() -> None:
    """Away for 0.2 s: what ran there is missed after `lost_after_s` all the same, and goes back to that node."""
    run = run_with(outage(0, at_s=1.05, for_s=0.2), (0.0, "web", 1.5), (1.3, "web", 0.1))

    assert ends(run) == [("succeeded", "", 0, 2), ("succeeded", "", 1, 1)]
    assert losses(run) == [(1.05, 0, "node-lost", 0.0)]


def test_two_outages_that_overlap_are_one() -> None:
    """A node that is up already does not start its instances again under the requests that run there."""
    fleet = fleet_of((2000,))
    requests = requests_of(fleet, (3.0, "web", 2.0), (3.0, "web", 2.0))
    overlapping = sorted(outage(0, at_s=1.0, for_s=1.0) + outage(0, at_s=1.5, for_s=2.5))

    run = simulate(fleet, requests, GREEDY, Settings(), given=Given(outages=overlapping))
    alone = simulate(fleet, requests, GREEDY, Settings(), given=Given(outages=outage(0, at_s=1.0, for_s=1.0)))

    np.testing.assert_array_equal(run.outcomes.finished_s, alone.outcomes.finished_s)


def test_outages_are_drawn_by_seed_and_node() -> None:
    """The same for every system; a node is never down twice at once, and no failure begins after the span."""
    settings = SimSettings(mtbf_s=30.0, mttr_s=10.0)

    drawn = draw_outages(settings, 4, 300.0, 7)

    assert drawn == draw_outages(settings, 4, 300.0, 7) != draw_outages(settings, 4, 300.0, 8)
    assert drawn == sorted(drawn)
    assert max(at_s for at_s, kind, _ in drawn if kind == NODE_DOWN) < 300.0
    for node in range(4):
        kinds = [kind for _, kind, n in drawn if n == node]
        assert kinds[::2] == [NODE_DOWN] * (len(kinds) // 2)
        assert NODE_DOWN not in kinds[1::2]
    assert draw_outages(replace(settings, mtbf_s=0.0), 4, 300.0, 7) == []


@pytest.mark.parametrize(("at_s", "for_s"), [(-1.0, 1.0), (0.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_an_outage_at_no_time_is_refused(at_s: float, for_s: float) -> None:
    """From 0 on, and for a finite while."""
    with pytest.raises(ValueError, match="expected finite seconds"):
        outage(0, at_s=at_s, for_s=for_s)
