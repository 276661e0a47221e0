"""The replay of recorded runs: what is read from their rows, and that a run whose delays are known comes out again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tango.analysis.metrics import run_metrics
from tango.analysis.tenant_figures import tenant_figures
from tango.domain.outcomes import PHASES, RequestPhases, RunOutcomes
from tango.domain.tenant_shares import RequestTenants
from tango.domain.tenants import Tenant
from tango.errors import UsageError
from tango.experiments.replaying import live_delays, replay, requests_of
from tango.fleets import load_fleet
from tango.settings import Settings, SimSettings
from tango.sim.decision_costs import DecisionCost, DecisionCosts
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Given, simulate
from tango.systems import system
from tango.traces.workloads import Workload, draw_requests
from tests.fakes.run_records import NO_DECISIONS, NO_SCALING, outcomes_of

FLEET = load_fleet("single")
GREEDY = system("load-greedy")
WAY_S = 0.03
"""From the end of a window to the call, in the run that stands for a live one."""


def _recorded() -> SimulatedRun:
    """A run with delays of its own, as its rows would be read."""
    sim = SimSettings(lc_window_s=0.01, be_tick_s=0.2, staleness_s=0.1, pod_start_s=0.4, be_batch_limit=256)
    rows = [DecisionCost(kind=kind, policy="load-greedy", nodes=1, requests=1, ms=1e3 * WAY_S) for kind in ("lc", "be")]
    requests = draw_requests(Workload(lc=("p3",), be=("p3",), duration_s=20.0, load=0.7), FLEET, 5)
    return simulate(
        FLEET, requests, GREEDY, dataclasses.replace(Settings(), sim=sim), span_s=20.0, given=Given(costs=DecisionCosts(rows))
    )


@pytest.fixture(scope="module")
def recorded() -> SimulatedRun:
    """Made once."""
    return _recorded()


def test_the_delays_of_a_run_are_found_in_its_rows(recorded: SimulatedRun) -> None:
    """Those that it was made with, up to what a tick or a queue adds."""
    found = live_delays(recorded.outcomes, recorded.decisions, recorded.scaling, FLEET, Settings(), phases=None)

    assert found.lc_window_s == 0.01
    assert found.lc_dispatch_s == pytest.approx(WAY_S, abs=0.002)
    assert found.be_cycle_s == pytest.approx(WAY_S)
    assert found.pod_start_s == pytest.approx(0.4 + Settings().replay.be_window_s / 2, abs=0.05)
    assert found.actuation_s == pytest.approx(FLEET.actuation_delay_s)


def test_a_replayed_run_has_the_figures_of_the_recorded_one(recorded: SimulatedRun) -> None:
    """Every delay has been read from rows. QoS within five points: the way came after the decision here, and comes before it there."""
    told = run_metrics(recorded.outcomes, recorded.losses, recorded.samples, recorded.decisions, recorded.scaling)
    delays = live_delays(recorded.outcomes, recorded.decisions, recorded.scaling, FLEET, Settings(), phases=None)

    _, again = replay(recorded.outcomes, delays, FLEET, GREEDY, Settings(), {})

    for key, points in (("lc_qos_rate", 0.05), ("utilization_cpu", 0.01)):
        assert float(again[key] or 0) == pytest.approx(float(told[key] or 0), abs=points), key
    assert float(again["be_cpu_seconds_per_s"] or 0) == pytest.approx(float(told["be_cpu_seconds_per_s"] or 0), rel=0.02)


def test_a_sped_up_run_is_replayed_in_its_own_wall_time(recorded: SimulatedRun) -> None:
    """Its rows hold divided times, works and targets; figures come out in trace time, where the offered work is the same."""
    delays = live_delays(recorded.outcomes, recorded.decisions, recorded.scaling, FLEET, Settings(), phases=None)
    fast = _sped_up(recorded.outcomes, 2.0)

    run, figures = replay(fast, delays, FLEET, GREEDY, Settings(), {})

    assert run.outcomes.due_s[-1] == pytest.approx(recorded.outcomes.due_s[-1] / 2)
    offered = recorded.outcomes.service_class == 1
    work_per_s = recorded.outcomes.cpu_work_s[offered].sum() / recorded.outcomes.span_s
    assert float(figures["be_cpu_seconds_per_s"] or 0) == pytest.approx(work_per_s, rel=0.15)
    assert float(figures["lc_latency_p50_ms"] or 0) > 2e3 * WAY_S  # the way to service is not sped up


def test_a_request_that_was_late_at_the_door_is_late_in_the_replay(recorded: SimulatedRun) -> None:
    """The live path is replayed request by request: its tail is a matter of the machine, and no system could help it."""
    outcomes = recorded.outcomes
    lc = np.flatnonzero(outcomes.service_class == 0)
    late = lc[lc % 7 == 0]
    started_s, finished_s = outcomes.started_s.copy(), outcomes.finished_s.copy()
    started_s[late] += 0.5
    finished_s[late] += 0.5
    slow = dataclasses.replace(outcomes, started_s=started_s, finished_s=finished_s)
    delays = live_delays(slow, recorded.decisions, recorded.scaling, FLEET, Settings(), phases=None)

    run, _ = replay(slow, delays, FLEET, GREEDY, Settings(), {})

    waited_s = run.outcomes.started_s - run.outcomes.due_s
    np.testing.assert_array_equal(run.outcomes.due_s, outcomes.due_s)
    assert np.median(waited_s[np.setdiff1d(lc, late)]) == pytest.approx(
        np.median((outcomes.started_s - outcomes.due_s)[lc]), abs=0.01
    )
    assert (waited_s[late] > 0.5).mean() > 0.9


def test_an_answer_takes_as_long_on_its_way_back_as_the_call_on_its_way_there(recorded: SimulatedRun) -> None:
    """Rows have the way there; half of the round trip is the network's on both."""
    outcomes = recorded.outcomes
    half_rtt_s, unknown_s = FLEET.rtt_ms()[0, 0] / 2e3, np.full(len(outcomes), np.nan)
    start_s = np.where(outcomes.service_class == 0, half_rtt_s + 0.007, np.nan)
    phases = RequestPhases(**{name: start_s if name == "start_s" else unknown_s for name in PHASES})
    columns = (recorded.decisions, recorded.scaling, FLEET, Settings())
    with_way, without = (live_delays(outcomes, *columns, phases=known) for known in (phases, None))

    runs = [replay(outcomes, delays, FLEET, GREEDY, Settings(), {})[0].outcomes for delays in (with_way, without)]

    assert (with_way.lc_back_s, without.lc_back_s) == (pytest.approx(0.007), 0.0)
    lc = outcomes.service_class == 0
    slower_s = np.median((runs[0].finished_s - runs[0].due_s)[lc]) - np.median((runs[1].finished_s - runs[1].due_s)[lc])
    assert slower_s == pytest.approx(0.007, abs=0.001)


