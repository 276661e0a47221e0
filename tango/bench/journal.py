"""`tango bench journal`: what the journal costs for each LC request, beside the same steps on a PostgreSQL of the cluster's own.

The steps are those of the live path, one transaction each for a message of requests: release, read what waits, record the dispatch with
its decision, settle. The yardstick takes them as the live path did before there were journals: an indexed table of requests and one of
attempts, arrays in, rows locked in order. Shipping and hand-over, which the yardstick would need too, are left out on both sides.
"""

from __future__ import annotations

import functools
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles

import numpy as np
import psutil

from tango.bench.figures import Figure, Told
from tango.bench.worlds import busy_snapshot, fleet_of_size
from tango.control.lc_tracing import LcTracing
from tango.domain.lifecycle import Event, Outcome
from tango.domain.plans import LcPlan
from tango.domain.runs import DecisionRecord, RunInfo, RunStatus
from tango.domain.services import ServiceClass
from tango.domain.shares import PublishedFleet, ShareRows
from tango.journal.journal import SqliteJournal
from tango.ports.requests import StartHere
from tango.ports.spans import NO_SPANS, Spans
from tango.settings import Settings
from tango.stack.postgres import PostgresServer
from tango.store.database import Cursor, Database

BATCH = 20
"""Requests of a message: what a cluster gets in a window of release at some hundred requests a second."""
_FIGURES = (("message, p50", "ms"), ("message, p99", "ms"), ("CPU for a request", "us"))
Step = Callable[[int], None]
"""Everything that happens to the requests of one message, by the id of the first."""

_TABLES = """
CREATE TABLE request (
    request_id int PRIMARY KEY, service text NOT NULL, due_s float8 NOT NULL, target_s float8, cpu_work_s float8 NOT NULL,
    memory_mib float8 NOT NULL, state text NOT NULL DEFAULT 'accepted', epoch int NOT NULL DEFAULT 0, node text, owner text,
    started_s float8, finished_s float8, released_at timestamptz, lease_until timestamptz
);
CREATE INDEX ON request (state, due_s) WHERE state IN ('released', 'dispatched', 'running');
CREATE TABLE attempt (request_id int, epoch int, node text, latency_s float8, outcome text, ended_at timestamptz DEFAULT now(),
                      PRIMARY KEY (request_id, epoch));
CREATE INDEX ON attempt (ended_at);
CREATE TABLE decision (at timestamptz DEFAULT now(), note text);
"""
_RELEASE = """
UPDATE request SET state = 'released', released_at = now() WHERE request_id >= %(first)s AND request_id < %(end)s AND state = 'accepted'
RETURNING request_id, service
"""
_WAITING = """
SELECT request_id, service, due_s, target_s, cpu_work_s, memory_mib, epoch FROM request
WHERE request_id = ANY (%(ids)s) AND state = 'released' ORDER BY due_s
"""
_LOCKED = (
    "WITH locked AS (SELECT request_id FROM request WHERE request_id = ANY (%(ids)s) AND state = '{}' ORDER BY 1 FOR NO KEY UPDATE)"
)
_START = f"""
{_LOCKED.format("released")}
UPDATE request r SET state = 'running', epoch = epoch + 1, node = 'n', owner = 'w', lease_until = now() + interval '10 s'
FROM locked WHERE r.request_id = locked.request_id RETURNING r.request_id, r.epoch
"""
_SETTLE = f"""
{_LOCKED.format("running")}, ended AS (
    UPDATE request r SET state = 'succeeded', started_s = due_s, finished_s = due_s + 0.1, lease_until = NULL
    FROM locked WHERE r.request_id = locked.request_id RETURNING r.request_id, r.epoch, r.node
)
INSERT INTO attempt (request_id, epoch, node, latency_s, outcome) SELECT request_id, epoch, node, 0.1, 'succeeded' FROM ended
"""


