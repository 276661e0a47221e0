"""Any sequence of calls, repeated, stale and late ones among them, on SQLite and on the fake in step: both say the same, keep the books,
and what a centre is shipped is what the journal has."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tango.domain.lifecycle import LIVE, TERMINAL, Event, Outcome
from tango.domain.requests import LcArrivals, Reason
from tango.domain.runs import RunStatus
from tango.domain.shares import RequestCopy, Shipment
from tango.ports.requests import StartHere
from tango.settings import StoreSettings
from tests.fakes.journal_world import (
    JournalWorld,
    memory_journal_world,
    open_journal,
    rows_in,
    run_info,
    share,
    sqlite_journal_world,
)
from tests.fakes.store_world import CHAT, LIVE_S, MAX_ATTEMPTS, OVER_S, WEB
from tests.long import example_count

SMALL = StoreSettings(chunk_rows=2)
"""Chunks so small that most calls take several transactions."""
BY_ITS_CLOCK = ("released_at_s", "dispatched_at_s", "sent_s", "ended_at_s")
"""Times of an attempt that each journal takes from its own clock, at which it looks as often as it has transactions."""

which = st.integers(0, 6)
ids = st.lists(which, max_size=6)
lease = st.sampled_from([LIVE_S, OVER_S])
epochs = st.integers(0, MAX_ATTEMPTS + 1)
owners = st.sampled_from(["a", "b"])
limits = st.integers(1, 7)
ends = st.lists(
    st.tuples(
        which,
        epochs,
        st.sampled_from([Event.SUCCEED, Event.FAIL, Event.REQUEUE, Event.REQUEUE, Event.RETURN]),
        st.sampled_from(list(Reason)),
    ),
    max_size=6,
)


class InStep(RuleBasedStateMachine):
    """A cluster's keeper, workers and agent that come in any order, with what they read at any time before."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.real = sqlite_journal_world(self.path, store=SMALL)
        self.fake = memory_journal_world()
        self.accepted: dict[int, int] = {}
        self.followed: dict[int, RunStatus] = {}
        self.arrivals: list[tuple[int, LcArrivals]] = []
        self.copies: dict[tuple[int, int], RequestCopy] = {}
        self.ended: list[Any] = []
        self.position = 0

    def teardown(self) -> None:
        """Ship the rest: the copies are what the journal has."""
        while self._ship(3):
            pass
        for run_id in self.accepted:
            self._copies_agree(run_id)
        self.real.journal.close()

    def _both(self, method: str, *args: Any, **kwargs: Any) -> Any:
        real, fake = (getattr(world.journal, method)(*args, **kwargs) for world in (self.real, self.fake))
        assert real == fake
        return real

    def _run(self, k: int) -> int:
        return list(self.accepted)[k % len(self.accepted)]

    def _follow(self) -> None:
        self._both("follow", [run_info(run_id, status) for run_id, status in self.followed.items()])
        self._both("runs")

    @precondition(lambda self: len(self.accepted) < 4)
    @rule(services=st.lists(st.sampled_from([WEB, CHAT]), min_size=1, max_size=6), epoch=st.sampled_from([0, 0, 1]), first=limits)
    def submit(self, services: list, epoch: int, first: int) -> None:
        """A run more, whose share comes in two parts of which the second repeats the first."""
        run_id, rows = len(self.accepted) + 1, share(services, epoch=epoch)
        self.accepted[run_id] = len(services)
        self.followed[run_id] = RunStatus.RUNNING
        self._follow()
        part = share(services[:first], epoch=epoch)
        assert self._both("take", run_id, part) + self._both("take", run_id, rows) == len(services)
        assert self._both("taken_to", run_id) == len(services) - 1

    @precondition(lambda self: self.accepted)
    @rule(k=which, until_s=st.floats(-1.0, 7.0), limit=limits)
    def release(self, k: int, until_s: float, limit: int) -> None:
        """The keeper."""
        self._both("release_due", self._run(k), until_s=until_s, limit=limit)

    @precondition(lambda self: self.accepted)
    @rule(
        k=which, until_s=st.floats(-1.0, 7.0), limit=limits, web=st.sampled_from([0.0, 1.0, 30.0]), chat=st.sampled_from([0.0, 2.0])
    )
    def shed_overdue(self, k: int, until_s: float, limit: int, web: float, chat: float) -> None:
        """The keeper, while more is due than workers take; 0 targets: never."""
        after = {service.name: targets for service, targets in ((WEB, web), (CHAT, chat)) if targets}
        self._both("shed_overdue", self._run(k), until_s=until_s, after_targets=after, limit=limit)

    @precondition(lambda self: self.accepted)
    @rule(k=which, chosen=ids)
    def read_arrivals(self, k: int, chosen: list[int]) -> None:
        """A dispatcher that will decide some time later."""
        run_id = self._run(k)
        real, fake = self.real.arrivals(run_id, chosen), self.fake.arrivals(run_id, chosen)
        for name in ("request_id", "service", "entry_cluster", "due_s", "target_s", "cpu_work_s", "memory_mib", "epoch"):
            np.testing.assert_array_equal(getattr(real, name), getattr(fake, name))
        self.arrivals.append((run_id, real))

    @precondition(lambda self: self.arrivals)
    @rule(
        k=which,
        node=st.integers(-1, 2),
        lease_s=lease,
        shed=st.sampled_from([False, False, False, True]),
        starts=st.lists(st.booleans(), min_size=7, max_size=7),
        owner=owners,
    )
    def dispatch(self, k: int, node: int, lease_s: float, shed: bool, starts: list[bool], owner: str) -> None:
        """It decides, perhaps twice, and starts some of it itself."""
        run_id, read = self.arrivals[-1 - k % len(self.arrivals)]
        here = StartHere(rows=np.array(starts[: len(read)], bool), owner=owner, lease_s=lease_s, planned_s=0.0)
        real, fake = (
            world.dispatch_read(run_id, read, node=node, lease_s=lease_s, shed=shed, here=here) for world in (self.real, self.fake)
        )
        assert real == fake

    @precondition(lambda self: self.accepted)
    @rule(k=which, chosen=ids, lease_s=lease, here=st.booleans(), owner=owners)
    def dispatch_what_waits(self, k: int, chosen: list[int], lease_s: float, here: bool, owner: str) -> None:
        """The way it should go, from queue to worker."""
        run_id = self._run(k)
        for world in (self.real, self.fake):
            if here:
                world.start(run_id, chosen, owner=owner, lease_s=lease_s)
            else:
                world.dispatch(run_id, chosen, lease_s=lease_s)

    @precondition(lambda self: self.accepted)
    @rule(k=which, chosen=ids, epoch=epochs, lease_s=lease, owner=owners)
    def claim_by_hearsay(self, k: int, chosen: list[int], epoch: int, lease_s: float, owner: str) -> None:
        """Messages of any age."""
        won = self._both("claim_execution", self._run(k), chosen, [epoch] * len(chosen), owner=owner, lease_s=lease_s)
        assert len({work.request_id for work in won}) == len(won)

    @rule(owner=owners, lease_s=lease)
    def heartbeat(self, owner: str, lease_s: float) -> None:
        """A process lives, or says that it goes."""
        self._both("heartbeat", owner, lease_s=lease_s)

    @precondition(lambda self: self.accepted)
    @rule(k=which, told=ends, current=st.booleans())
    def settle(self, k: int, told: list[tuple[int, int, Event, Reason]], current: bool) -> None:
        """Results of any epoch, each told twice; the second time none counts."""
        run_id = self._run(k)
        of = {request_id: row.epoch for request_id, row in self._rows(run_id).items()}
        outcomes = [
            Outcome(
                run_id=run_id,
                request_id=request_id,
                epoch=of.get(request_id, 0) if current else epoch,
                event=event,
                reason=reason,
                started_s=1.0,
                finished_s=2.0,
            )
            for request_id, epoch, event, reason in told
        ]
        self._both("settle", outcomes)
        assert self._both("settle", outcomes) == 0

    @rule(limit=limits)
    def sweep(self, limit: int) -> None:
        """The keeper; every row that it gives to publish stands released."""
        for batch in self._both("requeue_expired", limit=limit):
            rows = self._rows(batch.run_id)
            assert all(rows[k].state == "released" for k in batch.request_ids)

    @rule(age_s=st.sampled_from([OVER_S, LIVE_S]), limit=limits)
    def publish_again(self, age_s: float, limit: int) -> None:
        """Lost messages."""
        self._both("unclaimed", older_than_s=age_s, limit=limit)

    @precondition(lambda self: len(self.accepted) > 1)
    @rule(k=which, forgotten=st.booleans())
    def stop(self, k: int, forgotten: bool) -> None:
        """The user stops a run, or the centre follows it no more."""
        run_id = self._run(k)
        self.followed[run_id] = RunStatus.CANCELLING
        if forgotten:
            del self.followed[run_id]
        self._follow()

    @rule(limit=limits)
    def cancel_stopped(self, limit: int) -> None:
        """One step of the sweep."""
        self._both("cancel_stopped", limit=limit)

    @rule(limit=limits, confirmed=st.booleans())
    def ship(self, limit: int, confirmed: bool) -> None:
        """The agent; perhaps the answer is lost."""
        self._ship(limit, confirmed=confirmed)

    @rule()
    def restart(self) -> None:
        """Another process opens the file."""
        self.real.journal.close()
        journal = open_journal(self.path, wall_s=self.real.clock, store=SMALL)
        self.real = JournalWorld(journal, self.real.clock, lambda run_id: rows_in(journal, run_id), self.real.infos)

    @invariant()
    def the_books_are_kept(self) -> None:
        """Rows agree; every accepted request is there, or terminal at the centre; counts in flight agree."""
        real, fake = (sorted(world.journal.in_flight()) for world in (self.real, self.fake))
        assert real == fake
        for run_id, accepted in self.accepted.items():
            assert self.real.rows(run_id) == self.fake.rows(run_id)
            there = self._rows(run_id)
            gone = [copy for (of, k), copy in self.copies.items() if of == run_id and k not in there]
            assert len(there) + len(gone) == accepted
            assert all(copy.state in TERMINAL for copy in gone)
            assert all(row.state in (*TERMINAL, *LIVE) for row in there.values())

    def _rows(self, run_id: int) -> dict[int, Any]:
        fake = self.fake.journal
        return {k: row for (of, k), row in fake.rows.items() if of == run_id}  # type: ignore[attr-defined]

    def _ship(self, limit: int, *, confirmed: bool = True) -> bool:
        real, fake = self.real.journal.unshipped(limit=limit), self.fake.journal.unshipped(limit=limit)
        assert (real is None) == (fake is None)
        if real is None or fake is None:
            return False
        assert _plain(real) == _plain(fake)
        if real.first == self.position + 1:
            self.copies |= {(copy.run_id, copy.request_id): copy for copy in real.requests}
            self.ended += [(a.run_id, a.request_id, a.epoch) for a in real.attempts]
            assert len(set(self.ended)) == len(self.ended)
            self.position = real.last
        if confirmed:
            self._both("shipped", self.position)
        return True

    def _copies_agree(self, run_id: int) -> None:
        for k, row in self._rows(run_id).items():
            if (run_id, k) in self.copies:
                assert self.copies[run_id, k] == row.copy()
            else:
                assert row.state in LIVE
                assert row.node is None


def _plain(shipment: Shipment) -> dict[str, Any]:
    """All but what differs between two journals."""
    return {
        "first": shipment.first,
        "last": shipment.last,
        "requests": shipment.requests,
        "attempts": [
            attempt._replace(**{name: getattr(attempt, name) is not None for name in BY_ITS_CLOCK}) for attempt in shipment.attempts
        ],
        "decisions": [(decision.run_id, replace(decision.record)) for decision in shipment.decisions],
    }


def test_any_sequence_keeps_the_books(tmp_path: Path) -> None:
    """Many sequences on both."""
    checks = settings(
        max_examples=example_count(30),
        stateful_step_count=30,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    numbers = itertools.count()
    run_state_machine_as_test(lambda: InStep(tmp_path / f"{next(numbers)}.db"), settings=checks)
