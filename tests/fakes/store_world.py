"""A small world of stores, in memory or on PostgreSQL, on which one suite runs both: two clusters, three nodes, three services."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from tango.domain.fleet import Cluster, Fleet, Node
from tango.domain.lifecycle import Event, Outcome
from tango.domain.observations import InstanceState, NodeState
from tango.domain.plans import BePlan
from tango.domain.requests import Reason, RequestState
from tango.domain.runs import DecisionRecord, NewRequests, NewRun, PendingRequests, Placement
from tango.domain.services import Service, ServiceClass
from tango.domain.shares import AcceptedCopy, AttemptCopy, DecisionCopy, RequestCopy, Shipment
from tango.domain.snapshot_assembly import as_seen
from tango.ports.events import EventLog
from tango.ports.figures import FiguresStore
from tango.ports.fleet import FleetStore
from tango.ports.jobs import JobStore
from tango.ports.leases import Fence, LeaseStore
from tango.ports.live_runs import LiveRunStore
from tango.ports.refusals import RefusalStore
from tango.ports.requests import BeRequests
from tango.ports.runs import RunStore
from tango.ports.shares import ShareStore
from tango.ports.tenants import TenantStore
from tango.settings import LeaseSettings, SharingSettings, StoreSettings
from tango.store.database import Database
from tango.store.events import PostgresEventLog
from tango.store.fleet import PostgresFleetStore
from tango.store.jobs import PostgresJobStore
from tango.store.leases import PostgresLeaseStore
from tango.store.live_runs import PostgresLiveRuns
from tango.store.refusals import PostgresRefusals
from tango.store.requests import PostgresRequestStore
from tango.store.run_figures import PostgresFiguresStore
from tango.store.runs import PostgresRunStore
from tango.store.shares import PostgresShareStore
from tango.store.tenants import PostgresTenants
from tests.fakes.be_requests import MOST_JOB_ATTEMPTS, MemoryBeRequests
from tests.fakes.event_log import MemoryEventLog
from tests.fakes.figures_store import MemoryFiguresStore
from tests.fakes.fleet_store import MemoryFleetStore
from tests.fakes.jobs import MemoryJobs
from tests.fakes.lease_store import MemoryLeaseStore
from tests.fakes.live_runs import MemoryLiveRuns
from tests.fakes.memory_state import MemoryState
from tests.fakes.refusals import MemoryRefusals
from tests.fakes.run_store import MemoryRunStore
from tests.fakes.share_store import MemoryShareStore
from tests.fakes.tenants import MemoryTenants

MAX_ATTEMPTS = 3
LIVE_S, OVER_S = 60.0, -1.0
"""A lease that stands for the whole test, and one that has run out by the next call: no test waits."""
MOST_MEMORY_MIB = {"batch": 8192.0, "huge": -1.0}
"""By service, the memory that a pod can have beside its CPU on the nodes that admission knows."""
AS_SHIPPED = StoreSettings()
ZERO_S = 1_700_000_000.0
W = TypeVar("W", bound="StoreWorld")

WEB = Service(name="web", service_class=ServiceClass.LC, cpu_work_s=0.02, memory_mib=32, target_ms=100.0, instance_memory_mib=128)
CHAT = Service(name="chat", service_class=ServiceClass.LC, cpu_work_s=0.05, memory_mib=64, target_ms=400.0, instance_memory_mib=256)
BATCH = Service(
    name="batch",
    service_class=ServiceClass.BE,
    cpu_work_s=5.0,
    memory_mib=256,
    cpu_request_millicores=500,
    cpu_limit_millicores=2000,
)
HUGE = Service(
    name="huge",
    service_class=ServiceClass.BE,
    cpu_work_s=5.0,
    memory_mib=256,
    cpu_request_millicores=64_000,
    cpu_limit_millicores=65_000,
)
SERVICES = (WEB, CHAT, BATCH, HUGE)
FLEET = Fleet(
    name="pair",
    clusters=(
        Cluster(
            name="c1",
            nodes=(
                Node(name="c1-n1", cpu_millicores=4000, memory_mib=8192),
                Node(name="c1-n2", cpu_millicores=4000, memory_mib=8192),
            ),
        ),
        Cluster(name="c2", nodes=(Node(name="c2-n1", cpu_millicores=2000, memory_mib=4096),), x_km=100.0),
    ),
    services=SERVICES,
    source_hash="f" * 64,
)
TWINS = replace(
    FLEET,
    name="twins",
    clusters=tuple(
        replace(c, nodes=tuple(replace(n, name=n.name.removeprefix(f"{c.name}-")) for n in c.nodes)) for c in FLEET.clusters
    ),
)
"""The same fleet, whose clusters were made from one template: c1 has n1 and n2, c2 has an n1 of its own."""
DECISION = DecisionRecord(
    kind="be",
    cluster="",
    policy="test",
    checkpoint="",
    considered=1,
    placed=1,
    unplaced=0,
    late=0,
    shed=0,
    snapshot_ms=0.1,
    decide_ms=0.2,
)
LC_DECISION = replace(DECISION, kind="lc", cluster="c1")


@dataclass(frozen=True, slots=True)
class RequestRow:
    """What a suite looks at in a request's row."""

    state: str
    epoch: int
    attempt: int
    reason: str
    node: str
    started_s: float | None
    finished_s: float | None


