"""URLs of brokers: verified, and never shown with what is secret in them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trustme
from kombu import Queue

from tango.bootstrap.environment import read_settings
from tango.domain.requests import Batch
from tango.errors import BrokerUnavailable, ConfigError
from tango.settings import Settings
from tango.stack.broker import HOST, free_port, require_broker, server_binary
from tango.stack.broker_address import broker_address, shown_broker
from tests.waiting import until
from workers.app import create_app
from workers.broker_health import broker_facts
from workers.publisher import CeleryPublisher


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis://:x@host:6379/0", "redis://:x@host:6379/0"),
        ("memory://", "memory://"),
        ("", ""),
        ("amqp://u:p@host//", "amqp://u:p@host//"),
        ("rediss://:x@host/0", "rediss://:x@host/0?ssl_cert_reqs=required&ssl_check_hostname=true"),
        (
            "rediss://host/0?ssl_ca_certs=/ca.pem",
            "rediss://host/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required&ssl_check_hostname=true",
        ),
        ("rediss://host/0?ssl_check_hostname=false", "rediss://host/0?ssl_check_hostname=false&ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_cert_reqs=none", "rediss://host/0?ssl_cert_reqs=none"),
        ("valkey://u:x@[::1]:6379/0", "redis://u:x@[::1]:6379/0"),
        ("valkeys://host", "rediss://host?ssl_cert_reqs=required&ssl_check_hostname=true"),
        ("unix://:x%2Fy@/run/valkey.sock?db=3", "redis+socket://:x%2Fy@/run/valkey.sock?virtual_host=3"),
        ("redis+socket:///run/valkey.sock", "redis+socket:///run/valkey.sock?virtual_host=0"),
        ("valkey+socket:///run/valkey.sock?virtual_host=3", "redis+socket:///run/valkey.sock?virtual_host=3"),
    ],
)
def test_a_server_is_verified_unless_the_url_says_otherwise(url: str, found: str) -> None:
    """Its certificate and the name in it; twice is the same."""
    assert broker_address(url) == found == broker_address(broker_address(url))
    if url:
        assert read_settings({"TANGO_BROKER_URL": url, "TANGO_DATABASE_URL": "postgresql://x/y"}).broker_url == found


@pytest.mark.parametrize("password", ["s3#cret", "s3?cret", "s3/cret"])
def test_a_password_that_would_end_the_host_is_refused_without_showing_it(password: str) -> None:
    """Where it comes in: from a variable, or asked whether it answers."""
    url = f"redis://:{password}@host:6379/0"

    for read in (broker_address, shown_broker, require_broker, lambda u: read_settings({"TANGO_BROKER_URL": u})):
        with pytest.raises(ConfigError, match="write them as %2F %3F and %23") as refused:
            read(url)
        assert "s3" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sentinel://:s3cret@host:26379", "begins with sentinel://: Sentinel is not spoken to"),
        ("redis+sentinel://host/mymaster", r"begins with redis\+sentinel://"),
        ("sqs://key:s3cret@", "begins with sqs://"),
        ("host:6379", "has no scheme"),
        ("ann:s3cret@host:6379", "has no scheme"),
        ("ann:s3cret@host/0?a=://b", "has no scheme"),
        ("redis:/host", "has no scheme"),
        ("redis://:s3cret@a:1;redis://:s3cret@b:1", "several brokers"),
        ("redis://a:1,b:1/0", "host and port"),
        ("redis://:s3cret@host:port/0", "host and port"),
        ("redis://:s3cret@:6379/0", "host and port"),
        ("rediss://:s3cret@/0", "host and port"),
        ("redis://host:99999", "host and port"),
        ("redis://host:0", "host and port"),
        ("redis://[::1", "host and port"),
        ("redis://host/first", "database 'first', expected a number"),
        ("redis://host/0?socket_timeout=1", "the parameter 'socket_timeout', expected none"),
        ("rediss://host/0?ssl_verify=0", "the parameter 'ssl_verify', expected ssl_cert_reqs"),
        ("unix://run/valkey.sock", "no socket by its whole path"),
        ("unix://", "no socket by its whole path"),
        ("unix:///run/valkey.sock?db=first", "a database that is no number"),
    ],
)
def test_what_names_no_single_redis_or_valkey_is_refused_by_name(url: str, told: str) -> None:
    """At once and wherever it comes in: a client that is given it would wait, or reach something else."""
    for read in (broker_address, lambda u: read_settings({"TANGO_BROKER_URL": u}), lambda u: create_app(Settings(broker_url=u))):
        with pytest.raises(ConfigError, match=told) as refused:
            read(url)
        assert "s3cret" not in str(refused.value)


def test_a_broker_that_no_other_process_reaches_serves_no_stack() -> None:
    """kombu's own, within one process."""
    with pytest.raises(ConfigError, match="memory://, which no other process reaches"):
        require_broker("memory://")


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """URLs of one broker, by how it is reached."""
    folder = tmp_path_factory.mktemp("valkey")
    authority, port = trustme.CA(), free_port()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    path = folder / "v.sock"
    options = ("--port", str(port), "--bind", HOST, "--unixsocket", str(path), "--requirepass", "a/b", "--save", "")
    server = subprocess.Popen([str(server_binary()), *options], stdout=subprocess.DEVNULL, cwd=folder)
    listening = socket.create_server((HOST, 0))
    threading.Thread(target=_decrypt, args=(listening, context, port), daemon=True).start()
    until(path.exists)
    yield {
        "valkey": f"valkey://:a%2Fb@{HOST}:{port}/1",
        "tls": f"valkeys://:a%2Fb@localhost:{listening.getsockname()[1]}/2?ssl_ca_certs={folder / 'ca.pem'}",
        "socket": f"unix://:a%2Fb@{path}?db=3",
    }
    listening.close()
    server.terminate()
    server.wait(10)


