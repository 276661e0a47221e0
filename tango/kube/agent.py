"""The cluster agent: one long-lived process per cluster that watches, records, settles, renews and keeps LC instances.

Everything that ends is settled in the store first and deleted in the cluster second, so that a restart between the two finds the
pod again and the settlement, which carries the epoch, counts nothing twice. While the store is away ends are kept; while the API
server is away the informers list again when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from tango.control.deploy_instances import plan_instances
from tango.control.observe_cluster import (
    be_identity,
    be_started_at_s,
    instance_states,
    is_over,
    node_states,
    outcome_of,
    pod_class,
    pod_end,
)
from tango.domain.identity import NodeKey
from tango.domain.observations import PodEnd
from tango.errors import ClusterError, ClusterUnavailable, Conflict, NotFound, StoreError, StoreUnavailable, UsageError
from tango.kube.api_client import JSON, KubeClient
from tango.kube.informer import Informer
from tango.kube.manifests import binding, lc_instance
from tango.ports import FleetStore, RequestStore
from tango.settings import KubeSettings, LeaseSettings

log = structlog.get_logger(__name__)

SETTLE_EVERY_S = 0.05
DEPLOY_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStores:
    """What the agent needs of the store."""

    fleet: FleetStore
    requests: RequestStore
    run_zero_s: Callable[[int], float]
    """Unix time of a run's zero. Raises: UsageError for a run that was deleted."""


