"""`tango bench placement`: BE pods that Tango creates and binds a second, beside a bare loop of the same calls on the same server.

    pending_be ─► snapshot ─► torch policy ─► record_placement ─► create and bind     Tango: `BePlacement.tick`
                                                                  create and bind     the loop: same manifests, same client

Both sides take turns in every round, so that a machine that changes its speed changes it for both. The server is an embedded one, started
for this, or that of a kubeconfig; there pods go to its real nodes, in a namespace of their own, and are deleted after each turn. No agent
runs: the nodes are read once, and what a turn has placed is settled when its pods are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from tango.bench.figures import Figure, Told
from tango.bench.waiting import wait_until
from tango.bootstrap.environment import configure_logging
from tango.bootstrap.scheduler import Scheduler
from tango.bootstrap.stores import Stores
from tango.control.observe_cluster import is_over, node_states
from tango.domain.fleet import Cluster, Fleet, Node
from tango.domain.lifecycle import Event, Outcome
from tango.domain.observations import NodeState
from tango.domain.pod_marks import MANAGED_BY
from tango.domain.requests import Batch
from tango.domain.runs import NewRequests, NewRun, Placement
from tango.domain.services import Service, ServiceClass
from tango.errors import ClusterError, ConfigError, Conflict, DependencyError, NotFound, TangoError
from tango.kube.api_client import KubeClient
from tango.kube.credentials import current_context
from tango.kube.manifests import ClusterWays, be_pod, binding
from tango.ports.figures import FiguresClaim
from tango.ports.requests import Dispatched
from tango.settings import KubeSettings, Settings
from tango.stack.kubeconfig import ClusterAccess, kubeconfig, token_file
from tango.stack.postgres import PostgresServer
from tango.store.roles import APP, DATABASE, OWNER, grant_defaults, prepare_database
from tango.store.schema import bring_up_to_date

CLUSTER = "bench"
EMBEDDED_NAMESPACE = "tango"
SERVICE = Service(
    name="bench-be",
    service_class=ServiceClass.BE,
    cpu_work_s=1e6,  # on real nodes pods must still be there when the turn ends
    memory_mib=16,
    cpu_request_millicores=10,
    cpu_limit_millicores=100,
)
"""Small, so that room is never what a turn waits for."""
EMBEDDED_NODE = {"cpu": "64", "memory": "256Gi", "pods": "250"}
UNPACED = 1e6
"""Calls a second of the loop and of what cleans up: no bound."""
STALLED_S = 60.0
"""Seconds without a pod placed after which a turn is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """What one turn of Tango took, in seconds."""

    whole_s: float
    snapshot_s: float
    """Reading what waits, and the fleet."""
    decide_s: float
    record_s: float
    policies: tuple[str, ...]
    notes: tuple[str, ...]
    """Why a fallback decided, where one did."""


def measure(
    *,
    pods: int = 1000,
    nodes: int = 20,
    rounds: int = 3,
    kubeconfig_path: Path | None = None,
    context: str = "",
    namespace: str = "tango-bench",
    told: Told = lambda _: None,
) -> list[Figure]:
    """Pods a second on both sides (medians of the rounds) and where Tango's time goes; `nodes` of an embedded server alone.

    Raises: ConfigError for a kubeconfig that cannot be read, a namespace that is there already, or a cluster without room for `pods`;
    ClusterError in the server's words for what it does not allow.
    """
    if not structlog.is_configured():
        configure_logging(logging.WARNING)  # to standard error, and not among results
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder, contextlib.ExitStack() as ends:
        if kubeconfig_path is None:
            told(f"an embedded API server with {nodes} nodes")
            path, context, namespace = ends.enter_context(_embedded(Path(folder), nodes)), CLUSTER, EMBEDDED_NAMESPACE
        else:
            path, context = kubeconfig_path, context or current_context(str(kubeconfig_path))
        site = ends.enter_context(_Site.opened(path, context, namespace, make_namespace=kubeconfig_path is not None))
        states = site.nodes(pods)
        told(f"{pods} pods on {len(states)} nodes, {rounds} rounds")
        with _scheduler(Path(folder), site, states) as (here, scheduler):
            _tango_turn(here, scheduler, site, states, min(pods, 100))  # torch, connections and compiled policies are there then
            loops, turns = list[float](), list[_Turn]()
            for k in range(rounds):
                loops.append(site.loop([state.name for state in states], pods))
                turns.append(_tango_turn(here, scheduler, site, states, pods))
                told(f"round {k + 1}: loop {pods / loops[-1]:.0f}/s, Tango {pods / turns[-1].whole_s:.0f}/s")
    return _figures(pods, len(states), loops, turns)