@dataclass(frozen=True, slots=True)
class StoreWorld:
    """All stores of one implementation, with a look behind them."""

    runs: RunStore
    requests: BeRequests
    jobs: JobStore
    shares: ShareStore
    leases: LeaseStore
    figures: FiguresStore
    fleet: FleetStore
    refusals: RefusalStore
    tenants: TenantStore
    live: LiveRunStore
    events: EventLog
    rows: Callable[[int], list[RequestRow]]
    """Rows of a run's requests, by id."""
    attempts: Callable[[int], list[tuple[int, int, str, str]]]
    """(request id, epoch, outcome, reason) of a run's attempts, sorted."""
    decisions: Callable[[], int]
    """How many decision rows there are."""
    weighed: Callable[[], list[str]]
    """JSON of the candidates that decisions keep, of those that keep some, in order of time."""
    all_terminal: Callable[[int], bool]
    now_s: Callable[[], float]
    """The time by the store's clock, in the seconds of `AttemptCopy.ended_at_s`."""
    pass_over: Callable[[str, float], None]
    """Let what was heard of a cluster lie so many seconds further back."""
    due_and_work: Callable[[int, int], tuple[float, float]]
    """(due time, CPU work) of a request, in seconds."""

    def create(self, *services: Service, gap_s: float = 1.0, name: str = "run", tenant: str = "") -> int:
        """A run with one request a service named, due at 0, gap, 2 gap …, entering c1 and c2 in turn; begun at ZERO_S."""
        run_id = self.runs.create_run(replace(new_run(name), tenant=tenant), new_requests(services, gap_s=gap_s))
        self.runs.begin(run_id, at_s=ZERO_S)
        return run_id

    def cancel(self, run_id: int) -> int:
        """Stop a run and sweep it; give how many requests were cancelled."""
        return cancel_whole(self.runs, run_id)

    def release(self, run_id: int, *, until_s: float = 1e9, limit: int = 10_000) -> None:
        """Release what is due."""
        self.requests.release_due(run_id, until_s=until_s, limit=limit)

    def open_shares(self, run_id: int) -> None:
        """Give all LC of a run to journals that have taken all of it."""
        for share in self.shares.shares(run_id):
            self.shares.open_share(run_id, share.cluster)
            self.shares.handed(run_id, share.cluster, up_to=10**6, complete=True)

    def ship(
        self,
        *copies: RequestCopy,
        cluster: str = "c1",
        journal: str = "first",
        attempts: Sequence[AttemptCopy] = (),
        decisions: Sequence[DecisionCopy] = (),
        accepted: Sequence[AcceptedCopy] = (),
    ) -> int:
        """Apply the next shipment of a journal, of as many events as there are copies; give the position."""
        return self.shares.apply(
            self.shipment(*copies, cluster=cluster, journal=journal, attempts=attempts, decisions=decisions, accepted=accepted)
        )

    def shipment(
        self,
        *copies: RequestCopy,
        cluster: str = "c1",
        journal: str = "first",
        attempts: Sequence[AttemptCopy] = (),
        decisions: Sequence[DecisionCopy] = (),
        accepted: Sequence[AcceptedCopy] = (),
    ) -> Shipment:
        """The next one of a journal."""
        position = self.shares.position(cluster, journal)
        return Shipment(
            cluster=cluster,
            journal=journal,
            first=position + 1,
            last=position + max(1, len(copies) + len(accepted)),
            requests=copies,
            attempts=tuple(attempts),
            decisions=tuple(decisions),
            accepted=tuple(accepted),
        )

    def admit(self, run_id: int, request_ids: Sequence[int]) -> int:
        """Against the fleet's nodes."""
        return self.requests.admit_be(run_id, request_ids, most_memory_mib=MOST_MEMORY_MIB)

    def place(
        self, batch: PendingRequests, fence: Fence, *, node: int = 0, lease_s: float = LIVE_S, weighed: str = ""
    ) -> list[Placement]:
        """All of a batch to one node; `weighed` is what the decision keeps of its candidates."""
        plan = BePlan(node=np.full(len(batch.pending), node, np.int32), policy="test")
        snapshot = self.fleet.snapshot(at_s=0.0)
        batch = as_seen(batch, snapshot)
        decision = replace(DECISION, weighed=weighed)
        return self.requests.record_placement(batch, plan, snapshot, decision, fence=fence, lease_s=lease_s)

    def fence(self, owner: str = "scheduler", *, ttl_s: float = LIVE_S) -> Fence:
        """The scheduler's lease. Raises: AssertionError if somebody else has it."""
        fence = self.leases.acquire("place-be", owner=owner, ttl_s=ttl_s)
        assert fence is not None
        return fence


