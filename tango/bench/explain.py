"""The proof of explanations: what each says would change it is applied to what was recorded, and the decision decides again.

    world ─► explain (as the command does) ─► reason, changes
      │                                           │
      └──────────── with_changes ◄────────────────┘
                        │
                        └─► the system's own policy ─► placed, dispatched, admitted, released?

An explanation turns out as said if the decision takes the request with the changes, does not take it without, and does not with half of
their amounts. One that states no change says that the next decision takes the request, which has to be so. BE is explained with what
`tango explain` tries changes by, and decided again by the policy of the system, learned ones too; LC by its dispatch, a resize by a
kubelet's admission, a due time by a cluster's journal.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tango.bench.explain_worlds import HELD_BACK, OF_PLACEMENT, draw, draw_held_back, fleets
from tango.bench.figures import Figure, Told
from tango.bench.worlds import arrivals_for, busy_snapshot, fleet_of_size
from tango.control.explaining import place_of
from tango.control.tenant_order import held_back, with_changes
from tango.domain.changes import Change, halved
from tango.domain.explanation import DeferredResize, Explanation, Known, LcFacts, PendingFacts, RequestStanding
from tango.domain.fleet import Fleet, Node
from tango.domain.identity import NodeKey, RequestKey
from tango.domain.observations import InstanceState
from tango.domain.placement_question import PlacementQuestion
from tango.domain.reasons import StateReason
from tango.domain.requests import BePending, RequestState
from tango.domain.runs import PendingRequests, RunInfo, RunStatus
from tango.domain.services import ServiceClass
from tango.domain.shares import PublishedFleet, ShareRows
from tango.domain.smallest import smallest_snapshot
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import as_seen
from tango.domain.why import explain
from tango.emulation.virtual_kubelet.admission import Allocations, ResizeDecision
from tango.emulation.virtual_kubelet.pod_spec import PodSize
from tango.journal.journal import SqliteJournal
from tango.settings import Settings
from tango.sim.simulate import Given, simulate
from tango.systems import SYSTEMS, BePolicy, LcPolicy, be_policy, decided_be, decided_lc, lc_policy
from tango.systems.be_waits import planned
from tango.systems.registry import at_home
from tango.traces.workloads import Workload, draw_requests

SYSTEMS_TRIED = ("tango", "load-greedy", "scoring", "k8s-native")
TRIES = 40
"""Worlds that are drawn for one explanation of a reason, at the most; some come out with another."""
_DUE_EVERY_S = 3.0
"""Seconds between the due times of a journal's requests, at the most."""
OF_DISPATCH = (
    # What keeps LC from being dispatched, and that nothing does.
    StateReason.NO_INSTANCE_READY,
    StateReason.INSTANCE_NOT_READY,
    StateReason.NODE_NOT_READY,
    StateReason.CLUSTER_AWAY,
    StateReason.ABOUT_TO_BE_DISPATCHED,
)


@dataclass(slots=True)
class Proof:
    """What was tried, by reason."""

    tried: Counter[StateReason] = field(default_factory=Counter)
    held: Counter[StateReason] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def note(self, explanation: Explanation, *, before: bool, after: bool, half: bool, where: str) -> None:
        """One explanation: whether the decision takes the request as it is, with the changes, and with half of their amounts."""
        has_amount = any(change.has_amount for change in explanation.changes)
        as_said = (not before and after and not (has_amount and half)) if explanation.changes else before
        self.tried[explanation.reason] += 1
        self.held[explanation.reason] += as_said
        if not as_said:
            told = explanation.would_change or "nothing"
            self.failures.append(f"{explanation.reason} in {where}: {told}; before {before}, after {after}, half {half}")

    @property
    def shares(self) -> dict[StateReason, float]:
        """By reason that was tried, the share of explanations that turned out as said."""
        return {reason: self.held[reason] / count for reason, count in self.tried.items()}


