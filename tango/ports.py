"""Ports (after Cockburn's hexagonal architecture): the interfaces through which the use cases reach stores, broker and clusters.

Each method states its contract, including what happens when a call is made twice, or its message is delivered twice or never.

`tango.store` implements the stores on PostgreSQL, `tango.kube` the cluster, `workers` the publisher; the contract suites in
`tests/contract/` run every implementation, the in-memory ones of `tests/fakes/` too. All ports raise errors of `tango.errors` only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tango.domain.checkpoints import (
    CheckpointEvent,
    CheckpointRoles,
    NewCheckpoint,
    ShadowDecision,
    ShadowSummary,
    StoredCheckpoint,
)
from tango.domain.fleet import Fleet
from tango.domain.identity import NodeKey, PodKey
from tango.domain.lifecycle import Outcome
from tango.domain.observations import InstanceState, NodeState
from tango.domain.plans import BePlan, Eviction, LcPlan, Resize
from tango.domain.requests import Batch, LcArrivals, LcWork
from tango.domain.runs import (
    DecisionRecord,
    NewRequests,
    NewRun,
    PendingBatch,
    Placement,
    RunInfo,
    RunKind,
    RunStatus,
    ScalingRecord,
    StateCounts,
)
from tango.domain.services import Service
from tango.domain.simulations import (
    ClaimedSimulation,
    NewSimulation,
    OpenedSimulation,
    SimulatedRows,
    SimulationState,
)
from tango.domain.snapshot import FleetSnapshot


class Clock(Protocol):
    """Wall time, passed in so that use cases can be tested without waiting."""

    def now_s(self) -> float:
        """Unix time in seconds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The result of one release step."""

    batches: tuple[Batch, ...]
    next_due_s: float | None
    """Due time of the first request not released yet, in wall seconds since the run began; None when all are released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """The result of one step of sweeping a cancelled run."""

    cancelled: int
    """Number of requests that this step cancelled."""
    last_request: int | None
    """The greatest of their ids, after which the next step continues; None when there was nothing to cancel."""
    pods: tuple[PodKey, ...]
    """Pods of the cancelled BE requests that were in flight; they may still run and are to be deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """A held lease: its name, its holder, and its epoch, a fencing token by which writes of earlier holders are refused."""

    name: str
    owner: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartHere:
    """Rows of an `LcArrivals` that the dispatching process runs itself: they skip `dispatched` and its message."""

    rows: NDArray[np.bool_]
    """(m,) mask over the requests of the message."""
    owner: str
    lease_s: float
    """Seconds of the lease under which they are executed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched:
    """LC requests that a plan dispatched; those that another worker had dispatched before are missing."""

    by_cluster: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    """Requests to send, by the cluster that will run them: (request ids, epochs) in the same order."""
    started: tuple[LcWork, ...] = ()
    """Requests that the dispatching process has claimed and is to run itself."""


