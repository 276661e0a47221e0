"""What is recorded under a run comes back by cluster and node, also where clusters have nodes of the same names."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tango.bootstrap.stores import stores
from tango.cli.main import cli
from tango.cli.run import show_run
from tango.control.finish_run import figures_now, finish_run
from tango.domain.host_use import HostUse
from tango.domain.identity import NodeKey
from tango.domain.observations import ExtendedState
from tango.domain.outcomes import SCALING_OUTCOMES
from tango.domain.requests import Reason, RequestState
from tango.domain.runs import ScalingRecord
from tango.domain.services import ServiceClass
from tango.errors import UsageError
from tango.report.page import render_report
from tango.settings import Settings
from tango.store.database import Database
from tango.store.fleet import PostgresFleetStore
from tango.store.host_samples import PostgresHostSamples
from tango.store.run_lists import PostgresRunLists, RequestFilter, RunFilter
from tango.store.run_records import PostgresRunRecords
from tango.store.simulations import PostgresSimulationStore
from tests.fakes.store_world import (
    BATCH,
    CHAT,
    FLEET,
    TWINS,
    WEB,
    ZERO_S,
    StoreWorld,
    attempt_of,
    copy_of,
    instance_of,
    new_requests,
    new_run,
    node_states,
    postgres_world,
    requeue,
)

C2_N1 = 2
"""Row of the snapshot: both clusters have an n1."""


@pytest.fixture
def world(database_url: str) -> StoreWorld:
    """Two clusters made from one template."""
    return postgres_world(database_url, TWINS)


@pytest.fixture
def records(database_url: str) -> PostgresRunRecords:
    """Of the same database."""
    return PostgresRunRecords(Database(database_url))


def recorded(world: StoreWorld) -> int:
    """A run whose first LC request c1's n1 answered and whose others c2's n1: one of them, and a BE pod there, came to nothing.

    c1's n1 was seen at 1000 millicores, c2's at 250; c2's instance grew.
    """
    run_id = world.create(WEB, WEB, CHAT, BATCH, gap_s=0.0)
    world.release(run_id)
    there = {"cluster": "c2", "node": "n1"}
    world.ship(
        copy_of(run_id, 0)._replace(node="n1"),
        copy_of(run_id, 2, RequestState.RELEASED, reason="timed-out")._replace(**there),
        attempts=[
            attempt_of(run_id, 0)._replace(node="n1"),
            attempt_of(run_id, 2, outcome="requeued", reason="timed-out")._replace(**there),
        ],
    )
    world.ship(copy_of(run_id, 1)._replace(**there), cluster="c2", attempts=[attempt_of(run_id, 1)._replace(**there)])
    world.admit(run_id, [3])
    world.place(world.requests.pending_be(limit=1), world.fence(), node=C2_N1)
    world.requests.settle([requeue(run_id, 3, 1, reason=Reason.EVICTED)])
    for cluster, used in zip(TWINS.clusters, (1000.0, 250.0), strict=True):
        seen = [dataclasses.replace(node, cpu_used_millicores=used, memory_used_mib=64.0) for node in node_states(cluster)]
        world.fleet.observe(cluster.name, seen, [instance_of(WEB, "n1")], sample=True)
    world.events.scaling(
        [
            ScalingRecord(
                kind="resize",
                cluster="c2",
                node="n1",
                service="web",
                pod="lc-web-n1-0",
                before_millicores=500,
                after_millicores=700,
                slack=0.05,
                reason="grow",
                actuation_ms=12.0,
            )
        ]
    )
    return run_id


def test_every_column_of_a_run_tells_nodes_of_one_name_apart(world: StoreWorld, records: PostgresRunRecords) -> None:
    """Requests, lost attempts, samples and scaling events each name the node in its own cluster."""
    run_id = recorded(world)

    outcomes = records.outcomes(run_id)
    losses, samples, scaling = records.losses(run_id), records.node_samples(run_id), records.scaling_events(run_id)

    keys = outcomes.node_keys
    assert keys == (NodeKey("c1", "n1"), NodeKey("c1", "n2"), NodeKey("c2", "n1"))
    assert [keys[n] for n in outcomes.node[:2]] == [NodeKey("c1", "n1"), NodeKey("c2", "n1")]
    assert [keys[n] for n in losses.node] == [NodeKey("c2", "n1")] * 2
    assert [keys[n] for n in scaling.node] == [NodeKey("c2", "n1")]
    used = {keys[n]: float(millicores) for n, millicores in zip(samples.node, samples.cpu_used_millicores, strict=True)}
    assert used == {NodeKey("c1", "n1"): 1000.0, NodeKey("c1", "n2"): 1000.0, NodeKey("c2", "n1"): 250.0}


def test_every_outcome_of_a_resize_comes_back_as_it_was_written(world: StoreWorld, records: PostgresRunRecords) -> None:
    """None is unknown to those who read it: `refused` came back as the last of the list."""
    run_id = world.create(WEB, gap_s=0.0)
    world.release(run_id)
    world.fleet.observe("c2", node_states(TWINS.clusters[1]), [], sample=True)
    resized = ScalingRecord(
        kind="resize",
        cluster="c2",
        node="n1",
        service="web",
        pod="p",
        before_millicores=500,
        after_millicores=700,
        slack=0.05,
        reason="grow",
        actuation_ms=None,
    )

    world.events.scaling([dataclasses.replace(resized, outcome=outcome) for outcome in SCALING_OUTCOMES])

    told = records.scaling_events(run_id).outcome.tolist()
    assert sorted(told) == list(range(len(SCALING_OUTCOMES)))
    assert "refused" in SCALING_OUTCOMES


def test_the_parts_of_requests_way_come_in_the_order_of_the_requests(world: StoreWorld, records: PostgresRunRecords) -> None:
    """NaN where a request has not come so far: what still waits has no dispatch, and nobody was told when LC was released."""
    run_id = recorded(world)

    phases = records.phases(run_id)

    assert phases is not None
    assert len(phases) == len(records.outcomes(run_id)) == 4
    assert np.isnan(phases.dispatch_s).tolist() == [True, True, True, False]
    assert phases.serve_s[:2].tolist() == [0.5, 0.5]


def test_each_request_is_its_own_tenants_or_the_runs(world: StoreWorld, records: PostgresRunRecords, database_url: str) -> None:
    """Requests of a trace are their run's, jobs have a tenant each; in the order of the requests."""
    of_trace, of_nobody = world.create(WEB, BATCH, BATCH, tenant="red"), world.create(BATCH)
    mixed = world.create(BATCH, BATCH, BATCH, tenant="red")
    Database(database_url).execute("UPDATE request SET tenant = 'blue' WHERE run_id = %s AND request_id = 1", (mixed,))

    found = {run_id: records.tenants(run_id) for run_id in (of_trace, of_nobody, mixed)}

    whose = {run_id: [names[k] for k in column.tolist()] for run_id, (column, names) in found.items()}
    assert whose == {of_trace: ["red"] * 3, of_nobody: ["default"], mixed: ["red", "blue", "red"]}
    with pytest.raises(UsageError):
        records.tenants(999)


