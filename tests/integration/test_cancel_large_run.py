"""Cancelling a run of 50,000 requests, in the long suite 200,000, while it is worked on, on PostgreSQL."""

from __future__ import annotations

import threading
import time

import numpy as np

from tango.bootstrap.clock import SystemClock
from tango.control.cancel_run import CancelSweep
from tango.domain.lifecycle import IN_FLIGHT, WAITING
from tango.domain.requests import RequestState
from tango.domain.runs import RunStatus
from tango.settings import CancelSettings
from tango.store.database import Database
from tango.store.run_records import PostgresRunRecords
from tests.fakes.cluster_calls import RecordingClusterCalls
from tests.fakes.store_world import (
    BATCH,
    LIVE_S,
    WEB,
    ZERO_S,
    StoreWorld,
    attempt_of,
    copy_of,
    new_requests,
    new_run,
    postgres_world,
    success,
)
from tests.long import LONG

REQUESTS = 200_000 if LONG else 30_000
RELEASED = 20_000
TAKEN = 1998
"""Id of the last LC request that the journal has."""
IN_JOURNAL = range(0, TAKEN + 2, 2)
ANSWER_S = 2.0


def large_run(world: StoreWorld) -> int:
    """LC and BE requests in turn, each class at a cluster of its own; the first released, and some of those in a journal or placed."""
    run_id = world.runs.create_run(new_run(), new_requests([WEB, BATCH] * (REQUESTS // 2), gap_s=0.001))
    world.runs.begin(run_id, at_s=ZERO_S)
    world.release(run_id, limit=RELEASED // 2)
    world.shares.open_share(run_id, "c1")
    world.shares.handed(run_id, "c1", up_to=TAKEN, complete=True)
    world.ship(*(copy_of(run_id, k, RequestState.RUNNING) for k in IN_JOURNAL))
    world.admit(run_id, range(1, 2000, 2))
    world.place(world.requests.pending_be(limit=50), world.fence())
    return run_id


def test_a_large_run_is_stopped_at_once_and_swept_while_others_work(database_url: str) -> None:
    """The cancellation answers in 2 s whatever the size; the sweep goes on beside results, heartbeats and shipments of the same requests,
    nothing of the run moves on, what the journal has is left to it, and at every instant accepted = terminal + live.
    """
    world, database = postgres_world(database_url), Database(database_url)
    run_id = large_run(world)
    clusters, done, wrong = RecordingClusterCalls(), threading.Event(), list[str]()
    sweep = CancelSweep(
        runs=world.runs,
        records=PostgresRunRecords(database),
        leases=world.leases,
        clusters=lambda: clusters,
        clock=SystemClock(),
        order_figures=world.figures.order,
        settings=CancelSettings(slice_s=0.5, late_pod_s=0.0),
    )

    def work() -> None:
        """Whoever had a hand in the run goes on as if nothing had happened."""
        other, turn = postgres_world(database_url), 0
        while not done.is_set():
            turn += 1
            ids = list(range(1 + 2 * (turn % 500), 2000, 38))
            if other.requests.release_due(run_id, until_s=1e9, limit=100).batches:
                wrong.append("released")
            other.requests.renew(run_id, ids, [1] * len(ids), lease_s=LIVE_S)
            other.requests.settle([success(run_id, k, 1) for k in ids[:3]])
            if other.shares.open_share(run_id, "c1") or other.admit(run_id, range(2001, 2400, 2)):
                wrong.append("handed over or admitted")

    def ship() -> None:
        """The agent goes on to tell what its journal has cancelled, or had settled before."""
        other = postgres_world(database_url)
        for k in range(0, len(IN_JOURNAL), 10):
            sent = IN_JOURNAL[k : k + 10]
            ended = [RequestState.SUCCEEDED if i % 3 else RequestState.CANCELLED for i in sent]
            other.ship(
                *(copy_of(run_id, i, state) for i, state in zip(sent, ended, strict=True)),
                attempts=[attempt_of(run_id, i, outcome=str(state)) for i, state in zip(sent, ended, strict=True)],
            )
            time.sleep(0.02)

    def look() -> None:
        other = postgres_world(database_url)
        while not done.is_set():
            counts = other.runs.counts(run_id)
            live = counts.accepted - counts.terminal
            if counts.accepted != REQUESTS or not 0 <= live <= REQUESTS:
                wrong.append(f"{counts.by_state}")
            time.sleep(0.05)

    begin_s = time.monotonic()
    assert world.runs.cancel(run_id)
    answered_s = time.monotonic() - begin_s
    others = [threading.Thread(target=target) for target in (work, work, look, ship)]
    for thread in others:
        thread.start()
    while world.runs.run(run_id).status is RunStatus.CANCELLING and time.monotonic() - begin_s < 120:
        sweep.sweep(owner="a")
    done.set()
    for thread in others:
        thread.join()

    counts = world.runs.counts(run_id).by_state
    assert answered_s < ANSWER_S
    assert wrong == []
    assert world.runs.run(run_id).status is RunStatus.CANCELLED
    assert not {str(state) for state in (*IN_FLIGHT, *WAITING)} & counts.keys()
    assert counts["cancelled"] + counts.get("succeeded", 0) == REQUESTS
    assert [(share.accepted, share.terminal) for share in world.shares.shares(run_id)] == [(REQUESTS // 2, REQUESTS // 2)]
    assert all(row.state == ("succeeded" if k % 3 else "cancelled") for k, row in enumerate(world.rows(run_id)) if k in IN_JOURNAL)
    ended = world.attempts(run_id)
    assert len(ended) == 1050
    assert len(set(clusters.deleted)) == sum(k % 2 == 1 and outcome == "cancelled" for k, _, outcome, _ in ended)
    assert np.unique([k for k, *_ in ended]).size == 1050
