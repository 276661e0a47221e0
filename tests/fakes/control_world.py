"""Everything a use case asks for, in memory: the world of `tests.fakes.store_world` with a clock, a publisher and clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tango.domain.fleet import Fleet
from tango.domain.services import Service
from tango.settings import StoreSettings
from tests.fakes.be_requests import MemoryBeRequests
from tests.fakes.cluster_calls import RecordingClusterCalls
from tests.fakes.event_log import MemoryEventLog
from tests.fakes.figures_store import MemoryFiguresStore
from tests.fakes.fleet_store import MemoryFleetStore
from tests.fakes.jobs import MemoryJobs
from tests.fakes.lease_store import MemoryLeaseStore
from tests.fakes.live_runs import MemoryLiveRuns
from tests.fakes.memory_state import MemoryState, Row
from tests.fakes.publisher import RecordingPublisher
from tests.fakes.refusals import MemoryRefusals
from tests.fakes.run_store import MemoryRunStore
from tests.fakes.share_store import MemoryShareStore
from tests.fakes.store_world import (
    AS_SHIPPED,
    FLEET,
    MAX_ATTEMPTS,
    ZERO_S,
    RequestRow,
    StoreWorld,
    new_requests,
    new_run,
    observed_world,
)
from tests.fakes.tenants import MemoryTenants
from tests.fakes.wall_clock import WallClock


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlWorld(StoreWorld):
    """Two clusters with three ready nodes in all, an instance of WEB and CHAT on each; it is ZERO_S, when runs of `create` begin."""

    state: MemoryState
    clock: WallClock
    publisher: RecordingPublisher
    clusters: RecordingClusterCalls

    def submit(self, *services: Service, gap_s: float = 1.0) -> int:
        """A run that has not begun, with one request a service named."""
        return self.runs.create_run(new_run(), new_requests(services, gap_s=gap_s))

    def created(self, *services: Service, gap_s: float = 1.0) -> int:
        """A run whose requests are all released."""
        run_id = self.create(*services, gap_s=gap_s)
        self.release(run_id)
        return run_id

    def pending(self, *services: Service) -> int:
        """A run whose BE requests all wait for the centre."""
        run_id = self.created(*services)
        self.admit(run_id, range(len(services)))
        return run_id

    def row(self, run_id: int, request_id: int) -> Row:
        """One request's row, with its pod, owner and lease."""
        return self.state.runs[run_id].rows[request_id]

    def states(self, run_id: int) -> list[str]:
        """States of a run's requests, by id."""
        return [str(row.state) for row in self.state.runs[run_id].rows]

    def given_to(self, name: str, owner: str, *, after_s: float) -> None:
        """Let a lease run out while its holder is not looking, and give it to somebody else."""
        self.clock.turn(after_s)
        assert self.leases.acquire(name, owner=owner, ttl_s=1000.0) is not None

    def free(self, lease: str) -> bool:
        """Whether nobody holds the lease. Takes it."""
        return self.leases.acquire(lease, owner="a passer-by", ttl_s=1.0) is not None


def control_world(fleet: Fleet = FLEET, *, store: StoreSettings = AS_SHIPPED) -> ControlWorld:
    """On the in-memory stores."""
    state = MemoryState()
    runs = MemoryRunStore(state, chunk_rows=store.chunk_rows)
    clock = WallClock(state, start_s=ZERO_S)
    fleet_store = MemoryFleetStore(state)

    def rows(run_id: int) -> list[RequestRow]:
        found: Sequence[Row] = state.runs[run_id].rows if run_id in state.runs else []
        return [RequestRow(str(r.state), r.epoch, r.attempt, r.reason, r.node, r.started_s, r.finished_s) for r in found]

    world = ControlWorld(
        runs=runs,
        requests=MemoryBeRequests(state, max_attempts=MAX_ATTEMPTS),
        jobs=MemoryJobs(state),
        shares=MemoryShareStore(state, fleet_store),
        leases=MemoryLeaseStore(state),
        figures=MemoryFiguresStore(state),
        fleet=fleet_store,
        live=MemoryLiveRuns(state),
        refusals=MemoryRefusals(state),
        tenants=MemoryTenants(state),
        events=MemoryEventLog(state),
        rows=rows,
        attempts=lambda run_id: sorted((a.request_id, a.epoch, a.outcome, a.reason) for a in state.attempts if a.run_id == run_id),
        decisions=lambda: len(state.decisions),
        weighed=lambda: [record.weighed for record, _ in state.decisions if record.weighed],
        all_terminal=runs.all_terminal,
        now_s=state.now_s,
        pass_over=state.pass_over,
        due_and_work=state.due_and_work,
        state=state,
        clock=clock,
        publisher=RecordingPublisher(clock.now_s),
        clusters=RecordingClusterCalls(),
    )
    return observed_world(world, fleet)