def test_what_has_ended_counts_as_in_flight_until_it_is_written_and_read() -> None:
    """Of few requests each is alone in its group and waits for all of it; of many the mean is half of it."""
    settings = Settings()
    outcomes = outcomes_of(
        [{"due": float(k)} for k in range(20)],
        services=("web", "batch"),
        clusters=("c1",),
        nodes=("c1-n1",),
        node_cluster=np.zeros(1, np.int32),
    )

    found = live_delays(outcomes, NO_DECISIONS, NO_SCALING, FLEET, settings, phases=None)

    longest_s = settings.lc.settle_every_s + settings.lc.snapshot_max_age_s / 2
    assert found.lc_settle_s == pytest.approx(longest_s, rel=0.05)


def test_what_requests_had_waited_counts_in_the_tails_by_which_instances_grow() -> None:
    """Live, a tail is measured from due times: a way that takes four fifths of the target takes them off the slack, in the replay too."""
    requests = draw_requests(Workload(lc=("p3",), be=("p3",), duration_s=20.0, load=0.3), FLEET, 5)
    waited_s = np.where(requests.service_class == 0, 0.8 * requests.target_s, 0.0)

    slow, quick = (simulate(FLEET, requests, GREEDY, Settings(), given=Given(waited_s=waited)) for waited in (waited_s, 0.0))

    assert slow.scaling.slack[0] == pytest.approx(quick.scaling.slack[0] - 0.8)
    np.testing.assert_array_equal(slow.outcomes.due_s, quick.outcomes.due_s)


