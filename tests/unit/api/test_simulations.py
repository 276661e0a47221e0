"""One simulation from Python: the run that the commands make, with a row for each request."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tango import api
from tango.domain.runs import NewRequests
from tango.errors import PolicyFailed, UsageError
from tango.experiments.cells import Cell, run_cell
from tango.experiments.tuning import tuned_settings
from tango.systems import system

pytestmark = pytest.mark.timeout(600)
"""The first simulation of a fresh checkout compiles the engine."""

TRAFFIC = api.workload("p3", load=0.9, duration_s=5)


def test_it_is_the_run_that_the_command_makes() -> None:
    """Same requests, tuned settings and figures, to the bit."""
    named = system("load-greedy")
    cell = Cell(workload=TRAFFIC, fleet="single", system=named, seed=3, settings=tuned_settings(named), bound=False)

    run = api.simulate(TRAFFIC, "load-greedy", fleet="single", seed=3)

    assert run.figures["digest"] == run_cell(cell).figures["digest"]
    assert run.services().to_pylist() == run_cell(cell).services


def test_the_rows_of_requests_give_the_figures() -> None:
    """The QoS rate is the share of `met_target`, and a latency the time from due to finished."""
    run = api.simulate(TRAFFIC, "load-greedy", fleet="single", seed=3)

    rows = run.outcomes()

    met = [value for value in rows.column("met_target").to_pylist() if value is not None]
    assert len(rows) == len(run.requests)
    assert len(met) == run.figures["lc_arrived"]
    assert run.lc_qos_rate == pytest.approx(np.mean(met))
    first = next(row for row in rows.to_pylist() if row["state"] == "succeeded")
    assert first["latency_ms"] == pytest.approx((first["finished_s"] - first["due_s"]) * 1e3)
    assert first["node"] in ("c1-n1", "c1-n2")
    assert first["service"] in ("web", "batch")


def test_requests_that_were_drawn_before_are_simulated_as_they_are() -> None:
    """From a fleet that was drawn too: the same fleet, the same requests, the same run."""
    fleet = api.generate_fleet(2, nodes_min=1, nodes_max=2, seed=2, like="single")
    drawn: NewRequests = api.draw_requests(TRAFFIC, fleet, 3)

    run = api.simulate(drawn, "load-greedy", fleet=fleet)

    assert fleet == api.generate_fleet(2, nodes_min=1, nodes_max=2, seed=2, like="single")
    assert run.requests is drawn
    assert run.figures["accepted"] == len(drawn) == run.figures["succeeded"]


def test_the_bound_is_solved_where_it_is_asked_for() -> None:
    """And stands in the result; without it there is none."""
    assert api.simulate(TRAFFIC, "load-greedy", fleet="single", bound=True).result.bound["lc_qos_rate"] is not None
    assert api.simulate(TRAFFIC, "load-greedy", fleet="single").result.bound["lc_qos_rate"] is None


def test_a_function_that_fails_is_told_with_its_name_and_line() -> None:
    """As a policy in a file is."""

    def broken(pending: Any, snapshot: Any, settings: Any) -> Any:
        return pending.no_such_column

    with pytest.raises(PolicyFailed, match=r"policy 'broken' failed in BE tick 1 .*test_simulations\.py:\d+: AttributeError"):
        api.simulate(TRAFFIC, api.system("load-greedy", be=broken), fleet="single")


def test_a_setting_that_there_is_not_is_refused() -> None:
    """With those that there are."""
    with pytest.raises(UsageError, match=r"there is no setting sim\.betta \(did you mean 'beta'\?\)"):
        api.simulate(TRAFFIC, "load-greedy", fleet="single", settings={"sim": {"betta": 1.0}})
