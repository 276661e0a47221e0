"""Requests that nobody waits for any more, and BE that waits for LC: by the rules of the live path."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango.domain.outcomes import STATE_CODE
from tango.domain.requests import RequestState
from tango.settings import BeSettings, Settings, SimSettings
from tango.sim.simulate import simulate
from tests.fakes.sim_worlds import BATCH, MIXES, WEB, fleet_of, requests_of

GREEDY = next(system for system in MIXES if system.name == "load-greedy")
ROWS = [(0.01, "web", 0.1)] * 200
"""Twenty seconds of work for one core at once, with a target of 0.4 s."""


@pytest.mark.parametrize("targets", [0.0, 1.0, 4.0])
def test_what_cannot_be_answered_in_time_is_shed_where_its_service_says_so(targets: float) -> None:
    """And nothing elsewhere: all of it is served, late. What is served is expected within so many targets."""
    fleet = fleet_of((1000,), services=(replace(WEB, shed_after_targets=targets), BATCH))
    run = simulate(fleet, requests_of(fleet, *ROWS), GREEDY, Settings(sim=SimSettings(charge_decisions=False)))

    shed = run.outcomes.state == STATE_CODE[RequestState.SHED]
    served = run.outcomes.state == STATE_CODE[RequestState.SUCCEEDED]
    waits_s = run.outcomes.finished_s[served] - run.outcomes.due_s[served]

    assert (shed.sum() > 0) == (targets > 0.0)
    assert run.decisions.shed.sum() == shed.sum()
    if targets:
        assert served.sum() >= 4 * targets - 2
        assert np.median(waits_s) <= targets * 0.4


@pytest.mark.parametrize(("waits", "first_s", "at_once"), [(False, 60.0, True), (True, 60.0, False), (True, 0.0, True)])
def test_be_waits_for_lc_where_that_is_late(waits: bool, first_s: float, at_once: bool) -> None:
    """If told to follow the live rule, and not for longer than that says: until LC has been given up, after five seconds."""
    fleet = fleet_of((4000,))
    rows = [(0.01, "web", 2.0)] * 60 + [(2.05, "batch", 1.0)]
    sim = SimSettings(charge_decisions=False, be_waits_for_lc=waits)

    run = simulate(fleet, requests_of(fleet, *rows), GREEDY, Settings(sim=sim, be=BeSettings(lc_first_s=first_s)))

    assert run.outcomes.state[-1] == STATE_CODE[RequestState.SUCCEEDED]
    assert (run.outcomes.started_s[-1] < 4.0) == at_once
