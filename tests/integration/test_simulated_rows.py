"""The rows of a simulated run on PostgreSQL: attempts as live, and the candidates of its decisions, as `tango explain` tells them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tango.bootstrap.stores import stores
from tango.domain.identity import RequestKey
from tango.domain.simulations import NewSimulation, SimulatedRows
from tango.settings import ExplainSettings, Settings, SimSettings
from tango.sim.failures import outage
from tango.sim.simulate import Given, simulate
from tango.store.database import Database
from tango.store.simulations import PostgresSimulationStore
from tango.systems import SYSTEMS
from tests.fakes.sim_worlds import fleet_of, requests_of

PAIR = fleet_of((2000, 2000))
CELL = NewSimulation(
    key="a",
    cell={},
    name="by hand",
    system="load-greedy",
    fleet="pair",
    fleet_hash="f" * 64,
    seed=1,
    trace_source="by hand",
    span_s=10.0,
    settings={},
)


@pytest.fixture
def run_id(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of a run of LC at 0.1, 0.4, ... s and two BE requests, whose node is away from 2.5 s on."""
    monkeypatch.setenv("TANGO_DATABASE_URL", database_url)
    stores.cache_clear()
    rows = sorted([(0.3 * k + 0.1, "web", 0.05) for k in range(20)] + [(0.0, "batch", 4.0), (0.0, "batch", 4.0)])
    given = Given(kept=ExplainSettings(weighed_per_s=50.0), outages=outage(0, at_s=2.5, for_s=100.0))
    settings = Settings(sim=SimSettings(charge_decisions=False, lost_after_s=0.5))
    run = simulate(PAIR, requests_of(PAIR, *rows), SYSTEMS["load-greedy"], settings, given=given)

    store = PostgresSimulationStore(Database(database_url))
    (opened,) = store.open([CELL], record=True, forget=False)
    claim = store.claim(opened.run_id, owner="me", lease_s=60.0, most_claims=9)
    assert claim is not None
    of_run = SimulatedRows(
        outcomes=run.outcomes,
        losses=run.losses,
        samples=run.samples,
        decisions=run.decisions,
        scaling=run.scaling,
        weighed=run.weighed,
    )
    assert store.finish(claim, result={}, figures={"accepted": len(rows)}, rows=of_run)
    yield opened.run_id
    stores.cache_clear()


def test_a_simulated_run_reads_as_a_live_one(run_id: int, database_url: str) -> None:
    """A BE attempt whose node was lost was returned and counts nothing, and each attempt has its candidates under the run's own number."""
    database = Database(database_url)
    lost = "SELECT request_id, epoch, outcome, reason FROM attempt WHERE run_id = %s AND class = 'be'"
    ((batch, *attempt),) = database.rows(lost, (run_id,))
    counted = "SELECT epoch, attempt FROM request WHERE run_id = %s AND request_id = %s"

    assert attempt == [1, "returned", "node-lost"]
    assert database.rows(counted, (run_id, batch)) == [(2, 1)]

    explainer = stores().explainer
    found = explainer.request(RequestKey(run_id, batch))
    assert [(one.key, one.epoch, one.policy) for one in found.weighed] == [
        (RequestKey(run_id, batch), epoch, "load-greedy") for epoch in (1, 2)
    ]
    assert found.weighed[1].chosen == found.standing.node_key.cluster + "/" + found.standing.node_key.name
    of_lc = [explainer.request(RequestKey(run_id, k)) for k in range(22) if k != batch]
    told = [one for one in of_lc if one.weighed and one.standing.service == "web"]
    assert len(told) > 5
    assert all(str(one.standing.node_key) == one.weighed[-1].chosen for one in told)


def test_of_what_was_not_kept_it_is_told_why(run_id: int, database_url: str) -> None:
    """As of a run that was stored without any."""
    database = Database(database_url)
    database.execute("UPDATE request SET decision_id = NULL WHERE run_id = %s", (run_id,))
    ((request,),) = database.rows("SELECT max(request_id) FROM request WHERE run_id = %s", (run_id,))

    found = stores().explainer.request(RequestKey(run_id, request))

    assert found.weighed == ()
    assert "a simulated run keeps the candidates of some requests a second" in found.not_kept
