"""The world of one cluster's worker, in memory: its journal, with a publisher. It is c1 of the fleet of `tests.fakes.store_world`."""

from __future__ import annotations

from dataclasses import dataclass

from tango.domain.fleet import Fleet
from tango.domain.runs import DecisionRecord
from tango.domain.services import Service
from tests.fakes.journal_world import CLUSTER, LC, HairClock, JournalWorld, memory_rows
from tests.fakes.memory_journal import LcRow, MemoryJournal
from tests.fakes.own_fleet import published
from tests.fakes.publisher import RecordingPublisher
from tests.fakes.store_world import FLEET, MAX_ATTEMPTS


@dataclass(slots=True, kw_only=True)
class WorkerWorld(JournalWorld):
    """Three ready nodes in two clusters, an instance of WEB and CHAT on each; all requests enter c1."""

    journal: MemoryJournal
    publisher: RecordingPublisher

    def dispatched(self, *services: Service, node: int = 0) -> int:
        """A run whose requests wait for a worker to claim them."""
        run_id = self.released(*services)
        self.dispatch(run_id, range(len(services)), node=node)
        return run_id

    def row(self, run_id: int, request_id: int) -> LcRow:
        """One request, with its owner and lease."""
        return self.journal.rows[run_id, request_id]

    def decisions(self) -> list[DecisionRecord]:
        """All that were recorded."""
        return [decision.record for _, _, decision in self.journal.events if decision is not None]


def worker_world(fleet: Fleet = FLEET) -> WorkerWorld:
    """On the fake."""
    clock = HairClock()
    journal = MemoryJournal(CLUSTER, max_attempts=MAX_ATTEMPTS, lc=LC, wall_s=clock)
    journal.publish(published(fleet))
    return WorkerWorld(
        journal=journal, publisher=RecordingPublisher(clock), clock=clock, rows=lambda run_id: memory_rows(journal, run_id)
    )
