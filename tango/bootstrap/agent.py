"""The cluster agent's process."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import uvloop

from tango.bootstrap.world import world
from tango.kube.agent import AgentStores, ClusterAgent
from tango.kube.api_client import KubeClient


def run_cluster_agent(cluster: str) -> None:
    """Run a cluster's agent in the foreground until SIGTERM or SIGINT."""
    found = world()

    async def main() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stopped.set)
        path, context = found.fleet.credentials(cluster)
        async with await KubeClient.from_kubeconfig(path, context, found.settings.kube, cluster=cluster) as client:
            stores = AgentStores(fleet=found.fleet, requests=found.requests, run_zero_s=found.run_zero_s)
            agent = ClusterAgent(cluster, client, stores, found.settings.kube, found.settings.lease)
            running = asyncio.create_task(agent.run())
            stopping = asyncio.create_task(stopped.wait())
            await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    uvloop.run(main())