def measure(*, each: int = 50, seed: int = 1, told: Told = print) -> list[Figure]:
    """For each reason how many explanations were tried, and the share of them that turned out as said; then both of all of them."""
    proof = prove(each=each, seed=seed, told=told)
    for failure in proof.failures:
        told(failure)
    figures = []
    for reason, share in sorted(proof.shares.items(), key=lambda item: item[0].rank):
        figures.append(Figure(name=f"{reason}, as said", value=share, unit=f"of {proof.tried[reason]}"))
    tried, held = proof.tried.total(), proof.held.total()
    return [*figures, Figure(name="all, as said", value=held / max(1, tried), unit=f"of {tried}")]


def prove(
    *, each: int, seed: int, told: Told = lambda _: None, systems: Sequence[str] = SYSTEMS_TRIED, simulated: bool = True
) -> Proof:
    """At least `each` explanations of every reason that says what would change it, and of those that say that nothing has to."""
    proof, rng, settings = Proof(), np.random.default_rng(seed), Settings()
    told("BE that waits for a node")
    of_be = {name: be_policy(SYSTEMS[name].be, settings) for name in systems}
    kinds = fleets(seed)
    for reason in OF_PLACEMENT:
        for k in range(TRIES * each):
            if proof.tried[reason] >= each:
                break
            world = draw(reason, kinds[k % len(kinds)], systems[k % len(systems)], rng)
            _try_placement(proof, world.facts, world.system, of_be[world.system], settings, f"a drawn world under {world.system}")
    if simulated:
        told("BE of a simulated run")
        for facts in recorded(each=each, seed=seed):
            _try_placement(proof, facts, systems[0], of_be[systems[0]], settings, "a simulated run")
    told("BE that its tenant keeps back")
    for reason in HELD_BACK:
        for k in range(each):
            _try_held_back(proof, reason, kinds[k % len(kinds)], systems[k % len(systems)], of_be, rng, settings)
    told("LC that waits for an instance")
    for reason in OF_DISPATCH:
        for k in range(each):
            _try_dispatch(proof, reason, kinds[k % len(kinds)], SYSTEMS[systems[k % len(systems)]].lc, rng, settings)
    told("resizes, due times, withdrawn services")
    for _ in range(each):
        _try_resize(proof, rng)
    _try_due_times(proof, each, rng, settings)
    for _ in range(each):
        _try_withdrawn(proof, kinds[0], be_policy("load-greedy", settings), rng, settings)
    return proof


# ---- BE that waits for a node --------------------------------------------------------------------------------------------


def _standing(mine: BePending, snapshot: FleetSnapshot) -> RequestStanding:
    return RequestStanding(
        key=RequestKey(int(mine.run_id[0]), int(mine.request_id[0])),
        service_class=ServiceClass.BE,
        service=snapshot.services[int(mine.service[0])].name,
        state=RequestState.PENDING,
        entry_cluster=snapshot.clusters[int(mine.entry_cluster[0])],
        due_s=0.0,
        now_s=float(mine.waited_s[0]),
    )


def _decides(question: PlacementQuestion, policy: BePolicy, settings: Settings) -> NDArray[np.int32]:
    """As the scheduler: the policy asked, its plan checked."""
    return planned(lambda asked, seen: decided_be(policy, asked, seen, settings.be, cycle="a proof"), question).node


def _try_placement(proof: Proof, facts: PendingFacts, system: str, policy: BePolicy, settings: Settings, where: str) -> None:
    assert facts.mine is not None
    mine, question = facts.mine, facts.question
    found = explain(Known(standing=_standing(mine, question.snapshot), pending=facts), place_of(system, settings.be))

    def taken(changes: tuple[Change, ...]) -> bool:
        changed = question.with_changes(changes, mine)
        row = changed.row(int(mine.run_id[0]), int(mine.request_id[0]))
        return row >= 0 and bool(_decides(changed, policy, settings)[row] >= 0)

    proof.note(found, before=taken(()), after=taken(found.changes), half=taken(halved(found.changes)), where=where)