def test_a_run_on_a_host_without_cpu_left_carries_a_banner(
    world: StoreWorld, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In `run show`, `run list` and `run compare`; what is seen before and after the run, or of a simulated one, is not of it."""
    run_id = world.runs.create_run(new_run("full"), new_requests([WEB]))
    note = PostgresHostSamples(Database(database_url)).note
    note(HostUse("edge-1", 0.1, 0.0))
    world.runs.begin(run_id, at_s=time.time())
    for use in (HostUse("edge-1", 0.97, 0.03), HostUse("edge-1", 1.0, 0.03), HostUse("edge-2", 0.2, 0.0)):
        note(use)
    world.figures.order(run_id)
    claim = world.figures.claim(lease_s=10.0, most_claims=3)
    assert claim is not None
    finish_run(claim, store=world.figures, records=PostgresRunRecords(Database(database_url)))
    monkeypatch.setenv("TANGO_DATABASE_URL", database_url)
    stores.cache_clear()

    shown = CliRunner().invoke(cli, ["run", "show", str(run_id)])
    told = json.loads(CliRunner().invoke(cli, ["run", "show", str(run_id), "-o", "json"]).stdout)
    listed = CliRunner().invoke(cli, ["run", "list"])

    banner = (
        "Not the system's figures: the host edge-1 had no CPU left for 100.0 % of the time; 3.0 % of it was taken by its hypervisor"
    )
    assert " ".join(shown.stdout.split()).startswith(banner)
    assert (told["host"], told["host_full"], told["host_saturated"]) == ("edge-1", 1.0, True)
    assert f"not the system's figures: run {run_id}, whose host had no CPU left for 10.0 % of the time or more" in listed.stderr


def test_devices_are_sampled_where_there_are_some(world: StoreWorld, records: PostgresRunRecords) -> None:
    """By name, what nodes have and what is held; a node without any has none, and a run without any says nothing of them."""
    run_id = recorded(world)
    assert records.node_samples(run_id).extended == ()
    [first, *others] = node_states(FLEET.clusters[0])
    with_gpu = dataclasses.replace(first, extended={"nvidia.com/gpu": ExtendedState(allocatable=4000, lc_held=500, be_held=2000)})

    world.fleet.observe("c1", [with_gpu, *others], [], sample=True)

    samples = records.node_samples(run_id)
    assert samples.extended == ("nvidia.com/gpu",)
    figures = set(zip(samples.extended_allocatable[0].tolist(), samples.extended_held[0].tolist(), strict=True))
    assert figures == {(4000.0, 2500.0), (0.0, 0.0)}


def test_people_see_cluster_and_node(world: StoreWorld, records: PostgresRunRecords, database_url: str) -> None:
    """In the list of requests, in the views and on the page."""
    run_id = recorded(world)
    database = Database(database_url)

    lists = PostgresRunLists(database)
    listed = lists.requests(run_id, RequestFilter(state="succeeded"), limit=10)
    lost = database.rows(
        "SELECT cluster, node, reason, attempts FROM attempt_failures WHERE run_id = %s ORDER BY reason", (run_id,)
    )
    slow = database.rows("SELECT DISTINCT target_cluster, node FROM slowest_requests WHERE run_id = %s ORDER BY 1", (run_id,))
    used = database.rows("SELECT cluster, node FROM node_utilization WHERE run_id = %s ORDER BY 1, 2", (run_id,))
    page = render_report(
        records.outcomes(run_id),
        records.losses(run_id),
        records.node_samples(run_id),
        records.decisions(run_id),
        records.scaling_events(run_id),
        figures_now(run_id, records=records),
    )

    assert [(row["target_cluster"], row["node"]) for row in listed] == [("c1", "n1"), ("c2", "n1")]
    assert lost == [("c2", "n1", "evicted", 1), ("c2", "n1", "timed-out", 1)]
    assert slow == [("c1", "n1"), ("c2", "n1")]
    assert used == [("c1", "n1"), ("c1", "n2"), ("c2", "n1")]
    assert all(f">{name}<" in page for name in ("c1/n1", "c1/n2", "c2/n1"))


@pytest.mark.parametrize(
    ("which", "found"),
    [
        (RequestFilter(), [0, 1, 2, 3]),
        (RequestFilter(service_class="be"), [3]),
        (RequestFilter(service="chat"), [2]),
        (RequestFilter(state="succeeded", cluster="c2"), [1]),
        (RequestFilter(cluster="c1", node="n1"), [0]),
        (RequestFilter(node="n1", slowest=True, state="succeeded"), [0, 1]),
        (RequestFilter(late=True), [0, 1]),
        (RequestFilter(service="chat", service_class="be"), []),
    ],
)
def test_requests_are_chosen_by_what_people_ask(
    world: StoreWorld, database_url: str, which: RequestFilter, found: list[int]
) -> None:
    """By class, service, state, and where they ran; the slowest first where that is asked."""
    run_id = recorded(world)

    listed = PostgresRunLists(Database(database_url)).requests(run_id, which, limit=10)

    assert [row["request"] for row in listed] == found


def test_late_requests_are_those_that_missed_their_target(world: StoreWorld, database_url: str) -> None:
    """An answer that came too late, a request that failed, and one that was shed; never BE."""
    run_id = world.create(WEB, WEB, WEB, WEB, BATCH, gap_s=0.0)
    world.release(run_id)
    world.ship(
        copy_of(run_id, 0)._replace(started_s=0.0, finished_s=0.01),
        copy_of(run_id, 2, RequestState.SHED),
    )
    world.ship(
        copy_of(run_id, 1)._replace(finished_s=60.0),
        copy_of(run_id, 3, RequestState.FAILED, reason="timed-out"),
        cluster="c2",
    )

    listed = PostgresRunLists(Database(database_url)).requests(run_id, RequestFilter(late=True), limit=10)

    assert [row["request"] for row in listed] == [1, 2, 3]


def test_runs_are_listed_with_their_figures(world: StoreWorld, database_url: str) -> None:
    """Newest first; a run that goes on has none yet, and every filter leaves out the others."""
    first, second = world.create(WEB), world.create(BATCH)
    database = Database(database_url)
    database.execute(
        "INSERT INTO run_metric (run_id, name, value) VALUES (%s, 'lc_qos_rate', 0.97), (%s, 'be_cpu_seconds_per_s', 3.5)",
        (first, first),
    )
    database.execute("UPDATE run SET name = 'Friday evening', status = 'completed' WHERE run_id = %s", (first,))
    lists = PostgresRunLists(database)

    both = lists.runs(RunFilter(), limit=10)

    assert [(row["run"], row["lc_qos_rate"], row["be_cpu_seconds_per_s"]) for row in both] == [
        (second, None, None),
        (first, 0.97, 3.5),
    ]
    assert [row["run"] for row in lists.runs(RunFilter(name="EVENING"), limit=10)] == [first]
    assert [row["run"] for row in lists.runs(RunFilter(status="completed"), limit=10)] == [first]
    assert [row["run"] for row in lists.runs(RunFilter(system="nobody's"), limit=10)] == []
    assert [row["run"] for row in lists.runs(RunFilter(since_s=time.time() + 3600.0), limit=10)] == []
    assert [row["run"] for row in lists.runs(RunFilter(since_s=time.time() - 3600.0), limit=1)] == [second]


def test_runs_are_put_side_by_side(world: StoreWorld, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the command, with what they do not have in common; one run alone, or one that there is not, is refused."""
    first, second = recorded(world), recorded(world)
    Database(database_url).execute("UPDATE run SET system = 'load-greedy' WHERE run_id = %s", (second,))
    monkeypatch.setenv("TANGO_HOME", str(tmp_path))
    monkeypatch.setenv("TANGO_DATABASE_URL", database_url)
    stores.cache_clear()

    def compare(*line: str) -> Result:
        return CliRunner().invoke(cli, ["run", "compare", *line])

    told = json.loads(compare(str(first), str(second), "-o", "json").stdout)
    table = compare(str(second), str(first))
    alone, unknown = compare(str(first)), compare(str(first), "9999")
    stores.cache_clear()

    assert told["runs"] == [first, second]
    assert "system: tango, load-greedy" in told["differs"]
    assert "they differ in system: load-greedy, tango" in table.stderr
    assert {row["figure"] for row in told["figures"]} >= {"be_completed", "evictions"}
    assert f"run {first}" in table.stdout
    assert "expected two or more different ones" in str(alone.exception)
    assert "there is no run 9999" in str(unknown.exception)


def test_nobody_queues_behind_a_run_that_is_being_cancelled(world: StoreWorld, database_url: str) -> None:
    """Its requests stay as they were until they are swept, but nothing of it moves on: who comes later is first. LC waits as last told."""
    runs = [world.create(WEB, BATCH, gap_s=0.0) for _ in range(2)]
    for run_id in runs:
        world.release(run_id)
        world.ship(copy_of(run_id, 0, RequestState.RELEASED, epoch=0))
        world.admit(run_id, [1])
    queue = "SELECT class::text, run_id, position FROM queue_position ORDER BY 1, position"
    database = Database(database_url)
    before = database.rows(queue)

    world.runs.cancel(runs[0])

    assert before == [("be", runs[0], 1), ("be", runs[1], 2), ("lc", runs[0], 1), ("lc", runs[1], 2)]
    assert database.rows(queue) == [("be", runs[1], 1), ("lc", runs[1], 1)]


@pytest.mark.parametrize("output", ["table", "wide", "json", "csv"])
def test_a_run_is_shown_with_how_far_each_cluster_has_told(
    world: StoreWorld, records: PostgresRunRecords, database_url: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of its LC requests, and of its journal; a row of CSV has the figures alone."""
    run_id, of_be = recorded(world), world.create(BATCH)
    simulations = PostgresSimulationStore(Database(database_url))
    stores = SimpleNamespace(
        runs=world.runs,
        shares=world.shares,
        figures=world.figures,
        fleet=world.fleet,
        records=records,
        simulations=simulations,
        settings=Settings(),
    )

    show_run(stores, of_be, output)  # type: ignore[arg-type]
    without = capsys.readouterr().out
    show_run(stores, run_id, output)  # type: ignore[arg-type]
    shown = capsys.readouterr().out

    if output == "json":
        shares = json.loads(shown)["shares"]
        assert [(s["cluster"], s["lc_requests"], s["lc_terminal"], s["shipped_to"]) for s in shares] == [
            ("c1", 2, 1, 2),
            ("c2", 1, 1, 1),
        ]
        assert all(s["shipped_at_s"] == pytest.approx(time.time(), abs=600.0) for s in shares)
        assert json.loads(without)["shares"] == []
    elif output == "csv":
        assert "shares" not in shown
    else:
        lines = [line.split() for line in shown.splitlines()]
        assert ["c1", "2", "1", "2"] in [line[:4] for line in lines]
        assert ["c2", "1", "1", "1"] in [line[:4] for line in lines]
        assert ("shipped at" in shown) == (output == "wide")
        assert "shipped to number" not in without


def test_what_is_overdue_and_was_released_by_nobody_is_counted_by_who_would(world: StoreWorld, records: PostgresRunRecords) -> None:
    """LC by its cluster, BE as one, and nothing of a run that has not begun, that is released, or whose requests are due later."""
    run_id = world.create(WEB, WEB, CHAT, BATCH, gap_s=0.0)
    not_begun = world.runs.create_run(new_run(), new_requests([WEB]))

    waiting = records.unclaimed(run_id, after_s=5.0)
    later = records.unclaimed(run_id, after_s=1e9)
    assert isinstance(world.fleet, PostgresFleetStore)
    at_clusters = world.fleet.waiting(after_s=5.0)
    world.release(run_id)

    assert [(service_class, count) for service_class, _, count in waiting if service_class is ServiceClass.BE] == [
        (ServiceClass.BE, 1)
    ]
    assert sum(count for service_class, cluster, count in waiting if service_class is ServiceClass.LC and cluster) == 3
    assert at_clusters == {cluster: (count, ZERO_S) for of, cluster, count in waiting if of is ServiceClass.LC}
    assert later == records.unclaimed(not_begun, after_s=5.0) == []
    assert [row for row in records.unclaimed(run_id, after_s=5.0) if row[0] is ServiceClass.BE] == []