def new_run(name: str = "run") -> NewRun:
    """A run's facts."""
    return NewRun(
        name=name,
        system="tango",
        fleet="pair",
        fleet_hash="f" * 64,
        seed=1,
        speed=2.0,
        reassure=True,
        trace_source="by hand",
        span_s=100.0,
        settings={"batch": 3},
    )


def new_requests(services: Sequence[Service], *, gap_s: float = 1.0, memory_mib: float = 64.0) -> NewRequests:
    """One request a service named, in that order."""
    n = len(services)
    names = tuple(s.name for s in SERVICES)
    is_lc = np.array([s.service_class is ServiceClass.LC for s in services], bool)
    return NewRequests(
        due_s=np.arange(n) * gap_s,
        target_s=np.where(is_lc, 0.5, np.nan),
        service_class=np.where(is_lc, 0, 1).astype(np.int8),
        service=np.array([names.index(s.name) for s in services], np.int32),
        cluster=(np.arange(n) % 2).astype(np.int32),
        cpu_work_s=np.full(n, 0.1),
        memory_mib=np.full(n, memory_mib),
        services=names,
        clusters=("c1", "c2"),
    )


def success(run_id: int, request_id: int, epoch: int, *, finished_s: float = 2.0) -> Outcome:
    """A good end."""
    return Outcome(
        run_id=run_id,
        request_id=request_id,
        epoch=epoch,
        event=Event.SUCCEED,
        started_s=finished_s - 0.5,
        finished_s=finished_s,
    )


def requeue(run_id: int, request_id: int, epoch: int, *, reason: Reason = Reason.TIMED_OUT) -> Outcome:
    """An end that shall be tried again."""
    return Outcome(run_id=run_id, request_id=request_id, epoch=epoch, event=Event.REQUEUE, reason=reason, work_lost_s=0.25)


