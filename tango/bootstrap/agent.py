"""The process of a cluster agent: it has stores and one cluster, but neither policies nor a broker."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import uvloop

from tango.bootstrap.stores import stores
from tango.control.cluster_agent import AgentStores, ClusterAgent
from tango.kube.api_client import KubeClient
from tango.kube.cluster_watch import KubernetesWatch


def run_cluster_agent(cluster: str) -> None:
    """Run a cluster's agent in the foreground until SIGTERM or SIGINT.

    Raises: UsageError for an unknown cluster, DependencyError without a stack; what `ClusterAgent.run` raises.
    """
    here = stores()
    kube = here.settings.kube

    async def main() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stopped.set)
        path, context = here.fleet.credentials(cluster)
        async with await KubeClient.from_kubeconfig(path, context, kube, cluster=cluster) as client:
            of_agent = AgentStores(fleet=here.fleet, requests=here.requests, run_zero_s=here.run_facts.zero_s)
            watch = KubernetesWatch(client, namespace=kube.namespace)
            agent = ClusterAgent(cluster, watch, of_agent, here.clock, kube, here.settings.lease)
            running = asyncio.create_task(agent.run())
            stopping = asyncio.create_task(stopped.wait())
            await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    uvloop.run(main())
