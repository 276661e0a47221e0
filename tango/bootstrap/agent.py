"""The process of cluster agents: it has the centre's stores, and of each of its clusters the API server and the journal.

It loads neither policies nor a broker's client.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog
import uvloop

from tango import progress
from tango.bootstrap.environment import read_settings
from tango.bootstrap.host_cpu import cpu_times
from tango.bootstrap.journals import journal_of
from tango.bootstrap.spans import spans_of
from tango.bootstrap.stores import Stores
from tango.control.be_tracing import BeTracing
from tango.control.centre_line import CentreLine
from tango.control.cluster_agent import AgentStores, ClusterAgent
from tango.control.following import Following
from tango.control.observed_together import GATHER_S, ObservedTogether
from tango.control.repeating import Repeating, RepeatingEach
from tango.control.watch_host import HostWatch
from tango.errors import StoreUnavailable, TangoError
from tango.kube.api_client import Connect, KubeClient
from tango.kube.cluster_watch import KubernetesWatch
from tango.kube.manifests import ClusterWays
from tango.ports.journal import Journal
from tango.ports.spans import NO_SPANS, Spans
from tango.settings import Settings
from tango.store.host_samples import PostgresHostSamples

log = structlog.get_logger(__name__)


def run_cluster_agents(clusters: Sequence[str]) -> None:
    """Run the agents of these clusters in the foreground until SIGTERM or SIGINT.

    An agent that ends by an error begins anew after a pause, and costs the others nothing. Raises: DependencyError without a stack.
    """
    settings = read_settings()
    here = Stores(settings, deadline_s=settings.journal.centre_within_s)
    spans = spans_of("agent", settings.tracing)
    lines = Lines(here, clusters)
    samples = PostgresHostSamples(here.database)
    watch = HostWatch(
        host=socket.gethostname(), read=cpu_times, is_busy=lines.is_any_busy, note=samples.note, every_s=settings.host.sample_s
    )
    watching = Repeating("host", watch.step)

    async def main() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        # Each agent has at most one call to the centre and a few to its journal under way. With fewer threads a centre that is silent
        # would hold all of them, and no agent could observe its cluster meanwhile.
        loop.set_default_executor(ThreadPoolExecutor(THREADS_FOR_EACH * len(clusters) + 2))
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stopped.set)
        lines.start()
        watching.start()
        with contextlib.suppress(StoreUnavailable):
            await asyncio.to_thread(samples.drop_old)
        progress.tell("agent")
        running = asyncio.gather(*(keep_running(cluster, here, lines, spans=spans) for cluster in clusters))
        await stopped.wait()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        watching.stop(within_s=1.0)
        lines.stop()
        await asyncio.to_thread(spans.close)

    uvloop.run(main())


THREADS_FOR_EACH = 4
"""Threads for each agent: one that waits for the centre, three for its journal."""
THREADS_OF_A_STEP = 4
"""Threads for each step over the lines of all clusters: so many clusters less one may keep a step hanging, each by its journal's disk or by
a lock at the centre, and the others go on. Chosen, not measured."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
"""Seconds before an agent that has ended begins anew; doubled each time that it ends soon, less a random part up to half."""