def _figures(pods: int, nodes: int, loops: Sequence[float], turns: Sequence[_Turn]) -> list[Figure]:
    policies = ", ".join(sorted({policy for turn in turns for policy in turn.policies}))
    notes = sorted({note for turn in turns for note in turn.notes})
    of = f"{pods} pods, {nodes} nodes, decided by {policies}" + (f" ({'; '.join(notes)})" if notes else "")
    rates = [pods / turn.whole_s for turn in turns]
    found = [
        Figure(
            name=f"pods created and bound ({of})",
            value=statistics.median(rates),
            unit="1/s",
            yardstick="create and bind calls alone",
            yardstick_value=statistics.median([pods / loop_s for loop_s in loops]),
        )
    ]
    parts = {
        "reading what waits and the fleet": [t.snapshot_s for t in turns],
        "decision": [t.decide_s for t in turns],
        "recording": [t.record_s for t in turns],
        "calls, and waits for the next tick": [t.whole_s - t.snapshot_s - t.decide_s - t.record_s for t in turns],
    }
    return [
        *found,
        *(
            Figure(name=f"of a pod: {name}", value=1e3 * statistics.median(took_s) / pods, unit="ms")
            for name, took_s in parts.items()
        ),
    ]


# ---- Tango's side ------------------------------------------------------------------------------------------------------


def _tango_turn(here: Stores, scheduler: Scheduler, site: _Site, states: Sequence[NodeState], pods: int) -> _Turn:
    """Let the scheduler place a run of so many requests, tick by tick as beat asks it to; then take all of it away."""
    run_id = _waiting(here, pods)
    [(decisions,)] = here.database.rows("SELECT coalesce(max(decision_id), 0) FROM decision")
    placed, began_s = 0, time.perf_counter()
    progressed_s = began_s
    while placed < pods:
        here.fleet.observe(CLUSTER, states, [], sample=False)  # as its agent, which is heard of every few seconds
        tick_s = time.perf_counter()
        done = scheduler.placement.tick()["placed"]
        placed += done
        now_s = time.perf_counter()
        progressed_s = now_s if done else progressed_s
        if now_s - progressed_s > STALLED_S:
            raise DependencyError(f"{placed} of {pods} pods are placed, and no further one for {STALLED_S:g} s: {_refusals(here)}")
        if placed < pods:
            time.sleep(max(0.0, here.settings.be.tick_s - (now_s - tick_s)))
    whole_s = time.perf_counter() - began_s
    rows = here.database.rows(
        "SELECT snapshot_ms, decide_ms, apply_ms, policy, note FROM decision WHERE kind = 'be' AND decision_id > %s", (decisions,)
    )
    site.clear()
    _settle(here, run_id)
    return _Turn(
        whole_s=whole_s,
        snapshot_s=sum(row[0] for row in rows) / 1e3,
        decide_s=sum(row[1] for row in rows) / 1e3,
        record_s=sum(row[2] for row in rows) / 1e3,
        policies=tuple(sorted({row[3] for row in rows})),
        notes=tuple(sorted({row[4] for row in rows if row[4]})),
    )


def _waiting(here: Stores, pods: int) -> int:
    """A run whose requests all wait for the centre."""
    run = NewRun(
        name=f"placement {secrets.token_hex(3)}",
        system="tango",
        fleet=CLUSTER,
        fleet_hash="",
        seed=1,
        speed=1.0,
        reassure=False,
        trace_source="tango bench placement",
        span_s=0.0,
    )
    requests = NewRequests(
        due_s=np.zeros(pods),
        target_s=np.full(pods, np.nan),
        service_class=np.full(pods, int(ServiceClass.BE), np.int8),
        service=np.zeros(pods, np.int32),
        cluster=np.zeros(pods, np.int32),
        cpu_work_s=np.full(pods, SERVICE.cpu_work_s),
        memory_mib=np.full(pods, float(SERVICE.memory_mib)),
        services=(SERVICE.name,),
        clusters=(CLUSTER,),
    )
    run_id = here.runs.create_run(run, requests)
    here.runs.begin(run_id, at_s=here.clock.now_s())
    here.requests.release_due(run_id, until_s=1.0, limit=pods)
    here.requests.admit_be(run_id, range(pods), most_memory_mib={SERVICE.name: float(SERVICE.memory_mib)})
    return run_id


def _settle(here: Stores, run_id: int) -> None:
    rows = here.database.rows("SELECT request_id, epoch FROM request WHERE run_id = %s", (run_id,))
    ends = [
        Outcome(run_id=run_id, request_id=request_id, epoch=epoch, event=Event.SUCCEED, started_s=0.0, finished_s=0.1)
        for request_id, epoch in rows
    ]
    here.requests.settle(ends)