class RunStore(Protocol):
    """Runs from their submission to their figures. Raises: StoreUnavailable, StoreError."""

    def create_run(self, run: NewRun, requests: NewRequests) -> int:
        """Store a run and all its requests in one transaction and give its id. All of it or, on any error, none of it."""
        ...

    def run(self, run_id: int) -> RunInfo:
        """Raises: UsageError if there is no such run; the message lists the latest ones."""
        ...

    def runs(self, *, limit: int = 50, kind: RunKind | None = None) -> list[RunInfo]:
        """The latest runs, newest first; of one kind, or of both."""
        ...

    def active_runs(self) -> list[RunInfo]:
        """Live runs whose requests may still be released, dispatched and placed. Simulated runs are never among them."""
        ...

    def cancelling_runs(self) -> list[int]:
        """Runs that were cancelled and may still have live requests."""
        ...

    def begin(self, run_id: int, *, at_s: float) -> float:
        """Set the run's time zero to Unix time `at_s` unless it is set, and give the one in force. A second call changes nothing."""
        ...

    def set_status(self, run_id: int, status: RunStatus) -> None:
        """Set the run's status where `domain.runs.can_become` allows the change; otherwise nothing happens."""
        ...

    def cancel(self, run_id: int) -> bool:
        """Stop the run: from now on nothing of it is released, dispatched or placed. One row is written, however large the run.

        A live run is `cancelling` until `close_cancelled`, a simulated one, which has no live requests, is `cancelled` at once.
        Gives whether this call stopped it; twice, or for a run that has ended: False.
        """
        ...

    def sweep_cancelled(self, run_id: int, *, beyond: int = -1) -> Swept:
        """Cancel the first live requests of a cancelling run whose ids are above `beyond`: one chunk, one transaction.

        What was in flight gets its `attempt` row. Nothing happens to a run that is not cancelling; twice: the rest is swept.
        """
        ...

    def close_cancelled(self, run_id: int) -> bool:
        """cancelling → cancelled, where no request is live any more; give whether it was closed now."""
        ...

    def counts(self, run_id: int) -> StateCounts:
        """Requests per state; reads every row of the run."""
        ...

    def all_terminal(self, run_id: int) -> bool:
        """Whether no request of the run will change any more; costs the same for a thousand requests and for a million."""
        ...

    def save_metrics(self, run_id: int, metrics: Mapping[str, float | int | str | None]) -> None:
        """Store the figures of a run (`run_metric`), replacing older ones."""
        ...

    def delete(self, run_id: int) -> None:
        """Delete a run with everything recorded under it. Raises: UsageError while it has not ended."""
        ...


class SimulationStore(Protocol):
    """Simulated runs from their order to their result. Raises: StoreUnavailable, StoreError."""

    def open(self, cells: Sequence[NewSimulation], *, record: bool, forget: bool) -> list[OpenedSimulation]:
        """The run of each cell, in order and in one transaction: one under way or, unless `forget`, finished under its key, else a new
        one. With `record`, only runs whose rows are kept count. Two commands at once share their runs.
        """
        ...

    def claim(self, run_id: int, *, owner: str, lease_s: float, most_claims: int) -> ClaimedSimulation | None:
        """Claim an accepted run, or a running one whose lease is over, under a new epoch. None: another worker holds it, or it has ended.

        A run that has been claimed `most_claims` times without an end fails instead.
        """
        ...

    def renew(self, claim: ClaimedSimulation, *, lease_s: float) -> bool:
        """Extend the lease; False when the run has ended or was claimed again since."""
        ...

    def finish(
        self,
        claim: ClaimedSimulation,
        *,
        result: Mapping[str, Any],
        figures: Mapping[str, float | int | str | None],
        rows: SimulatedRows | None,
    ) -> bool:
        """Complete the run with its result (JSON), its figures (`run_metric`) and perhaps its rows, all of it or nothing.

        False when it has ended already; an older epoch counts too, since equal cells have equal results.
        """
        ...

    def fail(self, claim: ClaimedSimulation, message: str) -> bool:
        """Fail the run with this message; False when it has ended or was claimed again since."""
        ...

    def states(self, run_ids: Sequence[int]) -> list[SimulationState]:
        """Status and failure of simulated runs, in order of their ids; deleted ones are left out."""
        ...

    def result(self, run_id: int) -> Mapping[str, Any] | None:
        """The result that `finish` was given; None while there is none."""
        ...

    def unclaimed(self, run_ids: Sequence[int], *, after_s: float, busy: bool, limit: int) -> list[int]:
        """Open runs without a live lease whose message may be lost, oldest first, to be published again.

        A run is not given again before `after_s` has passed, and while workers are `busy`, twice as long each time; a run whose lease
        has run out is given at once.
        """
        ...

    def anybody_works(self) -> bool:
        """Whether any worker holds a lease on a simulated run."""
        ...


