"""`tango explain` on PostgreSQL: requests, pods, nodes and decisions, as their rows are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tango.bootstrap.stores import stores
from tango.cli.main import cli
from tango.domain.candidates import SHARE, Weighed, WeighedNode, written
from tango.domain.identity import NodeKey, RequestKey
from tango.domain.lifecycle import Event, Outcome
from tango.domain.plans import Spared
from tango.domain.refusal_kind import RefusalKind
from tango.domain.refusals import Refusal
from tango.domain.requests import Reason
from tango.domain.runs import ScalingRecord
from tango.domain.shares import DecisionCopy
from tango.errors import StoreError
from tango.store.database import Database
from tests.fakes.store_world import (
    BATCH,
    FLEET,
    LC_DECISION,
    LIVE_S,
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
    success,
)

Explain = Callable[..., Any]
BIG_MIB = 6000.0
"""Of a pod of which no two fit on one node, and none on that of c2."""


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A fresh one."""
    found = Database(database_url)
    yield found
    found.close()


@pytest.fixture
def world(database: Database) -> StoreWorld:
    """Its stores."""
    return postgres_world(database)


@pytest.fixture
def explain(world: StoreWorld, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Explain]:
    """The command with these words; gives its JSON."""
    monkeypatch.setenv("TANGO_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("TANGO_DATABASE_URL", database_url)
    # No agent goes on telling here, and a slow machine is no reason to take a cluster for lost.
    monkeypatch.setenv("TANGO_LEASE_SILENT_S", "600")
    stores.cache_clear()

    def called(*words: str) -> Any:
        result = CliRunner().invoke(cli, ["explain", *words, "-o", "json"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    yield called
    stores().database.close()
    stores.cache_clear()


def waiting(world: StoreWorld, count: int, *, memory_mib: float = BIG_MIB) -> int:
    """A run whose requests of BATCH all wait for a node."""
    run_id = world.runs.create_run(new_run(), new_requests([BATCH] * count, memory_mib=memory_mib))
    world.runs.begin(run_id, at_s=ZERO_S)
    world.release(run_id)
    world.admit(run_id, range(count))
    return run_id


def place_first(world: StoreWorld, *nodes: int) -> None:
    """Give the oldest that wait to these nodes, one each."""
    fence = world.fence()
    for node in nodes:
        world.place(world.requests.pending_be(limit=1), fence, node=node)


def weighed_of(run_id: int, request_id: int, chosen: str) -> Weighed:
    """Two candidates, of which the first was chosen."""
    return Weighed(
        run_id=run_id,
        request_id=request_id,
        epoch=1,
        policy="load-greedy",
        rule="the least share",
        unit=SHARE,
        highest_wins=False,
        limit=None,
        takers=2,
        chosen=chosen,
        candidates=(WeighedNode(node=chosen, price=0.25), WeighedNode(node="c2/c2-n1", price=0.5)),
    )


def test_a_request_that_waits_for_memory_says_how_much_and_who_is_before_it(world: StoreWorld, explain: Explain) -> None:
    """Two nodes hold one each, the third is too small: what is missing on the first, if the one before it were not there."""
    run_id = waiting(world, 4)
    place_first(world, 0, 1)

    first, second = (explain("request", f"{run_id}/{k}") for k in (2, 3))

    assert (first["state"], first["reason"]) == ("pending", "WaitingForMemory")
    assert first["words"] == "it needs 6000Mi of memory, and 2192Mi is free on c1/c1-n1"
    assert [change["words"] for change in first["changes"]] == ["3808Mi more memory is free on c1/c1-n1"]
    assert first["changes"][0] == {
        "kind": "headroom",
        "cluster": "c1",
        "node": "c1-n1",
        "resource": "memory",
        "amount": 3808.0,
        "words": "3808Mi more memory is free on c1/c1-n1",
    }
    assert (first["queue"]["position"], second["queue"]["position"]) == (1, 2)
    assert second["queue"]["ahead"] == [f"{run_id}-2"]
    assert [change["kind"] for change in second["changes"]] == ["first-in-line", "headroom"]


def test_a_cluster_that_is_away_and_a_quota_are_told_before_what_is_full(world: StoreWorld, explain: Explain) -> None:
    """The nearest change: of a node that has room."""
    run_id = waiting(world, 1)
    world.pass_over("c1", 1000.0)
    away = explain("request", f"{run_id}-0")
    world.fleet.observe("c1", node_states(FLEET.clusters[0]), [], sample=False)
    world.refusals.note(
        [Refusal.of(RefusalKind.QUOTA, cluster="c1", service=BATCH.name, words="exceeded quota: q")], role="scheduler"
    )
    over = explain("request", f"{run_id}-0")

    assert (away["reason"], away["words"]) == ("ClusterAway", "cluster c1 is away")
    assert over["reason"] == "OverQuota"
    assert over["words"] == "c1 refuses it, quota: exceeded quota: q"
    assert [change["words"] for change in over["changes"]] == ["c1 takes one more pod of batch"]


def test_an_eviction_is_told_with_for_whom_and_the_way_of_a_request_in_time(world: StoreWorld, explain: Explain) -> None:
    """By the pod's name too, of whichever attempt."""
    run_id = waiting(world, 1)
    fence = world.fence()
    (placed,) = world.place(world.requests.pending_be(limit=1), fence)
    world.requests.mark_running([(run_id, 0, 1, ZERO_S + 2.0)], lease_s=LIVE_S)
    world.events.scaling(
        [
            ScalingRecord(
                kind="evict",
                cluster="c1",
                node="c1-n1",
                service="",
                pod=placed.pod,
                before_millicores=None,
                after_millicores=None,
                slack=None,
                reason="evicted: room for an instance of web",
                actuation_ms=None,
                spared=(
                    Spared("be-r1-7-e1", "batch", 2.5, "those that went were enough, and lose no more than it would"),
                    Spared("be-r1-8-e1", "batch", 0.0, "pods of its service are never evicted"),
                ),
            )
        ]
    )
    world.requests.settle(
        [Outcome(run_id=run_id, request_id=0, epoch=1, event=Event.RETURN, reason=Reason.EVICTED, work_lost_s=1.5)]
    )
    world.place(world.requests.pending_be(limit=1), fence, node=1)
    world.requests.mark_running([(run_id, 0, 2, ZERO_S + 5.0)], lease_s=LIVE_S)
    world.requests.settle([success(run_id, 0, 2, finished_s=9.0)])

    found = explain("pod", placed.pod)

    assert (found["request"], found["reason"], found["state"]) == (f"{run_id}/0", "Succeeded", "succeeded")
    told = [(moment["what"], moment["words"]) for moment in found["history"]]
    assert told[0] == ("due", "at cluster c1")
    assert ("started", "attempt 1 on c1/c1-n1") in told
    assert ("returned", "attempt 1 on c1/c1-n1, evicted: room for an instance of web, 1.5 CPU-seconds lost") in told
    assert ("succeeded", "attempt 2 on c1/c1-n2") in told
    assert [moment["beside"] for moment in found["history"] if moment["beside"]] == [
        [
            "be-r1-7-e1 of batch stayed: those that went were enough, and lose no more than it would, would lose 2.5 CPU-seconds",
            "be-r1-8-e1 of batch stayed: pods of its service are never evicted",
        ]
    ]


def test_lc_without_an_instance_and_at_one_that_waits_for_cpu(world: StoreWorld, explain: Explain) -> None:
    """Of an instance its own pod tells the same."""
    run_id = world.create(WEB, WEB)
    world.release(run_id)
    world.open_shares(run_id)
    small = replace(instance_of(WEB, "c1-n1"), cpu_request_millicores=100)
    states = [replace(s, lc_cpu_request_millicores=3950) if s.name == "c1-n1" else s for s in node_states(FLEET.clusters[0])]
    nowhere = explain("request", f"{run_id}/0")
    world.fleet.observe("c1", states, [small], sample=False)
    world.ship(copied(run_id, "dispatched"))
    world.events.scaling(
        [
            ScalingRecord(
                kind="resize",
                cluster="c1",
                node="c1-n1",
                service="web",
                pod=small.pod,
                before_millicores=1000,
                after_millicores=1000,
                slack=-0.5,
                reason="Node didn't have enough resource: cpu",
                actuation_ms=None,
                outcome="deferred",
                after_request_millicores=400,
            )
        ]
    )
    deferred, pod = explain("request", f"{run_id}/0"), explain("pod", small.pod)

    assert (nowhere["state"], nowhere["reason"]) == ("accepted", "Unclaimed")
    assert (deferred["state"], deferred["reason"]) == ("dispatched", "ResizeDeferred")
    assert [change["words"] for change in deferred["changes"]] == ["250m more cpu is free on c1/c1-n1"]
    assert (pod["pod"], pod["reason"], pod["words"]) == (f"c1/{small.pod}", "ResizeDeferred", deferred["words"])


def copied(run_id: int, state: str) -> Any:
    """The first request of a run as its journal tells, on the first node of c1."""
    from tango.domain.requests import RequestState
    from tests.fakes.store_world import copy_of

    return copy_of(run_id, 0, RequestState(state))


def test_a_node_says_what_holds_it_and_what_it_refuses(world: StoreWorld, explain: Explain) -> None:
    """By resource, and for each BE service that is kept from there."""
    run_id = waiting(world, 1)
    place_first(world, 0)
    states = [replace(s, schedulable=s.name != "c1-n1") for s in node_states(FLEET.clusters[0])]
    world.fleet.observe("c1", states, [instance_of(WEB, "c1-n1")], sample=False)

    found = explain("node", "c1/c1-n1")

    memory = next(row for row in found["resources"] if row["resource"] == "memory")
    assert (memory["allocatable"], memory["be"], memory["free"]) == ("8192Mi", "6000Mi", "2192Mi")
    assert found["reasons"] == {"batch": "NodeClosed", "huge": "NodeClosed"}
    assert found["closed_to"]["batch"] == ["node c1/c1-n1 takes no new pods of batch"]
    assert [instance["pod"] for instance in found["instances"]] == ["lc-web-c1-n1-0"]
    assert [running["request"] for running in found["running"]] == [f"{run_id}-0"]


def test_a_decision_is_found_by_its_number_or_as_the_latest_placement(world: StoreWorld, explain: Explain) -> None:
    """The latest of BE, however many of LC came later."""
    waiting(world, 1)
    place_first(world, 0)

    latest = explain("tick")

    assert (latest["kind"], latest["policy"], latest["placed"]) == ("be", "test", 1)
    assert explain("tick", str(latest["decision"])) == latest


def test_the_candidates_of_a_placement_are_told_of_its_request_and_of_the_decision(world: StoreWorld, explain: Explain) -> None:
    """Of the request those of its own attempts, of the decision those of all that it keeps; and why there are none of another."""
    run_id = waiting(world, 2)
    told = [weighed_of(run_id, 0, "c1/c1-n1"), weighed_of(run_id, 1, "c1/c1-n2")]
    world.place(world.requests.pending_be(limit=1), world.fence(), weighed=written(told))
    place_first(world, 1)

    kept, sampled_out = (explain("request", f"{run_id}/{k}") for k in (0, 1))
    decision = kept["candidates"][0]

    assert len(kept["candidates"]) == 1
    assert (decision["request"], decision["chosen"], decision["policy"]) == (f"{run_id}/0", "c1/c1-n1", "load-greedy")
    assert decision["why"].startswith("c1/c1-n1 had the least share, 25.0% of what LC leaves; the next was c2/c2-n1")
    assert [node["node"] for node in decision["nodes"]] == ["c1/c1-n1", "c2/c2-n1"]
    assert kept["candidates_not_kept"] == ""
    assert (sampled_out["candidates"], sampled_out["candidates_not_kept"]) == ([], "test does not tell what it weighs")
    of_first = int(re.search(r"by decision (\d+)", json.dumps(kept["history"]))[1])  # type: ignore[index]
    assert [one["chosen"] for one in explain("tick", str(of_first))["candidates"]] == ["c1/c1-n1", "c1/c1-n2"]
    assert explain("tick")["candidates"] == []


def test_the_candidates_of_a_dispatch_come_with_its_attempt(world: StoreWorld, explain: Explain) -> None:
    """From the journal of its cluster, by the number that the decision has there."""
    run_id = world.create(WEB)
    record = replace(LC_DECISION, policy="dss-lc", weighed=written([weighed_of(run_id, 0, "c1/c1-n2")]))
    world.ship(
        copy_of(run_id, 0),
        attempts=[attempt_of(run_id, 0)._replace(decided=7)],
        decisions=[DecisionCopy(run_id=run_id, at_s=ZERO_S, record=record, apply_ms=0.5, sequence=7)],
    )

    (told,) = explain("request", f"{run_id}/0")["candidates"]

    assert (told["epoch"], told["chosen"]) == (1, "c1/c1-n2")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("request", "9/1"), "run 9 has no request 1, or there is no such run"),
        (("pod", "nobody"), "no pod 'nobody' is known"),
        (("node", "c1/n9"), "there is no node c1/n9"),
        (("tick", "77"), "there is no decision 77"),
        (("node", "n9"), "expected CLUSTER/NODE"),
    ],
)
def test_what_there_is_not_is_said_with_where_to_look(explain: Explain, words: tuple[str, ...], told: str) -> None:
    """A message, and no traceback."""
    result = CliRunner().invoke(cli, ["explain", *words])

    assert result.exit_code != 0
    assert told in f"{result.output}{result.exception}"


