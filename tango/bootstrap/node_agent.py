"""The process of a node agent: the watch of its node's pods, the looks at the kernel, the reports.

It loads neither stores nor policies: it runs on every node, beside the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import math
import os
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from tango import progress
from tango.bootstrap.environment import read_settings
from tango.cgroups.groups import Hierarchy
from tango.domain.pod_marks import CLASS
from tango.errors import ClusterError, ClusterUnavailable, ConfigError, Conflict, FileUnusable, NotFound
from tango.files import made_folder, usable, write_whole
from tango.kube.api_client import MERGE_PATCH, KubeClient
from tango.kube.credentials import current_context
from tango.kube.informer import Informer
from tango.kube.service_account import CONTEXT, service_account_kubeconfig
from tango.node_agent.agent import NodeAgent
from tango.node_agent.lease import lease, lease_name, leases_path
from tango.node_agent.ledger import Ledger, Setting
from tango.node_agent.reports import NodeReport
from tango.settings import Settings

log = structlog.get_logger(__name__)

BETWEEN_LOOKS_S = 0.05
"""Seconds that pods which change together, as when an instance is rolled out, are waited for, so that they cost one look."""
OLD_AFTER_REPORTS = 4
"""Reports that may be missed before the last one counts as old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAgentOptions:
    """What the command line says."""

    node: str
    """Name of the node at the API server."""
    namespaces: tuple[str, ...]
    """Whose pods are watched; the first one is Tango's own, where reports go. Empty: that alone, as the settings have it."""
    cgroup_root: Path
    """Where the node's control groups are mounted."""
    state: Path
    """File of what was found before the agent; of another boot it counts for nothing."""
    kubeconfig: str
    """Path; empty: the service account of the pod that this is."""
    context: str
    """Of the kubeconfig; empty: its current one."""


def run_node_agent(options: NodeAgentOptions) -> None:
    """Run in the foreground until SIGTERM or SIGINT, then put back what was found.

    Raises: ConfigError where it may not write control groups, or another one runs; FileUnusable for its file.
    """
    settings = read_settings()
    hierarchy = Hierarchy.mounted(options.cgroup_root)
    hierarchy.check_writable()
    made_folder(options.state.parent, mode=0o755)
    # Accounts of pods stay open, half a dozen files each; many systems give 1,024 to a process that does not ask for more.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with _alone(options.state):
        ledger = Ledger(hierarchy, options.state)
        agent = NodeAgent(hierarchy, ledger, settings.node_agent, cpu_millicores=(os.cpu_count() or 1) * 1000, clock=time.monotonic)
        log.info("node_agent_started", node=options.node, cgroup_version=hierarchy.version, taken_over=ledger.taken_over)
        progress.tell("node-agent")
        try:
            asyncio.run(_run(agent, options, settings))
        finally:
            restored = agent.restore()
            log.info("node_agent_stopped", node=options.node, restored=len(restored), refused=_refused(restored))


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Raises: ConfigError while another agent has the same file: two would each take the other's writes for a stranger's."""
    lock = state.with_name(f"{state.name}.lock")
    with usable(lock):
        file = lock.open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another node agent runs with {state}; end it first, or name another file with --state") from None
        yield


async def _run(agent: NodeAgent, options: NodeAgentOptions, settings: Settings) -> None:
    stopped = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    async with await _client(options, settings) as client:
        of_node = _OfNode(agent, client, options, settings)
        serving = asyncio.ensure_future(of_node.serve())
        stopping = asyncio.ensure_future(stopped.wait())
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def _client(options: NodeAgentOptions, settings: Settings) -> KubeClient:
    if options.kubeconfig:
        context = options.context or current_context(options.kubeconfig)
        return await KubeClient.from_kubeconfig(options.kubeconfig, context, settings.kube)
    # Beside the state, where it may be written for certain; it has no secret in it.
    kubeconfig = options.state.with_name(f"{options.state.name}.kubeconfig")
    write_whole(kubeconfig, service_account_kubeconfig(os.environ))
    return await KubeClient.from_kubeconfig(str(kubeconfig), CONTEXT, settings.kube, cluster="this cluster")


class _OfNode:
    """One agent with its watches and its reports. Everything happens on one loop: a look takes milliseconds."""

    def __init__(self, agent: NodeAgent, client: KubeClient, options: NodeAgentOptions, settings: Settings) -> None:
        self._agent = agent
        self._client = client
        self._options = options
        self._settings = settings.node_agent
        self._namespaces = options.namespaces or (settings.kube.namespace,)
        self._informers = [
            Informer(
                client,
                f"/api/v1/namespaces/{namespace}/pods",
                on_event=self._on_pod,
                fieldSelector=f"spec.nodeName={options.node}",
                labelSelector=CLASS,
            )
            for namespace in self._namespaces
        ]
        self._changed = asyncio.Event()
        self._looked = asyncio.Event()

    async def serve(self) -> None:
        """Watch, decide and report until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for informer in self._informers:
                tasks.create_task(informer.run())
            for informer in self._informers:
                await informer.synced()
            self._tell(self._agent.seen_all())
            progress.reached("ready", within_s=math.inf)
            tasks.create_task(self._look())
            tasks.create_task(self._report())

    def _on_pod(self, kind: str, pod: dict[str, Any]) -> None:
        try:
            self._tell(self._agent.gone(pod["metadata"]["uid"]) if kind == "DELETED" else self._agent.see(pod))
        except FileUnusable as error:
            log.error("nothing_set", pod=pod["metadata"]["name"], error=str(error))
        if self._agent.next_look_s == 0.0:
            self._changed.set()

    def _tell(self, settings: list[Setting]) -> None:
        for one in settings:
            log.info(
                "set", group=one.path, knob=one.knob.value, wanted=one.wanted, effective=one.effective, refused=one.refused or None
            )

    async def _look(self) -> None:
        while True:
            progress.turned("look")
            share, mark = self._agent.restraint.cpu_share, self._agent.restraint.memory_bytes
            try:
                self._agent.step()
                self._looked.set()
            except FileUnusable as error:
                log.error("nothing_set", error=str(error))
            now = self._agent.restraint
            if (now.cpu_share, now.memory_bytes) != (share, mark):
                log.info("be_restrained", cpu_share=round(now.cpu_share, 3), memory_bytes=now.memory_bytes)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._agent.next_look_s or self._settings.tick_s)
                await asyncio.sleep(BETWEEN_LOOKS_S)
            self._changed.clear()

    async def _report(self) -> None:
        await self._looked.wait()
        while True:
            progress.turned("report")
            try:
                await self._renew(self._agent.report())
            except FileUnusable as error:
                log.error("nothing_set", error=str(error))
            except (ClusterError, ClusterUnavailable) as error:
                log.warning("report_not_sent", node=self._options.node, error=str(error))
            await asyncio.sleep(self._settings.report_s)

    async def _renew(self, report: NodeReport) -> None:
        node, namespace = self._options.node, self._namespaces[0]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body = lease(node, namespace, report, now=now, seconds=int(OLD_AFTER_REPORTS * self._settings.report_s) or 1)
        path = leases_path(namespace)
        try:
            await self._client.request("PATCH", f"{path}/{lease_name(node)}", body=body, content_type=MERGE_PATCH)
        except NotFound:
            with contextlib.suppress(Conflict):
                await self._client.request("POST", path, body=body)


def _refused(settings: list[Setting]) -> int:
    return sum(1 for one in settings if one.refused)