class RequestStore(Protocol):
    """The states of requests. Raises: StoreUnavailable, StoreError.

    Every method that writes applies one event of `tango.domain.lifecycle`, or one of several. Rows are left alone where that event cannot
    happen, whose epoch is another, or whose run is not open.
    """

    def release_due(self, run_id: int, *, until_s: float, limit: int) -> Released:
        """accepted → released for at most `limit` requests due by `until_s`, earliest first, grouped into batches."""
        ...

    def waiting_lc(self, run_id: int, request_ids: Sequence[int], snapshot: FleetSnapshot) -> LcArrivals:
        """The given LC requests that are still `released`, in order of due time. Reads only."""
        ...

    def record_dispatch(
        self,
        run_id: int,
        arrivals: LcArrivals,
        plan: LcPlan,
        snapshot: FleetSnapshot,
        decision: DecisionRecord,
        *,
        lease_s: float,
        here: StartHere | None = None,
    ) -> Dispatched:
        """released → dispatched (epoch + 1, lease), → running for rows of `here`, or → shed, as planned, for rows that still have the
        epoch that was read. The decision row is written in the same transaction; its `placed` counts the rows that changed.
        """
        ...

    def claim_execution(
        self, run_id: int, cluster: str, request_ids: Sequence[int], epochs: Sequence[int], *, owner: str, lease_s: float
    ) -> list[LcWork]:
        """dispatched → running for rows of this cluster with these epochs; rows that another worker has claimed are not given."""
        ...

    def renew(self, run_id: int, request_ids: Sequence[int], epochs: Sequence[int], *, lease_s: float) -> int:
        """Extend the leases of rows in flight with these epochs; gives how many there were."""
        ...

    def settle(self, outcomes: Sequence[Outcome]) -> int:
        """End attempts, with one `attempt` row each, where the request is in flight under that epoch; gives how many were ended.

        A requeue sends LC back to `released` and BE to `pending`, or, when the attempts are used up, fails with
        `attempts-exhausted`. A second call ends none. Many outcomes take several transactions.
        """
        ...

    def admit_be(self, run_id: int, request_ids: Sequence[int], *, most_memory_mib: Mapping[str, float]) -> int:
        """released → pending for BE rows that ask for at most so much memory, by their service, else → failed with `does-not-fit`.

        Rows of a service that is not in the mapping stay released: it was declared a moment ago, and they are published again.
        """
        ...

    def pending_be(self, *, limit: int) -> PendingBatch:
        """The oldest pending BE requests of all active runs. Reads only."""
        ...

    def record_placement(
        self, batch: PendingBatch, plan: BePlan, snapshot: FleetSnapshot, decision: DecisionRecord, *, fence: Fence, lease_s: float
    ) -> list[Placement]:
        """pending → placed (epoch + 1, lease, pod name), with the decision row, in one transaction; gives the placements made.

        Raises: Fenced if another scheduler has taken the lease since; nothing is written then.
        """
        ...

    def mark_running(self, placements: Iterable[tuple[int, int, int, float]], *, lease_s: float) -> int:
        """placed → running for (run, request, epoch, started Unix s) that the agent saw start; renews the running ones."""
        ...

    def requeue_expired(self, *, limit: int) -> list[Batch]:
        """Live rows whose lease ran out: LC → released, BE → pending (attempt + 1), or failed when attempts are used up.

        Gives the LC batches to publish. Each expired epoch gets one `attempt` row.
        """
        ...

    def unclaimed(self, *, older_than_s: float, limit: int) -> list[Batch]:
        """Batches of requests that have been `released` for longer: their message may be lost, so they are to be published again."""
        ...


class LeaseStore(Protocol):
    """Named leases, one row each, by which periodic work is done by one process at a time."""

    def acquire(self, name: str, *, owner: str, ttl_s: float) -> Fence | None:
        """Take or renew the lease; None while another owner holds it. A change of owner raises the epoch."""
        ...

    def release(self, fence: Fence) -> None:
        """Give the lease up early; nothing happens when another owner has taken it since."""
        ...


