"""What the database tells operators: figures that the reader can check by hand, from rows as processes write them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tango.domain.requests import RequestState
from tango.domain.simulations import NewSimulation
from tango.domain.tenants import Tenant, TenantShare
from tango.errors import StoreError
from tango.store import operating
from tango.store.database import Database
from tango.store.operating import OperatingFigures
from tango.store.simulations import PostgresSimulationStore
from tango.telemetry import catalogue as of
from tango.telemetry.catalogue import CATALOGUE, Source
from tests.conftest import DatabaseUrls
from tests.fakes.store_world import BATCH, WEB, StoreWorld, cancel_whole, copy_of, postgres_world


@pytest.fixture
def database(database_url: str) -> Database:
    """Of the application's role."""
    return Database(database_url)


@pytest.fixture
def world(database: Database) -> StoreWorld:
    """Two clusters, three nodes, an instance of each LC service on each."""
    return postgres_world(database)


def totals(database: Database) -> dict[tuple[str, ...], float]:
    """`tango_requests_total` by class, state and cluster."""
    return {labels: values[0] for labels, values in OperatingFigures(database).read().series(of.REQUESTS).items()}


def test_ended_requests_are_counted_by_cluster_and_the_count_outlives_their_runs(world: StoreWorld, database: Database) -> None:
    """Whether somebody has added them up or not, once each: two LC of c1, one in time; BE that is cancelled; then all of it deleted."""
    run_id = world.create(WEB, BATCH, WEB, BATCH, WEB)  # the even ones enter c1
    world.open_shares(run_id)
    world.ship(copy_of(run_id, 2), copy_of(run_id, 4, RequestState.FAILED))
    assert totals(database) == {("lc", "succeeded", "c1"): 1, ("lc", "failed", "c1"): 1}
    assert world.runs.fold_counts()
    assert totals(database) == {("lc", "succeeded", "c1"): 1, ("lc", "failed", "c1"): 1}

    world.ship(copy_of(run_id, 0, RequestState.SHED))
    cancel_whole(world.runs, run_id)
    found = OperatingFigures(database).read()
    assert {k: v[0] for k, v in found.series(of.REQUESTS).items()} == {
        ("lc", "succeeded", "c1"): 1,
        ("lc", "failed", "c1"): 1,
        ("lc", "shed", "c1"): 1,
        ("be", "cancelled", "c2"): 2,
    }
    # Due at 2 s and answered at 2 s, within its half second.
    assert found.value(of.IN_TIME, "c1") == 1

    world.runs.fold_counts()
    world.runs.delete(run_id)
    assert totals(database) == {k: v[0] for k, v in found.series(of.REQUESTS).items()}


def test_what_waits_is_told_by_state_and_by_the_age_of_the_oldest(world: StoreWorld, database: Database) -> None:
    """A run that began long ago, of which one BE request waits for its placement; another of another run is not due yet."""
    run_id = world.create(BATCH, BATCH, WEB, gap_s=10.0)
    world.release(run_id, until_s=5.0)
    world.admit(run_id, [0])
    world.create(BATCH)

    found = OperatingFigures(database).read()
    (zero_s,) = database.rows("SELECT extract(epoch FROM now() - started_at)::float8 FROM run WHERE run_id = %s", (run_id,))[0]
    assert found.value(of.RUNS, "replayed") == 2
    assert found.value(of.RUNS, "live") == 0
    assert {k: v[0] for k, v in found.series(of.UNDER_WAY).items()} == {
        ("be", "accepted"): 2,
        ("be", "released"): 0,
        ("be", "pending"): 1,
        ("lc", "accepted"): 1,
    }
    assert found.value(of.QUEUE_AGE, "be") == pytest.approx(zero_s, abs=5.0)
    assert found.value(of.QUEUE_AGE, "lc") == 0.0


def test_the_fleet_is_told_by_cluster(world: StoreWorld, database: Database) -> None:
    """Sums over nodes in base units, instances by service, and how old what is known is; what nobody measured has no series."""
    world.pass_over("c2", 60.0)

    found = OperatingFigures(database).read()
    assert found.value(of.NODES, "c1", "ready") == 2
    assert found.value(of.NODES, "c1", "not_ready") == 0
    assert found.value(of.NODE_CPU, "c1", "allocatable") == 8.0
    assert found.value(of.NODE_CPU, "c1", "used") is None
    assert found.value(of.NODE_MEMORY, "c2", "allocatable") == 4096 * 2**20
    assert found.value(of.INSTANCES, "c1", "web", "ready") == 2
    assert found.value(of.INSTANCES, "c1", "web", "not_ready") == 0
    age_s = found.value(of.CLUSTER_AGE, "c2", "nodes")
    assert age_s is not None
    assert age_s >= 60.0
    assert found.value(of.CLUSTER_AGE, "c1", "journal") is None


