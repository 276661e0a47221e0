"""Many processes at the same rows: threads with connections of their own, each row won exactly once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from tango.errors import Fenced
from tests.fakes.store_world import BATCH, LIVE_S, MAX_ATTEMPTS, OVER_S, WEB, StoreWorld, postgres_world, requeue, success

THREADS = 6
ROWS = 300


def _together(worlds: list[StoreWorld], work: Callable[[StoreWorld], object]) -> list[object]:
    """Run `work` on every world at once; give the results. Raises: the first error of a thread."""
    barrier = threading.Barrier(len(worlds))
    results: list[object] = [None] * len(worlds)

    def run(k: int) -> None:
        barrier.wait(timeout=30)
        try:
            results[k] = work(worlds[k])
        except BaseException as error:
            results[k] = error

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(worlds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def test_each_request_is_released_dispatched_claimed_and_settled_by_one(database_url: str) -> None:
    """Six workers that do the same at the same time win every row once at every step, whatever the interleaving."""
    worlds = [postgres_world(database_url) for _ in range(THREADS)]
    run_id = worlds[0].create(*[WEB] * ROWS, gap_s=0.001)
    ids, first_epochs = list(range(ROWS)), [1] * ROWS

    released = _together(worlds, lambda w: w.requests.release_due(run_id, until_s=10.0, limit=ROWS).batches)
    readings = iter([w.arrivals(run_id, ids) for w in worlds])
    sent = _together(worlds, lambda w: w.dispatch_read(run_id, next(readings)).by_cluster.get("c1", ((), ())))
    claimed = _together(
        worlds, lambda w: w.requests.claim_execution(run_id, "c1", ids, first_epochs, owner=str(id(w)), lease_s=LIVE_S)
    )
    settled = _together(worlds, lambda w: w.requests.settle([success(run_id, k, 1) for k in ids]))

    once = {k: 1 for k in ids}
    assert Counter(k for batches in released for b in batches for k in b.request_ids) == once
    assert Counter(k for won, _ in sent for k in won) == once
    assert Counter(work.request_id for works in claimed for work in works) == once
    assert sum(settled) == ROWS
    assert worlds[0].runs.counts(run_id).by_state == {"succeeded": ROWS}
    assert len(worlds[0].attempts(run_id)) == ROWS


def test_each_expired_request_is_requeued_by_one_sweep(database_url: str) -> None:
    """Sweeps skip rows that another one has; together they take every row once."""
    worlds = [postgres_world(database_url) for _ in range(THREADS)]
    run_id = worlds[0].create(*[WEB] * ROWS, gap_s=0.001)
    worlds[0].release(run_id)
    worlds[0].dispatch(run_id, list(range(ROWS)), lease_s=OVER_S)

    swept = _together(worlds, lambda w: [b for _ in range(10) for b in w.requests.requeue_expired(limit=50)])

    assert Counter(k for batches in swept for b in batches for k in b.request_ids) == {k: 1 for k in range(ROWS)}
    assert worlds[0].runs.counts(run_id).by_state == {"released": ROWS}


def test_a_result_and_a_sweep_do_not_both_count(database_url: str) -> None:
    """An expired row ends once: by the result that comes late or by the sweep."""
    worlds = [postgres_world(database_url) for _ in range(2)]
    run_id = worlds[0].create(*[WEB] * ROWS, gap_s=0.001)
    worlds[0].release(run_id)
    worlds[0].dispatch(run_id, list(range(ROWS)), lease_s=OVER_S)

    def work(world: StoreWorld) -> int:
        if world is worlds[0]:
            return sum(world.requests.settle([success(run_id, k, 1)]) for k in range(ROWS))
        return sum(len(b.request_ids) for _ in range(ROWS // 10) for b in world.requests.requeue_expired(limit=10))

    counted = _together(worlds, work)

    states = worlds[0].runs.counts(run_id).by_state
    assert counted == [states.get("succeeded", 0), states.get("released", 0)]
    assert sum(counted) == len(worlds[0].attempts(run_id)) == ROWS


def test_schedulers_place_each_request_once_and_only_one_holds_the_fence(database_url: str) -> None:
    """Whoever lost the lease is refused; the holder's placements are each request's only ones."""
    worlds = [postgres_world(database_url) for _ in range(THREADS)]
    run_id = worlds[0].create(*[BATCH] * 60, gap_s=0.001)
    worlds[0].release(run_id)
    worlds[0].admit(run_id, list(range(60)))
    names = {id(world): f"s{k}" for k, world in enumerate(worlds)}

    def work(world: StoreWorld) -> list[int]:
        won: list[int] = []
        for turn in range(5000):
            if not len(world.requests.pending_be(limit=1).pending):
                break
            fence = world.leases.acquire("place-be", owner=names[id(world)], ttl_s=OVER_S if turn % 2 else LIVE_S)
            if fence is None:
                continue
            try:
                won += [p.request_id for p in world.place(world.requests.pending_be(limit=10), fence)]
            except Fenced:
                continue
            world.leases.release(fence)
        return won

    placed = Counter(k for won in _together(worlds, work) for k in won)
    assert placed == {k: 1 for k in range(60)}


def test_a_run_cancelled_amid_its_work_keeps_its_books(database_url: str) -> None:
    """Dispatch, results, requeues, sweeps and a cancellation at once: every row ends once, every epoch has one attempt."""
    worlds = [postgres_world(database_url) for _ in range(THREADS)]
    run_id = worlds[0].create(*[WEB] * ROWS, gap_s=0.001)
    begun = threading.Event()

    def work(world: StoreWorld) -> int:
        if world is worlds[0]:
            begun.wait(30)
            return world.cancel(run_id)
        counted = 0
        for turn in range(30):
            world.requests.release_due(run_id, until_s=10.0, limit=40)
            ids = list(range(turn * 10, turn * 10 + 10))
            world.dispatch(run_id, ids, lease_s=OVER_S if turn % 3 == 0 else LIVE_S)
            ended = [success(run_id, k, 1) if k % 2 else requeue(run_id, k, 1) for k in ids]
            counted += world.requests.settle(ended)
            world.requests.requeue_expired(limit=20)
            if turn == 10:
                begun.set()
        return counted

    counted = _together(worlds, work)

    rows, attempts = worlds[0].rows(run_id), worlds[0].attempts(run_id)
    assert {row.state for row in rows} <= {"succeeded", "failed", "cancelled"}
    assert sum(row.state == "cancelled" for row in rows) == counted[0]
    assert sorted((k, e) for k, e, _, _ in attempts) == [(k, e) for k, row in enumerate(rows) for e in range(1, row.epoch + 1)]
    assert max(row.attempt for row in rows) <= MAX_ATTEMPTS
    assert worlds[0].cancel(run_id) == 0