class CheckpointStore(Protocol):
    """The registry of learned checkpoints. Raises: StoreUnavailable, StoreError."""

    def register(self, new: NewCheckpoint, *, rename: bool = False) -> StoredCheckpoint:
        """Store a checkpoint, with its file where `new` has one. A digest that is known keeps its id, its first note and, unless
        `rename`, its name; all else follows `new`. A file for one that has a role and was refused raises the generation, so that it is
        tried again. Raises: RequestRejected for a file that is too large.
        """
        ...

    def registered(self) -> list[StoredCheckpoint]:
        """All checkpoints, newest first, without their files."""
        ...

    def find(self, named: str) -> StoredCheckpoint:
        """The checkpoint of this name, or whose digest begins with it. Raises: UsageError for none or several; the message lists them."""
        ...

    def content(self, digest: str) -> bytes:
        """The file of a checkpoint. Raises: CheckpointError where there is none, or where it is not of this digest any more."""
        ...

    def add_scores(self, digest: str, scores: Mapping[str, Any]) -> None:
        """Append one evaluation (JSON). A digest that is not known is left alone."""
        ...

    def roles(self) -> CheckpointRoles:
        """The roles now; one small row, cheap enough for every tick."""
        ...

    def promote(self, digest: str, *, actor: str) -> CheckpointRoles:
        """Make a checkpoint live and remember the one that was. A second call changes nothing."""
        ...

    def demote(self, *, actor: str) -> CheckpointRoles:
        """Make the checkpoint live that was before; when there is none, the scheduler's own file decides, and nothing changes any more."""
        ...

    def shadow(self, digest: str, *, actor: str) -> CheckpointRoles:
        """Let a checkpoint decide in the shadow, recorded and not acted on; an empty digest ends that."""
        ...

    def decides(self, *, configured: str, deciding: str) -> None:
        """Record the digests that the scheduler was started with and decides by, for people to see; no role changes."""
        ...

    def used(self, digest: str, *, refused: str) -> None:
        """Record whether the scheduler could use a checkpoint; `refused`: why not, empty if it could. A new refusal is an event."""
        ...

    def history(self, *, limit: int = 50) -> list[CheckpointEvent]:
        """Changes of roles and refusals, newest first."""
        ...

    def record_shadow(self, decision: ShadowDecision, *, fence: Fence) -> bool:
        """Append a decision of the shadow; False, and nothing is written, when another scheduler has taken the lease since."""
        ...

    def shadow_summaries(self, candidate: str) -> list[ShadowSummary]:
        """The candidate's ticks, summed up for each live checkpoint and policy beside it, the latest first."""
        ...


class FleetStore(Protocol):
    """Clusters, nodes, services and instances as last observed. Raises: StoreUnavailable, StoreError."""

    def declare(self, fleet: Fleet, *, kubeconfig: str, contexts: Mapping[str, str]) -> None:
        """Upsert the fleet's clusters (with the kubeconfig's path and context, never its content), links and services."""
        ...

    def services(self) -> tuple[Service, ...]:
        """All declared services, by name."""
        ...

    def snapshot(self, *, at_s: float) -> FleetSnapshot:
        """The fleet as last observed, with counts of requests in flight and pending; `at_s` (Unix time) is its time stamp."""
        ...

    def observe(self, cluster: str, nodes: Sequence[NodeState], instances: Sequence[InstanceState], *, sample: bool) -> None:
        """Replace the nodes and instances of a cluster; with `sample`, also append the nodes to `node_sample`."""
        ...

    def instances(self) -> list[tuple[str, InstanceState]]:
        """(cluster, instance) of every known LC instance."""
        ...

    def tail_latency_ms(self, *, window_s: float, quantile: float) -> dict[tuple[str, NodeKey], tuple[float, int]]:
        """(service, node) → latency in ms at `quantile` of the LC requests settled in the last `window_s` seconds, and their number."""
        ...

    def evictable_be(self, nodes: Collection[NodeKey]) -> dict[NodeKey, list[Eviction]]:
        """BE pods of these nodes, least work lost first; a node without any is left out."""
        ...


class EventLog(Protocol):
    """Scaling events, for people and reports."""

    def scaling(self, records: Sequence[ScalingRecord]) -> None:
        """Append scaling events."""
        ...