def test_leases_and_the_last_placement_are_told(world: StoreWorld, database: Database) -> None:
    """Held or not, and how often claimed; those of replays are left out, which have the numbers of runs in their names."""
    fence = world.fence()
    world.leases.acquire("replay:7", owner="a", ttl_s=60.0)
    world.leases.acquire("reassure", owner="a", ttl_s=-1.0)
    run_id = world.create(BATCH)
    world.release(run_id)
    world.admit(run_id, [0])
    world.place(world.requests.pending_be(limit=10), fence)
    database.execute("UPDATE decision SET unplaced = 3")

    found = OperatingFigures(database).read()
    assert {k[0]: v[0] for k, v in found.series(of.LEASE).items()} == {"place-be": 1, "reassure": 0}
    assert found.value(of.LEASE_EPOCH, "place-be") == 1
    assert found.value(of.UNPLACED) == 3


def test_the_server_is_told_and_only_metrics_of_the_store_are(world: StoreWorld, database: Database) -> None:
    """Connections, size, transactions and clock; nothing is told under a name whose figure others have."""
    found = OperatingFigures(database).read()

    assert (found.value(of.DATABASE_CONNECTIONS) or 0) >= 1
    assert (found.value(of.DATABASE_SIZE) or 0) > 1e6
    assert (found.value(of.DATABASE_TRANSACTIONS, "committed") or 0) > 0
    assert abs(found.value(of.DATABASE_CLOCK) or 0.0) < 60.0
    assert {metric.source for metric, _, _ in found} == {Source.STORE}
    told = {metric.name for metric, _, _ in found}
    assert {m.name for m in CATALOGUE.values() if m.source is Source.STORE} - told == {
        "tango_refusals",
        "tango_node_pressure_ratio",
        "tango_lease_held",
        "tango_lease_claims_total",
        "tango_requests_total",
        "tango_requests_in_time_total",
        "tango_requests_under_way",
        "tango_tenant_share_ratio",
        "tango_tenant_below_share_seconds",
    }


def test_shares_are_told_of_declared_tenants_by_name_and_of_others_together(world: StoreWorld, database: Database) -> None:
    """So that series follow declarations and not names that callers bring; nothing is told where no placement tells of shares."""
    assert OperatingFigures(database).read().series(of.TENANT_SHARE) == {}
    world.tenants.put([Tenant(name="blue", weight=3.0)])
    nobody = TenantShare(tenant="", share=0.0, weighted_share=0.0, held={}, below_s=None, withheld=False)
    world.tenants.tell(
        [
            replace(nobody, tenant="blue", share=0.5, below_s=40.0),
            replace(nobody, tenant="red", share=0.2),
            replace(nobody, tenant="grey", share=0.3, below_s=7.0),
        ]
    )

    found = OperatingFigures(database).read()

    assert {labels: values[0] for labels, values in found.series(of.TENANT_SHARE).items()} == {("blue",): 0.5, ("other",): 0.3}
    assert found.value(of.TENANT_BELOW, "blue") == pytest.approx(40.0, abs=5.0)
    assert found.value(of.TENANT_BELOW, "other") == pytest.approx(7.0, abs=5.0)


def test_the_number_of_series_and_of_queries_does_not_follow_that_of_runs(
    world: StoreWorld, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty runs later a scrape has as many series; and of many that are open at once the oldest are looked at."""

    def ended() -> None:
        run_id = world.create(WEB, BATCH)
        cancel_whole(world.runs, run_id)

    ended()
    before = [(metric.name, labels) for metric, labels, _ in OperatingFigures(database).read()]
    for _ in range(30):
        ended()
    assert [(metric.name, labels) for metric, labels, _ in OperatingFigures(database).read()] == before

    for _ in range(3):
        world.create(BATCH)
    monkeypatch.setattr(operating, "_OPEN_RUNS", operating._OPEN_RUNS.replace(f"LIMIT {operating.MOST_RUNS}", "LIMIT 2"))
    assert OperatingFigures(database).read().value(of.RUNS, "replayed") == 2


def test_the_query_by_which_simulators_are_scaled_counts_the_cells_that_wait(database_urls: DatabaseUrls) -> None:
    """As the reader, whose address it is given: those that nobody has begun or that are under way, and none that is done."""
    query = Path("deploy/chart/keda/cells_to_simulate.sql").read_text()
    store = PostgresSimulationStore(Database(database_urls.app))
    cell = NewSimulation(
        key="a",
        cell={},
        name="p3",
        system="tango",
        fleet="pair",
        fleet_hash="f" * 64,
        seed=1,
        trace_source="p3",
        span_s=600.0,
        settings={},
    )
    first, _ = store.open([cell, replace(cell, key="b")], record=False, forget=False)
    reader = Database(database_urls.reader)
    assert reader.rows(query) == [(2,)]

    claim = store.claim(first.run_id, owner="me", lease_s=60.0, most_claims=9)
    assert claim is not None
    assert reader.rows(query) == [(2,)]
    store.finish(claim, result={}, figures={"accepted": 0}, rows=None)
    assert reader.rows(query) == [(1,)]


def test_a_query_that_takes_too_long_is_ended(world: StoreWorld, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the server, so that no scrape is left behind there."""
    monkeypatch.setattr(operating, "_BEGIN", operating._BEGIN.replace(str(operating.STATEMENT_TIMEOUT_MS), "50"))
    monkeypatch.setattr(operating, "_LEASES", "SELECT 'a', true, 1.0 FROM pg_sleep(30)")

    with pytest.raises(StoreError):
        OperatingFigures(database).read()
