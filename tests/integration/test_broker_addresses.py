"""URLs of brokers: verified, and never shown with what is secret in them."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
import trustme

from tango.bootstrap.environment import read_settings
from tango.domain.requests import Batch
from tango.errors import BrokerUnavailable, ConfigError
from tango.settings import Settings
from tango.stack.broker import require_broker
from tango.stack.broker_address import broker_address, shown_broker
from workers.app import create_app
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
