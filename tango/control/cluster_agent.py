"""The cluster agent: one long-lived process a cluster that observes, settles, renews leases and keeps LC instances at their count.

    watch ─► on_pod ─► ends and starts ─► settle ─► centre's store ─► delete_settled ─► cluster
      ├─► nodes, pods ─► observe, renew ─► centre's store
      └─► nodes, pods ─► observe_here ─► journal ─► deploy ─► cluster

Everything that ends is settled in the store first and deleted in the cluster second, so that a restart between the two finds the
pod again and the settlement, which carries the epoch, counts nothing twice. Pods of jobs go their own way from `on_pod` on
(`job_pods`). While the centre is away ends are kept, and what the
cluster needs to serve LC goes on by its journal; while the API server is away the watch lists again when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from tango import progress
from tango.control.be_pods import LOOK_EVERY_S, BePods
from tango.control.be_tracing import BeTracing
from tango.control.deploy_instances import Creation
from tango.control.job_pods import JobPods
from tango.control.lc_instances import LONGEST_CLUSTER_PAUSE_S, ROLE, LcInstances
from tango.control.measure_services import ServiceMeter
from tango.control.observe_cluster import (
    be_identity,
    be_started_at_s,
    going_since_s,
    instance_states,
    is_over,
    node_refusal,
    node_states,
    outcome_of,
    pod_class,
    pod_end,
)
from tango.control.observe_jobs import is_job
from tango.control.observed_together import ObservedTogether
from tango.control.service_namespaces import LOOK_EVERY_S as NAMESPACES_EVERY_S
from tango.control.service_namespaces import ServiceNamespaces
from tango.control.settle_apart import settle_apart
from tango.control.startup_boost import StartupBoost
from tango.domain.backoff import pause_s
from tango.domain.node_reports import NodeAgentReport
from tango.domain.observations import InstanceState, NodeState, Observation, PodEnd
from tango.domain.pod_marks import SERVICE
from tango.domain.refusals import Refusal
from tango.domain.services import Service
from tango.errors import ClusterError, ClusterUnavailable, StoreError, StoreUnavailable, UsageError
from tango.ports.clock import Clock
from tango.ports.clusters import ClusterWatch
from tango.ports.fleet import FleetStore
from tango.ports.jobs import JobStore
from tango.ports.journal import JournalFleet
from tango.ports.refusals import RefusalStore
from tango.ports.requests import BeRequests
from tango.settings import JobSettings, KubeSettings, LeaseSettings

log = structlog.get_logger(__name__)

Json = Mapping[str, Any]
State = tuple[list[NodeState], list[InstanceState]]
"""Nodes and LC instances as they are."""

SETTLE_EVERY_S = 0.05
"""Seconds between two writes of starts and ends, as in the executor of LC requests: they are written in groups, and what a pod
held is free again this soon after it ends."""
DEPLOY_EVERY_S = 0.5
"""Seconds between two comparisons of LC instances with what is declared, while the cluster changes. Chosen, not measured."""
DEPLOY_AGAIN_S = 2.0
"""Seconds between two while it does not: as often as the centre publishes its services (`JournalSettings.publish_idle_s`)."""
TOLD_AGAIN_S = 2.0
"""Seconds after which the journal is told what it has been told already: its file may be another one."""
REPORTS_EVERY_S = 10.0
"""Seconds between two readings of what node agents report: as often as each does (`NodeAgentSettings.report_s`)."""
MEASURE_EVERY_S = 5.0
"""Seconds between two readings of what pods of services with a template use: metrics-servers have new figures every 10 to 15."""
EARLY_S = 0.01
"""A loop may be woken this much, in seconds, before its time: timers of the event loop count in milliseconds."""
FIRST_PAUSE_S, LONGEST_STORE_PAUSE_S = 0.2, 2.0
"""Extra seconds after a step that failed, doubled with each failure in a row up to the bound, less a random part: what waits for a store is
tried again soon after it is back; a cluster that refuses is not asked all the time."""


def multiple_after(at_s: float, every_s: float) -> float:
    """The first multiple of a period that is at least half of it after an instant: so what is done then is done once in each."""
    return at_s if every_s <= 0.0 else math.ceil(at_s / every_s + 0.5) * every_s


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStores:
    """The stores that the agent reads and writes: the centre's, and the journal beside it."""

    fleet: FleetStore
    requests: BeRequests
    jobs: JobStore
    refusals: RefusalStore
    journal: JournalFleet
    run_zero_s: Callable[[int], float]
    """Unix time of a run's zero. Raises: UsageError for a run that was deleted."""
    is_busy: Callable[[], bool] = lambda: True
    """Whether the cluster may have something to serve: while it has not, nodes are sampled less often."""
    together: ObservedTogether | None = None
    """By which the agents of a process write what they see; None: this one has its own."""
    tracing: BeTracing | None = None
    """Makes the spans of what is settled; None: nobody wants any."""


