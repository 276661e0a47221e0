"""What the core asks of the world. Each port states its contract, with what happens when a call comes twice or never.

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
    """Wall time, passed in so that nothing below reads a clock of its own."""

    def now_s(self) -> float:
        """Unix time in seconds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What one release step did."""

    batches: tuple[Batch, ...]
    next_due_s: float | None
    """Due time of the first request not released yet, in wall seconds since the run began; None when all are released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one step of sweeping a cancelled run did."""

    cancelled: int
    """Requests that are cancelled since."""
    last_request: int | None
    """The greatest of their ids, beyond which the next step goes on; None when nothing was left there."""
    pods: tuple[PodKey, ...]
    """Of BE requests that were in flight: they may run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """A held lease: `name`, who holds it, and the epoch that fences older holders off."""

    name: str
    owner: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartHere:
    """Rows of an `LcArrivals` that the dispatching process runs itself: they skip `dispatched` and its message."""

    rows: NDArray[np.bool_]
    """(m,)"""
    owner: str
    lease_s: float
    """Of their execution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched:
    """LC requests that a plan really won."""

    by_cluster: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    """Those to send, by the cluster that will run them: (request ids, epochs), same order."""
    started: tuple[LcWork, ...] = ()
    """Those that run already, claimed by the dispatching process."""


class RunStore(Protocol):
    """Runs from submit to their figures."""

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
        """Live runs whose requests move on. A simulated run is no business of who moves live requests."""
        ...

    def cancelling_runs(self) -> list[int]:
        """Runs that were cancelled and may still have live requests."""
        ...

    def begin(self, run_id: int, *, at_s: float) -> float:
        """Set the run's zero to Unix time `at_s` unless it is set; give the one that holds. Twice: the first stays."""
        ...

    def set_status(self, run_id: int, status: RunStatus) -> None:
        """Move the run on; one that has ended stays as it is."""
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
        """Keep the figures of a run (`run_metric`), replacing older ones."""
        ...

    def delete(self, run_id: int) -> None:
        """Drop a run with everything recorded under it. Raises: UsageError while it is running."""
        ...


class SimulationStore(Protocol):
    """Simulated runs from the order to the result. Raises: StoreUnavailable, StoreError."""

    def open(self, cells: Sequence[NewSimulation], *, record: bool, forget: bool) -> list[OpenedSimulation]:
        """The run of each cell, in order and in one transaction: one under way or, unless `forget`, finished under its key, else a new
        one. With `record`, only runs whose rows are kept count. Two commands at once share their runs.
        """
        ...

    def claim(self, run_id: int, *, owner: str, lease_s: float, most_claims: int) -> ClaimedSimulation | None:
        """Take an accepted run, or a running one whose lease is over; the epoch rises. None: somebody has it, or it has ended.

        A run that has been claimed `most_claims` times without an end fails instead.
        """
        ...

    def renew(self, claim: ClaimedSimulation, *, lease_s: float) -> bool:
        """Extend the lease; False when the run was cancelled or claimed by somebody newer."""
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
        """End the run without a result; False when the claim no longer stands."""
        ...

    def states(self, run_ids: Sequence[int]) -> list[SimulationState]:
        """Where simulated runs stand, by id; those that were deleted are left out."""
        ...

    def result(self, run_id: int) -> Mapping[str, Any] | None:
        """The result that `finish` was given; None while there is none."""
        ...

    def unclaimed(self, run_ids: Sequence[int], *, after_s: float, busy: bool, limit: int) -> list[int]:
        """Runs in nobody's hands whose message may be lost, oldest first: publish them again. What is given here is not given again
        before `after_s` has passed, twice as long each time while workers are `busy`; a run whose lease is over is given at once.
        """
        ...

    def anybody_works(self) -> bool:
        """Whether a worker has any simulated run in its hands."""
        ...


