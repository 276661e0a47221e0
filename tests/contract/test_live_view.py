"""`LiveView`, on PostgreSQL: every figure is that of the tables, whatever is or is not there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tango.domain.live_view import WINDOW_S
from tango.domain.refusal_kind import RefusalKind
from tango.domain.refusals import Refusal
from tango.domain.requests import RequestState
from tango.domain.services import Service
from tango.domain.tenants import Tenant, TenantShare
from tango.store.database import Database
from tango.store.live_view import PostgresLiveView
from tests.conftest import DatabaseUrls
from tests.fakes.store_world import (
    BATCH,
    CHAT,
    FLEET,
    WEB,
    StoreWorld,
    attempt_of,
    copy_of,
    new_requests,
    new_run,
    node_states,
    postgres_world,
)

AGO_S = 60.0
"""How long ago runs of these tests began."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A world, the view of it, and its tables."""

    world: StoreWorld
    view: PostgresLiveView
    database: Database

    def run(self, *services: Service, name: str = "run", gap_s: float = 1.0) -> int:
        """A run that began `AGO_S` ago, its requests released or given to journals."""
        run_id = self.world.runs.create_run(new_run(name), new_requests(services, gap_s=gap_s))
        self.world.runs.begin(run_id, at_s=time.time() - AGO_S)
        self.world.open_shares(run_id)
        self.world.release(run_id)
        return run_id

    def ended(self, run_id: int, states: Sequence[RequestState]) -> None:
        """The first requests end so at once; those that ran took 2 s minus their due time."""
        copies = [copy_of(run_id, k, state, epoch=0 if state is RequestState.SHED else 1) for k, state in enumerate(states)]
        attempts = [
            attempt_of(run_id, k, outcome=str(state))._replace(
                ended_at_s=time.time(), latency_s=2.0 - k if state is RequestState.SUCCEEDED else None
            )
            for k, state in enumerate(states)
            if state is not RequestState.SHED
        ]
        # Requests enter c1 and c2 in turn, and each cluster's journal ships its own.
        for place, cluster in enumerate(("c1", "c2")):
            mine = [copy for copy in copies if copy.request_id % 2 == place]
            if mine:
                own = [attempt for attempt in attempts if attempt.request_id % 2 == place]
                self.world.ship(*mine, cluster=cluster, attempts=own)


@pytest.fixture
def seen(database_url: str) -> Seen:
    """Two clusters, three nodes."""
    database = Database(database_url)
    return Seen(postgres_world(database), PostgresLiveView(database), database)


def test_an_installation_without_anything_is_an_empty_picture(database_url: str) -> None:
    """No fleet, no cluster, no run: nothing is missing, and nothing fails."""
    view = PostgresLiveView(Database(database_url))

    now, lately = view.now(), view.lately()

    assert (now.fleet, now.clusters, len(now.nodes), now.queue, now.runs) == ("", (), 0, (), ())
    assert (lately.services, lately.decisions, lately.window_s, lately.lc_rate) == ((), (), WINDOW_S, None)


def test_clusters_are_the_sums_of_their_nodes(seen: Seen) -> None:
    """Of CPU, memory and pods, by who holds them; a node that is not ready or closed is counted so."""
    one, two = node_states(FLEET.clusters[0])
    one = replace(one, lc_cpu_request_millicores=1500, be_cpu_request_millicores=500, lc_pods=2, be_pods=1, be_memory_held_mib=256)
    two = replace(two, ready=False, schedulable=False, other_cpu_request_millicores=100, other_pods=3, cpu_used_millicores=250.0)
    seen.world.fleet.observe("c1", [one, two], [], sample=False)

    now = seen.view.now()

    c1 = now.clusters[0]
    assert [c.name for c in now.clusters] == ["c1", "c2"]
    assert (c1.nodes, c1.ready, c1.closed, c1.cpu_millicores) == (2, 1, 1, 8000)
    assert (c1.cpu_lc_millicores, c1.cpu_be_millicores, c1.cpu_other_millicores) == (1500, 500, 100)
    assert (c1.pods_lc, c1.pods_be, c1.pods_other, c1.memory_be_mib, c1.cpu_used_millicores) == (2, 1, 3, 256, 250.0)
    assert now.nodes.of("c1").name == ("c1-n1", "c1-n2")
    assert np.isnan(now.nodes.cpu_used_millicores[0])
    assert now.clusters[1].cpu_used_millicores is None