class ClusterAgent:
    """The agent of one cluster. `run` repeats all steps; each step is one call, complete in itself and safe to repeat."""

    def __init__(
        self,
        cluster: str,
        watch: ClusterWatch,
        stores: AgentStores,
        clock: Clock,
        *,
        kube: KubeSettings,
        lease: LeaseSettings,
        job: JobSettings,
    ) -> None:
        self._cluster = cluster
        self._watch = watch
        self._stores = stores
        self._together = stores.together or ObservedTogether(stores.fleet.observe_all)
        self._clock = clock
        self._kube = kube
        self._lease = lease
        self._job = job
        self._ended: dict[str, PodEnd] = {}
        """Ends that the store does not have yet, by pod uid."""
        self._settled: dict[str, str] = {}
        """Pods whose end is in the store, to be deleted in the cluster: uid → name in the fleet."""
        self._over: set[str] = set()
        """Uids of pods whose end is in the store and that the watch has not reported as gone: nothing of them is settled again."""
        self._gone: set[str] = set()
        """Uids of pods that are gone and whose end the store does not have yet: nothing is left to be deleted."""
        self._started: dict[tuple[int, int, int], float] = {}
        """BE pods that run: (run, request, epoch) → Unix time of their start."""
        self._to_mark: set[tuple[int, int, int]] = set()
        """Keys of `_started` whose start the store does not have yet."""
        self._given_up: set[tuple[int, int, int]] = set()
        """BE pods beyond one of their limits: (run, request, epoch)."""
        self._waiting_since_s: dict[str, float] = {}
        """Pods that are bound and have not started, by uid → when this agent first saw it."""
        self._refused: dict[str, Refusal] = {}
        """What kubelets said that did not admit a pod, by the pod's uid, for `settle` to note."""
        self._noted_refusals: set[str] = set()
        """Uids of such pods that are there still and have been noted."""
        self._barred_nodes: set[tuple[str, str]] = set()
        """(service, node) of refusals that this agent has noted and not cleared."""
        self._to_clear: set[tuple[str, str]] = set()
        """Those where a pod has started since."""
        self._meter = ServiceMeter()
        self._reported: dict[str, tuple[NodeAgentReport, float]] = {}
        """By node, its agent's last report and when it came, by the monotonic clock: the node's own may be off."""
        self._node_reports: dict[str, NodeAgentReport] = {}
        """Those that still hold."""
        self._node_usage: Mapping[str, Json] = {}
        self._usage_read_at_s = -1e9
        self._sampled_at_s = -1e9
        self._told_centre: State | None = None
        """What the centre was told last."""
        self._services: tuple[Service, ...] = ()
        """As the centre last published them."""
        self._seen: (
            tuple[int, Mapping[str, Json], tuple[Service, ...], tuple[Creation, ...], Mapping[str, NodeAgentReport]] | None
        ) = None
        """What `_last_state` was made of: the watch's count of changes, the nodes' usage, the services, the instances to be made, the
        reports of the nodes' agents."""
        self._last_state: State = [], []
        self._deployed_at, self._deployed_at_s = -1, -1e9
        """The watch's count of changes when `deploy` last ended well, and when that was."""
        self._told_here: State | None = None
        """What the journal was told last, at `_told_at_s`."""
        self._told_at_s = -1e9
        self._noted = asyncio.Event()
        """Set when there is something new to settle or to delete."""
        # One step writes to the centre at a time: a start and an end of one pod must reach the store in that order, from whichever
        # step they come.
        self._store_turn = asyncio.Lock()
        self._be_pods = BePods(
            cluster,
            watch,
            clock,
            job,
            requests=stores.requests,
            jobs=stores.jobs,
            refusals=stores.refusals,
            store_turn=self._store_turn,
        )
        self._namespaces = ServiceNamespaces(cluster, watch, stores.fleet, stores.refusals, store_turn=self._store_turn)
        self._instances = LcInstances(cluster, watch, stores.refusals, store_turn=self._store_turn)
        self._boost = StartupBoost(cluster, watch)
        self._job_pods = JobPods(
            cluster,
            watch,
            stores.jobs,
            clock,
            job,
            run_zero_s=stores.run_zero_s,
            store_turn=self._store_turn,
            is_settled=self._job_is_settled,
            tracing=stores.tracing,
        )

    async def run(self) -> None:
        """Watch the cluster and repeat every step until cancelled.

        A step that fails because a store or the cluster is away is tried again, and delays no other. Any other error is raised (as an
        ExceptionGroup): it ends the process, which its supervisor restarts.
        """
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._watch.follow(self.on_pod))
            await self._watch.synced()
            await self._begin()
            progress.reached("ready", within_s=math.inf)
            loops.create_task(
                self._repeat(self.settle, SETTLE_EVERY_S, lambda: self._ended or self._to_mark or self._refused or self._to_clear)
            )
            loops.create_task(self._repeat(self.delete_settled, SETTLE_EVERY_S, lambda: self._settled))
            loops.create_task(self._repeat(self.settle_jobs, SETTLE_EVERY_S, lambda: self._job_pods.has_ended_pods))
            for step, every_s in (
                (self._job_pods.look, self._job.look_every_s),
                (self.look_for_orphans, LOOK_EVERY_S),
                (self.observe_here, self._kube.observe_every_s),
                (self.observe, self._kube.observe_every_s),
                (self.renew, self._lease.placement_s / 3),
                (self.deploy, DEPLOY_EVERY_S),
                (self._namespaces.look, NAMESPACES_EVERY_S),
                (self.read_usage, self._kube.sample_every_s),
                (self.measure, MEASURE_EVERY_S),
                (self.read_reports, REPORTS_EVERY_S),
            ):
                loops.create_task(self._repeat(step, every_s))

    async def _begin(self) -> None:
        """Before anything is told: what runs in namespaces of services is seen from the beginning, as far as it may be."""
        with contextlib.suppress(StoreUnavailable, StoreError):
            self._services = await asyncio.to_thread(self._stores.journal.services)
        await self._namespaces.begin(self._services)

    async def _repeat(
        self, step: Callable[[], Awaitable[None]], every_s: float, is_wanted: Callable[[], object] = lambda: True
    ) -> None:
        name, failures = f"{getattr(step, '__name__', '?')} of {self._cluster}", 0
        try:
            while True:
                while not is_wanted():
                    progress.over(name)
                    self._noted.clear()
                    await self._noted.wait()
                progress.turned(name)
                begin = time.monotonic()
                try:
                    await step()
                    failures = 0
                except (StoreUnavailable, StoreError, ClusterUnavailable, ClusterError) as error:
                    log.warning("agent_step_failed", step=getattr(step, "__name__", "?"), cluster=self._cluster, error=str(error))
                    is_store = isinstance(error, StoreUnavailable | StoreError)
                    await asyncio.sleep(
                        pause_s(failures, FIRST_PAUSE_S, LONGEST_STORE_PAUSE_S if is_store else LONGEST_CLUSTER_PAUSE_S)
                    )
                    failures += 1
                # At multiples of the period, so that the agents of a process wake together, and what they write can be written together.
                await asyncio.sleep(max(0.0, multiple_after(begin, every_s) - time.monotonic()))
        finally:
            progress.over(name)

    # ---- BE pods -------------------------------------------------------------------------------------------------------

    def on_pod(self, kind: str, pod: Json) -> None:
        """Note a BE pod's start or end, for `settle` to write. `kind`: the type of the watch event. The same event twice counts once."""
        if pod_class(pod) != "be":
            return
        identity, uid, deleted = be_identity(pod), pod["metadata"]["uid"], kind == "DELETED"
        if uid in self._over:  # all that there is to note of it was noted when it ended
            if deleted:
                self._forget(uid)
            return
        end: PodEnd | None = None
        if is_job(pod):
            ended = self._job_pods.on_pod(pod, deleted=deleted)
            end = pod_end(pod, deleted=deleted) if ended else None
        elif ended := (end := pod_end(pod, deleted=deleted)) is not None:
            if identity is not None:
                self._started.pop(identity, None)
                self._to_mark.discard(identity)
            if end is not None:
                self._ended.setdefault(uid, replace(end, pod=self._watch.name_of(pod)))
                if deleted:
                    self._gone.add(uid)
        if ended:
            if end is not None:
                self._meter.ended(end.service, end)
                refused = node_refusal(end, self._cluster)
                if refused is not None and uid not in self._noted_refusals:
                    self._noted_refusals.add(uid)
                    self._refused[uid] = refused
            self._noted.set()
            if deleted:
                self._forget(uid)
            return
        if identity is not None:
            self._note_start(pod, identity)

    def _note_start(self, pod: Json, identity: tuple[int, int, int]) -> None:
        started_at_s = be_started_at_s(pod)
        if started_at_s is None or identity in self._started:
            return
        self._started[identity] = started_at_s
        self._to_mark.add(identity)
        at = pod["metadata"]["labels"].get(SERVICE, ""), pod["spec"].get("nodeName", "")
        if at in self._barred_nodes:
            self._to_clear.add(at)
        self._noted.set()

    def _forget(self, uid: str) -> None:
        """The pod is gone."""
        self._settled.pop(uid, None)
        self._over.discard(uid)
        self._noted_refusals.discard(uid)

    async def settle(self) -> None:
        """Write starts, ends and refusals of kubelets to the store. Raises: StoreUnavailable, StoreError for starts and refusals; the next
        call then writes them again."""
        ended, marks = dict(self._ended), [(*key, self._started[key]) for key in self._to_mark if key in self._started]
        refused, clear = dict(self._refused), set(self._to_clear)
        if not (ended or marks or refused or clear):
            return
        now_s = self._clock.now_s()

        def write() -> None:
            # Starts first: a pod may have started and ended since the last round.
            if marks:
                self._stores.requests.mark_running(marks, lease_s=self._lease.placement_s)
            outcomes = []
            for end in ended.values():
                with contextlib.suppress(UsageError):  # the run was deleted: nothing is left to settle, the pod goes
                    outcomes.append(outcome_of(end, run_zero_s=self._stores.run_zero_s(end.run_id), now_s=now_s))
            if outcomes:
                settle_apart(self._stores.requests, outcomes)
                if self._stores.tracing is not None:
                    self._stores.tracing.settled((o.run_id, o.request_id) for o in outcomes)
            for service, node in clear:
                self._stores.refusals.clear(self._cluster, [service], role=ROLE, node=node)
            if refused:
                self._stores.refusals.note(list(refused.values()), role=ROLE)

        async with self._store_turn:
            await asyncio.to_thread(write)
        self._to_clear -= clear
        self._barred_nodes -= clear
        for uid, refusal in refused.items():
            self._refused.pop(uid, None)
            self._barred_nodes.add((refusal.service, refusal.node))
        self._to_mark.difference_update(mark[:3] for mark in marks)
        for uid, end in ended.items():
            self._ended.pop(uid, None)
            self._is_settled(uid, end.pod, is_gone=uid in self._gone)
            self._gone.discard(uid)
        self._noted.set()

    async def look_for_orphans(self) -> None:
        """Delete BE pods that nobody wants, and give back the requests of those that cannot start; nothing by a picture that is old."""
        if self._watch.age_s() <= self._lease.silent_s:
            await self._be_pods.look()

    async def settle_jobs(self) -> None:
        """Settle pods of jobs that have ended. Their leases are renewed until then: to read a log takes its time."""
        await self._job_pods.settle()

    def _job_is_settled(self, uid: str, pod: Json, is_gone: bool) -> None:
        identity = be_identity(pod)
        if identity is not None:
            self._started.pop(identity, None)
            self._to_mark.discard(identity)
        self._is_settled(uid, self._watch.name_of(pod), is_gone=is_gone)

    def _is_settled(self, uid: str, pod: str, *, is_gone: bool) -> None:
        if not is_gone:
            self._settled[uid] = pod
            self._over.add(uid)
            self._noted.set()

    async def delete_settled(self) -> None:
        """Delete pods whose end is in the store, by uid: a newer pod of the same name is left alone."""

        async def delete(uid: str, pod: str) -> None:
            await self._watch.delete_pod(pod, uid=uid, at_once=True)
            self._settled.pop(uid, None)

        await asyncio.gather(*(delete(uid, pod) for uid, pod in list(self._settled.items())))

    async def renew(self) -> None:
        """Renew the leases of BE requests whose pods run, or are bound to a node and may still start.

        A pod that no node was given is not renewed: the scheduler lost the cluster between creating and binding it, nobody will bind
        it, and its request is placed anew when its lease ends. Nor is one that has not started within `LeaseSettings.start_s`, has run
        for longer than `run_s`, or is still there `gone_s` after its grace has ended, because its node is dead; nor one in a namespace that
        may not be seen any more.
        """
        if self._watch.age_s() > self._lease.silent_s:
            return  # nobody knows what runs; while the cluster counts as away its leases are not held against it
        aged = {
            namespace
            for namespace in {pod["metadata"].get("namespace", "") for pod in self._watch.pods()} - {self._kube.namespace, ""}
            if self._watch.age_s(namespace) > self._lease.silent_s
        }
        blind = {be_identity(pod) for pod in self._watch.pods() if pod["metadata"].get("namespace", "") in aged}
        waiting: dict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        now_s, since_s = self._clock.now_s(), dict[str, float]()
        given_up = {key for key, started_s in self._started.items() if now_s - started_s > self._lease.run_s}
        for pod in self._watch.pods():
            identity, uid = be_identity(pod), pod["metadata"]["uid"]
            if identity and (asked_s := going_since_s(pod)) is not None and now_s - asked_s > self._lease.gone_s:
                given_up.add(identity)
            if (
                identity in given_up
                or identity in blind
                or pod_class(pod) != "be"
                or not identity
                or is_over(pod)
                or identity in self._started
                or not pod["spec"].get("nodeName")
            ):
                continue
            since_s[uid] = self._waiting_since_s.get(uid, now_s)
            waited_s = now_s - since_s[uid]
            if waited_s <= self._lease.start_s:
                waiting[identity[0]][0].append(identity[1])
                waiting[identity[0]][1].append(identity[2])
            elif waited_s <= self._lease.start_s + self._lease.placement_s:  # said while its lease runs out, and not for ever
                log.warning("pod_does_not_start", cluster=self._cluster, pod=pod["metadata"]["name"], waited_s=round(waited_s))
        self._waiting_since_s = since_s
        for run_id, request_id, epoch in given_up - self._given_up:
            log.warning("pod_given_up", cluster=self._cluster, run=run_id, request=request_id, epoch=epoch)
        self._given_up = given_up
        running = [(*key, started_s) for key, started_s in self._started.items() if key not in given_up and key not in blind]

        def write() -> None:
            if running:
                self._stores.requests.mark_running(running, lease_s=self._lease.placement_s)
            for run_id, (ids, epochs) in waiting.items():
                self._stores.requests.renew(run_id, ids, epochs, lease_s=self._lease.placement_s)

        async with self._store_turn:
            await asyncio.to_thread(write)

    # ---- state ---------------------------------------------------------------------------------------------------------

    async def observe_here(self) -> None:
        """Write the present state of nodes and LC instances to the journal, by which the cluster's own workers dispatch.

        What it has, it is told again only after `TOLD_AGAIN_S`.
        """
        state = self._state()
        if state is not self._told_here or time.monotonic() - self._told_at_s >= TOLD_AGAIN_S:
            await self._tell_here(state)

    async def _tell_here(self, state: State) -> None:
        now_s = time.monotonic()
        await asyncio.to_thread(self._stores.journal.observe, *state)
        self._told_here, self._told_at_s = state, now_s

    async def observe(self) -> None:
        """Write the same to the centre, after the journal; with it a sample of the nodes, at most one every `sample_every_s`.

        What the centre has, it is told again only with a sample. A picture that is older than `LeaseSettings.silent_s`, because the API
        server is away, is not told as the present one: the centre hears only that the agent is there, and takes the cluster for away.
        """
        now_s, age_s = time.monotonic(), self._watch.age_s()
        if age_s > self._lease.silent_s:
            if self._is_to_be_sampled(now_s):
                # With a decimal: before the first answer the age is infinite, of which there is no whole number.
                log.warning("picture_too_old", cluster=self._cluster, age_s=round(age_s, 1))
                async with self._store_turn:
                    await asyncio.to_thread(self._stores.fleet.note_agent, self._cluster)
                self._sampled_at_s, self._told_centre = now_s, None
            return
        state = self._state()
        sample = self._is_to_be_sampled(now_s)
        if state is self._told_centre and not sample:
            return
        if state is not self._told_here:
            # First, so that whoever reads at the centre that an instance is ready can send it a request at once.
            with contextlib.suppress(StoreUnavailable, StoreError):  # `observe_here` says so; the centre is told all the same
                await self._tell_here(state)
        async with self._store_turn:
            nodes, instances = state
            await self._together.observe(Observation(cluster=self._cluster, nodes=nodes, instances=instances, sample=sample))
        self._told_centre = state
        if sample:
            self._sampled_at_s = now_s

    def _is_to_be_sampled(self, now_s: float) -> bool:
        """At multiples of the period, at which the other agents of the process are too."""
        every_s = self._kube.sample_every_s if self._stores.is_busy() else self._kube.sample_idle_s
        return every_s <= 0.0 or now_s + EARLY_S >= multiple_after(self._sampled_at_s, every_s)

    def _state(self) -> State:
        """The very same object for as long as neither watch nor usage has changed."""
        seen = self._watch.changes(), self._node_usage, self._services, self._instances.awaited, self._node_reports
        if self._seen is None or self._seen != seen:
            pods = self._watch.pods()
            adopted = self._watch.adopted()
            nodes = node_states(
                self._watch.nodes(),
                pods,
                self._node_usage,
                self._services,
                adopted,
                self._watch.others(),
                self._instances.awaited,
                self._node_reports,
            )
            self._last_state = nodes, instance_states(pods, nodes, self._services, adopted, name_of=self._watch.name_of)
            self._seen = seen
        return self._last_state

    async def read_usage(self) -> None:
        """Read the nodes' CPU and memory usage (metrics.k8s.io), for the next `observe`; as rarely while nothing is served."""
        now_s = time.monotonic()
        if self._stores.is_busy() or now_s - self._usage_read_at_s >= self._kube.sample_idle_s:
            self._node_usage = await self._watch.node_usage()
            self._usage_read_at_s = now_s

    async def measure(self) -> None:
        """Read what pods of services with a template, and adopted ones, use, and tell the centre. What it does not take is kept."""
        services = {s.name: s for s in self._services if s.template or s.adopt is not None}
        if not services:
            return
        usage = await self._watch.pod_usage()
        own = ((services.get(pod["metadata"]["labels"].get(SERVICE, "")), pod) for pod in self._watch.pods() if not is_over(pod))
        adopted = ((services.get(name), pod) for name, pods in self._watch.adopted().items() for pod in pods if not is_over(pod))
        found = [(service, pod) for service, pod in (*own, *adopted) if service is not None]
        self._meter.read(found, usage, time.monotonic(), await asyncio.to_thread(self._in_flight))
        taken = self._meter.take()
        try:
            async with self._store_turn:
                await asyncio.to_thread(self._stores.fleet.note_usage, self._cluster, taken)
        except (StoreUnavailable, StoreError):
            self._meter.give_back(taken)
            raise

    def _in_flight(self) -> dict[tuple[str, str], float] | None:
        """LC requests that the nodes here have, by (service, node), from whichever cluster they came; None before anything is known."""
        try:
            snapshot = self._stores.journal.snapshot(at_s=self._clock.now_s())
        except StoreUnavailable:
            return None
        rows = [row for row, key in enumerate(snapshot.node_keys) if key.cluster == self._cluster]
        return {
            (service.name, snapshot.nodes[row]): float(snapshot.in_flight[k, row])
            for k, service in enumerate(snapshot.services)
            for row in rows
        }

    async def read_reports(self) -> None:
        """Tell the centre what the agents of the nodes have reported since it was told last."""
        found = await self._watch.node_agent_reports()
        fresh = [report for report in found if report.node not in self._reported or self._reported[report.node][0].at != report.at]
        now_s = time.monotonic()
        self._reported |= {report.node: (report, now_s) for report in fresh}
        self._node_reports = {node: report for node, (report, came_s) in self._reported.items() if now_s - came_s < report.valid_s}
        if fresh:
            try:
                async with self._store_turn:
                    await asyncio.to_thread(self._stores.fleet.note_reports, self._cluster, fresh)
            except BaseException:
                for report in fresh:  # told again
                    del self._reported[report.node]
                raise

    # ---- LC instances --------------------------------------------------------------------------------------------------

    async def deploy(self) -> None:
        """Make LC instances agree with the declared services: create missing ones, delete those that ended or are no longer declared.

        The services are those that the centre last published; before it has published any, nothing is done. What the cluster refuses is
        noted and tried again after a pause, one instance first. Raises: the first other failure to create an instance, after everything
        else was done; the next call tries again. Where the watch has told nothing since a call
        that ended well, nothing is looked at before `DEPLOY_AGAIN_S`.
        """
        changes, now_s = self._watch.changes(), time.monotonic()
        if changes == self._deployed_at and now_s - self._deployed_at_s < DEPLOY_AGAIN_S:
            return
        services = await asyncio.to_thread(self._stores.journal.services)
        if not services:
            return
        if services != self._services:
            self._services = services
            self._namespaces.follow(services)
        start_is_over = await self._boost.end(services, now_s)
        if await self._instances.agree(services, now_s) and start_is_over:
            self._deployed_at, self._deployed_at_s = changes, now_s
