"""A small world of one cluster's journal, in memory or on SQLite, on which one suite runs both; its fleet is that of `store_world`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tango.domain.fleet import Fleet
from tango.domain.plans import LcPlan
from tango.domain.requests import LcArrivals
from tango.domain.runs import RunInfo, RunStatus
from tango.domain.services import Service
from tango.domain.shares import ShareRows
from tango.journal.journal import SqliteJournal
from tango.ports.journal import Journal
from tango.ports.requests import Dispatched, StartHere
from tango.settings import LcSettings, LeaseSettings, StoreSettings
from tests.fakes.memory_journal import MemoryJournal
from tests.fakes.own_fleet import published
from tests.fakes.store_world import AS_SHIPPED, FLEET, LC_DECISION, LIVE_S, MAX_ATTEMPTS, ZERO_S, RequestRow

CLUSTER = "c1"
LEASE, LC = LeaseSettings(max_attempts=MAX_ATTEMPTS), LcSettings()


@dataclass(slots=True)
class HairClock:
    """Unix time that moves by a hair at every look, so that a lease of no length has run out by the next one."""

    now_s: float = ZERO_S

    def __call__(self) -> float:
        """Later at every call."""
        self.now_s += 1e-6
        return self.now_s


@dataclass(slots=True)
class JournalWorld:
    """One journal with a look behind it."""

    journal: Journal
    clock: HairClock
    rows: Callable[[int], list[RequestRow]]
    """Rows of a run's requests that are there, by id."""
    infos: dict[int, RunInfo] = field(default_factory=dict)

    def create(self, *services: Service, gap_s: float = 1.0, epoch: int = 0) -> int:
        """A run whose share is one request a service named, due at 0, gap, 2 gap …; taken."""
        run_id = len(self.infos) + 1
        self.follow(run_id, RunStatus.RUNNING, accepted=len(services))
        assert self.journal.take(run_id, share(services, gap_s=gap_s, epoch=epoch)) == len(services)
        return run_id

    def keeps(self, events: int) -> None:
        """Of what it has shipped."""
        setattr(self.journal, "_kept_events" if isinstance(self.journal, SqliteJournal) else "kept_events", events)

    def follow(self, run_id: int, status: RunStatus, *, accepted: int = 0) -> None:
        """Tell the journal of a run, or of its new status."""
        known = self.infos.get(run_id)
        self.infos[run_id] = replace(known, status=status) if known else run_info(run_id, status, accepted=accepted)
        self.journal.follow(list(self.infos.values()))

    def cancel(self, run_id: int) -> int:
        """Stop a run and cancel what is live of it; give how many requests were cancelled."""
        self.follow(run_id, RunStatus.CANCELLING)
        return self.journal.cancel_stopped(limit=10_000)

    def release(self, run_id: int, *, until_s: float = 1e9, limit: int = 10_000) -> None:
        """Release what is due."""
        self.journal.release_due(run_id, until_s=until_s, limit=limit)

    def released(self, *services: Service) -> int:
        """A run whose requests are all released."""
        run_id = self.create(*services)
        self.release(run_id)
        return run_id

    def arrivals(self, run_id: int, request_ids: Sequence[int]) -> LcArrivals:
        """Those waiting."""
        return self.journal.waiting_lc(run_id, request_ids, self.journal.snapshot(at_s=0.0))

    def dispatch(
        self, run_id: int, request_ids: Sequence[int], *, node: int = 0, lease_s: float = LIVE_S, shed: bool = False
    ) -> Dispatched:
        """Read, then send all of them to one node, or shed them."""
        return self.dispatch_read(run_id, self.arrivals(run_id, request_ids), node=node, lease_s=lease_s, shed=shed)

    def start(
        self,
        run_id: int,
        request_ids: Sequence[int],
        *,
        owner: str = "w",
        node: int = 0,
        lease_s: float = LIVE_S,
        late: bool = False,
    ) -> Dispatched:
        """Read, then start all of them here."""
        read = self.arrivals(run_id, request_ids)
        here = StartHere(rows=np.ones(len(read), np.bool_), owner=owner, lease_s=lease_s, planned_s=0.0)
        return self.dispatch_read(run_id, read, node=node, here=here, late=late)

    def dispatch_read(
        self,
        run_id: int,
        arrivals: LcArrivals,
        *,
        node: int = 0,
        lease_s: float = LIVE_S,
        shed: bool = False,
        here: StartHere | None = None,
        late: bool = False,
    ) -> Dispatched:
        """Send, or start here, what was read before."""
        n = len(arrivals)
        plan = LcPlan(
            node=np.full(n, -1 if shed else node, np.int32),
            late=np.full(n, late),
            shed=np.full(n, shed),
            expected_s=np.zeros(n),
            policy="test",
        )
        snapshot = self.journal.snapshot(at_s=0.0)
        return self.journal.record_dispatch(run_id, arrivals, plan, snapshot, LC_DECISION, lease_s=lease_s, here=here)

    def attempts(self, run_id: int) -> list[tuple[int, int, str, str]]:
        """(request id, epoch, outcome, reason) of the attempts of a run that are not shipped, sorted."""
        shipment = self.journal.unshipped(limit=100_000)
        ended = shipment.attempts if shipment is not None else ()
        return sorted((a.request_id, a.epoch, a.outcome, a.reason) for a in ended if a.run_id == run_id)

    def states(self, run_id: int) -> list[str]:
        """States of a run's requests, by id."""
        return [row.state for row in self.rows(run_id)]


