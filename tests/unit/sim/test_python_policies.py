"""Policies written in Python: called through snapshots, they see what compiled ones see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tango.domain.plans import BePlan, LcPlan
from tango.domain.requests import BePending, LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.be_policies import place_load_greedy
from tango.scheduling.lc.rule import LcRule, lc_rule
from tango.settings import BeSettings, LcSettings, Settings, SimSettings
from tango.sim.candidates import ALIKE_IN_PYTHON
from tango.sim.simulate import Given, simulate
from tests.fakes.sim_worlds import MIXES, draw_sim_world, fleet_of, requests_of
from tests.long import example_count


@pytest.mark.parametrize(
    "rule",
    [lc_rule(name) for name in ALIKE_IN_PYTHON],
    ids=lambda rule: rule.name,
)
@given(seed=st.integers(0, 1_000_000))
@example(seed=4186)  # a request whose cost is its target to the last bit
@examples(max_examples=example_count(40), deadline=None)
def test_a_rule_called_as_a_function_dispatches_as_the_compiled_one(rule: LcRule, seed: int) -> None:
    """Bit for bit: the same digest, whether the engine takes the rule's code or asks it window by window, also while nodes fail.

    `scoring` is left out: it scales queues by the longest one, which a snapshot tells as of now and the engine as of the publication.
    So are policies that go by how requests were answered: the engine notes that for those alone whose code it runs.
    """
    drawn = draw_sim_world(seed)
    system = replace(next(s for s in MIXES if s.name == "load-greedy"), lc=rule.name)

    def by_hand(arrivals: LcArrivals, snapshot: FleetSnapshot, given: LcSettings) -> LcPlan:
        return rule(arrivals, snapshot, given)

    runs = [
        simulate(drawn.fleet, drawn.requests, system, drawn.settings, given=Given(outages=drawn.outages, costs=drawn.costs, lc=lc))
        for lc in (None, by_hand)
    ]

    assert runs[0].digest == runs[1].digest
    np.testing.assert_array_equal(runs[0].decisions.placed, runs[1].decisions.placed)
    np.testing.assert_array_equal(runs[0].decisions.late, runs[1].decisions.late)
    np.testing.assert_array_equal(runs[0].decisions.shed, runs[1].decisions.shed)


SHARED = ("node_cluster", "cpu_allocatable", "memory_allocatable")
"""What all snapshots of a run have in common."""


def test_what_a_policy_was_shown_is_its_own() -> None:
    """Snapshots and columns are copies: scribbling over those of the last tick leaves the run as it was."""
    fleet = fleet_of((2000, 2000), (2000,))
    rows = [(0.1 * k, ("web", "batch")[k % 2], 0.5) for k in range(40)]
    requests = requests_of(fleet, *rows, entry=[k % 2 for k in range(40)])
    system = next(s for s in MIXES if s.name == "load-greedy")
    settings = Settings(sim=SimSettings(charge_decisions=False))
    shown: list[BePending | FleetSnapshot] = []

    def be(pending: BePending, snapshot: FleetSnapshot, given: BeSettings) -> BePlan:
        for earlier in shown:
            for name in earlier.__slots__:
                column = getattr(earlier, name)
                if isinstance(column, np.ndarray) and name not in SHARED:
                    column[...] = 0
        shown[:] = pending, snapshot
        return place_load_greedy(pending, snapshot, given)

    plain = simulate(fleet, requests, system, settings)
    scribbled = simulate(fleet, requests, system, settings, given=Given(be=be))

    assert len(plain.decisions) > 10
    assert plain.digest == scribbled.digest
