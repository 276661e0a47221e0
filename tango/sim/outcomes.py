"""A simulated run in the forms of a live one, and its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.domain.outcomes import AttemptLosses, Decisions, NodeSamples, RunOutcomes, ScalingEvents
from tango.domain.resource_axis import CPU, EVERYWHERE, MEMORY, PODS, ResourceAxis
from tango.domain.runs import NewRequests
from tango.domain.services import ServiceClass
from tango.domain.tenant_shares import TenantSeries
from tango.sim.codes import GAVE_WAY, PUSHED_OUT, REASONS, RESIZED
from tango.sim.simulation_state import SimulationState
from tango.systems import System


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRun:
    """The result of a simulation: the columns of a live run, its digest, and how long it took."""

    outcomes: RunOutcomes
    losses: AttemptLosses
    samples: NodeSamples
    decisions: Decisions
    scaling: ScalingEvents
    digest: str
    events: int
    """LC arrivals, ends of requests and pods, resizes, failures: whatever moved a node."""
    took_s: float
    """Wall seconds of the engine, for display; no part of the digest."""
    notes: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    """Requests that wait for ever, in words, where the run ended because nothing could run any more."""
    worst_cpu_cores: float = 0.0
    """Most by which a node's CPU was ever exceeded; measured with `SimSettings.audit` only."""
    worst_held: float = 0.0
    """Likewise by which requests exceeded its memory, pods or an extended resource, or those of an LC instance its memory."""
    forbidden_changes: int = 0
    """Changes of a request's state that the lifecycle table does not allow; counted always."""
    lc_busy_s: float = 0.0
    """CPU-seconds that LC has used on all nodes, inflation by interference included."""
    be_busy_s: float = 0.0
    """Likewise BE."""
    weighed: Mapping[int, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """By row of `decisions` the candidates of requests that were kept of it, as `tango.domain.candidates.written` has them."""
    tenants: TenantSeries | None = None
    """What each tenant held over time, and what would have been fair; None: one tenant has had all, and none was declared."""
    lc_on_nodes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """LC requests on nodes, waiting there or in service, at each instant of `samples`, as the engine counts them."""


@dataclass(slots=True)
class BeCycles:
    """BE decisions as they are made."""

    at_s: list[float] = field(default_factory=list)
    policy: list[str] = field(default_factory=list)
    considered: list[int] = field(default_factory=list)
    placed: list[int] = field(default_factory=list)
    decide_s: list[float] = field(default_factory=list)
    fell_back: bool = False

    def add(self, *, at_s: float, policy: str, considered: int, placed: int, decide_s: float) -> None:
        """Note what one BE tick considered and placed, and how long it was charged for."""
        self.at_s.append(at_s)
        self.policy.append(policy)
        self.considered.append(considered)
        self.placed.append(placed)
        self.decide_s.append(decide_s)


class Samples:
    """Node samples as they are taken, as arrays of all nodes."""

    def __init__(self) -> None:
        self._at_s: list[float] = []
        self._rows: list[NDArray[np.float64]] = []
        self._lc_on_nodes: list[int] = []

    def __len__(self) -> int:
        return len(self._at_s)

    def take(self, world: SimulationState, used_millicores: NDArray[np.float64]) -> None:
        """The nodes as they stand now; `used_millicores` is their mean use since the last sample."""
        s, holdings = world.engine.sites, world.engine.holdings
        self._at_s.append(world.now_s)
        self._lc_on_nodes.append(int(world.engine.clock["in_nodes"][0]))
        columns = (
            holdings.allocatable[CPU],
            holdings.allocatable[MEMORY],
            used_millicores,
            holdings.lc[MEMORY] + holdings.running[MEMORY],
            s["lc_limit"],
            holdings.lc[MEMORY],
            holdings.running[CPU],
            holdings.running[MEMORY],
            holdings.running[PODS],
            *holdings.allocatable[len(EVERYWHERE) :],
            *(holdings.lc + holdings.running)[len(EVERYWHERE) :],
        )
        self._rows.append(np.stack(columns).astype(np.float32))

    @property
    def lc_on_nodes(self) -> NDArray[np.int64]:
        """LC requests on nodes at each instant."""
        return np.array(self._lc_on_nodes, np.int64)

    def columns(self, nodes: int, resources: ResourceAxis) -> NodeSamples:
        """All samples, instant by instant; `resources` are those of the world they were taken from."""
        extended = len(resources.extended)
        figures = 9 + 2 * extended
        kept = np.stack(self._rows, axis=1).reshape(figures, -1).astype(np.float64) if self._rows else np.zeros((figures, 0))
        return NodeSamples(
            at_s=np.repeat(np.array(self._at_s), nodes),
            node=np.tile(np.arange(nodes, dtype=np.int32), len(self._at_s)),
            cpu_allocatable_millicores=kept[0],
            memory_allocatable_mib=kept[1],
            cpu_used_millicores=kept[2],
            memory_used_mib=kept[3],
            lc_cpu_limit_millicores=kept[4],
            lc_memory_held_mib=kept[5],
            be_cpu_request_millicores=kept[6],
            be_memory_held_mib=kept[7],
            be_pods=kept[8],
            extended=resources.extended,
            extended_allocatable=kept[9 : 9 + extended],
            extended_held=kept[9 + extended :],
        )


def outcomes_of(
    world: SimulationState, requests: NewRequests, system: System, *, seed: int, span_s: float, status: str, checkpoint: str
) -> RunOutcomes:
    """The requests and what became of them, as columns."""
    progress = world.engine.progress
    node = np.ascontiguousarray(progress["node"])
    ran = node >= 0
    return RunOutcomes(
        run_id=0,
        name="",
        status=status,
        system=system.name,
        fleet=world.fleet.name,
        fleet_hash=world.fleet.source_hash,
        seed=seed,
        checkpoint=checkpoint,
        speed=1.0,
        span_s=span_s,
        wall_s=world.now_s,
        clusters=tuple(c.name for c in world.fleet.clusters),
        nodes=world.node_names,
        node_cluster=world.node_cluster,
        services=tuple(s.name for s in world.fleet.services),
        service_class=requests.service_class,
        service=requests.service,
        entry_cluster=requests.cluster,
        target_cluster=np.where(ran, world.node_cluster[node], -1).astype(np.int32),
        node=node,
        due_s=requests.due_s,
        target_s=requests.target_s,
        started_s=np.ascontiguousarray(progress["started_s"]),
        finished_s=np.ascontiguousarray(progress["finished_s"]),
        state=np.ascontiguousarray(progress["state"]),
        reason=np.ascontiguousarray(progress["reason"]),
        reasons=REASONS,
        attempts=np.ascontiguousarray(progress["attempts"] - progress["given_back"]),
        epoch=np.ascontiguousarray(progress["attempts"]),
        cpu_work_s=requests.cpu_work_s,
        memory_mib=requests.memory_mib,
    )


def losses_of(world: SimulationState) -> AttemptLosses:
    """Attempts that came to nothing."""
    rows = world.engine.lists.losses[: int(world.engine.clock["losses"][0])]
    return AttemptLosses(
        at_s=rows["at_s"].copy(),
        service=world.engine.arrivals.service[rows["request"]],
        node=rows["node"].astype(np.int32),
        reason=rows["reason"].astype(np.int16),
        reasons=REASONS,
        work_lost_s=rows["work_s"].copy(),
        request=rows["request"].astype(np.int64),
    )


def decisions_of(world: SimulationState, system: System, be: BeCycles) -> Decisions:
    """One row for the LC dispatch of each window, of all clusters together, and one for each BE tick."""
    lc = world.engine.lists.cycles[: int(world.engine.clock["cycles"][0])]
    names = tuple(dict.fromkeys((system.lc, *be.policy)))
    b = len(be.at_s)

    def both(of_lc: NDArray[np.generic] | int, of_be: list[int] | list[float] | int) -> NDArray[np.generic]:
        first = np.full(len(lc), of_lc) if isinstance(of_lc, int) else of_lc
        second = np.full(b, of_be) if isinstance(of_be, int) else np.array(of_be)
        return np.concatenate((first, second))

    considered, placed = np.array(be.considered, np.int64), np.array(be.placed, np.int64)
    nothing = np.zeros(len(lc) + b)
    return Decisions(
        at_s=both(lc["at_s"], be.at_s).astype(np.float64),
        kind=both(int(ServiceClass.LC), int(ServiceClass.BE)).astype(np.int8),
        cluster=np.full(len(lc) + b, -1, np.int32),
        policy=np.concatenate((np.zeros(len(lc)), [names.index(p) for p in be.policy])).astype(np.int16),
        policies=names,
        considered=np.concatenate((lc["considered"], considered)).astype(np.int64),
        placed=np.concatenate((lc["placed"], placed)).astype(np.int64),
        unplaced=np.concatenate((lc["considered"] - lc["placed"] - lc["shed"], considered - placed)).astype(np.int64),
        late=both(lc["late"], 0).astype(np.int64),
        shed=both(lc["shed"], 0).astype(np.int64),
        snapshot_ms=nothing,
        decide_ms=both(lc["decide_s"], be.decide_s).astype(np.float64) * 1e3,
        apply_ms=nothing,
    )


def scaling_of(world: SimulationState) -> ScalingEvents:
    """Resizes and evictions, with why; a resize takes the fleet's actuation delay."""
    rows = world.engine.lists.scalings[: int(world.engine.clock["scalings"][0])]
    n = len(rows)
    reasons = ("evict", "grow", "shrink", "share")
    resized = np.where(rows["after"] > rows["before"], 1, 2)
    reason = np.where(rows["kind"] == RESIZED, resized, np.where(rows["kind"] == GAVE_WAY, 3, 0))
    return ScalingEvents(
        at_s=rows["at_s"].copy(),
        kind=np.minimum(rows["kind"], PUSHED_OUT).astype(np.int8),
        node=rows["node"].astype(np.int32),
        service=rows["service"].astype(np.int32),
        before_millicores=rows["before"].copy(),
        after_millicores=rows["after"].copy(),
        slack=rows["slack"].copy(),
        reason=reason.astype(np.int16),
        reasons=reasons,
        actuation_ms=np.where(rows["kind"] == RESIZED, world.engine.rules.actuation_s * 1e3, np.nan),
        outcome=np.zeros(n, np.int8),
    )


def digest_of(outcomes: RunOutcomes, losses: AttemptLosses, scaling: ScalingEvents) -> str:
    """SHA-256 over the outcome columns and the scaling and eviction events, little-endian."""
    found = hashlib.sha256()
    for column, kind in (
        (outcomes.node, "<i4"),
        (outcomes.epoch, "<i4"),
        (outcomes.started_s, "<f8"),
        (outcomes.finished_s, "<f8"),
        (outcomes.state, "<i1"),
        (scaling.at_s, "<f8"),
        (scaling.kind, "<i1"),
        (scaling.node, "<i4"),
        (scaling.service, "<i4"),
        (scaling.before_millicores, "<f8"),
        (scaling.after_millicores, "<f8"),
        (losses.at_s, "<f8"),
        (losses.node, "<i4"),
        (losses.reason, "<i2"),
        (losses.work_lost_s, "<f8"),
    ):
        found.update(np.ascontiguousarray(column, kind).tobytes())
    return found.hexdigest()