class ClusterAgent:
    """Runs one cluster's loops until cancelled."""

    def __init__(self, cluster: str, client: KubeClient, stores: AgentStores, kube: KubeSettings, lease: LeaseSettings) -> None:
        self._cluster = cluster
        self._client = client
        self._stores = stores
        self._kube = kube
        self._lease = lease
        self._pods_path = f"/api/v1/namespaces/{kube.namespace}/pods"
        self._nodes = Informer(client, "/api/v1/nodes")
        self._pods = Informer(client, self._pods_path, on_event=self._on_pod, labelSelector="app.kubernetes.io/managed-by=tango")
        self._ended: dict[str, PodEnd] = {}
        """Ends to settle, by pod uid."""
        self._settled: dict[str, str] = {}
        """uid → pod name: settled, to be deleted."""
        self._started: dict[tuple[int, int, int], float] = {}
        """BE pods that run, with their start."""
        self._to_mark: set[tuple[int, int, int]] = set()
        self._node_usage: dict[str, JSON] = {}
        self._store_turn = asyncio.Lock()

    async def run(self) -> None:
        """Make the namespace, then run all loops side by side; the first that breaks ends the process, to be restarted."""
        await self._ensure_namespace()
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._nodes.run())
            loops.create_task(self._pods.run())
            await self._nodes.synced()
            await self._pods.synced()
            for loop, every_s in (
                (self._settle, SETTLE_EVERY_S),
                (self._delete_settled, SETTLE_EVERY_S),
                (self._observe, self._kube.observe_every_s),
                (self._renew, self._lease.placement_s / 3),
                (self._deploy, DEPLOY_EVERY_S),
                (self._read_usage, self._kube.sample_every_s),
            ):
                loops.create_task(self._repeat(loop, every_s))

    async def _repeat(self, step: Callable[[], object], every_s: float) -> None:
        while True:
            begin = time.monotonic()
            try:
                await step()  # type: ignore[misc]
            except (StoreUnavailable, StoreError, ClusterUnavailable, ClusterError) as error:
                log.warning("agent_step_failed", step=getattr(step, "__name__", "?"), cluster=self._cluster, error=str(error))
                await asyncio.sleep(min(2.0, every_s * 4))
            await asyncio.sleep(max(0.0, every_s - (time.monotonic() - begin)))

    async def _ensure_namespace(self) -> None:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._kube.namespace}}
        while True:
            try:
                with contextlib.suppress(Conflict):
                    await self._client.request("POST", "/api/v1/namespaces", body=body)
                return
            except ClusterUnavailable as error:
                log.warning("cluster_away", cluster=self._cluster, error=str(error))
                await asyncio.sleep(0.5)

    # ---- BE pods -------------------------------------------------------------------------------------------------------

    def _on_pod(self, kind: str, pod: JSON) -> None:
        if pod_class(pod) != "be":
            return
        identity, uid = be_identity(pod), pod["metadata"]["uid"]
        end = pod_end(pod, deleted=kind == "DELETED")
        if end is not None:
            if identity is not None:
                self._started.pop(identity, None)
                self._to_mark.discard(identity)
            if uid not in self._settled:
                self._ended.setdefault(uid, end)
            if kind == "DELETED":
                self._settled.pop(uid, None)
            return
        started_at_s = be_started_at_s(pod)
        if identity is not None and started_at_s is not None and identity not in self._started:
            self._started[identity] = started_at_s
            self._to_mark.add(identity)

    async def _settle(self) -> None:
        ended, marks = dict(self._ended), [(*key, self._started[key]) for key in self._to_mark if key in self._started]
        if not ended and not marks:
            return
        now_s = time.time()

        def write() -> None:
            # Starts first: a pod may have started and ended since the last round.
            if marks:
                self._stores.requests.mark_running(marks, lease_s=self._lease.placement_s)
            outcomes = []
            for end in ended.values():
                with contextlib.suppress(UsageError):  # the run was deleted: nothing is left to settle, the pod goes
                    outcomes.append(outcome_of(end, run_zero_s=self._stores.run_zero_s(end.run_id), now_s=now_s))
            if outcomes:
                self._stores.requests.settle(outcomes)

        async with self._store_turn:
            await asyncio.to_thread(write)
        self._to_mark.difference_update(mark[:3] for mark in marks)
        for uid, end in ended.items():
            self._ended.pop(uid, None)
            if end.phase != "Deleted":
                self._settled[uid] = end.pod

    async def _delete_settled(self) -> None:
        async def delete(uid: str, pod: str) -> None:
            body = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
            with contextlib.suppress(NotFound, Conflict):
                await self._client.request("DELETE", f"{self._pods_path}/{pod}", body=body)
            self._settled.pop(uid, None)

        settled = list(self._settled.items())
        if settled:
            await asyncio.gather(*(delete(uid, pod) for uid, pod in settled))

    async def _renew(self) -> None:
        # Pods that are bound and wait to start hold their request as well as those that run.
        running = [(*key, started) for key, started in self._started.items()]
        waiting: dict[int, tuple[list[int], list[int]]] = {}
        for pod in self._pods.objects.values():
            identity = be_identity(pod)
            if pod_class(pod) == "be" and identity and not is_over(pod) and identity not in self._started:
                ids, epochs = waiting.setdefault(identity[0], ([], []))
                ids.append(identity[1])
                epochs.append(identity[2])

        def write() -> None:
            if running:
                self._stores.requests.mark_running(running, lease_s=self._lease.placement_s)
            for run_id, (ids, epochs) in waiting.items():
                self._stores.requests.renew(run_id, ids, epochs, lease_s=self._lease.placement_s)

        async with self._store_turn:
            await asyncio.to_thread(write)

    # ---- state ---------------------------------------------------------------------------------------------------------

    async def _observe(self) -> None:
        now_s = time.monotonic()
        sample = now_s - getattr(self, "_sampled_at_s", -1e9) >= self._kube.sample_every_s
        pods = list(self._pods.objects.values())
        nodes = node_states(self._nodes.objects.values(), pods, self._node_usage)
        instances = instance_states(pods, {n.name for n in nodes if n.ready})
        async with self._store_turn:
            await asyncio.to_thread(self._stores.fleet.observe, self._cluster, nodes, instances, sample=sample)
        if sample:
            self._sampled_at_s = now_s

    async def _read_usage(self) -> None:
        try:
            found = await self._client.request("GET", "/apis/metrics.k8s.io/v1beta1/nodes")
        except NotFound:
            return  # no metrics server in this cluster: usage stays unknown
        self._node_usage = {item["metadata"]["name"]: item["usage"] for item in found.get("items") or []}

    # ---- LC instances --------------------------------------------------------------------------------------------------

    async def _deploy(self) -> None:
        async with self._store_turn:
            services = await asyncio.to_thread(self._stores.fleet.services)
        pods = self._pods.objects
        existing = {name for name, pod in pods.items() if pod_class(pod) == "lc" and not is_over(pod)}
        nodes = node_states(self._nodes.objects.values(), (), {})
        plan = plan_instances(services, {n.name for n in nodes if n.ready}, set(self._nodes.objects), existing)
        for name in (n for n, pod in pods.items() if pod_class(pod) == "lc" and is_over(pod)):
            with contextlib.suppress(NotFound):
                await self._client.request("DELETE", f"{self._pods_path}/{name}", query={"gracePeriodSeconds": "0"})
        created = await asyncio.gather(
            *(self._create_instance(lc_instance(s, NodeKey(self._cluster, node), k), node) for s, node, k in plan.create),
            return_exceptions=True,
        )
        for name in plan.remove:
            with contextlib.suppress(NotFound):
                await self._client.request("DELETE", f"{self._pods_path}/{name}")
        unbound = [pod for pod in pods.values() if pod_class(pod) == "lc" and not pod["spec"].get("nodeName")]
        for pod in unbound:  # made by an agent that died before it could bind them
            await self._bind(pod, self._node_of(pod["metadata"]["name"], set(self._nodes.objects)))
        failed = [f for f in created if isinstance(f, BaseException)]
        if plan.create or plan.remove:
            log.info("instances_deployed", cluster=self._cluster, created=len(created) - len(failed), removed=len(plan.remove))
        if failed:
            raise failed[0]

    async def _create_instance(self, manifest: JSON, node: str) -> None:
        try:
            pod = await self._client.request("POST", self._pods_path, body=manifest)
        except Conflict:
            return  # it is there already: the informer is about to say so
        await self._bind(pod, node)

    async def _bind(self, pod: JSON, node: str | None) -> None:
        if node is None:
            return
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        with contextlib.suppress(Conflict, NotFound):
            await self._client.request("POST", f"{self._pods_path}/{name}/binding", body=binding(name, uid, node))

    @staticmethod
    def _node_of(pod: str, nodes: set[str]) -> str | None:
        stem = pod.rsplit("-", 1)[0]
        fitting = [node for node in nodes if stem.endswith(f"-{node}")]
        return max(fitting, key=len) if fitting else None