def _try_held_back(
    proof: Proof,
    reason: StateReason,
    fleet: Fleet,
    system: str,
    of_be: Mapping[str, BePolicy],
    rng: np.random.Generator,
    settings: Settings,
) -> None:
    """A request that no placement looks at: with the changes one does, and gives it a node, since there is room for all."""
    world = draw_held_back(reason, fleet, rng)
    while (found := held_back(world.looked_at, world.key)) is None:  # it comes before what the quota holds back
        world = draw_held_back(reason, fleet, rng)
    row = int(np.flatnonzero(world.looked_at.read.pending.request_id == world.key.request_id)[0])
    mine = world.looked_at.read.pending.rows(np.array([row], np.intp))
    facts = PendingFacts(question=world.question, mine=mine, held_back=found)
    told = explain(Known(standing=_standing(mine, world.question.snapshot), pending=facts), place_of(system, settings.be))

    def taken(changes: tuple[Change, ...]) -> bool:
        pending = with_changes(world.looked_at, changes, limit=world.limit).batch.pending
        question = replace(world.question, pending=pending)
        at = question.row(*world.key)
        return at >= 0 and bool(_decides(question, of_be[system], settings)[at] >= 0)

    where = f"a world of tenants under {system}"
    proof.note(told, before=taken(()), after=taken(told.changes), half=taken(halved(told.changes)), where=where)


def recorded(*, each: int, seed: int) -> Iterator[PendingFacts]:
    """Questions of the placements of a simulated run under overload, with one of the requests that wait for each."""
    fleet, rng, seen = fleet_of_size(8, clusters=2, seed=seed), np.random.default_rng(seed), list[tuple[BePending, FleetSnapshot]]()
    policy = be_policy("load-greedy", Settings())

    def watched(pending: BePending, snapshot: FleetSnapshot, settings: object) -> object:
        seen.append((pending, snapshot))
        return policy(pending, snapshot, settings)  # type: ignore[arg-type]

    requests = draw_requests(Workload(lc=("p3",), be=("p3",), load=1.5, duration_s=30.0), fleet, seed)
    simulate(fleet, requests, SYSTEMS["load-greedy"], Settings(), end_when_stuck=True, given=Given(be=watched))  # type: ignore[arg-type]
    for k in rng.permutation(len(seen))[: 4 * each].tolist():
        pending, snapshot = seen[k]
        mine = pending.rows(np.array([int(rng.integers(len(pending)))], np.intp))
        yield PendingFacts(question=PlacementQuestion(pending=pending, snapshot=snapshot), mine=mine, is_stood_for=True)


# ---- LC that waits for an instance ---------------------------------------------------------------------------------------