class RequestStore(Protocol):
    """The states of requests. Every method is one event of `tango.domain.lifecycle`, or an alternative of some: rows where it cannot
    happen, under another epoch or of a run that takes no part any more, are left alone.
    """

    def release_due(self, run_id: int, *, until_s: float, limit: int) -> Released:
        """accepted → released for at most `limit` requests due by `until_s`, earliest first, grouped into batches."""
        ...

    def waiting_lc(self, run_id: int, request_ids: Sequence[int], snapshot: FleetSnapshot) -> LcArrivals:
        """Those of the named LC requests that are still `released`, in order of due time. Reads only."""
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
        """released → dispatched (epoch + 1, lease), → running for rows of `here`, or → shed, as planned, where the row still has the
        epoch that was read; with the decision row, its `placed` being what was really won, in one transaction.
        """
        ...

    def claim_execution(
        self, run_id: int, cluster: str, request_ids: Sequence[int], epochs: Sequence[int], *, owner: str, lease_s: float
    ) -> list[LcWork]:
        """dispatched → running for rows of this cluster with these epochs; what another worker claimed is not given."""
        ...

    def renew(self, run_id: int, request_ids: Sequence[int], epochs: Sequence[int], *, lease_s: float) -> int:
        """Extend the leases of live rows with these epochs; give how many still stood."""
        ...

    def settle(self, outcomes: Sequence[Outcome]) -> int:
        """Write ends, one `attempt` row each, where the row is live and has the epoch; give how many counted.

        A requeue sends LC back to `released` and BE to `pending`, or, when the attempts are used up, fails with
        `attempts-exhausted`. Twice: the second counts 0. Many outcomes are several transactions.
        """
        ...

    def admit_be(self, run_id: int, request_ids: Sequence[int], *, nodes: Sequence[tuple[int, int]]) -> int:
        """released → pending for BE rows that fit one of these nodes of (millicores, MiB), else → failed with `does-not-fit`."""
        ...

    def pending_be(self, *, limit: int) -> PendingBatch:
        """The oldest pending BE requests of all active runs. Reads only."""
        ...

    def record_placement(
        self, batch: PendingBatch, plan: BePlan, snapshot: FleetSnapshot, decision: DecisionRecord, *, fence: Fence, lease_s: float
    ) -> list[Placement]:
        """pending → placed (epoch + 1, lease, pod name) with the decision row, in one transaction; give those really won.

        Raises: Fenced if the scheduler's lease has moved on; then nothing is written.
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
        """Batches of rows that have stood in `released` longer than that: their message may be lost, so publish again."""
        ...


class LeaseStore(Protocol):
    """Named leases, one row each, that keep periodic work single."""

    def acquire(self, name: str, *, owner: str, ttl_s: float) -> Fence | None:
        """Take or renew the lease; None while somebody else's has not run out. A change of owner raises the epoch."""
        ...

    def release(self, fence: Fence) -> None:
        """Give it up early; nothing happens when it has moved on."""
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
        """All of them, newest first, without their files."""
        ...

    def find(self, named: str) -> StoredCheckpoint:
        """The one with this name, or whose digest begins so. Raises: UsageError for none or several; the message lists them."""
        ...

    def content(self, digest: str) -> bytes:
        """The file of a checkpoint. Raises: CheckpointError where there is none, or where it is not of this digest any more."""
        ...

    def add_scores(self, digest: str, scores: Mapping[str, Any]) -> None:
        """Append one evaluation (JSON). A digest that is not known is left alone."""
        ...

    def roles(self) -> CheckpointRoles:
        """Who decides; one small row."""
        ...

    def promote(self, digest: str, *, actor: str) -> CheckpointRoles:
        """Make it live; what was live before is remembered. Twice: the second changes nothing."""
        ...

    def demote(self, *, actor: str) -> CheckpointRoles:
        """Back to what was live before, in the end to the scheduler's own file; from there on nothing changes."""
        ...

    def shadow(self, digest: str, *, actor: str) -> CheckpointRoles:
        """Let it decide beside the live one without acting; empty: nobody."""
        ...

    def decides(self, *, configured: str, deciding: str) -> None:
        """What the scheduler was started with and what it decides by, for people; no change of a role."""
        ...

    def used(self, digest: str, *, refused: str) -> None:
        """Whether the scheduler could use a checkpoint: `refused` says why not, empty clears it. A new refusal is an event."""
        ...

    def history(self, *, limit: int = 50) -> list[CheckpointEvent]:
        """Changes of roles and refusals, newest first."""
        ...

    def record_shadow(self, decision: ShadowDecision, *, fence: Fence) -> bool:
        """Append what the candidate would have done; False, and nothing is written, where the scheduler's lease has moved on."""
        ...

    def shadow_summaries(self, candidate: str) -> list[ShadowSummary]:
        """Its ticks beside each live checkpoint and policy, the latest first."""
        ...