def test_nodes_of_a_cluster_that_is_away_are_not_ready(seen: Seen) -> None:
    """Nobody knows what they do."""
    seen.world.pass_over("c2", 1000.0)

    c1, c2 = seen.view.now().clusters

    assert (c1.is_away, c1.ready) == (False, 2)
    assert (c2.is_away, c2.ready) == (True, 0)
    assert c2.age_s is not None
    assert c2.age_s >= 1000.0


def test_what_waits_is_told_by_service_with_the_age_of_its_first(seen: Seen) -> None:
    """The oldest first; what has not been released waits for nobody."""
    seen.run(BATCH, BATCH, BATCH, gap_s=10.0)

    queue = seen.view.now().queue

    assert sorted((q.service, q.cluster, q.state, q.requests) for q in queue) == [
        ("batch", "c1", "released", 2),
        ("batch", "c2", "released", 1),
    ]
    assert queue[0].cluster == "c1"
    assert queue[0].oldest_s == pytest.approx(AGO_S, abs=20.0)
    assert queue[0].oldest_s - queue[1].oldest_s == pytest.approx(10.0)


def test_a_long_queue_is_told_by_its_oldest_part(seen: Seen) -> None:
    """A million rows that wait are not read every second; that there are more is said."""
    seen.run(*[BATCH] * 4)

    now = PostgresLiveView(seen.database, queue_seen=2).now()

    assert now.queue_is_cut
    assert not seen.view.now().queue_is_cut
    assert sum(q.requests for q in now.queue) == 3


def test_a_run_is_told_with_how_far_it_is(seen: Seen) -> None:
    """Its counts are those of its rows; one that has ended is not under way."""
    run_id = seen.run(WEB, WEB, WEB, BATCH, name="mine")
    seen.ended(run_id, [RequestState.SUCCEEDED, RequestState.SHED])
    ended = seen.run(BATCH)
    seen.world.cancel(ended)

    (run,) = seen.view.now().runs

    assert (run.run_id, run.name, run.accepted, run.succeeded, run.lost) == (run_id, "mine", 4, 1, 1)
    assert (run.lc_ended, run.waiting, run.to_come) == (2, 1, 1)
    assert run.elapsed_s == pytest.approx(AGO_S, abs=20.0)


def test_a_service_fared_as_its_rows_say(seen: Seen) -> None:
    """Answers in time and late by the targets of the requests, in trace time; what was shed without an attempt is missed."""
    run_id = seen.run(WEB, WEB, WEB, WEB)
    seen.database.execute("UPDATE request SET target_s = 1.5 WHERE run_id = %s", (run_id,))

    seen.ended(run_id, [RequestState.SUCCEEDED, RequestState.SUCCEEDED, RequestState.SHED, RequestState.FAILED])
    lately = seen.view.lately()

    (web,) = lately.services
    [(ended, in_time)] = seen.database.rows(
        "SELECT sum(ended)::int, sum(in_time)::int FROM qos_per_minute WHERE run_id = %s", (run_id,)
    )
    assert (web.service, web.target_ms, web.ended, web.in_time, web.missed, web.lost) == ("web", 100.0, 4, 1, 3, 2)
    assert (web.ended, web.in_time) == (ended, in_time)
    assert web.rate == lately.lc_rate == 0.25
    # Latencies of 2 s and 1 s at twice the speed.
    assert web.latency_p50_ms == pytest.approx(3000.0)
    assert (sum(web.ended_by_bucket), sum(web.in_time_by_bucket)) == (4, 1)
    assert len(web.ended_by_bucket) == round(lately.window_s / lately.bucket_s)