def _try_dispatch(proof: Proof, reason: StateReason, fleet: Fleet, lc: str, rng: np.random.Generator, settings: Settings) -> None:
    """A fleet without a ready instance of one service, or with ready ones on nodes that are lost."""
    snapshot = busy_snapshot(fleet, seed=int(rng.integers(1 << 30)))
    policy: LcPolicy = lc_policy(lc, settings)
    entry = int(rng.integers(len(snapshot.clusters)))
    arrivals = arrivals_for(fleet, 1, entry=entry, seed=int(rng.integers(1 << 30)))
    service, home = int(arrivals.service[0]), at_home(f"{lc}/load-greedy/static").lc
    told_ready, away, instances = snapshot.node_ready.copy(), dict[str, float](), list[tuple[str, InstanceState]]()
    if reason in (StateReason.NO_INSTANCE_READY, StateReason.INSTANCE_NOT_READY):
        none = snapshot.instance_limit.copy()
        none[service] = 0.0
        snapshot = replace(snapshot, instance_limit=none, instance_count=np.where(none > 0, snapshot.instance_count, 0.0))
        if reason is StateReason.INSTANCE_NOT_READY:
            at = int(rng.choice(np.flatnonzero(snapshot.node_cluster == entry)))
            instances.append((snapshot.clusters[entry], _instance(snapshot, service, at)))
    elif reason is StateReason.NODE_NOT_READY:
        told_ready = snapshot.node_ready & ~(snapshot.instance_limit[service] > 0)
        snapshot = replace(snapshot, node_ready=told_ready)
    elif reason is StateReason.CLUSTER_AWAY:
        away = {name: float(rng.uniform(5, 500)) for k, name in enumerate(snapshot.clusters) if k != entry}
        gone = np.isin(snapshot.node_cluster, [k for k in range(len(snapshot.clusters)) if k != entry])
        limit = np.where((np.arange(len(snapshot.services))[:, None] == service) & ~gone, 0.0, snapshot.instance_limit)
        snapshot = replace(snapshot, node_ready=snapshot.node_ready & ~gone, instance_limit=limit)
    standing = RequestStanding(
        key=RequestKey(1, 0),
        service_class=ServiceClass.LC,
        service=snapshot.services[service].name,
        state=RequestState.RELEASED,
        entry_cluster=snapshot.clusters[entry],
        due_s=0.0,
        now_s=0.0,
    )
    facts = LcFacts(snapshot=snapshot, instances=tuple(instances), home_only=home, told_ready=told_ready)
    found = explain(Known(standing=standing, away_s=away, lc=facts))
    question = PlacementQuestion(pending=_none(), snapshot=snapshot, told_ready=told_ready, away=frozenset(away))

    def taken(changes: tuple[Change, ...]) -> bool:
        changed = question.with_changes(changes, _none()).snapshot
        plan = decided_lc(policy, arrivals, changed, settings.lc, cycle="a proof")
        return bool(plan.node[0] >= 0)

    proof.note(found, before=taken(()), after=taken(found.changes), half=False, where=f"a dispatch by {lc}")


def _instance(snapshot: FleetSnapshot, service: int, node: int) -> InstanceState:
    declared = snapshot.services[service]
    return InstanceState(
        pod=f"lc-{declared.name}-0",
        uid="u",
        service=declared.name,
        node=snapshot.nodes[node],
        pod_ip="",
        port=declared.port,
        ready=False,
        cpu_request_millicores=declared.cpu_request_millicores,
        cpu_limit_millicores=declared.cpu_limit_millicores,
        memory_limit_mib=declared.instance_memory_mib,
    )


def _none() -> BePending:
    nothing = np.zeros(0)
    whole = nothing.astype(np.int64)
    return BePending(
        run_id=whole,
        request_id=whole,
        service=whole.astype(np.int32),
        entry_cluster=whole.astype(np.int32),
        waited_s=nothing,
        cpu_work_s=nothing,
        requests=np.zeros((3, 0)),
        cpu_limit_millicores=nothing,
        epoch=whole.astype(np.int32),
    )


# ---- resizes, due times, withdrawn services ------------------------------------------------------------------------------


def _try_resize(proof: Proof, rng: np.random.Generator) -> None:
    """A node whose pods leave an instance less than it wants: its kubelet judges the resize."""
    capacity, actual = int(rng.integers(2000, 32_000)), int(rng.integers(50, 900))
    wanted = actual + int(rng.integers(50, 1000))
    free = int(rng.integers(0, wanted - actual))
    key = NodeKey("c1", "n1")

    def taken(more: float) -> bool:
        ledger = Allocations(Node(name=key.name, cpu_millicores=int(capacity + more), memory_mib=1 << 20))
        ledger.put("instance", _size(actual))
        ledger.put("others", _size(capacity - actual - free))
        return ledger.decide("instance", _size(wanted))[0] is ResizeDecision.FITS

    resize = DeferredResize(
        pod="lc-0",
        node=key,
        wanted_request_millicores=wanted,
        actual_request_millicores=actual,
        actual_limit_millicores=capacity,
        free_millicores=free,
    )
    standing = RequestStanding(
        key=RequestKey(1, 0),
        service_class=ServiceClass.LC,
        service="web",
        state=RequestState.RUNNING,
        entry_cluster="c1",
        cluster="c1",
        node="n1",
        due_s=0.0,
    )
    found = explain(Known(standing=standing, lc=LcFacts(snapshot=smallest_snapshot(), resize=resize)))
    amount = sum(change.amount for change in found.changes)
    proof.note(found, before=taken(0), after=taken(amount), half=taken(amount / 2), where="a kubelet")