class FleetStore(Protocol):
    """Clusters, nodes, services and instances as last seen."""

    def declare(self, fleet: Fleet, *, kubeconfig: str, contexts: Mapping[str, str]) -> None:
        """Upsert the fleet's clusters (with the kubeconfig's path and context, never its content), links and services."""
        ...

    def services(self) -> tuple[Service, ...]:
        """All declared services, by name."""
        ...

    def snapshot(self, *, at_s: float) -> FleetSnapshot:
        """The fleet as the tables have it now, in-flight and pending counts included."""
        ...

    def observe(self, cluster: str, nodes: Sequence[NodeState], instances: Sequence[InstanceState], *, sample: bool) -> None:
        """Replace what is known of a cluster; with `sample`, also append to `node_sample`."""
        ...

    def instances(self) -> list[tuple[str, InstanceState]]:
        """(cluster, instance) of every known LC instance."""
        ...

    def tail_latency_ms(self, *, window_s: float, quantile: float) -> dict[tuple[str, NodeKey], tuple[float, int]]:
        """Per (service, node): latency at `quantile` of the LC requests settled in the last `window_s`, and how many."""
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
    """Sends hints to the broker. A hint may arrive twice or never; the rows are the truth."""

    def arrivals(self, batches: Sequence[Batch]) -> None:
        """Batches to `lc.<cluster>` and `be.<cluster>`. Raises: BrokerUnavailable."""
        ...

    def executions(self, run_id: int, dispatched: Dispatched) -> None:
        """Dispatched requests to `exec.<cluster>`. Raises: BrokerUnavailable."""
        ...

    def replay(self, run_id: int) -> None:
        """Ask a replayer to go on with a run. Raises: BrokerUnavailable."""
        ...

    def simulations(self, run_ids: Sequence[int]) -> None:
        """Ask for simulated runs, one message each. Raises: BrokerUnavailable; some may have been sent by then."""
        ...


class ClusterGateway(Protocol):
    """What the scheduler does to Kubernetes clusters. Calls of one batch run side by side; each fails for itself."""

    def run_be_pods(self, placements: Sequence[Placement]) -> dict[Placement, Exception | None]:
        """Create and bind one pod a placement. A repeat meets its own pod and counts as success."""
        ...

    def resize(self, resizes: Sequence[Resize]) -> list[ScalingRecord]:
        """Resize instances in place and tell what became of each; `infeasible` is never tried again as it stands."""
        ...

    def evict(self, evictions: Sequence[Eviction]) -> list[ScalingRecord]:
        """Evict BE pods through the eviction subresource; a refused budget is an outcome, not an error."""
        ...

    def delete_pods(self, pods: Sequence[PodKey]) -> None:
        """Delete pods with grace 0; those already gone count as deleted."""
        ...


class ClusterWatch(Protocol):
    """One cluster as its agent sees and keeps it: nodes and Tango's pods as the watches last had them, and the agent's few writes.

    Objects are Kubernetes' own JSON, which `tango.control.observe_cluster` reads. What cannot be reached raises ClusterUnavailable,
    what is refused ClusterError.
    """

    async def follow(self, on_pod: Callable[[str, Mapping[str, Any]], None]) -> None:
        """Watch until cancelled, listing again whenever a watch cannot go on; a cluster that is away is waited for.

        `on_pod` gets every change of one of Tango's pods as (`ADDED` | `MODIFIED` | `DELETED`, pod), those that are there at first and
        those that vanished while nobody watched included. A change may come twice.
        """
        ...

    async def synced(self) -> None:
        """Wait until everything was listed once."""
        ...

    def nodes(self) -> Sequence[Mapping[str, Any]]:
        """All nodes."""
        ...

    def pods(self) -> Sequence[Mapping[str, Any]]:
        """Tango's pods."""
        ...

    async def node_usage(self) -> Mapping[str, Mapping[str, Any]]:
        """CPU and memory in use by node name; a node of which nothing is measured is left out."""
        ...

    async def create_instance(self, service: Service, node: NodeKey, k: int) -> None:
        """Create the k-th instance of an LC service and bind it to its node. Twice: the one that is there stays."""
        ...

    async def bind(self, pod: Mapping[str, Any], node: str) -> None:
        """Bind this very pod. One that is bound or gone is left alone."""
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
        """Drop the connections."""
        ...