def measure(*, requests: int = 20_000, told: Told = print) -> list[Figure]:
    """Milliseconds that a message of `BATCH` requests takes (p50, p99) and CPU of all processes for each request, one after the other."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder:
        told(f"{requests} requests in the journal")
        ours = timed(journal_step(Path(folder) / "c1.db", requests), requests)
        for synchronous in ("off", "on"):
            told(f"{requests} requests in PostgreSQL, synchronous_commit {synchronous}")
            with _postgres(Path(folder) / synchronous) as database:
                theirs = timed(_postgres_step(database, requests, synchronous), requests)
            figures += [
                Figure(
                    name=f"{name}, {BATCH} requests",
                    value=of_journal,
                    unit=unit,
                    yardstick=f"PostgreSQL, synchronous_commit {synchronous}",
                    yardstick_value=of_postgres,
                )
                for (name, unit), of_journal, of_postgres in zip(_FIGURES, ours, theirs, strict=True)
            ]
    return figures


def timed(step: Step, requests: int) -> tuple[float, float, float]:
    """p50 and p99 of a step in ms, and CPU in us for each request: of this process and of those that serve it."""
    for first in range(0, requests // 10, BATCH):  # warm-up
        step(first)
    before_s, taken_ms = _cpu_s(), []
    for first in range(requests // 10, requests, BATCH):
        began_s = time.perf_counter()
        step(first)
        taken_ms.append((time.perf_counter() - began_s) * 1e3)
    spent_s = _cpu_s() - before_s
    cuts = quantiles(taken_ms, n=100)
    return cuts[49], cuts[98], spent_s / (len(taken_ms) * BATCH) * 1e6


def _cpu_s() -> float:
    """CPU seconds of this process and of its children that live."""
    here = psutil.Process()
    return sum(sum(p.cpu_times()[:2]) for p in (here, *here.children(recursive=True)))


def journal_step(path: Path, requests: int, spans: Spans = NO_SPANS) -> Step:
    """What the live path does in the journal for the requests of a message, and the spans that it makes of that."""
    settings = Settings()
    journal = SqliteJournal(path, cluster="c1", lease=settings.lease, lc=settings.lc, store=settings.store)
    snapshot = busy_snapshot(fleet_of_size(10))
    service = next(s.name for s in snapshot.services if s.service_class is ServiceClass.LC)
    run = RunInfo(
        run_id=1,
        name="bench",
        status=RunStatus.RUNNING,
        system="tango",
        fleet="bench",
        seed=1,
        speed=1.0,
        reassure=True,
        started_at_s=0.0,
        accepted=requests,
    )
    journal.follow([run])
    journal.publish(PublishedFleet(snapshot=snapshot, instances=()))
    journal.take(
        1,
        ShareRows(
            request_id=np.arange(requests),
            service=(service,) * requests,
            due_s=np.arange(requests, dtype=np.float64) * 1e-3,
            target_s=np.full(requests, 0.1),
            cpu_work_s=np.full(requests, 0.01),
            memory_mib=np.full(requests, 32.0),
            epoch=np.zeros(requests, np.int32),
            attempt=np.zeros(requests, np.int32),
        ),
    )
    plan = LcPlan(
        node=np.zeros(BATCH, np.int32), late=np.zeros(BATCH, np.bool_), shed=np.zeros(BATCH, np.bool_), expected_s=np.zeros(BATCH)
    )
    decision = DecisionRecord(
        kind="lc",
        cluster="c1",
        policy="bench",
        checkpoint="",
        considered=BATCH,
        placed=BATCH,
        unplaced=0,
        late=0,
        shed=0,
        snapshot_ms=0.1,
        decide_ms=0.1,
    )
    here = StartHere(rows=np.ones(BATCH, np.bool_), owner="w", lease_s=10.0, planned_s=0.0)

    tracing = LcTracing(spans, journal, functools.cache(journal.run), cluster="c1", max_attempts=settings.lease.max_attempts)

    def step(first: int) -> None:
        began_s = time.time()
        released = journal.release_due(1, until_s=1e9, limit=BATCH)
        ids = [k for batch in released.batches for k in batch.request_ids]
        arrivals = journal.waiting_lc(1, ids, snapshot)
        sent = journal.record_dispatch(1, arrivals, plan, snapshot, decision, lease_s=10.0, here=here)
        outcomes = [
            Outcome(
                run_id=1, request_id=w.request_id, epoch=w.epoch, event=Event.SUCCEED, started_s=w.due_s, finished_s=w.due_s + 0.1
            )
            for w in sent.started
        ]
        if not spans.is_on:
            journal.settle(outcomes)
            return
        tracing.published(released.batches, began_s=began_s)
        calls = tracing.begun(sent.started)
        tracing.dispatched(1, ids, sent, [], began_s=began_s, policy="bench")
        traced = [
            (call, w, outcome)
            for w, outcome in zip(sent.started, outcomes, strict=True)
            if (call := calls.get((w.run_id, w.request_id, w.epoch))) is not None
        ]
        for call, *_ in traced:
            call.sent_at_s, call.answered_at_s, call.status = began_s, time.time(), 200
        settled = tracing.settling(traced)
        journal.settle(outcomes)
        settled()

    return step


@contextmanager
def _postgres(home: Path) -> Iterator[Database]:
    home.mkdir(mode=0o700)
    server = PostgresServer(home, password=secrets.token_urlsafe(16))
    server.start()
    database = Database(server.admin_url())
    try:
        yield database
    finally:
        database.close()
        server.stop()
        server.discard()


def _postgres_step(database: Database, requests: int, synchronous: str) -> Step:
    database.execute(f"ALTER DATABASE postgres SET synchronous_commit = {synchronous}")
    database.close()  # the next connection has it
    database.execute(_TABLES)
    database.execute(
        "INSERT INTO request (request_id, service, due_s, target_s, cpu_work_s, memory_mib) "
        "SELECT k, 'web', k * 1e-3, 0.1, 0.01, 32 FROM generate_series(0, %s - 1) k",
        (requests,),
    )
    database.execute("ANALYZE request")

    def step(first: int) -> None:
        ids = [row[0] for row in database.rows(_RELEASE, {"first": first, "end": first + BATCH})]
        database.rows(_WAITING, {"ids": ids})

        def dispatch(cursor: Cursor) -> None:
            cursor.execute(_START, {"ids": ids})
            cursor.execute("INSERT INTO decision (note) VALUES ('')")

        database.run(dispatch)
        database.execute(_SETTLE, {"ids": ids})

    return step