def test_a_long_queue_is_counted_no_further_than_a_bound(world: StoreWorld, explain: Explain) -> None:
    """And a request far behind is told its place."""
    run_id = waiting(world, 600, memory_mib=64.0)

    found = explain("request", f"{run_id}/599")
    standing = stores().explainer.store.request(RequestKey(run_id, 599)).standing

    assert found["queue"]["position"] == 600
    assert found["reason"] == "BehindInQueue"
    assert stores().explainer.store.waiting_before(standing, most=100) == 100
    assert NodeKey("c1", "c1-n1") in stores().explainer.store.fleet().snapshot.node_keys


def test_reads_together_are_one_transaction_that_writes_nothing(database: Database) -> None:
    """`now()` is the begin of a transaction; what follows is none of its own again, also after an error."""

    def instants() -> set[object]:
        return {database.rows("SELECT now()")[0][0] for _ in range(3)}

    together, apart = database.together(lambda: database.together(instants) | instants()), instants()
    with pytest.raises(StoreError, match="read-only transaction"):
        database.together(lambda: database.execute("DELETE FROM decision"))

    assert (len(together), len(apart)) == (1, 3)
    assert database.execute("DELETE FROM decision") == 0


def test_an_explanation_is_read_in_one_transaction(world: StoreWorld, explain: Explain, database: Database) -> None:
    """However many statements it is: each of its own would cost three ways to the server."""
    run_id = waiting(world, 3)
    explainer, begun = stores().explainer, list[object]()
    run = Database.run

    def counted(self: Database, work: Any, **how: Any) -> Any:
        begun.append(getattr(self._shared, "cursor", None))
        return run(self, work, **how)

    explainer.request(RequestKey(run_id, 2))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Database, "run", counted)
        explainer.request(RequestKey(run_id, 2))

    assert begun.count(None) == 1
    assert len(begun) > 8