def _size(millicores: int) -> PodSize:
    return PodSize(cpu_request_millicores=millicores, cpu_limit_millicores=None, memory_request_mib=1, memory_limit_mib=None)


def _try_due_times(proof: Proof, each: int, rng: np.random.Generator, settings: Settings) -> None:
    """Requests of a journal, which releases what is due: each is asked about before, and half of its time and all of it waited for."""
    due_s = np.cumsum(rng.uniform(0.5, 1.0, each) * _DUE_EVERY_S) + _DUE_EVERY_S
    asked_s = np.concatenate(([0.0], due_s[:-1]))
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder:
        journal = _journal(Path(folder) / "c1.db", due_s, settings)
        released = set[int]()

        def taken(request: int, until_s: float) -> bool:
            found = journal.release_due(1, until_s=until_s, limit=each)
            released.update(k for batch in found.batches for k in batch.request_ids)
            return request in released

        for k in range(each):
            standing = RequestStanding(
                key=RequestKey(1, k),
                service_class=ServiceClass.LC,
                service="web",
                state=RequestState.ACCEPTED,
                entry_cluster="c1",
                due_s=float(due_s[k]),
                now_s=float(asked_s[k]),
            )
            found = explain(Known(standing=standing))
            amount = sum(change.amount for change in found.changes)
            before, half = taken(k, asked_s[k]), taken(k, asked_s[k] + amount / 2)
            proof.note(found, before=before, after=taken(k, asked_s[k] + amount), half=half, where="a journal")


def _journal(path: Path, due_s: NDArray[np.float64], settings: Settings) -> SqliteJournal:
    count = len(due_s)
    journal = SqliteJournal(path, cluster="c1", lease=settings.lease, lc=settings.lc, store=settings.store)
    snapshot = busy_snapshot(fleet_of_size(4, clusters=2))
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
        accepted=count,
    )
    journal.follow([run])
    journal.publish(PublishedFleet(snapshot=snapshot, instances=()))
    journal.take(
        1,
        ShareRows(
            request_id=np.arange(count),
            service=(service,) * count,
            due_s=due_s,
            target_s=np.full(count, 0.1),
            cpu_work_s=np.full(count, 0.01),
            memory_mib=np.full(count, 32.0),
            epoch=np.zeros(count, np.int32),
            attempt=np.zeros(count, np.int32),
        ),
    )
    return journal


def _try_withdrawn(proof: Proof, fleet: Fleet, policy: BePolicy, rng: np.random.Generator, settings: Settings) -> None:
    """A request with room whose service is declared no more: no placement looks at it, and the next does once it is declared again."""
    world = draw(StateReason.ABOUT_TO_BE_PLACED, fleet, "load-greedy", rng)
    assert world.facts.mine is not None
    mine, snapshot = world.facts.mine, world.facts.question.snapshot
    name = snapshot.services[int(mine.service[0])].name
    batch = PendingRequests(pending=mine, services=tuple(s.name for s in snapshot.services), clusters=snapshot.clusters)
    without = busy_snapshot(replace(fleet, services=tuple(s for s in fleet.services if s.name != name)))
    found = explain(Known(standing=_standing(mine, snapshot), is_declared=False))

    def taken(seen: FleetSnapshot) -> bool:
        pending = as_seen(batch, seen).pending
        return bool((_decides(PlacementQuestion(pending=pending, snapshot=seen), policy, settings) >= 0).any())

    proof.note(found, before=taken(without), after=taken(snapshot), half=False, where="a withdrawn service")
