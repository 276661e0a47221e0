"""Runs the virtual kubelets of some clusters in one process, in the foreground until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import uvloop

from tango import progress
from tango.domain.fleet import Cluster, Fleet, RunPods
from tango.domain.near_names import near_name
from tango.emulation.virtual_kubelet.kubelet import VirtualKubelet
from tango.emulation.virtual_kubelet.node_timeline import NodeTimeline
from tango.emulation.virtual_kubelet.pod_addresses import PodAddresses
from tango.emulation.virtual_kubelet.process_host import ProcessHost
from tango.errors import ConfigError, UsageError
from tango.fleets import load_fleet
from tango.kube.api_client import KubeClient
from tango.node_model import warm_up
from tango.node_model.interference import traits_of
from tango.settings import KubeSettings
from tango.telemetry.loops import watch_lag

log = structlog.get_logger(__name__)

NICENESS = -5
"""nice(2) of a process that models nodes, where it may set it: nodes have CPUs of their own. Under overload it got an eighth of two cores,
as much as each process of Tango, and let connections wait for seconds. It needs a fifth of one core at 2,000 requests a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualKubeletOptions:
    """Settings of virtual kubelets: clusters of a fleet, and the contexts of their API servers."""

    kubeconfig: Path
    fleet: str
    """Built-in name or YAML file."""
    contexts: Mapping[str, str]
    """Context of the kubeconfig by cluster."""
    pods_dirs: Mapping[str, Path] = field(default_factory=dict)
    """By cluster: folder for logs and files of pods that run as local processes, read by its API server too."""
    kube: KubeSettings = field(default_factory=KubeSettings)
    call_key: str = field(default="", repr=False)
    """What workers sign requests with; empty: instances serve whoever reaches them."""


def run_virtual_kubelets(options: VirtualKubeletOptions) -> None:
    """Run until SIGTERM or SIGINT. A kubelet that ends by an error ends the others with it.

    Raises: ConfigError on another system than Linux, where 127.0.0.0/8 is not all local, or for a wrong kubeconfig or fleet file;
    UsageError for an unknown fleet or cluster.
    """
    if sys.platform != "linux":
        raise ConfigError("the virtual kubelet gives pods loopback addresses of their own, which needs Linux")
    fleet = load_fleet(options.fleet, must_fit=False)
    known = {c.name: c for c in fleet.clusters}
    for name in options.contexts:
        if name not in known:
            raise UsageError(f"fleet {fleet.name} has no cluster {name!r}{near_name(name, known)}; it has: {', '.join(known)}")
        if fleet.run is RunPods.PROCESSES and name not in options.pods_dirs:
            raise ConfigError(f"fleet {fleet.name} runs pods as processes, expected a folder for the pods of cluster {name!r}")
    warm_up()  # later the compilation would block the loop for seconds, and with it every pod
    if fleet.run is RunPods.MODEL:
        _go_first()
    uvloop.run(_run_all(options, fleet, [known[name] for name in options.contexts]))


async def _run_all(options: VirtualKubeletOptions, fleet: Fleet, clusters: Sequence[Cluster]) -> None:
    progress.follow(asyncio.get_running_loop())
    watch_lag(asyncio.get_running_loop(), "kubelet")
    progress.tell("kubelet")
    addresses = PodAddresses()
    running = asyncio.gather(*(_run(options, fleet, cluster, addresses) for cluster in clusters))
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def _run(options: VirtualKubeletOptions, fleet: Fleet, cluster: Cluster, addresses: PodAddresses) -> None:
    """Run one cluster's kubelet until cancelled."""
    loop = asyncio.get_running_loop()
    path, context = str(options.kubeconfig), options.contexts[cluster.name]
    async with await KubeClient.from_kubeconfig(path, context, options.kube, cluster=cluster.name) as client:
        kubelet = VirtualKubelet(
            client,
            fleet,
            cluster,
            # Pods of others too: they take room on the nodes, and as processes services may adopt them.
            namespace="",
            timeline=NodeTimeline(
                [n.cpu_millicores / 1000 for n in cluster.nodes],
                beta=fleet.beta,
                call_later=loop.call_later,
                traits=traits_of(fleet.services, fleet.interference),
            ),
            addresses=addresses,
            processes=_processes(options, fleet, cluster.name, addresses),
            call_key=options.call_key,
        )
        try:
            await kubelet.run()
        finally:
            await kubelet.stop()


def _processes(options: VirtualKubeletOptions, fleet: Fleet, cluster: str, addresses: PodAddresses) -> ProcessHost | None:
    if fleet.run is not RunPods.PROCESSES:
        return None
    return ProcessHost(cluster, folder=Path(fleet.process_folder or "/"), pods=options.pods_dirs[cluster], addresses=addresses)


def _go_first() -> None:
    """Take precedence of the other processes of this host, as far as the system lets us: root may, others may not."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        # Where the kernel shares CPU among sessions first, it is the session's niceness that counts, and this process has its own.
        Path("/proc/self/autogroup").write_text(str(NICENESS), encoding="utf-8")
    except OSError as error:
        log.info("kubelet_has_usual_priority", reason=str(error))