def _refusals(here: Stores) -> str:
    return "; ".join(map(str, here.refusals.pauses().states)) or "see the log"


class _NoPublisher:
    """A publisher that sends nothing: this benchmark has no broker."""

    def arrivals(self, batches: Sequence[Batch]) -> None:
        """Nobody."""

    def executions(self, run_id: int, cluster: str, dispatched: Dispatched) -> None:
        """Nobody."""

    def replay(self, run_id: int) -> None:
        """Nobody."""

    def simulations(self, run_ids: Sequence[int]) -> None:
        """Nobody."""


def _no_figures(claim: FiguresClaim) -> Any:
    raise TangoError(f"run {claim.run_id} of a benchmark has figures ordered, which nothing here asks for")


@contextmanager
def _scheduler(folder: Path, site: _Site, states: Sequence[NodeState]) -> Iterator[tuple[Stores, Scheduler]]:
    """The scheduler of a centre of its own, which knows the one cluster."""
    with _database(folder) as url:
        settings = Settings(database_url=url, broker_url="none", kube=dataclasses.replace(KubeSettings(), namespace=site.namespace))
        here = Stores(settings)
        nodes = tuple(
            Node(
                name=s.name,
                cpu_millicores=s.cpu_allocatable_millicores,
                memory_mib=s.memory_allocatable_mib,
                pods=s.pods_allocatable,
            )
            for s in states
        )
        fleet = Fleet(name=CLUSTER, clusters=(Cluster(name=CLUSTER, nodes=nodes),), services=(SERVICE,))
        here.fleet.declare(fleet, kubeconfig=str(site.path), contexts={CLUSTER: site.context})
        scheduler = Scheduler(here, _NoPublisher(), _no_figures)
        try:
            scheduler.warm_up()
            yield here, scheduler
        finally:
            scheduler.close()
            here.database.close()


@contextmanager
def _database(folder: Path) -> Iterator[str]:
    home = folder / "postgres"
    home.mkdir(mode=0o700)
    server = PostgresServer(home, password=secrets.token_urlsafe(16))
    try:
        server.start()
        words = [secrets.token_urlsafe(16) for _ in range(3)]
        prepare_database(server.admin_url(), owner_password=words[0], app_password=words[1], reader_password=words[2])
        grant_defaults(server.admin_url(DATABASE))
        bring_up_to_date(server.url(OWNER, words[0]))
        yield server.url(APP, words[1])
    finally:
        server.stop()
        server.discard()


# ---- the cluster, and the bare loop ------------------------------------------------------------------------------------


