"""Runs one cluster's virtual kubelet as a process, in the foreground until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from tango.domain.fleet import Cluster, Fleet
from tango.domain.near_names import near_name
from tango.emulation.virtual_kubelet.kubelet import VirtualKubelet
from tango.emulation.virtual_kubelet.node_timeline import NodeTimeline
from tango.emulation.virtual_kubelet.pod_addresses import PodAddresses
from tango.errors import ConfigError, UsageError
from tango.fleets import load_fleet
from tango.kube.api_client import KubeClient
from tango.node_model import NodeModel
from tango.settings import KubeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualKubeletOptions:
    """Settings of a virtual kubelet: a cluster of a fleet, and the context of its API server."""

    kubeconfig: Path
    context: str
    fleet: str
    """Built-in name or YAML file."""
    cluster: str
    kube: KubeSettings = field(default_factory=KubeSettings)


def run_virtual_kubelet(options: VirtualKubeletOptions) -> None:
    """Run until SIGTERM or SIGINT.

    Raises: ConfigError on another system than Linux, where 127.0.0.0/8 is not all local, or for a wrong kubeconfig or fleet file;
    UsageError for an unknown fleet or cluster.
    """
    if sys.platform != "linux":
        raise ConfigError("the virtual kubelet gives pods loopback addresses of their own, which needs Linux")
    fleet = load_fleet(options.fleet, must_fit=False)
    known = {c.name: c for c in fleet.clusters}
    if options.cluster not in known:
        raise UsageError(
            f"fleet {fleet.name} has no cluster {options.cluster!r}{near_name(options.cluster, known)}; it has: {', '.join(known)}"
        )
    _load_node_model()
    uvloop.run(_run(options, fleet, known[options.cluster]))


async def _run(options: VirtualKubeletOptions, fleet: Fleet, cluster: Cluster) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopped.set)
    client = await KubeClient.from_kubeconfig(str(options.kubeconfig), options.context, options.kube, cluster=cluster.name)
    async with client:
        kubelet = VirtualKubelet(
            client,
            fleet,
            cluster,
            namespace=options.kube.namespace,
            timeline=NodeTimeline([n.cpu_millicores / 1000 for n in cluster.nodes], beta=fleet.beta, call_later=loop.call_later),
            addresses=PodAddresses(),
        )
        running = asyncio.create_task(kubelet.run())
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        # Read before the cancellation below, which would hide why the kubelet ended by itself.
        broken = running.exception() if running.done() else None
        stopping.cancel()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await running
        await kubelet.stop()
        if broken is not None:
            raise broken


def _load_node_model() -> None:
    """Call every compiled function of the node model once, so that numba compiles it or loads its cache before the nodes are ready.

    Later the compilation would block the loop for seconds, and with it every pod.
    """
    model = NodeModel([1.0], beta=0.1)
    row = model.add_instance(0, limit_cores=1.0, memory_mib=2.0, concurrency=1, at_s=0.0)
    for key in range(3):
        model.submit(0, row, key, 0.1, 1.0, 0.0)
    handle = model.submit(0, row, 3, 0.1, 1.0, 0.0)
    model.cancel(handle, at_s=0.0)
    model.add_pod(0, 4, weight=1.0, limit_cores=1.0, work_s=9.0, memory_mib=1.0, at_s=0.0)
    model.resize_pod(0, 4, weight=1.0, limit_cores=0.5, at_s=0.0)
    model.resize_instance(0, row, limit_cores=0.5, memory_mib=2.0, at_s=0.0)
    model.finished(1.0)
    model.remove_pod(0, 4, at_s=1.0)
    model.remove_instance(0, row, at_s=1.0)
