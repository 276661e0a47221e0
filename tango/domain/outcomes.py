"""The outcome of a run as columns: the one form in which live and simulated runs reach the figures and the report.

Times are wall seconds since the run's zero, as the tables hold them; `RunOutcomes.speed` turns them into trace time. CPU work,
targets and the work lost were divided by the speed when the rows were written, so they are multiplied by it as well. Index columns
point into the name tuples of `RunOutcomes`, which all five tables of one run share; -1 means none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from tango.domain.identity import NodeKey
from tango.domain.requests import RequestState
from tango.domain.runs import ScalingOutcome

STATES: tuple[str, ...] = tuple(str(state) for state in RequestState)
"""Names of states by their codes in the column `state`."""

STATE_CODE: dict[str, int] = {name: code for code, name in enumerate(STATES)}
"""Codes of states by their names."""


def _check_lengths(table: object, columns: tuple[str, ...]) -> None:
    lengths = {name: len(getattr(table, name)) for name in columns}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{type(table).__name__} columns differ in length: {lengths}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcomes:
    """A run and its n requests, one array element each, in order of `due_s`.

    Raises: ValueError if the columns differ in length or `speed` is not above 0.
    """

    run_id: int
    name: str
    status: str
    """`RunStatus` as text."""
    system: str
    fleet: str
    fleet_hash: str
    seed: int
    checkpoint: str
    """Name and version of the network that decided; empty if none did."""
    reassure: bool = True
    trace_source: str = ""
    settings: dict[str, object] = field(default_factory=dict)
    """Every setting the run was made with; never an address or a password."""
    started_at_s: float | None = None
    """Unix time of the run's zero."""
    speed: float
    """Trace seconds per wall second."""
    span_s: float
    """Trace seconds from the run's zero to the last arrival."""
    is_live: bool = False
    """Whether callers fed it: it has no beginning in which the fleet fills up."""
    wall_s: float
    """Wall seconds from the run's zero to its end, or, while it is live, to the instant the rows were read."""

    clusters: tuple[str, ...]
    nodes: tuple[str, ...]
    """Names within their clusters: two nodes may have one name. `node_keys` tells them apart."""
    node_cluster: NDArray[np.int32]
    """Index of each node's cluster, shape (nodes,)."""
    services: tuple[str, ...]

    service_class: NDArray[np.int8]
    """0 LC, 1 BE (`ServiceClass`)."""
    service: NDArray[np.int32]
    entry_cluster: NDArray[np.int32]
    target_cluster: NDArray[np.int32]
    """Cluster of the last attempt; -1 if there was none."""
    node: NDArray[np.int32]
    """Node of the last attempt; -1 if there was none."""
    due_s: NDArray[np.float64]
    target_s: NDArray[np.float64]
    """LC: seconds from due time within which it must be answered; NaN for BE."""
    started_s: NDArray[np.float64]
    """Start of service of the last attempt; NaN if it never started."""
    finished_s: NDArray[np.float64]
    """Completion as the user sees it, network included; NaN if it has not finished."""
    state: NDArray[np.int8]
    """Code of `STATES`."""
    reason: NDArray[np.int16]
    """Index into `reasons`: why the request did not succeed, or was last requeued."""
    reasons: tuple[str, ...] = ("",)
    attempts: NDArray[np.int32]
    epoch: NDArray[np.int32]
    cpu_work_s: NDArray[np.float64]
    memory_mib: NDArray[np.float64]

    def __post_init__(self) -> None:
        columns = (
            "service_class service entry_cluster target_cluster node due_s target_s started_s finished_s state reason attempts "
            "epoch cpu_work_s memory_mib"
        )
        _check_lengths(self, tuple(columns.split()))
        if not self.speed > 0:
            raise ValueError(f"speed is {self.speed}, expected a number above 0")
        if len(self.node_cluster) != len(self.nodes):
            raise ValueError(f"node_cluster has {len(self.node_cluster)} rows for {len(self.nodes)} nodes")

    def __len__(self) -> int:
        return len(self.due_s)

    @property
    def node_keys(self) -> tuple[NodeKey, ...]:
        """Each node with its cluster, in the order of `nodes`."""
        return tuple(map(NodeKey, (self.clusters[k] for k in self.node_cluster.tolist()), self.nodes))

    def in_state(self, *states: RequestState) -> NDArray[np.bool_]:
        """Mask of the requests in one of the states, shape (n,)."""
        return np.isin(self.state, [STATE_CODE[state] for state in states])


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPhases:
    """Where the time of each request of a live run went, from its due time to its answer: wall seconds, shape (n,), in the order of
    `RunOutcomes`; NaN where that is not known, or not yet. The parts are those of the view `request_phases`."""

    release_s: NDArray[np.float64]
    """Due to released."""
    repeat_s: NDArray[np.float64]
    """Attempts before the last one."""
    dispatch_s: NDArray[np.float64]
    """Released to dispatched or placed."""
    send_s: NDArray[np.float64]
    """LC: dispatched to sent."""
    start_s: NDArray[np.float64]
    """Sent, or placed, to started."""
    serve_s: NDArray[np.float64]
    """Started to finished."""

    def __post_init__(self) -> None:
        _check_lengths(self, PHASES)

    def __len__(self) -> int:
        return len(self.release_s)


