"""LC requests over HTTP: the workload program and the virtual kubelet's endpoint answer alike."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from tango.client.signatures import LASTS_S, service_key, signature
from tango.domain.fleet import Cluster, Fleet, NetworkModel, Node
from tango.emulation.virtual_kubelet.network import ClusterNetwork
from tango.emulation.virtual_kubelet.node_pool import NodePool
from tango.emulation.virtual_kubelet.node_timeline import NodeTimeline
from tango.emulation.virtual_kubelet.pod_addresses import PodAddresses

POD = "lc-web-n1-0"
NODE = Node(name="n1", cpu_millicores=4000, memory_mib=4096)
FLEET = Fleet(
    name="f", clusters=(Cluster(name="c1", nodes=(NODE,)),), services=(), network=NetworkModel(local_rtt_ms=0.0), beta=0.0
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    at_s: float

    @property
    def service_s(self) -> tuple[float, float]:
        """Start and end of service."""
        return float(self.headers["tango-started-s"]), float(self.headers["tango-finished-s"])


class Client:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, path: str, method: str = "POST", **headers: str) -> None:
        """Send a request without waiting."""
        lines = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()), "", ""]
        self.writer.write("\r\n".join(lines).encode())

    async def answer(self) -> Answer:
        """The next answer."""
        head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}
        assert headers["content-length"] == "0"
        return Answer(int(first.split(" ")[1]), headers, time.time())

    async def ask(self, path: str, method: str = "POST", **headers: str) -> Answer:
        """Send and wait."""
        self.send(path, method, **headers)
        return await self.answer()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An instance with a concurrency of two and space for two requests of 32 MiB."""

    host: str
    port: int
    stop: Callable[[], Awaitable[None]]
    """Begin to stop with a grace of seconds."""

    async def connect(self) -> Client:
        """Open a connection."""
        return Client(*await asyncio.open_connection(self.host, self.port))


def work(work_s: float = 0.01, memory_mib: float = 32.0, instance: str = f"c1/{POD}") -> dict[str, str]:
    """Headers of a request."""
    return {
        "Tango_Request": "1/2/3",
        "Tango_Instance": instance,
        "Tango_Cpu_Work_S": str(work_s),
        "Tango_Memory_Mib": str(memory_mib),
        "Tango_Entry_Cluster": "c1",
        "Tango_Payload_Kib": "4",
    }


async def program(key: str = "") -> AsyncIterator[Endpoint]:
    """The workload program as a process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "TANGO_PORT": str(port),
        "TANGO_HOST": "127.0.0.1",
        "TANGO_CLUSTER": "c1",
        "TANGO_INSTANCE": POD,
        "TANGO_CONCURRENCY": "2",
        "TANGO_MEMORY_MIB": "32",
        **({"TANGO_SERVICE_KEY": service_key(key, "web")} if key else {}),
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tango.emulation.workload", "serve", env=environment)

    async def stop() -> None:
        process.send_signal(signal.SIGTERM)

    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            except OSError:
                await asyncio.sleep(0.02)
    yield Endpoint("127.0.0.1", port, stop)
    if process.returncode is None:
        process.kill()
    await process.wait()


async def virtual(key: str = "") -> AsyncIterator[Endpoint]:
    """A pod of a virtual kubelet, at its own loopback address."""
    loop = asyncio.get_running_loop()
    timeline = NodeTimeline([4.0], beta=0.0, call_later=loop.call_later)
    pool = NodePool(
        FLEET,
        FLEET.clusters[0],
        timeline=timeline,
        network=ClusterNetwork(FLEET, "c1"),
        addresses=PodAddresses(),
        report=lambda uid: None,
        call_key=key,
    )
    resources = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "64Mi"}}
    env = [{"name": "TANGO_CONCURRENCY", "value": "2"}]
    container = {"name": "work", "env": env, "ports": [{"containerPort": 18081}], "resources": resources}
    metadata = {"uid": "u", "name": POD, "labels": {"tango/class": "lc", "tango/service": "web"}}
    await pool.start({"metadata": metadata, "spec": {"nodeName": "n1", "containers": [container]}})
    tasks: list[asyncio.Task[None]] = []

    async def stop() -> None:
        tasks.append(asyncio.create_task(pool.stop("u", grace_s=5.0)))

    yield Endpoint(pool.runs["u"].ip, 18081, stop)
    pool.close()
    await asyncio.gather(*tasks)


@pytest.fixture(params=[program, virtual], ids=["program", "virtual-kubelet"])
async def endpoint(request: pytest.FixtureRequest) -> AsyncIterator[Endpoint]:
    """One implementation."""
    async for made in request.param():
        yield made


async def test_service_takes_at_least_its_work_and_lies_between_request_and_answer(endpoint: Endpoint) -> None:
    """Times are Unix seconds; a request in service uses at most one core."""
    client = await endpoint.connect()

    begun_s = time.time()
    answer = await client.ask("/v1/work", **work(0.1))

    started_s, finished_s = answer.service_s
    assert answer.status == 200
    # The CPU clock and the wall clock may differ by a little; the virtual kubelet anchors its clock once a second.
    assert finished_s - started_s >= 0.1 - 1e-3
    assert begun_s - 5e-3 <= started_s
    assert finished_s <= answer.at_s + 5e-3


async def test_a_connection_serves_many_requests(endpoint: Endpoint) -> None:
    """Keep-alive, also after requests that were refused."""
    client = await endpoint.connect()

    statuses = [
        (await client.ask("/v1/work", **work())).status,
        (await client.ask("/v1/work", **work(instance="c1/lc-web-n1-1"))).status,
        (await client.ask("/v1/work", **work(instance=f"c2/{POD}"))).status,
        (await client.ask("/nowhere", method="GET")).status,
        (await client.ask("/v1/work", method="GET")).status,
        (await client.ask("/healthz", method="GET")).status,
        (await client.ask("/v1/work", **work())).status,
    ]

    assert statuses == [200, 421, 421, 404, 405, 200, 200]


async def test_pipelined_requests_are_answered_in_order(endpoint: Endpoint) -> None:
    """The longer one was first."""
    client = await endpoint.connect()

    client.send("/v1/work", **work(0.1))
    client.send("/v1/work", **work(0.0))
    first, second = await client.answer(), await client.answer()

    assert second.service_s[0] >= first.service_s[1]


@pytest.mark.parametrize(
    "headers", [{"Tango_Instance": f"c1/{POD}"}, work(work_s=float("nan")), work(work_s=-1.0), work(memory_mib=1000.0)]
)
async def test_a_request_that_cannot_be_served_is_refused_and_the_connection_closed(
    endpoint: Endpoint, headers: dict[str, str]
) -> None:
    """Missing or senseless figures, or more memory than the instance has."""
    client = await endpoint.connect()

    answer = await client.ask("/v1/work", **headers)

    assert (answer.status, answer.headers["connection"]) == (400, "close")


KEY = "k" * 32
NAME = f"c1/{POD}"


@pytest.fixture(params=[program, virtual], ids=["program", "virtual-kubelet"])
async def keyed(request: pytest.FixtureRequest) -> AsyncIterator[Endpoint]:
    """One implementation that has its service's key."""
    async for made in request.param(KEY):
        yield made


