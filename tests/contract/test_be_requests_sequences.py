"""Any sequence of calls, repeated, stale and late ones among them, keeps the books: accepted = terminal + live, each end once."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tango.domain.lifecycle import IN_FLIGHT, TERMINAL, Event, Outcome
from tango.domain.requests import Reason, RequestState
from tango.domain.runs import OPEN, PendingRequests, RunStatus
from tango.domain.services import ServiceClass
from tango.domain.shares import ShareState
from tango.errors import Fenced
from tango.ports.leases import Fence
from tango.store.database import Database
from tests.fakes.store_world import (
    BATCH,
    CHAT,
    HUGE,
    LIVE_S,
    MAX_ATTEMPTS,
    MOST_MEMORY_MIB,
    OVER_S,
    WEB,
    ZERO_S,
    RequestRow,
    StoreWorld,
    attempt_of,
    copy_of,
    memory_world,
    postgres_world,
)
from tests.long import example_count

HELD = set(IN_FLIGHT)
SERVICES = (WEB, CHAT, BATCH, HUGE)

CLUSTERS = ("c1", "c2")
"""Of `StoreWorld.create`: requests enter them in turn."""
ENDS_IN_JOURNALS = (RequestState.SUCCEEDED, RequestState.FAILED, RequestState.CANCELLED, RequestState.RELEASED)

clusters = st.sampled_from(CLUSTERS)
which = st.integers(0, 7)
ids = st.lists(which, max_size=6)
lease = st.sampled_from([LIVE_S, OVER_S])
epochs = st.integers(0, MAX_ATTEMPTS + 1)
ended = st.sampled_from([Event.SUCCEED, Event.FAIL, Event.REQUEUE, Event.REQUEUE, Event.RETURN])
ends = st.lists(
    st.tuples(which, epochs, ended, st.sampled_from(list(Reason))),
    max_size=6,
)


class Lifecycle(RuleBasedStateMachine):
    """Workers, agents, journals, schedulers and sweeps that come in any order, with what they read at any time before."""

    def __init__(self, make: Callable[[], StoreWorld]) -> None:
        super().__init__()
        self.world = make()
        self.runs: dict[int, int] = {}
        self.classes: dict[int, list[ServiceClass]] = {}
        self.seen: dict[int, list[RequestRow]] = {}
        self.opened: set[tuple[int, str]] = set()
        self.batches: list[PendingRequests] = []
        self.fences: list[Fence] = []

    def _run(self, k: int) -> int:
        return list(self.runs)[k % len(self.runs)]

    def _be(self, run_id: int) -> list[tuple[int, RequestRow]]:
        of = self.classes[run_id]
        return [(k, row) for k, row in enumerate(self._current(run_id)) if of[k] is ServiceClass.BE]

    def _is_lc(self, run_id: int, request_id: int, cluster: str) -> bool:
        return self.classes[run_id][request_id] is ServiceClass.LC and CLUSTERS[request_id % 2] == cluster

    def _is_left(self, run_id: int, request_id: int, shares: dict[str, ShareState]) -> bool:
        """Whether it is the centre's to cancel."""
        cluster = CLUSTERS[request_id % 2]
        if self.classes[run_id][request_id] is ServiceClass.BE or (run_id, cluster) not in self.opened:
            return True
        return shares[cluster].complete and request_id > shares[cluster].handed_to

    def _current(self, run_id: int) -> list[RequestRow]:
        return self.world.rows(run_id)

    @precondition(lambda self: len(self.runs) < 3)
    @rule(services=st.lists(st.sampled_from(SERVICES), min_size=1, max_size=8))
    def submit(self, services: list) -> None:
        """A run more."""
        run_id = self.world.create(*services)
        self.runs[run_id] = len(services)
        self.classes[run_id] = [s.service_class for s in services]

    @precondition(lambda self: self.runs)
    @rule(k=which, until_s=st.floats(-1.0, 9.0), limit=st.integers(1, 8))
    def release(self, k: int, until_s: float, limit: int) -> None:
        """The replayer."""
        self.world.requests.release_due(self._run(k), until_s=until_s, limit=limit)

    @precondition(lambda self: self.runs)
    @rule(k=which, cluster=clusters)
    def open_share(self, k: int, cluster: str) -> None:
        """An agent, before its journal takes the first."""
        run_id = self._run(k)
        is_open = self.world.runs.run(run_id).status in OPEN and any(s.cluster == cluster for s in self.world.shares.shares(run_id))
        assert self.world.shares.open_share(run_id, cluster) == is_open
        if is_open:
            self.opened.add((run_id, cluster))

    @precondition(lambda self: self.opened)
    @rule(k=which, limit=st.integers(0, 8), complete=st.booleans())
    def hand_over(self, k: int, limit: int, complete: bool) -> None:
        """It notes how far the journal has come."""
        run_id, cluster = sorted(self.opened)[k % len(self.opened)]
        taken = self.world.shares.share_rows(run_id, cluster, beyond=-1, limit=limit).request_id
        self.world.shares.handed(run_id, cluster, up_to=int(taken.max(initial=-1)), complete=complete)

    @precondition(lambda self: self.opened)
    @rule(k=which, chosen=ids, ends=st.lists(st.sampled_from(ENDS_IN_JOURNALS), min_size=6, max_size=6), twice=st.booleans())
    def ship(self, k: int, chosen: list[int], ends: list[RequestState], twice: bool) -> None:
        """A journal tells that some of its requests have begun an attempt, and others ended one; perhaps the same once more."""
        run_id, cluster = sorted(self.opened)[k % len(self.opened)]
        rows, copies, attempts = self._current(run_id), [], []
        for request_id, end in zip(dict.fromkeys(chosen), ends, strict=False):
            if request_id >= len(rows) or rows[request_id].state in TERMINAL:
                continue
            if rows[request_id].state not in HELD:
                if rows[request_id].epoch < MAX_ATTEMPTS:
                    copies.append(copy_of(run_id, request_id, RequestState.RUNNING, epoch=rows[request_id].epoch + 1))
                continue
            outcome = "requeued" if end is RequestState.RELEASED else str(end)
            copies.append(copy_of(run_id, request_id, end, epoch=rows[request_id].epoch))
            attempts.append(attempt_of(run_id, request_id, epoch=rows[request_id].epoch, outcome=outcome))
        told = {copy.request_id: copy for copy in copies if self._is_lc(run_id, copy.request_id, cluster)}
        shipment = self.world.shipment(*copies, cluster=cluster, attempts=attempts)
        assert self.world.shares.apply(shipment) == shipment.last
        if twice:
            assert self.world.shares.apply(shipment) == shipment.last
        for request_id, (before, now) in enumerate(zip(rows, self._current(run_id), strict=True)):
            copy = told.get(request_id)
            assert (now.state, now.epoch) == ((before.state, before.epoch) if copy is None else (copy.state, copy.epoch))

    @precondition(lambda self: self.runs)
    @rule(k=which, chosen=ids, epoch=epochs, lease_s=lease)
    def renew_by_hearsay(self, k: int, chosen: list[int], epoch: int, lease_s: float) -> None:
        """Messages of any age."""
        run_id, told = self._run(k), [epoch] * len(chosen)
        standing = {k for k, row in self._be(run_id) if row.state in HELD and row.epoch == epoch}
        assert self.world.requests.renew(run_id, chosen, told, lease_s=lease_s) == len(standing & set(chosen))

    @precondition(lambda self: self.runs)
    @rule(k=which, told=ends, current=st.booleans())
    def settle(self, k: int, told: list[tuple[int, int, Event, Reason]], current: bool) -> None:
        """Results of any epoch, each told twice; the second time none counts."""
        run_id = self._run(k)
        rows = self._current(run_id)
        outcomes = []
        for request_id, epoch, event, reason in told:
            if request_id >= len(rows):
                continue
            outcomes.append(
                Outcome(
                    run_id=run_id,
                    request_id=request_id,
                    epoch=rows[request_id].epoch if current else epoch,
                    event=event,
                    reason=reason,
                    started_s=1.0,
                    finished_s=2.0,
                )
            )
        standing = {(k, row.epoch) for k, row in self._be(run_id) if row.state in HELD}
        counted = self.world.requests.settle(outcomes)
        assert counted == len(standing & {(o.request_id, o.epoch) for o in outcomes})
        assert self.world.requests.settle(outcomes) == 0

    @rule(limit=st.integers(1, 8))
    def sweep(self, limit: int) -> None:
        """The reconciler, which ends attempts of BE alone."""
        before = sum(row.state in HELD for run_id in self.runs for _, row in self._be(run_id))
        swept = self.world.requests.requeue_expired(limit=limit)
        after = sum(row.state in HELD for run_id in self.runs for _, row in self._be(run_id))
        assert (swept, swept <= limit) == (before - after, True)

    @rule(age_s=st.sampled_from([OVER_S, LIVE_S]), limit=st.integers(1, 8))
    def publish_again(self, age_s: float, limit: int) -> None:
        """Lost messages."""
        for batch in self.world.requests.unclaimed(older_than_s=age_s, limit=limit):
            rows = self._current(batch.run_id)
            assert all(rows[k].state == "released" for k in batch.request_ids)
            assert batch.service_class == int(ServiceClass.BE)

    @precondition(lambda self: self.runs)
    @rule(k=which, chosen=ids)
    def admit(self, k: int, chosen: list[int]) -> None:
        """Cluster workers."""
        self.world.requests.admit_be(self._run(k), chosen, most_memory_mib=MOST_MEMORY_MIB)

    @rule(limit=st.integers(1, 8))
    def read_pending(self, limit: int) -> None:
        """A scheduler that will decide some time later."""
        self.batches.append(self.world.requests.pending_be(limit=limit))

    @rule(owner=st.sampled_from(["a", "b"]), ttl_s=lease)
    def take_lease(self, owner: str, ttl_s: float) -> None:
        """One of two schedulers."""
        fence = self.world.leases.acquire("place-be", owner=owner, ttl_s=ttl_s)
        if fence is not None:
            assert fence.epoch >= max((f.epoch for f in self.fences), default=0)
            self.fences.append(fence)

    @precondition(lambda self: self.batches and self.fences)
    @rule(k=which, f=which, node=st.integers(0, 2), lease_s=lease)
    def place(self, k: int, f: int, node: int, lease_s: float) -> None:
        """It decides, perhaps after it lost its lease."""
        fence = self.fences[-1 - f % len(self.fences)]
        try:
            self.world.place(self.batches[-1 - k % len(self.batches)], fence, node=node, lease_s=lease_s)
        except Fenced:
            return
        assert fence.epoch == self.fences[-1].epoch

    @precondition(lambda self: self.runs)
    @rule(k=which, request_id=which, epoch=epochs, lease_s=lease)
    def see_running(self, k: int, request_id: int, epoch: int, lease_s: float) -> None:
        """The cluster agent."""
        self.world.requests.mark_running([(self._run(k), request_id, epoch, ZERO_S + 1.0)], lease_s=lease_s)

    @precondition(lambda self: len(self.runs) > 1)
    @rule(k=which)
    def cancel(self, k: int) -> None:
        """The user; a second time it is stopped already. Nothing of it moves on from here."""
        self.world.runs.cancel(self._run(k))
        assert not self.world.runs.cancel(self._run(k))
        assert self._run(k) not in self.world.requests.pending_be(limit=100).pending.run_id.tolist()

    @precondition(lambda self: self.runs)
    @rule(k=which, beyond=st.integers(-1, 8))
    def sweep_cancelled(self, k: int, beyond: int) -> None:
        """One step of the sweep, from anywhere."""
        run_id, rows = self._run(k), self._current(self._run(k))
        cancelling = self.world.runs.run(run_id).status is RunStatus.CANCELLING
        swept = self.world.runs.sweep_cancelled(run_id, beyond=beyond)
        shares = {share.cluster: share for share in self.world.shares.shares(run_id)}
        left = [
            k
            for k, row in enumerate(rows)
            if cancelling and row.state not in TERMINAL and k > beyond and self._is_left(run_id, k, shares)
        ]
        assert (swept.cancelled, swept.last_request) == (len(left), max(left, default=None))
        assert len(swept.pods) == sum(rows[k].state in HELD and self.classes[run_id][k] is ServiceClass.BE for k in left)
        closed = self.world.runs.close_cancelled(run_id)
        assert closed == (cancelling and all(row.state in TERMINAL for row in self._current(run_id)))

    @invariant()
    def the_books_are_kept(self) -> None:
        """Counts, epochs, attempts and ends of every run."""
        for run_id, accepted in self.runs.items():
            rows, counts = self.world.rows(run_id), self.world.runs.counts(run_id)
            assert counts.accepted == accepted == len(rows)
            assert counts.terminal == sum(row.state in TERMINAL for row in rows)
            assert self.world.all_terminal(run_id) == (counts.terminal == accepted)
            for share in self.world.shares.shares(run_id):
                of_share = [row for k, row in enumerate(rows) if self._is_lc(run_id, k, share.cluster)]
                assert (share.accepted, share.terminal) == (len(of_share), sum(row.state in TERMINAL for row in of_share))
            ended: dict[int, list[tuple[int, str]]] = {k: [] for k in range(accepted)}
            for request_id, epoch, outcome, _ in self.world.attempts(run_id):
                ended[request_id].append((epoch, outcome))
            for k, row in enumerate(rows):
                assert row.attempt == row.epoch <= MAX_ATTEMPTS
                # One attempt row an epoch: all that were given out, but the one that is still held.
                assert [epoch for epoch, _ in ended[k]] == list(range(1, row.epoch + (row.state not in HELD)))
                assert [outcome for _, outcome in ended[k]].count("succeeded") == (row.state == "succeeded")
            for before, now in zip(self.seen.get(run_id, []), rows, strict=False):
                assert now.epoch >= before.epoch
                assert before.state not in TERMINAL or now == before
            self.seen[run_id] = rows


def _check(make: Callable[[], StoreWorld], *, examples: int, steps: int) -> None:
    checks = settings(
        max_examples=example_count(examples),
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(lambda: Lifecycle(make), settings=checks)


def test_any_sequence_keeps_the_books_in_memory() -> None:
    """Many sequences on the fake."""
    _check(memory_world, examples=80, steps=40)


def test_any_sequence_keeps_the_books_on_postgresql(database_url: str) -> None:
    """Fewer on the real store, in one database: the runs of each sequence are gone before the next."""
    database = Database(database_url)
    world = postgres_world(database_url)

    def make() -> StoreWorld:
        for run in world.runs.runs(limit=1000):
            database.execute("UPDATE lc_share SET opened = false WHERE run_id = %s", (run.run_id,))
            world.cancel(run.run_id)
            world.runs.delete(run.run_id)
        database.execute("DELETE FROM journal_position")
        database.execute("DELETE FROM lease")
        return world

    _check(make, examples=20, steps=30)