PHASES: tuple[str, ...] = ("release_s", "repeat_s", "dispatch_s", "send_s", "start_s", "serve_s")
"""The columns of `RequestPhases`, in order of time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLosses:
    """Attempts that ended without a counted result, one element each (`attempt` rows whose outcome is not succeeded)."""

    at_s: NDArray[np.float64]
    """When the attempt ended."""
    service: NDArray[np.int32]
    node: NDArray[np.int32]
    reason: NDArray[np.int16]
    """Index into `reasons`."""
    reasons: tuple[str, ...]
    """Texts of `tango.domain.requests.Reason`."""
    work_lost_s: NDArray[np.float64]
    """CPU-seconds done and thrown away."""
    request: NDArray[np.int64] | None = None
    """Row of the request in `RunOutcomes`; None if it was not read."""

    def __post_init__(self) -> None:
        _check_lengths(self, ("at_s", "service", "node", "reason", "work_lost_s"))

    def __len__(self) -> int:
        return len(self.at_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSamples:
    """Node states over time, one element per node and instant. CPU in millicores, memory in MiB; NaN where not measured."""

    at_s: NDArray[np.float64]
    node: NDArray[np.int32]
    cpu_allocatable_millicores: NDArray[np.float64]
    memory_allocatable_mib: NDArray[np.float64]
    cpu_used_millicores: NDArray[np.float64]
    memory_used_mib: NDArray[np.float64]
    lc_cpu_limit_millicores: NDArray[np.float64]
    lc_memory_held_mib: NDArray[np.float64]
    be_cpu_request_millicores: NDArray[np.float64]
    be_memory_held_mib: NDArray[np.float64]
    be_pods: NDArray[np.float64]
    extended: tuple[str, ...] = ()
    """Names of e extended resources, those that the run's services ask for."""
    extended_allocatable: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    """(e, k) thousandths of one, as the next."""
    extended_held: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    """(e, k) requests of LC instances and BE pods."""
    lc_cpu_pressure: NDArray[np.float64] | None = None
    """(k,) as in `NodeState`, as the next two; NaN where no node agent told, as everywhere in a simulation."""
    lc_throttled: NDArray[np.float64] | None = None
    memory_pressure: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        columns = (
            "at_s node cpu_allocatable_millicores memory_allocatable_mib cpu_used_millicores memory_used_mib "
            "lc_cpu_limit_millicores lc_memory_held_mib be_cpu_request_millicores be_memory_held_mib be_pods"
        )
        _check_lengths(self, tuple(columns.split()))

    def __len__(self) -> int:
        return len(self.at_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """Scheduling cycles, one element each. Milliseconds are wall time whatever the speed: deciding is not part of the trace."""

    at_s: NDArray[np.float64]
    kind: NDArray[np.int8]
    """0 LC dispatch, 1 BE placement (`ServiceClass`)."""
    cluster: NDArray[np.int32]
    """The deciding cluster; -1: the centre."""
    policy: NDArray[np.int16]
    """Index into `policies`: the policy that decided, which is the fallback if the chosen one failed."""
    policies: tuple[str, ...]
    considered: NDArray[np.int64]
    placed: NDArray[np.int64]
    unplaced: NDArray[np.int64]
    late: NDArray[np.int64]
    shed: NDArray[np.int64]
    snapshot_ms: NDArray[np.float64]
    decide_ms: NDArray[np.float64]
    apply_ms: NDArray[np.float64]

    def __post_init__(self) -> None:
        columns = "at_s kind cluster policy considered placed unplaced late shed snapshot_ms decide_ms apply_ms"
        _check_lengths(self, tuple(columns.split()))

    def __len__(self) -> int:
        return len(self.at_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSamples:
    """How far the CPUs of hosts were used during a run, one element per host and instant."""

    at_s: NDArray[np.float64]
    host: NDArray[np.int32]
    """Index into `hosts`."""
    hosts: tuple[str, ...]
    used: NDArray[np.float64]
    """Share of the host's CPU time that was not idle, whoever used it, stolen time included."""
    stolen: NDArray[np.float64]

    def __post_init__(self) -> None:
        _check_lengths(self, ("at_s", "host", "used", "stolen"))

    def __len__(self) -> int:
        return len(self.at_s)


SCALING_KINDS: tuple[str, ...] = ("resize", "evict")
SCALING_OUTCOMES: tuple[str, ...] = get_args(ScalingOutcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingEvents:
    """Resizes of LC instances and evictions of BE pods, one element each."""

    at_s: NDArray[np.float64]
    kind: NDArray[np.int8]
    """Index into `SCALING_KINDS`."""
    node: NDArray[np.int32]
    service: NDArray[np.int32]
    before_millicores: NDArray[np.float64]
    """CPU limit before; NaN for evictions."""
    after_millicores: NDArray[np.float64]
    slack: NDArray[np.float64]
    """1 - tail latency / target at the time of the decision; NaN if not measured."""
    reason: NDArray[np.int16]
    """Index into `reasons`."""
    reasons: tuple[str, ...]
    actuation_ms: NDArray[np.float64]
    """Wall milliseconds from the call to the effect; NaN where unknown."""
    outcome: NDArray[np.int8]
    """Index into `SCALING_OUTCOMES`."""

    def __post_init__(self) -> None:
        columns = "at_s kind node service before_millicores after_millicores slack reason actuation_ms outcome"
        _check_lengths(self, tuple(columns.split()))

    def __len__(self) -> int:
        return len(self.at_s)