async def test_work_that_tango_has_not_sent_is_refused(keyed: Endpoint) -> None:
    """Without a signature, with another service's key, of another request, for another instance, or long ago; health needs none."""
    client, now_s = await keyed.connect(), time.time()
    own = service_key(KEY, "web")
    forged = [
        None,
        "",
        "no signature",
        signature(KEY, request="1/2/3", instance=NAME, at_s=now_s),
        signature(service_key(KEY, "chat"), request="1/2/3", instance=NAME, at_s=now_s),
        signature(own, request="1/2/4", instance=NAME, at_s=now_s),
        signature(own, request="1/2/3", instance="c1/lc-web-n1-1", at_s=now_s),
        signature(own, request="1/2/3", instance=NAME, at_s=now_s - 2 * LASTS_S),
    ]

    statuses = [
        (await client.ask("/v1/work", **work(1e6), **({} if sign is None else {"Tango_Signature": sign}))).status for sign in forged
    ]
    signed = await client.ask("/v1/work", **work(), Tango_Signature=signature(own, request="1/2/3", instance=NAME, at_s=now_s))

    assert statuses == [401] * len(forged)
    assert signed.status == 200
    assert (await client.ask("/healthz", method="GET")).status == 200


async def test_requests_beyond_the_concurrency_wait_their_turn(endpoint: Endpoint) -> None:
    """Two are served at a time; the third starts when one of them has ended."""
    clients = [await endpoint.connect() for _ in range(3)]

    for client in clients:
        client.send("/v1/work", **work(0.2))
    services = sorted([(await client.answer()).service_s for client in clients])

    assert services[1][0] < services[0][1]
    assert services[2][0] >= min(services[0][1], services[1][1]) - 1e-3


async def test_clients_that_leave_take_their_requests_along(endpoint: Endpoint) -> None:
    """Work nobody waits for does not hold up the others."""
    leaving = [await endpoint.connect() for _ in range(2)]
    for client in leaving:
        client.send("/v1/work", **work(30.0))
        await client.writer.drain()
    await asyncio.sleep(0.1)

    for client in leaving:
        client.writer.close()
    staying = await endpoint.connect()

    assert (await staying.ask("/v1/work", **work())).status == 200


async def test_an_instance_that_stops_finishes_what_it_has_and_refuses_the_rest(endpoint: Endpoint) -> None:
    """503 on connections that are open, for work and for health; the request under way gets its answer."""
    busy, idle, probing = [await endpoint.connect() for _ in range(3)]
    await idle.ask("/healthz", method="GET")
    # Far longer than the others take to be refused, and short beside the time to finish, on a machine that is busy too.
    busy.send("/v1/work", **work(1.0))
    await busy.writer.drain()
    await probing.ask("/healthz", method="GET")  # sent later and answered: the instance has the work

    await endpoint.stop()
    while (health := await probing.ask("/healthz", method="GET")).status == 200:
        await asyncio.sleep(0.01)

    assert health.status == 503
    assert (await idle.ask("/v1/work", **work())).status == 503
    assert (await busy.answer()).status == 200
