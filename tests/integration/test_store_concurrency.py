"""Many processes at the same rows: threads with connections of their own, each row won exactly once."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable

from tango.domain.shares import Shipment
from tango.errors import Fenced
from tests.fakes.store_world import (
    BATCH,
    LIVE_S,
    MAX_ATTEMPTS,
    OVER_S,
    WEB,
    StoreWorld,
    attempt_of,
    copy_of,
    postgres_world,
    requeue,
    success,
)

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


def _placed(world: StoreWorld, n: int, *, lease_s: float) -> int:
    """A run of `n` BE requests that are all placed."""
    run_id = world.create(*[BATCH] * n, gap_s=0.001)
    world.release(run_id)
    world.admit(run_id, range(n))
    world.place(world.requests.pending_be(limit=n), world.fence(), lease_s=lease_s)
    return run_id


def test_each_request_is_released_admitted_and_settled_by_one(database_url: str) -> None:
    """Six workers that do the same at the same time win every row once at every step, whatever the interleaving."""
    worlds = [postgres_world(database_url) for _ in range(THREADS)]
    run_id = worlds[0].create(*[BATCH, WEB] * ROWS, gap_s=0.001)
    ids = list(range(0, 2 * ROWS, 2))

    released = _together(worlds, lambda w: w.requests.release_due(run_id, until_s=10.0, limit=ROWS).batches)
    admitted = _together(worlds, lambda w: w.admit(run_id, ids))
    worlds[0].place(worlds[0].requests.pending_be(limit=ROWS), worlds[0].fence())
    settled = _together(worlds, lambda w: w.requests.settle([success(run_id, k, 1) for k in ids]))

    assert Counter(k for batches in released for b in batches for k in b.request_ids) == {k: 1 for k in ids}
    assert sum(admitted) == sum(settled) == ROWS
    assert worlds[0].runs.counts(run_id).by_state == {"succeeded": ROWS, "accepted": ROWS}
    assert len(worlds[0].attempts(run_id)) == ROWS


def test_each_expired_request_is_requeued_by_one_sweep(database_url: str) -> None:
    """Sweeps skip rows that another one has; together they take every row once."""
    worlds = [postgres_world(database_url) for _ in range(THREADS)]
    run_id = _placed(worlds[0], ROWS, lease_s=OVER_S)

    swept = _together(worlds, lambda w: sum(w.requests.requeue_expired(limit=50) for _ in range(10)))

    assert sum(swept) == len(worlds[0].attempts(run_id)) == ROWS
    assert worlds[0].runs.counts(run_id).by_state == {"pending": ROWS}


def test_a_result_and_a_sweep_do_not_both_count(database_url: str) -> None:
    """An expired row ends once: by the result that comes late or by the sweep."""
    worlds = [postgres_world(database_url) for _ in range(2)]
    run_id = _placed(worlds[0], ROWS, lease_s=OVER_S)

    def work(world: StoreWorld) -> int:
        if world is worlds[0]:
            return sum(world.requests.settle([success(run_id, k, 1)]) for k in range(ROWS))
        return sum(world.requests.requeue_expired(limit=10) for _ in range(ROWS // 10))

    counted = _together(worlds, work)

    states = worlds[0].runs.counts(run_id).by_state
    assert counted == [states.get("succeeded", 0), states.get("pending", 0)]
    assert sum(counted) == len(worlds[0].attempts(run_id)) == ROWS


def test_a_shipment_that_several_send_at_once_counts_once(database_url: str) -> None:
    """An agent that restarts may overlap with its successor: each event of the journal is written by one of them, in order."""
    worlds = [postgres_world(database_url) for _ in range(THREADS)]
    run_id = worlds[0].create(*[WEB] * (2 * ROWS), gap_s=0.001)
    ids = list(range(0, 2 * ROWS, 2))
    shipments = [
        Shipment(
            cluster="c1",
            journal="first",
            first=k + 1,
            last=k + 10,
            requests=tuple(copy_of(run_id, i) for i in ids[k : k + 10]),
            attempts=tuple(attempt_of(run_id, i) for i in ids[k : k + 10]),
            decisions=(),
        )
        for k in range(0, ROWS, 10)
    ]

    def work(world: StoreWorld) -> int:
        position = 0
        while position < ROWS:
            position = world.shares.apply(shipments[position // 10])
        return position

    assert _together(worlds, work) == [ROWS] * THREADS
    assert worlds[0].runs.counts(run_id).by_state == {"succeeded": ROWS, "accepted": ROWS}
    assert [share.terminal for share in worlds[0].shares.shares(run_id)] == [ROWS, 0]
    assert len(worlds[0].attempts(run_id)) == ROWS


def test_a_share_is_opened_before_a_cancellation_or_not_at_all(database_url: str) -> None:
    """Of both at once: what was opened, the sweep leaves to the journal, and what was not, no journal gets."""
    worlds = [postgres_world(database_url) for _ in range(2)]
    for _ in range(40):
        run_id = worlds[0].create(WEB)
        opened, cancelled = _together(
            worlds,
            lambda w, r=run_id: w.shares.open_share(r, "c1") if w is worlds[0] else w.cancel(r),  # type: ignore[misc]
        )
        state = worlds[0].rows(run_id)[0].state
        assert (opened, cancelled, state) in ((True, 0, "accepted"), (False, 1, "cancelled"))


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
    """Placements, results, requeues, shipments, sweeps and a cancellation at once: every row ends once, every epoch has one attempt."""
    worlds = [postgres_world(database_url) for _ in range(THREADS)]
    run_id = worlds[0].create(*[BATCH, WEB] * ROWS, gap_s=0.001)
    worlds[0].shares.open_share(run_id, "c2")
    begun = threading.Event()

    def work(world: StoreWorld) -> int:
        if world is worlds[0]:
            begun.wait(30)
            return world.cancel(run_id)
        counted = 0
        for turn in range(30):
            world.requests.release_due(run_id, until_s=10.0, limit=40)
            ids = list(range(turn * 20, turn * 20 + 20, 2))
            world.admit(run_id, ids)
            fence = world.leases.acquire("place-be", owner=str(id(world)), ttl_s=OVER_S if turn % 3 == 0 else LIVE_S)
            if fence is not None:
                with contextlib.suppress(Fenced):
                    world.place(world.requests.pending_be(limit=10), fence, lease_s=OVER_S if turn % 3 == 0 else LIVE_S)
                    world.leases.release(fence)
            ended = [success(run_id, k, 1) if k % 4 else requeue(run_id, k, 1) for k in ids]
            counted += world.requests.settle(ended)
            world.requests.requeue_expired(limit=20)
            if world is worlds[1]:
                sent = [k + 1 for k in ids]
                world.ship(*(copy_of(run_id, k) for k in sent), cluster="c2", attempts=[attempt_of(run_id, k) for k in sent])
            if turn == 10:
                begun.set()
        return counted

    counted = _together(worlds, work)
    worlds[0].shares.handed(run_id, "c2", up_to=2 * ROWS, complete=True)

    rows, attempts = worlds[0].rows(run_id), worlds[0].attempts(run_id)
    assert {row.state for row in rows} <= {"succeeded", "failed", "cancelled"}
    assert {row.state for row in rows[1::2]} == {"succeeded"}
    assert [share.terminal for share in worlds[0].shares.shares(run_id)] == [ROWS]
    assert sum(row.state == "cancelled" for row in rows) == counted[0]
    assert sorted((k, e) for k, e, _, _ in attempts) == [(k, e) for k, row in enumerate(rows) for e in range(1, row.epoch + 1)]
    assert max(row.attempt for row in rows) <= MAX_ATTEMPTS
    assert worlds[0].cancel(run_id) == 0
    assert worlds[0].all_terminal(run_id)