def copy_of(
    run_id: int, request_id: int, state: RequestState = RequestState.SUCCEEDED, *, epoch: int = 1, reason: str = ""
) -> RequestCopy:
    """A request as its journal has it, by its state and epoch; what succeeded ran on c1-n1 from 1.5 s to 2 s."""
    won, waits = state is RequestState.SUCCEEDED, epoch == 0
    return RequestCopy(
        run_id=run_id,
        request_id=request_id,
        state=str(state),
        epoch=epoch,
        attempt=epoch,
        cluster=None if waits else "c1",
        node=None if waits else "c1-n1",
        owner=None if waits else "worker",
        late=False,
        started_s=1.5 if won else None,
        finished_s=2.0 if won else None,
        reason=reason,
    )


def attempt_of(run_id: int, request_id: int, *, epoch: int = 1, outcome: str = "succeeded", reason: str = "") -> AttemptCopy:
    """The end of such an epoch, ten seconds after ZERO_S."""
    won = outcome == "succeeded"
    return AttemptCopy(
        run_id=run_id,
        request_id=request_id,
        epoch=epoch,
        service="web",
        cluster="c1",
        node="c1-n1",
        started_s=1.5 if won else None,
        finished_s=2.0 if won else None,
        latency_s=0.5 if won else None,
        outcome=outcome,
        reason=reason,
        work_lost_s=0.0,
        ended_at_s=ZERO_S + 10.0,
    )


def cancel_whole(runs: RunStore, run_id: int) -> int:
    """Stop a run, sweep all of it and close it; give how many requests were cancelled."""
    runs.cancel(run_id)
    cancelled, beyond = 0, -1
    while (swept := runs.sweep_cancelled(run_id, beyond=beyond)).last_request is not None:
        cancelled, beyond = cancelled + swept.cancelled, swept.last_request
    runs.close_cancelled(run_id)
    return cancelled


def node_states(cluster: Cluster) -> list[NodeState]:
    """All nodes ready and empty."""
    return [
        NodeState(name=n.name, ready=True, cpu_allocatable_millicores=n.cpu_millicores, memory_allocatable_mib=n.memory_mib)
        for n in cluster.nodes
    ]


def instance_of(service: Service, node: str, *, ready: bool = True, k: int = 0) -> InstanceState:
    """One LC instance."""
    return InstanceState(
        pod=f"lc-{service.name}-{node}-{k}",
        uid=f"uid-{service.name}-{node}-{k}",
        service=service.name,
        node=node,
        pod_ip="10.0.0.1",
        port=8080,
        ready=ready,
        cpu_request_millicores=service.cpu_request_millicores,
        cpu_limit_millicores=service.cpu_limit_millicores,
        memory_limit_mib=service.instance_memory_mib,
    )


def memory_world(fleet: Fleet = FLEET, *, store: StoreSettings = AS_SHIPPED, sharing: SharingSettings | None = None) -> StoreWorld:
    """On the fakes."""
    return memory_world_and_state(fleet, store=store, sharing=sharing)[0]


def memory_world_and_state(
    fleet: Fleet = FLEET, *, store: StoreSettings = AS_SHIPPED, sharing: SharingSettings | None = None
) -> tuple[StoreWorld, MemoryState]:
    """On the fakes, with what they keep."""
    state = MemoryState()
    runs = MemoryRunStore(state, chunk_rows=store.chunk_rows)
    fleet_store = MemoryFleetStore(state, sharing)

    def rows(run_id: int) -> list[RequestRow]:
        return [
            RequestRow(str(r.state), r.epoch, r.attempt, r.reason, r.node, r.started_s, r.finished_s)
            for r in (state.runs[run_id].rows if run_id in state.runs else [])
        ]

    world = StoreWorld(
        runs=runs,
        requests=MemoryBeRequests(state, max_attempts=MAX_ATTEMPTS),
        jobs=MemoryJobs(state),
        shares=MemoryShareStore(state, fleet_store),
        leases=MemoryLeaseStore(state),
        figures=MemoryFiguresStore(state),
        fleet=fleet_store,
        refusals=MemoryRefusals(state),
        tenants=MemoryTenants(state),
        live=MemoryLiveRuns(state),
        events=MemoryEventLog(state),
        rows=rows,
        attempts=lambda run_id: sorted((a.request_id, a.epoch, a.outcome, a.reason) for a in state.attempts if a.run_id == run_id),
        decisions=lambda: len(state.decisions),
        weighed=lambda: [record.weighed for record, _ in state.decisions if record.weighed],
        all_terminal=runs.all_terminal,
        now_s=state.now_s,
        pass_over=state.pass_over,
        due_and_work=state.due_and_work,
    )
    return observed_world(world, fleet), state