def test_tenants_of_a_run_share_in_its_replay_as_they_do_live(recorded: SimulatedRun) -> None:
    """Every third request is blue's, with a quota of one pod: it waits the longer for it, and its figures are of its own requests, in the
    order of the recorded run."""
    outcomes = recorded.outcomes
    delays = live_delays(outcomes, recorded.decisions, recorded.scaling, FLEET, Settings(), phases=None)
    owners = RequestTenants((np.arange(len(outcomes)) % 3 > 0).astype(np.int32), ("blue", "red"))
    one_pod = Tenant(name="blue", quota=(("cpu", 500),))

    run, _ = replay(outcomes, delays, FLEET, GREEDY, Settings(), {}, owners=owners, tenants={"blue": one_pod})

    assert run.tenants is not None
    blue, red = tenant_figures(run.outcomes, run.tenants)
    is_be = outcomes.service_class == 1
    assert (blue.requests, red.requests) == (int((is_be & (owners.tenant == 0)).sum()), int((is_be & (owners.tenant == 1)).sum()))
    assert float(blue.wait_mean_s or 0) > float(red.wait_mean_s or 0)
    assert float(blue.over_quota or 0) > 0


def test_settings_given_by_hand_go_before_those_of_the_run(recorded: SimulatedRun) -> None:
    """So that one can ask what a slower pod start would have cost."""
    delays = live_delays(recorded.outcomes, recorded.decisions, recorded.scaling, FLEET, Settings(), phases=None)

    run, _ = replay(recorded.outcomes, delays, FLEET, GREEDY, Settings(), {"sim": {"pod_start_s": 3.0}})

    be = run.outcomes.service_class == 1
    assert (run.outcomes.started_s - run.outcomes.due_s)[be].min() >= 3.0


@pytest.mark.parametrize(("count", "window_s"), [(10, 0.01), (30_000, 0.01), (60_000, 0.02), (600_000, 0.02)])
def test_the_window_follows_the_rate_and_divides_both_ticks(count: int, window_s: float) -> None:
    """As the live release does, between its shortest and its longest; the engine takes whole numbers of windows."""
    due_s = np.linspace(0.0, 100.0, count)
    one = outcomes_of(
        [{"due": 0.0}], services=("web", "batch"), clusters=("c1",), nodes=("c1-n1",), node_cluster=np.zeros(1, np.int32)
    )
    columns = {
        f.name: np.repeat(getattr(one, f.name), count)
        for f in dataclasses.fields(one)
        if isinstance(getattr(one, f.name), np.ndarray) and f.name != "node_cluster"
    }
    outcomes = dataclasses.replace(one, **{**columns, "due_s": due_s})

    assert live_delays(outcomes, NO_DECISIONS, NO_SCALING, FLEET, Settings(), phases=None).lc_window_s == window_s


def test_names_are_looked_up_in_the_fleet() -> None:
    """A database lists clusters and services by name, a fleet in its own order; what the fleet does not have is refused."""
    rows = [{"due": 1.0, "cls": 1, "service": 0}, {"due": 2.0, "service": 1}]
    recorded = outcomes_of(rows, services=("batch", "web"), clusters=("c1",), nodes=("c1-n1",), node_cluster=np.zeros(1, np.int32))
    strange = dataclasses.replace(recorded, services=("batch", "chat"))

    names = requests_of(recorded, FLEET)

    assert [names.services[k] for k in names.service] == ["batch", "web"]
    with pytest.raises(UsageError, match="the fleet has no service chat, which requests of the run name; it has: web, batch"):
        requests_of(strange, FLEET)


def _sped_up(outcomes: RunOutcomes, speed: float) -> RunOutcomes:
    """The same run, as its rows would be at that speed."""
    divided = {name: getattr(outcomes, name) / speed for name in ("due_s", "target_s", "started_s", "finished_s", "cpu_work_s")}
    return dataclasses.replace(outcomes, speed=speed, **divided)
