"""What simulated decisions weighed: kept of few requests, as live, and without any effect on what comes out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tango.domain.candidates import read_back
from tango.domain.outcomes import STATES
from tango.settings import ExplainSettings, Settings, SimSettings
from tango.sim.candidates import ALIKE_IN_PYTHON
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Given, simulate
from tango.systems import SYSTEMS
from tests.fakes.sim_worlds import draw_sim_world, fleet_of, requests_of
from tests.long import example_count

MANY = ExplainSettings(weighed_per_s=200.0)
PAIR = fleet_of((2000, 2000))
QUIET = Settings(sim=SimSettings(charge_decisions=False))


@pytest.mark.parametrize("name", ALIKE_IN_PYTHON)
@given(seed=st.integers(0, 1_000_000))
@example(seed=4186)
@examples(max_examples=example_count(5), deadline=None)
def test_what_is_kept_changes_nothing(name: str, seed: int) -> None:
    """Bit for bit, also while nodes fail: windows whose dispatch is asked for in Python, and placements that are weighed."""
    drawn = draw_sim_world(seed)
    system = replace(drawn.system, lc=name)
    of = Given(outages=drawn.outages, costs=drawn.costs)

    plain, kept = (
        simulate(drawn.fleet, drawn.requests, system, drawn.settings, given=given) for given in (of, replace(of, kept=MANY))
    )

    assert plain.digest == kept.digest
    assert plain.weighed == {}


def kept_of(run: SimulatedRun) -> dict[tuple[int, int], str]:
    """(request, epoch) -> the node that was chosen, of all that was kept."""
    return {(one.request_id, one.epoch): one.chosen for of_row in run.weighed.values() for one in read_back(of_row)}


@pytest.mark.parametrize("system", ["tango", "load-greedy"])
def test_the_chosen_node_is_where_the_attempt_went(system: str) -> None:
    """Of every request that succeeded at its first attempt and whose candidates were kept, LC and BE."""
    rows = sorted([(0.11 * k, "web", 0.05) for k in range(60)] + [(0.2 * k, "batch", 0.3) for k in range(20)])

    run = simulate(PAIR, requests_of(PAIR, *rows), SYSTEMS[system], QUIET, given=Given(kept=MANY))

    found, kept = run.outcomes, kept_of(run)
    names = [f"{found.clusters[found.node_cluster[n]]}/{found.nodes[n]}" for n in found.node]
    for (request, epoch), chosen in kept.items():
        assert STATES[found.state[request]] == "succeeded"
        assert epoch == 1
        assert chosen == names[request]
    assert {int(found.service_class[request]) for request, _ in kept} == {0, 1}
    assert {int(run.decisions.kind[row]) for row in run.weighed} == {0, 1}


def test_no_more_are_kept_than_the_rate_says() -> None:
    """Two a second over twenty seconds, with what five seconds save up before the first; none at a rate of nothing."""
    requests = requests_of(PAIR, *[(0.01 * k, "web", 0.001) for k in range(2000)])

    few, none = (
        simulate(PAIR, requests, SYSTEMS["load-greedy"], QUIET, given=Given(kept=ExplainSettings(weighed_per_s=rate)))
        for rate in (2.0, 0.0)
    )

    assert 40 <= len(kept_of(few)) <= 52
    assert kept_of(none) == {}


def test_of_other_lc_policies_nothing_is_told() -> None:
    """Those that go by answers could not be asked in Python; of the BE policy beside them the candidates are kept."""
    rows = sorted([(0.11 * k, "web", 0.05) for k in range(60)] + [(0.2 * k, "batch", 0.3) for k in range(20)])

    run = simulate(PAIR, requests_of(PAIR, *rows), replace(SYSTEMS["load-greedy"], lc="c3"), QUIET, given=Given(kept=MANY))

    assert {int(run.decisions.kind[row]) for row in run.weighed} == {1}