def run_info(run_id: int, status: RunStatus = RunStatus.RUNNING, *, speed: float = 2.0, accepted: int = 0) -> RunInfo:
    """A run that began at ZERO_S."""
    return RunInfo(
        run_id=run_id,
        name=f"run {run_id}",
        status=status,
        system="tango",
        fleet="pair",
        seed=1,
        speed=speed,
        reassure=True,
        started_at_s=ZERO_S,
        accepted=accepted,
    )


def share(services: Sequence[Service], *, gap_s: float = 1.0, first: int = 0, epoch: int = 0) -> ShareRows:
    """One request a service named, in that order."""
    n = len(services)
    return ShareRows(
        request_id=np.arange(first, first + n, dtype=np.int64),
        service=tuple(s.name for s in services),
        due_s=np.arange(first, first + n) * gap_s,
        target_s=np.full(n, 0.5),
        cpu_work_s=np.full(n, 0.1),
        memory_mib=np.full(n, 64.0),
        epoch=np.full(n, epoch, np.int32),
        attempt=np.full(n, epoch, np.int32),
    )


def memory_journal_world(fleet: Fleet = FLEET) -> JournalWorld:
    """On the fake."""
    clock = HairClock()
    journal = MemoryJournal(CLUSTER, max_attempts=MAX_ATTEMPTS, lc=LC, wall_s=clock)

    journal.publish(published(fleet))
    return JournalWorld(journal, clock, lambda run_id: memory_rows(journal, run_id))


def memory_rows(journal: MemoryJournal, run_id: int) -> list[RequestRow]:
    """What the fake has of a run, by id."""
    return [
        RequestRow(str(r.state), r.epoch, r.attempt, r.reason, r.node or "", r.started_s, r.finished_s)
        for key, r in sorted(journal.rows.items())
        if key[0] == run_id
    ]


def sqlite_journal_world(path: Path, fleet: Fleet = FLEET, *, store: StoreSettings = AS_SHIPPED) -> JournalWorld:
    """On SQLite, in the file `path`."""
    clock = HairClock()
    journal = open_journal(path, wall_s=clock, store=store)
    journal.publish(published(fleet))
    return JournalWorld(journal, clock, lambda run_id: rows_in(journal, run_id))


def open_journal(path: Path, *, wall_s: Callable[[], float], store: StoreSettings = AS_SHIPPED) -> SqliteJournal:
    """As a process opens it."""
    return SqliteJournal(path, cluster=CLUSTER, lease=LEASE, lc=LC, store=store, wall_s=wall_s)


def rows_in(journal: SqliteJournal, run_id: int) -> list[RequestRow]:
    """What the file has of a run, by id."""
    sql = (
        "SELECT state, epoch, attempt, reason, coalesce(node, ''), started_s, finished_s FROM request WHERE run_id = ? "
        "ORDER BY request_id"
    )
    return [RequestRow(*row) for row in journal._database.read(lambda c: c.execute(sql, (run_id,)).fetchall())]
