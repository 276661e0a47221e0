"""The protocol without a network: bytes in, bytes out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tango.emulation.workload.http1 import MAX_BODY_BYTES, MAX_HEAD_BYTES, Refused, Served, Work, WorkConnection

HEADERS = (
    b"Host: x\r\nTango-Request: 1/2/3\r\nTango-Instance: pod-a\r\nTango-Cpu-Work-S: 0.5\r\nTango-Memory-Mib: 32\r\n"
    b"Tango-Entry-Cluster: c1\r\nTango-Payload-Kib: 4\r\n"
)
WORK = b"POST /v1/work HTTP/1.1\r\n" + HEADERS + b"Content-Length: 0\r\n\r\n"


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.sent = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        """Keep it."""
        assert not self.closed
        self.sent += data

    def close(self) -> None:
        """Hang up."""
        self.closed = True

    def is_closing(self) -> bool:
        """Hung up."""
        return self.closed


class Instance:
    """Keeps what it is asked for; the test answers."""

    def __init__(self) -> None:
        self.name = "pod-a"
        self.key = ""
        self.stopping = False
        self.connections: set[WorkConnection] = set()
        self.asked: list[tuple[Work, Served]] = []
        self.refusing: list[Refused] = []
        self.cancelled = 0
        self.refuses = False

    def begin(self, work: Work, served: Served, refused: Refused) -> Callable[[], None]:
        """Keep the request."""
        if self.refuses:
            raise ValueError("never")
        self.asked.append((work, served))
        self.refusing.append(refused)
        return self._cancel

    def _cancel(self) -> None:
        self.cancelled += 1


@pytest.fixture
def instance() -> Instance:
    """An instance named pod-a."""
    return Instance()


@pytest.fixture
def transport() -> Transport:
    """The wire."""
    return Transport()


@pytest.fixture
def connection(instance: Instance, transport: Transport) -> WorkConnection:
    """A connection to the instance."""
    made = WorkConnection(instance)
    made.connection_made(transport)  # type: ignore[arg-type]
    return made


def status(transport: Transport) -> int:
    """Status of the last answer."""
    return int(transport.sent.rsplit(b"HTTP/1.1 ", 1)[1][:3])


def test_a_request_is_read_and_answered_with_its_times(
    instance: Instance, transport: Transport, connection: WorkConnection
) -> None:
    """Nothing is sent before the service has ended, then the two times with an empty body."""
    connection.data_received(WORK)
    before = transport.sent
    work, served = instance.asked[0]
    served(1795473630.25, 1795473630.75)

    assert before == b""
    assert work == Work(0.5, 32.0, "c1", 4.0)
    assert transport.sent == (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTango-Started-S: 1795473630.250000\r\nTango-Finished-S: 1795473630.750000\r\n\r\n"
    )
    assert not transport.closed


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_request_may_come_in_pieces(instance: Instance, connection: WorkConnection, size: int) -> None:
    """TCP keeps no borders."""
    for k in range(0, len(WORK), size):
        connection.data_received(WORK[k : k + size])

    assert len(instance.asked) == 1


def test_pipelined_requests_wait_for_their_turn(instance: Instance, transport: Transport, connection: WorkConnection) -> None:
    """Answers of one connection come in the order of its requests."""
    connection.data_received(WORK + WORK + b"GET /healthz HTTP/1.1\r\n\r\n")
    begun = len(instance.asked)
    instance.asked[0][1](1.0, 2.0)
    instance.asked[1][1](3.0, 4.0)

    assert begun == 1
    assert [transport.sent.find(b"S: 2.0"), transport.sent.find(b"S: 4.0")] == sorted(
        [transport.sent.find(b"S: 2.0"), transport.sent.find(b"S: 4.0")]
    )
    assert transport.sent.count(b"HTTP/1.1 200 OK") == 3


def test_an_instance_may_answer_at_once(instance: Instance, transport: Transport, connection: WorkConnection) -> None:
    """The answer from inside `begin` leaves nothing to cancel."""
    instance.begin = lambda work, served, refused: served(1.0, 2.0) or instance._cancel  # type: ignore[method-assign,func-returns-value]

    connection.data_received(WORK)
    connection.connection_lost(None)

    assert status(transport) == 200
    assert instance.cancelled == 0


def test_a_body_is_dropped(instance: Instance, transport: Transport, connection: WorkConnection) -> None:
    """A small body is read over, in pieces too, and the next request is found behind it."""
    connection.data_received(b"GET /healthz HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345")
    connection.data_received(b"67890GET /healthz HTTP/1.1\r\n\r\n")

    assert transport.sent.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    ("request_bytes", "answer", "closes"),
    [
        (b"GET /healthz HTTP/1.1\r\n\r\n", 200, False),
        (b"GET /healthz?x=1 HTTP/1.0\r\n\r\n", 200, True),
        (b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", 200, True),
        (b"POST /healthz HTTP/1.1\r\n\r\n", 405, False),
        (b"GET /v1/work HTTP/1.1\r\n\r\n", 405, False),
        (b"GET /other HTTP/1.1\r\n\r\n", 404, False),
        (b"nonsense\r\n\r\n", 400, True),
        (b"GET /healthz SPDY/3\r\n\r\n", 400, True),
        (b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n", 400, True),
        (b"GET /healthz HTTP/1.1\r\nName : space\r\n\r\n", 400, True),
        (b"GET /healthz HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, True),
        (b"GET /healthz HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), 413, True),
        (b"GET /healthz HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400, True),  # no number of 64 bits
        (b"GET /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411, True),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * (MAX_HEAD_BYTES + 1), 431, True),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * (MAX_HEAD_BYTES + 1) + b"\r\n\r\n", 431, True),
        (WORK.replace(b"pod-a", b"pod-b"), 421, False),
        (WORK.replace(b"Tango-Instance: pod-a\r\n", b""), 421, False),
        (WORK.replace(b"S: 0.5", b"S: much"), 400, True),
        (WORK.replace(b"S: 0.5", b"S: nan"), 400, True),
        (WORK.replace(b"S: 0.5", b"S: inf"), 400, True),
        (WORK.replace(b"S: 0.5", b"S: -1"), 400, True),
        (WORK.replace(b"Tango-Memory-Mib: 32\r\n", b""), 400, True),
    ],
)
def test_every_request_gets_its_status(
    transport: Transport, connection: WorkConnection, request_bytes: bytes, answer: int, closes: bool
) -> None:
    """Bad framing closes the connection, since nobody knows where the next request begins."""
    connection.data_received(request_bytes)

    assert status(transport) == answer
    assert transport.closed is closes


def test_what_an_instance_can_never_serve_is_refused(instance: Instance, transport: Transport, connection: WorkConnection) -> None:
    """More memory than it has."""
    instance.refuses = True

    connection.data_received(WORK)

    assert status(transport) == 400


def test_what_cannot_be_served_now_is_answered_and_the_next_request_is_served(
    instance: Instance, transport: Transport, connection: WorkConnection
) -> None:
    """503 for a request that was begun and did not get its memory; the connection stays, since the next one may be smaller."""
    connection.data_received(WORK + WORK)

    instance.refusing[0]()
    between = status(transport)
    instance.asked[1][1](1.0, 2.0)

    assert (between, status(transport)) == (503, 200)
    assert not transport.closed


def test_a_stopping_instance_takes_nothing_new_and_finishes_what_it_has(
    instance: Instance, transport: Transport, connection: WorkConnection
) -> None:
    """503 with close; the request under way is still answered."""
    connection.data_received(WORK + WORK)
    instance.stopping = True

    instance.asked[0][1](1.0, 2.0)

    assert transport.sent.startswith(b"HTTP/1.1 200 OK")
    assert status(transport) == 503
    assert transport.closed


def test_a_lost_client_cancels_its_request(instance: Instance, transport: Transport, connection: WorkConnection) -> None:
    """And a late answer finds nobody."""
    connection.data_received(WORK)

    connection.connection_lost(None)
    instance.asked[0][1](1.0, 2.0)

    assert instance.cancelled == 1
    assert instance.connections == set()
    assert transport.sent == b""


def test_a_client_that_floods_behind_a_request_is_cut_off(
    instance: Instance, transport: Transport, connection: WorkConnection
) -> None:
    """What is pipelined is bounded."""
    connection.data_received(WORK)

    connection.data_received(b"x" * (MAX_HEAD_BYTES + MAX_BODY_BYTES + 1))

    assert transport.closed


def test_what_is_refused_behind_good_requests_waits_for_their_answers(
    instance: Instance, transport: Transport, connection: WorkConnection
) -> None:
    """A request and nonsense in one read: the request is answered first, then 400, then the connection closes."""
    connection.data_received(WORK + b"nonsense\r\n\r\n" + WORK)
    before = transport.sent
    instance.asked[0][1](1.0, 2.0)

    assert before == b""
    assert transport.sent.startswith(b"HTTP/1.1 200 OK")
    assert status(transport) == 400
    assert transport.closed
    assert len(instance.asked) == 1


def test_a_head_that_grows_without_end_is_cut_off(transport: Transport, connection: WorkConnection) -> None:
    """Small reads of one endless header are counted together, behind a whole request too."""
    connection.data_received(b"GET /healthz HTTP/1.1\r\n\r\nGET /healthz HTTP/1.1\r\nX: ")
    for _ in range(MAX_HEAD_BYTES // 1024 + 1):
        connection.data_received(b"a" * 1024)

    assert transport.sent.startswith(b"HTTP/1.1 200 OK")
    assert status(transport) == 431
    assert transport.closed


def test_many_pipelined_requests_are_no_long_head(instance: Instance, transport: Transport, connection: WorkConnection) -> None:
    """One read may hold more than the longest head, as long as each request is short."""
    connection.data_received(WORK * (2 * MAX_HEAD_BYTES // len(WORK)))
    for k in range(2 * MAX_HEAD_BYTES // len(WORK)):
        instance.asked[k][1](1.0, 2.0)

    assert transport.sent.count(b"HTTP/1.1 200 OK") == 2 * MAX_HEAD_BYTES // len(WORK)
    assert not transport.closed


def test_a_client_that_asks_for_another_protocol_is_answered_and_let_go(transport: Transport, connection: WorkConnection) -> None:
    """An upgrade is ignored, as HTTP allows; what follows it would be no HTTP/1.1."""
    connection.data_received(b"GET /healthz HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nPRI * HTTP/2.0\r\n\r\n")

    assert transport.sent.count(b"HTTP/1.1") == 1
    assert status(transport) == 200
    assert transport.closed