class Publisher(Protocol):
    """Sends messages to the broker. A message may be delivered twice or never: it only says where to look, and the rows decide."""

    def arrivals(self, batches: Sequence[Batch]) -> None:
        """Publish batches to the queues `lc.<cluster>` and `be.<cluster>`. Raises: BrokerUnavailable."""
        ...

    def executions(self, run_id: int, dispatched: Dispatched) -> None:
        """Publish dispatched requests to the queues `exec.<cluster>`. Raises: BrokerUnavailable."""
        ...

    def replay(self, run_id: int) -> None:
        """Ask a replayer to continue a run. Raises: BrokerUnavailable."""
        ...

    def simulations(self, run_ids: Sequence[int]) -> None:
        """Ask for simulated runs, one message each. Raises: BrokerUnavailable; some messages may have been sent by then."""
        ...


class ClusterGateway(Protocol):
    """The scheduler's calls to Kubernetes clusters. The calls of one batch run concurrently, and one that fails does not fail others."""

    def run_be_pods(self, placements: Sequence[Placement]) -> dict[Placement, Exception | None]:
        """Create and bind one pod per placement; gives the error of each, or None. A pod that exists from an earlier call is a success."""
        ...

    def resize(self, resizes: Sequence[Resize]) -> list[ScalingRecord]:
        """Resize instances in place and give the outcome of each; one that is `infeasible` is not worth trying again unchanged."""
        ...

    def evict(self, evictions: Sequence[Eviction]) -> list[ScalingRecord]:
        """Evict BE pods through the eviction subresource; a refusal by a PodDisruptionBudget is an outcome, not an error."""
        ...

    def delete_pods(self, pods: Sequence[PodKey]) -> None:
        """Delete pods without a grace period; those already gone count as deleted."""
        ...


class ClusterWatch(Protocol):
    """One cluster for its agent: a cache of nodes and Tango's pods that watches keep current, and the agent's few writes.

    Objects are Kubernetes' own JSON, which `tango.control.observe_cluster` reads. Raises: ClusterUnavailable for an API server that
    cannot be reached, ClusterError for a call that is refused.
    """

    async def follow(self, on_pod: Callable[[str, Mapping[str, Any]], None]) -> None:
        """Watch until cancelled; relists when a watch cannot continue, and keeps trying while the cluster cannot be reached.

        `on_pod` is called for every change of one of Tango's pods with (`ADDED` | `MODIFIED` | `DELETED`, pod), also for pods found by
        the first list and for pods that vanished between two watches. The same change may be reported twice.
        """
        ...

    async def synced(self) -> None:
        """Wait until nodes and pods have been listed once. Without a deadline: the agent can do nothing before."""
        ...

    def nodes(self) -> Sequence[Mapping[str, Any]]:
        """All nodes as last seen."""
        ...

    def pods(self) -> Sequence[Mapping[str, Any]]:
        """Tango's pods as last seen."""
        ...

    async def node_usage(self) -> Mapping[str, Mapping[str, Any]]:
        """`usage` of metrics.k8s.io (quantities of CPU and memory) by node name; nodes without a measurement are left out."""
        ...

    async def create_instance(self, service: Service, node: NodeKey, k: int) -> None:
        """Create the k-th instance of an LC service and bind it to its node. An instance that exists is left as it is."""
        ...

    async def bind(self, pod: Mapping[str, Any], node: str) -> None:
        """Bind the pod of this uid to a node. A pod that is bound or gone is left alone."""
        ...

    async def delete_pod(self, name: str, *, uid: str | None = None, at_once: bool = False) -> None:
        """Delete a pod, with its grace period unless `at_once`; one that is gone, or is not of this uid, counts as deleted."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """When an LC instance served a request, in Unix seconds, the network excluded."""

    started_at_s: float
    finished_at_s: float


class InstanceCalls(Protocol):
    """LC requests over HTTP to an instance's pod address."""

    async def call(self, instance: InstanceState, work: LcWork, *, payload_kib: float, timeout_s: float) -> Served:
        """Send one request and wait for its answer. Never retried here: a retry is a new epoch.

        Raises: InstanceFailed with the reason instance-unreachable, instance-refused or timed-out.
        """
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
