"""The engine notes how requests were answered, for policies that go by it and for no other."""

from __future__ import annotations

import numpy as np
import pytest

from tango.domain.runs import NewRequests
from tango.settings import Settings, SharingSettings, SimSettings
from tango.sim.failures import Outage, outage
from tango.sim.simulate import Given, _Run
from tango.systems import System
from tests.fakes.sim_worlds import fleet_of, requests_of

FLEET = fleet_of((2000, 2000), (2000,))
SETTINGS = Settings(sim=SimSettings(charge_decisions=False, lost_after_s=0.3), sharing=SharingSettings(tick_s=0.5))


def over(lc: str, requests: NewRequests, *outages: Outage) -> _Run:
    """A run that has ended."""
    system = System(name=lc, lc=lc, be="load-greedy", sharing="static")
    run = _Run(FLEET, requests, system, SETTINGS, seed=1, span_s=None, given=Given(outages=outages))
    run.go(None)
    return run


def test_each_entry_cluster_notes_the_answers_to_its_own_requests() -> None:
    """One request of each of two clusters: sent, served and answered as the run's own columns have it."""
    requests = requests_of(FLEET, (0.03, "web", 0.1), (0.03, "web", 0.2), entry=[0, 1])

    engine = over("c3", requests)._world.engine
    seen = engine.belief.answers.reshape(2, 2, 3)

    assert seen["answers"].sum() == 2
    for request, entry in enumerate((0, 1)):
        row, service = engine.progress[request], engine.arrivals.service[request]
        of = seen[entry, service, row["node"]]
        assert of["answers"] == 1
        assert of["answer_s"] == row["finished_s"] - row["sent_s"]
        assert of["served_s"] == pytest.approx(requests.cpu_work_s[request])  # an instance has a core
        assert of["answer_s"] > of["served_s"]


def test_attempts_that_come_to_nothing_are_noted_where_they_were_sent() -> None:
    """A node is down for a second: what was sent there is a failure of that node, and of no other."""
    requests = requests_of(FLEET, *((0.05 * k, "web", 0.05) for k in range(40)))

    seen = over("locality", requests, *outage(0, at_s=0.5, for_s=1.0))._world.engine.belief.answers.reshape(2, 2, 3)

    assert seen["failing"][0, 0, 0] > 0
    assert np.count_nonzero(seen["failing"]) == 1
    assert seen["answers"][0, 0].sum() >= 30


def test_for_a_policy_that_does_not_go_by_answers_none_are_noted() -> None:
    """There is no room for them either."""
    engine = over("least-request", requests_of(FLEET, (0.03, "web", 0.1)))._world.engine

    assert len(engine.belief.answers) == 0