def _decrypt(listening: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """Pass what comes over TLS on to a port, and back."""
    while True:
        try:
            outer = context.wrap_socket(listening.accept()[0], server_side=True)
        except OSError:
            return
        inner = socket.create_connection((HOST, port))
        for source, target in ((outer, inner), (inner, outer)):
            threading.Thread(target=_pass_on, args=(source, target), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(4096):
            target.sendall(data)


@pytest.mark.parametrize("door", ["valkey", "tls", "socket"])
def test_messages_pass_through_every_door_of_a_valkey(doors: dict[str, str], door: str) -> None:
    """Published by Celery and by Tango's own writer, counted, and consumed by the transport that outlives what is no message."""
    url = doors[door]
    require_broker(url)
    app, heard = create_app(Settings(broker_url=url)), list[int]()
    publisher = CeleryPublisher(app)

    publisher.replay(1)
    publisher.replay(2)

    assert (facts := broker_facts(app, ())).waiting["replay"] == 2, facts
    with app.connection_for_read() as connection:
        connection.default_channel.put("tango.replay", b"no message")

        def hear(body: Any, message: Any) -> None:
            heard.append(body[1]["run_id"])
            message.ack()

        with connection.Consumer([Queue("replay")], callbacks=[hear], accept=["json"]):
            for _ in range(2):
                connection.drain_events(timeout=10)
    assert heard == [1, 2]
    assert "a/b" not in connection.as_uri()
    app.close()


@pytest.mark.parametrize("door", ["valkey", "socket"])
def test_a_broker_that_refuses_the_password_is_told_as_that(doors: dict[str, str], door: str) -> None:
    """It does answer."""
    url = doors[door].replace("a%2Fb", "s3cret")
    with pytest.raises(BrokerUnavailable, match=r"refuses the login \(invalid username-password pair") as refused:
        require_broker(url)
    assert "s3cret" not in str(refused.value)


@pytest.fixture
def impostor() -> Iterator[tuple[str, list[bytes]]]:
    """(URL, what clients have said to it) of a TLS server whose certificate nobody knows."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    listening, heard = socket.create_server(("127.0.0.1", 0)), list[bytes]()

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.settimeout(5.0)
                    heard.append(secure.recv(1024))
            except OSError:
                continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"rediss://:s3cret@localhost:{listening.getsockname()[1]}/0", heard
    listening.close()


def test_no_password_goes_to_a_server_that_nobody_knows(impostor: tuple[str, list[bytes]]) -> None:
    """From what publishes, as from `tango up`, which asks whether it answers."""
    url, heard = impostor
    batch = Batch(run_id=1, cluster="c1", service="web", service_class=0, request_ids=(1,))

    with pytest.raises(BrokerUnavailable, match=r"(?i)certificate"):
        require_broker(url)
    with pytest.raises(BrokerUnavailable):
        CeleryPublisher(create_app(Settings(broker_url=url))).arrivals([batch])

    assert [said for said in heard if said] == []