class Lines:
    """The lines of all clusters of this process to the centre: some threads for each thing that goes over them, so that a shipment which
    hangs delays no hand-over.

    Threads of their own, and not those of the event loop's pool: what waits for a line that swallows everything must not keep the agents
    from observing their clusters. Not three for each cluster, which cost a fifth of a core for fifty clusters that idle.
    """

    def __init__(self, here: Stores, clusters: Sequence[str]) -> None:
        self._here = here
        self._following = Following(here.shares, clusters)
        self._lines: dict[str, CentreLine] = {}
        self.together = ObservedTogether(here.fleet.observe_all, gather_s=GATHER_S if len(clusters) > 1 else 0.0)
        """By which the agents write what they see of their clusters."""
        threads = min(THREADS_OF_A_STEP, len(clusters))
        self._follow, self._publish, self._ship = self._steps = [
            RepeatingEach(name, threads=threads) for name in ("follow", "publish", "ship")
        ]

    def start(self) -> None:
        """Start the threads, which have nothing to do until a cluster is added."""
        for steps in self._steps:
            steps.start()

    def add(self, cluster: str, journal: Journal) -> None:
        """Begin with a cluster."""
        here = self._here
        line = CentreLine(
            cluster,
            shares=here.shares,
            tokens=here.tokens,
            live=here.live_runs,
            following=self._following,
            journal=journal,
            clock=here.clock,
            settings=here.settings.journal,
        )
        self._lines[cluster] = line
        for steps, step in ((self._follow, line.follow), (self._publish, line.publish), (self._ship, line.ship)):
            steps.add(cluster, step)

    def is_busy(self, cluster: str) -> bool:
        """Whether the cluster may have something to serve: a trace is being replayed, here or elsewhere, or callers send."""
        return self._following.is_open() or self._lines[cluster].is_busy()

    def is_any_busy(self) -> bool:
        """Whether one of them may."""
        return self._following.is_open() or any(line.is_busy() for line in list(self._lines.values()))

    def remove(self, cluster: str) -> None:
        """End with a cluster; what is under way ends by itself."""
        for steps in self._steps:
            steps.remove(cluster)

    def stop(self) -> None:
        """End all periodic steps, each within a second."""
        for steps in self._steps:
            steps.stop(within_s=1.0)


async def keep_running(
    cluster: str,
    here: Stores,
    lines: Lines,
    *,
    journal: Callable[[str, Settings], Journal] = journal_of,
    connect: Connect = KubeClient.from_kubeconfig,
    spans: Spans = NO_SPANS,
) -> None:
    """Run a cluster's agent for ever. What ends it is logged: a cluster that is not known yet may join, and a defect may pass.

    `journal` opens its journal, `connect` makes the client of its API server.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        began_s = time.monotonic()
        try:
            await _run_agent(cluster, here, lines, journal(cluster, here.settings), connect, spans)
        except TangoError as error:
            log.warning("agent_ended", cluster=cluster, error=str(error))
        except Exception:
            log.exception("agent_broken", cluster=cluster)
        if time.monotonic() - began_s > LONGEST_PAUSE_S:
            pause_s = FIRST_PAUSE_S
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def _run_agent(cluster: str, here: Stores, lines: Lines, journal: Journal, connect: Connect, spans: Spans) -> None:
    kube = here.settings.kube
    path, context = await asyncio.to_thread(_access, cluster, here, journal)
    lines.add(cluster, journal)
    try:
        async with await connect(path, context, kube, cluster=cluster) as client:
            of_agent = AgentStores(
                fleet=here.fleet,
                requests=here.requests,
                jobs=here.jobs,
                refusals=here.refusals,
                journal=journal,
                run_zero_s=here.run_facts.zero_s,
                is_busy=lambda: lines.is_busy(cluster),
                together=lines.together,
                tracing=BeTracing(spans, here.requests, here.run_facts.info) if spans.is_on else None,
            )
            watch = KubernetesWatch(client, namespace=kube.namespace, ways=ClusterWays.of(kube))
            await ClusterAgent(
                cluster, watch, of_agent, here.clock, kube=kube, lease=here.settings.lease, job=here.settings.job
            ).run()
    finally:
        lines.remove(cluster)
        journal.close()


def _access(cluster: str, here: Stores, journal: Journal) -> tuple[str, str]:
    """(kubeconfig path, context) by the centre; while that is away, as it was when the agent last began.

    Raises: UsageError for a cluster that the centre does not know; StoreUnavailable where neither can tell.
    """
    try:
        found = here.fleet.credentials(cluster)
    except StoreUnavailable:
        noted = journal.access()
        if noted is None:
            raise
        return noted
    journal.note_access(*found)
    return found
