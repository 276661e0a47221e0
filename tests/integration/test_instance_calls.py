"""LC calls on real sockets: against the endpoint that pods have, and against servers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tango.domain.identity import NodeKey
from tango.domain.observations import InstanceState
from tango.domain.requests import LcWork, Reason
from tango.emulation.workload.http1 import Refused, Work, WorkConnection
from tango.emulation.workload.http1 import Served as Answered
from tango.errors import InstanceFailed
from tango.kube.http_exchange import ConnectFailed, HttpConnections, Origin
from tango.kube.instance_calls import HttpInstanceCalls

WORK = LcWork(
    run_id=1,
    request_id=2,
    epoch=3,
    service="web",
    entry_cluster="c1",
    node=NodeKey("c1", "n1"),
    due_s=0.0,
    target_s=0.1,
    cpu_work_s=0.02,
    memory_mib=32.0,
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTango-Started-S: 10.5\r\nTango-Finished-S: 11.25\r\n\r\n"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class At10:
    """An instance that serves everything at once, from second 10.5 to 11.25."""

    def __init__(self, name: str) -> None:
        self.key = ""
        self.name, self.stopping, self.connections, self.works = name, False, set[WorkConnection](), list[Work]()
        self.accepted = 0

    def begin(self, work: Work, served: Answered, refused: Refused) -> Callable[[], None]:
        self.works.append(work)
        served(10.5, 11.25)
        return lambda: None


def instance(port: int, pod: str = "lc-web-n1-0") -> InstanceState:
    """An instance at this port of loopback."""
    return InstanceState(
        pod=pod,
        uid="u",
        service="web",
        node="n1",
        pod_ip="127.0.0.1",
        port=port,
        ready=True,
        cpu_request_millicores=100,
        cpu_limit_millicores=1000,
        memory_limit_mib=256,
        restarts=0,
    )


@asynccontextmanager
async def calls() -> AsyncIterator[HttpInstanceCalls]:
    """The calls under test, closed afterwards."""
    made = HttpInstanceCalls()
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[tuple[int, list[int]]]:
    """A server of this behaviour; its port, and a list that grows by one a connection."""
    connections: list[int] = []

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(counted, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], connections
    finally:
        server.close()


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *answers: bytes) -> None:
    """Give one of these answers to each request, then hang up."""
    for answer in answers:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()


async def test_the_pods_own_endpoint_gets_what_was_asked_and_its_times_come_back() -> None:
    """Work, memory, entry cluster and payload arrive as they were; start and end of service return; the connection is kept."""
    pod = At10("c1/lc-web-n1-0")
    made: list[WorkConnection] = []

    def connection() -> WorkConnection:
        made.append(WorkConnection(pod))
        return made[-1]

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    async with calls() as client:
        for _ in range(3):
            served = await client.call(instance(server.sockets[0].getsockname()[1]), WORK, payload_kib=4.0, timeout_s=5.0)

    assert (served.started_at_s, served.finished_at_s) == (10.5, 11.25)
    assert pod.works[0] == Work(cpu_work_s=0.02, memory_mib=32.0, entry_cluster="c1", payload_kib=4.0)
    assert len(pod.works) == 3
    assert len(made) == 1
    server.close()


async def test_calls_under_way_at_once_have_connections_of_their_own() -> None:
    """Fifty calls that wait for each other all get through, and later ones use the same fifty connections."""
    arrived = 0
    everybody = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            arrived += 1
            if arrived % 50 == 0:
                everybody.set()
            await everybody.wait()
            writer.write(OK)

    async with listening(serve) as (port, connections), calls() as client:
        for _ in range(2):
            everybody.clear()
            await asyncio.gather(*(client.call(instance(port), WORK, payload_kib=0.0, timeout_s=5.0) for _ in range(50)))
        assert len(connections) == 50


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([b"HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\n\r\n"], Reason.INSTANCE_REFUSED),
        ([b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"], Reason.INSTANCE_REFUSED),
        ([b"HTTP/1.1 200 OK\r\nContent-Le"], Reason.INSTANCE_UNREACHABLE),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], Reason.INSTANCE_UNREACHABLE),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], Reason.INSTANCE_UNREACHABLE),
        ([OK.replace(b"10.5", b"nan")], Reason.INSTANCE_UNREACHABLE),
        ([OK.replace(b"11.25", b"1e400")], Reason.INSTANCE_UNREACHABLE),
        ([OK.replace(b"10.5", b"soon")], Reason.INSTANCE_UNREACHABLE),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 100_000], Reason.INSTANCE_UNREACHABLE),
        ([], Reason.INSTANCE_UNREACHABLE),
    ],
    ids=["another pod", "stopping", "cut off", "no HTTP", "no times", "nan", "infinite", "no number", "far too long", "hangs up"],
)
async def test_an_answer_that_is_none_fails_with_its_reason(answers: list[bytes], reason: Reason) -> None:
    """What a wrong or dying instance says becomes a reason, and the next call finds a connection that works."""
    first = True

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal first
        mine, first = (answers, False) if first else ([OK], first)
        await answering(reader, writer, *mine)

    async with listening(serve) as (port, _), calls() as client:
        with pytest.raises(InstanceFailed) as failure:
            await client.call(instance(port), WORK, payload_kib=0.0, timeout_s=5.0)
        served = None
        while served is None:  # the first server end may still be closing
            try:
                served = await client.call(instance(port), WORK, payload_kib=0.0, timeout_s=5.0)
            except InstanceFailed:
                await asyncio.sleep(0.01)

    assert failure.value.reason == reason
    assert served.finished_at_s == 11.25


async def test_a_silent_instance_times_out_and_its_late_answer_reaches_nobody() -> None:
    """After the timeout the connection is gone: an answer that comes late must not be taken for that of the next request."""
    late = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if not late.is_set():
            await late.wait()
            writer.write(OK.replace(b"10.5", b"1.0"))
        else:
            writer.write(OK)

    async with listening(serve) as (port, connections), calls() as client:
        with pytest.raises(InstanceFailed) as failure:
            await client.call(instance(port), WORK, payload_kib=0.0, timeout_s=0.05)
        late.set()
        served = await client.call(instance(port), WORK, payload_kib=0.0, timeout_s=5.0)

    assert failure.value.reason == Reason.TIMED_OUT
    assert served.started_at_s == 10.5
    assert len(connections) == 2


async def test_nobody_at_the_address_is_unreachable() -> None:
    """A refused connection says so at once."""
    async with listening(lambda r, w: answering(r, w)) as (port, _):
        pass

    async with calls() as client:
        with pytest.raises(InstanceFailed) as failure:
            await client.call(instance(port), WORK, payload_kib=0.0, timeout_s=5.0)

    assert failure.value.reason == Reason.INSTANCE_UNREACHABLE


async def test_an_idle_connection_that_the_instance_closed_is_not_used_again() -> None:
    """A restarted instance costs the next request nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(reader, writer, OK)

    async with listening(serve) as (port, connections), calls() as client:
        for _ in range(3):
            await client.call(instance(port), WORK, payload_kib=0.0, timeout_s=5.0)
            await asyncio.sleep(0.02)
        assert len(connections) == 3