class _Site:
    """One cluster, with a client whose calls nothing paces."""

    def __init__(self, path: Path, context: str, namespace: str, runner: asyncio.Runner, client: KubeClient) -> None:
        self.path, self.context, self.namespace = path, context, namespace
        self._runner, self._client = runner, client
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._turns = 0

    @classmethod
    @contextmanager
    def opened(cls, path: Path, context: str, namespace: str, *, make_namespace: bool) -> Iterator[_Site]:
        """The namespace is made, and deleted at the end. Raises: ConfigError where it is there already: what is in it may be of use."""
        settings = dataclasses.replace(KubeSettings(), namespace=namespace, calls_per_s=UNPACED, calls_at_once=int(UNPACED))
        with asyncio.Runner() as runner:
            client = runner.run(KubeClient.from_kubeconfig(str(path), context, settings, cluster=CLUSTER))
            site = cls(path, context, namespace, runner, client)
            try:
                try:
                    runner.run(client.request("POST", "/api/v1/namespaces", body={"metadata": {"name": namespace}}))
                except Conflict as error:
                    if make_namespace:
                        raise ConfigError(f"namespace {namespace!r} is there already; name one that is not: --namespace") from error
                yield site
                site.clear()
            finally:
                if make_namespace:
                    with contextlib.suppress(ClusterError):
                        runner.run(client.request("DELETE", f"/api/v1/namespaces/{namespace}"))
                runner.run(client.close())

    def nodes(self, pods: int) -> list[NodeState]:
        """Those that take pods, with what others hold. Raises: ConfigError where they have no room for so many."""

        async def listed() -> tuple[list[Any], list[Any]]:
            found, _ = await self._client.list("/api/v1/nodes")
            there, _ = await self._client.list("/api/v1/pods")
            return found, [pod for pod in there if pod["spec"].get("nodeName") and not is_over(pod)]

        found, others = self._runner.run(listed())
        states = [s for s in node_states(found, [], {}, (SERVICE,), others=others) if s.ready and s.schedulable]
        most = sum(
            min(
                s.pods_allocatable - s.other_pods,
                (s.cpu_allocatable_millicores - s.other_cpu_request_millicores) // SERVICE.cpu_request_millicores,
                (s.memory_allocatable_mib - s.other_memory_held_mib) // SERVICE.memory_mib,
            )
            for s in states
        )
        if most < pods:
            raise ConfigError(
                f"the nodes that take pods have room for {most}, {pods} are wanted; give fewer: --pods {max(1, most)}"
            )
        return states

    def loop(self, nodes: Sequence[str], pods: int) -> float:
        """Seconds for so many pods, created and bound by calls alone, as many at once as Tango makes; they are deleted afterwards."""
        self._turns += 1
        ways = ClusterWays.of(KubeSettings())
        placements = [
            Placement(
                run_id=1_000_000 + self._turns,
                request_id=k,
                epoch=1,
                cluster=CLUSTER,
                node=nodes[k % len(nodes)],
                service=SERVICE.name,
                pod=f"loop-{self._turns}-{k}",
                cpu_work_s=SERVICE.cpu_work_s,
                cpu_request_millicores=SERVICE.cpu_request_millicores,
                cpu_limit_millicores=SERVICE.cpu_limit_millicores,
                memory_mib=SERVICE.memory_mib,
            )
            for k in range(pods)
        ]

        async def one(placement: Placement) -> None:
            pod = await self._client.request("POST", self._pods, body=be_pod(placement, SERVICE, ways=ways))
            body = binding(placement.pod, pod["metadata"]["uid"], placement.node)
            await self._client.request("POST", f"{self._pods}/{placement.pod}/binding", body=body)

        async def all_of_them() -> float:
            began_s = time.perf_counter()
            await asyncio.gather(*map(one, placements))
            return time.perf_counter() - began_s

        took_s = self._runner.run(all_of_them())
        self.clear()
        return took_s

    def clear(self) -> None:
        """Delete all pods of the benchmark, at once."""

        async def gone() -> None:
            found, _ = await self._client.list(self._pods, labelSelector=f"{MANAGED_BY}=tango")

            async def delete(pod: Any) -> None:
                with contextlib.suppress(NotFound):
                    await self._client.request(
                        "DELETE", f"{self._pods}/{pod['metadata']['name']}", query={"gracePeriodSeconds": "0"}
                    )

            await asyncio.gather(*map(delete, found))

        self._runner.run(gone())


@contextmanager
def _embedded(folder: Path, nodes: int) -> Iterator[Path]:
    """An API server with so many ready nodes and no kubelet, in a process of its own; gives the path of its kubeconfig."""
    names = {name: secrets.token_urlsafe(16) for name in ("tango", "kubelet", "admin")}
    access = ClusterAccess(server="", tango_token=names["tango"], kubelet_token=names["kubelet"], admin_token=names["admin"])
    tokens, port_file, config = folder / "tokens.csv", folder / "port", folder / "kubeconfig"
    tokens.touch(mode=0o600)
    tokens.write_text(token_file(CLUSTER, access))
    command = [sys.executable, "-m", "workers.api_server", "--cluster", CLUSTER, "--token-file", str(tokens)]
    command += ["--data-dir", str(folder / "api"), "--port-file", str(port_file)]
    server = subprocess.Popen(command, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        wait_until(
            lambda: port_file.exists() or server.poll() is not None,
            timeout_s=30.0,
            failure="the embedded API server does not start",
        )
        if server.poll() is not None:
            raise DependencyError(f"the embedded API server ended with {server.returncode}")
        served = dataclasses.replace(access, server=f"http://127.0.0.1:{port_file.read_text()}")
        config.touch(mode=0o600)
        config.write_text(kubeconfig({CLUSTER: served}))
        asyncio.run(_register(config, nodes))
        yield config
    finally:
        server.terminate()
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


async def _register(config: Path, nodes: int) -> None:
    async with await KubeClient.from_kubeconfig(str(config), f"{CLUSTER}-admin", KubeSettings(), cluster=CLUSTER) as client:
        for k in range(nodes):
            metadata = {"name": f"n{k}", "labels": {"kubernetes.io/os": "linux", "kubernetes.io/hostname": f"n{k}"}}
            await client.request("POST", "/api/v1/nodes", body={"metadata": metadata})
            status = {"allocatable": EMBEDDED_NODE, "conditions": [{"type": "Ready", "status": "True"}]}
            await client.request("PATCH", f"/api/v1/nodes/n{k}/status", body={"status": status})
