"""Celery's own metrics in the words of celery-exporter, from a worker on a real broker; and those of placement and sharing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker

from tango.domain.runs import ScalingRecord
from tango.exporter.processes import counted
from tango.settings import Settings
from tango.store.database import Database
from tango.store.events import PostgresEventLog
from tango.telemetry import catalogue as of
from tests.fakes.counting import counting, series
from tests.fakes.store_world import BATCH, postgres_world
from tests.waiting import until
from workers.app import create_app
from workers.broker_figures import BrokerFigures


@pytest.fixture
def app(valkey_url: str) -> Iterator[Celery]:
    """Tango's application on an empty broker, with a task that does nothing and one that fails."""
    with redis.Redis.from_url(valkey_url) as client:
        client.flushdb()
    made = create_app(Settings(broker_url=valkey_url))
    made.conf.include = ()

    @made.task(name="noop.well")
    def well() -> None: ...

    @made.task(name="noop.fail")
    def fail() -> None:
        raise LookupError("as it should")

    yield made
    made.close()


def test_a_worker_counts_its_tasks(app: Celery, tmp_path: Path) -> None:
    """Received, begun and ended, by name, worker and queue; a failure by its class; the time of both."""
    queue = "control"
    with (
        counting(tmp_path),
        start_worker(app, pool="solo", perform_ping_check=False, hostname="worker-7@elsewhere", queues=[queue]),
    ):
        for name in ("noop.well", "noop.well", "noop.fail"):
            app.send_task(name, queue=queue)
        until(lambda: sum(sum(values[:-1]) for values in counted(tmp_path).series(of.TASK_RUNTIME).values()) == 3)

        well, fail = ("noop.well", "worker-7", queue), ("noop.fail", "worker-7", queue)
        assert series(tmp_path, of.TASK_RECEIVED) == {well: 2, fail: 1}
        assert series(tmp_path, of.TASK_STARTED) == {well: 2, fail: 1}
        assert series(tmp_path, of.TASK_SUCCEEDED) == {well: 2}
        assert series(tmp_path, of.TASK_FAILED) == {(*fail, "LookupError"): 1}
        assert series(tmp_path, of.WORKER_ACTIVE) == {("worker-7",): 0}


def test_queues_and_brokers_are_told_and_one_that_is_away_costs_no_other(app: Celery, valkey_url: str) -> None:
    """Messages of all priorities, by queue; the queues of a cluster with a broker of its own are looked at there alone."""
    for priority in (0, 9):
        app.send_task("noop.well", queue="submit.c1", priority=priority)
    away = create_app(Settings(broker_url="redis://127.0.0.1:9/0"))

    found = BrokerFigures(app, {"c2": away})(["c1", "c2"])

    assert found.value(of.QUEUE_LENGTH, "submit.c1") == 2
    assert {queue for (queue,) in found.series(of.QUEUE_LENGTH)} == {
        *("control", "replay", "simulate", "lc.c1", "exec.c1", "be.c1", "submit.c1", "be.c2", "submit.c2")
    }
    assert {k[0]: v[0] for k, v in found.series(of.BROKER_UP).items()} == {"centre": 1, "c2": 0}
    assert (found.value(of.BROKER_MEMORY, "centre") or 0) > 0


def scaling(kind: str, reason: str, outcome: str = "done", actuation_ms: float | None = None) -> ScalingRecord:
    """A resize or an eviction."""
    return ScalingRecord(
        kind=kind,
        cluster="c1",
        node="n1",
        service="web",
        pod="p",
        before_millicores=None,
        after_millicores=None,
        slack=None,
        reason=reason,
        actuation_ms=actuation_ms,
        outcome=outcome,
    )


def test_placement_resizes_and_evictions_are_counted_where_they_are_recorded(database_url: str, tmp_path: Path) -> None:
    """A reason without the words behind it, which name services; only what took effect has a time or counts as evicted."""
    database = Database(database_url)
    world = postgres_world(database)
    run_id = world.create(BATCH)
    world.release(run_id)
    world.admit(run_id, [0])

    with counting(tmp_path):
        world.place(world.requests.pending_be(limit=10), world.fence())
        PostgresEventLog(database).scaling(
            [
                scaling("resize", "grow", actuation_ms=70.0),
                scaling("resize", "grow", outcome="deferred"),
                scaling("evict", "evicted: room for an instance of web"),
                scaling("evict", "words that nobody knows"),
                scaling("evict", "evicted", outcome="error"),
            ]
        )

        assert series(tmp_path, of.DECIDED) == {("be", "placed"): 1}
        assert set(counted(tmp_path).series(of.DECISION)) == {("be", "snapshot"), ("be", "decide"), ("be", "apply")}
        assert series(tmp_path, of.RESIZES) == {("done",): 1, ("deferred",): 1}
        assert counted(tmp_path).series(of.RESIZE)[()][-1] == pytest.approx(0.07)
        assert series(tmp_path, of.EVICTIONS) == {("evicted",): 1, ("other",): 1}