def _pair(rows: list[tuple[float, float]]) -> tuple[float, float]:
    (row,) = rows
    return row


def postgres_world(
    url: str | Database, fleet: Fleet = FLEET, *, store: StoreSettings = AS_SHIPPED, sharing: SharingSettings | None = None
) -> StoreWorld:
    """On a migrated database, through connections of its own or those that are given."""
    database = url if isinstance(url, Database) else Database(url)
    runs = PostgresRunStore(database, store)
    lease = LeaseSettings(max_attempts=MAX_ATTEMPTS, max_job_attempts=MOST_JOB_ATTEMPTS)
    world = StoreWorld(
        runs=runs,
        requests=PostgresRequestStore(database, lease, store),
        jobs=PostgresJobStore(database, lease),
        shares=PostgresShareStore(database, sharing),
        leases=PostgresLeaseStore(database),
        figures=PostgresFiguresStore(database),
        fleet=PostgresFleetStore(database, sharing),
        refusals=PostgresRefusals(database),
        tenants=PostgresTenants(database),
        live=PostgresLiveRuns(database, delete=runs.delete),
        events=PostgresEventLog(database),
        rows=lambda run_id: [
            RequestRow(*row)
            for row in database.rows(
                "SELECT state::text, epoch, attempt, reason, coalesce(node, ''), started_s, finished_s FROM request "
                "WHERE run_id = %s ORDER BY request_id",
                (run_id,),
            )
        ],
        attempts=lambda run_id: [
            (int(row[0]), int(row[1]), str(row[2]), str(row[3]))
            for row in database.rows(
                "SELECT request_id, epoch, outcome, reason FROM attempt WHERE run_id = %s ORDER BY 1, 2", (run_id,)
            )
        ],
        decisions=lambda: int(database.rows("SELECT count(*) FROM decision")[0][0]),
        weighed=lambda: [
            text
            for (text,) in database.rows("SELECT weighed::text FROM decision WHERE weighed IS NOT NULL ORDER BY at, decision_id")
        ],
        all_terminal=runs.all_terminal,
        now_s=time.time,
        pass_over=lambda cluster, by_s: database.execute(
            "UPDATE cluster SET seen_at = seen_at - %(by)s * interval '1 s', back_at = back_at - %(by)s * interval '1 s' "
            "WHERE name = %(of)s",
            {"by": by_s, "of": cluster},
        ),
        due_and_work=lambda run_id, request_id: _pair(
            database.rows("SELECT due_s, cpu_work_s FROM request WHERE run_id = %s AND request_id = %s", (run_id, request_id))
        ),
    )
    return observed_world(world, fleet)


def observed_world(world: W, fleet: Fleet) -> W:
    """Declare the fleet and see it: every node ready, with an instance of WEB and one of CHAT."""
    world.fleet.declare(fleet, kubeconfig="/kubeconfig", contexts={c.name: c.name for c in fleet.clusters})
    for k, cluster in enumerate(fleet.clusters):
        seen = [instance_of(service, node.name) for service in (WEB, CHAT) for node in cluster.nodes]
        addressed = [replace(instance, pod_ip=f"10.0.{k}.1") for instance in seen]
        world.fleet.observe(cluster.name, node_states(cluster), addressed, sample=False)
    return world