async def test_an_address_that_is_gone_is_forgotten() -> None:
    """Pods come and go, each with an address: of those whose connections are closed nothing may stay for the life of a worker."""
    pool = HttpConnections(connect_timeout_s=5.0, max_answer_bytes=4096)
    kept: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(reader, writer, OK, OK)

    for _ in range(3):
        async with listening(serve) as (port, _connections):
            for _ in range(2):
                await pool.exchange(Origin("127.0.0.1", port), b"GET / HTTP/1.1\r\n\r\n", timeout_s=5.0)
                kept.append(pool.idle_origins)
            async with asyncio.timeout(5):
                while pool.idle_origins:  # until the server has hung up
                    await asyncio.sleep(0.001)
    nobody = Origin("127.0.0.1", port)
    with pytest.raises(ConnectFailed):
        await pool.exchange(nobody, b"GET / HTTP/1.1\r\n\r\n", timeout_s=5.0)

    assert kept[::2] == [1, 1, 1]
    assert pool.idle_origins == 0
    pool.close()


async def test_an_answer_in_pieces_and_in_chunks_is_read_to_its_end() -> None:
    """A proxy in front of a pod may split and chunk what the pod sent."""
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTango-Started-S: 1\r\nTango-Finished-S: 2\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            for k in range(len(chunked)):
                writer.write(chunked[k : k + 1])
                await writer.drain()

    async with listening(serve) as (port, connections), calls() as client:
        for _ in range(2):
            served = await client.call(instance(port), WORK, payload_kib=0.0, timeout_s=5.0)
            assert (served.started_at_s, served.finished_at_s) == (1.0, 2.0)
        assert len(connections) == 1