def test_what_ended_before_the_window_is_not_of_the_last_minutes(seen: Seen) -> None:
    """Nor what was due before it."""
    run_id = seen.run(WEB, CHAT)
    seen.ended(run_id, [RequestState.SUCCEEDED, RequestState.SHED])

    seen.database.execute("UPDATE run SET started_at = started_at - interval '1 hour'")

    assert seen.view.lately().services == ()


def test_with_more_ends_than_are_read_the_window_is_shorter_and_says_so(seen: Seen) -> None:
    """Nothing is told of seconds of which only a part was read."""
    run_id = seen.run(WEB, WEB, gap_s=0.0)
    seen.ended(run_id, [RequestState.SUCCEEDED, RequestState.SUCCEEDED])
    seen.database.execute("UPDATE attempt SET ended_at = now() - interval '100 s' WHERE request_id = 0")

    lately = PostgresLiveView(seen.database, attempts_seen=1).lately()

    assert lately.window_s < 90.0
    assert seen.view.lately().window_s == WINDOW_S


def test_decisions_and_refusals_are_the_newest(seen: Seen) -> None:
    """With who decided, and how long a pause lasts."""
    run_id = seen.run(BATCH, BATCH)
    seen.world.admit(run_id, [0, 1])
    seen.world.place(seen.world.requests.pending_be(limit=10), seen.world.fence())
    seen.world.refusals.note([Refusal.of(RefusalKind.QUOTA, cluster="c1", service="batch", words="exceeded")], role="scheduler")

    now, lately = seen.view.now(), seen.view.lately()

    (decision,) = now.decisions
    (summed,) = lately.decisions
    assert (decision.kind, decision.policy, decision.considered, decision.decide_ms) == ("be", "test", 1, 0.2)
    assert (summed.cycles, summed.policy, summed.decide_p50_ms) == (1, "test", 0.2)
    (paused,) = now.paused
    assert (paused.cluster, paused.service, paused.kind, paused.words) == ("c1", "batch", "quota", "exceeded")
    assert paused.left_s > 0


def test_shares_are_those_that_the_last_placement_told(seen: Seen) -> None:
    """Who waits below its share first; the weight of one that nobody declared is 1; what is old is not shown."""
    nobody = TenantShare(tenant="", share=0.0, weighted_share=0.0, held={}, below_s=None, withheld=False)
    seen.world.tenants.put([Tenant(name="blue", weight=3.0)])
    seen.world.tenants.tell(
        [
            replace(nobody, tenant="red", share=0.6, weighted_share=0.6, withheld=True),
            replace(nobody, tenant="blue", share=0.3, weighted_share=0.1, below_s=40.0),
        ]
    )

    blue, red = seen.view.now().tenants

    assert (blue.tenant, blue.weight, blue.share, blue.weighted_share, blue.withheld) == ("blue", 3.0, 0.3, 0.1, False)
    assert blue.below_s == pytest.approx(40.0, abs=5.0)
    assert (red.tenant, red.weight, red.share, red.below_s, red.withheld) == ("red", 1.0, 0.6, None, True)

    seen.database.execute("UPDATE tenant_share SET at = now() - interval '60 s'")
    assert seen.view.now().tenants == ()


def test_whoever_may_read_may_look(database_urls: DatabaseUrls) -> None:
    """The reader's role is refused every write."""
    world, view = postgres_world(database_urls.app), PostgresLiveView(Database(database_urls.reader))
    Seen(world, view, Database(database_urls.app)).run(BATCH)

    assert [q.service for q in view.now().queue] == ["batch"]
    assert view.lately().services == ()
