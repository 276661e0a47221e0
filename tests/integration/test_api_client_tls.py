"""Calls to an API server behind TLS, as real clusters are."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from tango.errors import ClusterUnavailable
from tango.kube.api_client import KubeClient
from tango.settings import KubeSettings

NAME = "api.it.internal"
"""A name in the server's certificate under which nobody finds it here."""
SETTINGS = KubeSettings(attempts=2, backoff_base_s=0.001, backoff_cap_s=0.002, connect_timeout_s=2.0, read_timeout_s=2.0)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who signs the server's certificate."""
    return trustme.CA()


@pytest.fixture
async def server(authority: trustme.CA) -> AsyncIterator[str]:
    """An API server at `https://localhost:PORT/k8s/clusters/c-1`, below a path as some managers of clusters have it."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b'{"type":"ADDED","object":{}}\n')
            return response
        told = {"path": request.path, "token": request.headers.get("Authorization"), "query": dict(request.query)}
        sent = await request.json() if request.body_exists else None
        return web.json_response({**told, "sent": sent, "padding": "x" * 300_000})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", NAME).configure_cert(context)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"https://localhost:{runner.addresses[0][1]}/k8s/clusters/c-1"
    await runner.cleanup()


def kubeconfig(folder: Path, server: str, authority: trustme.CA, *, token: str = "secret", **of_cluster: str) -> Path:
    """A kubeconfig that trusts one authority; `of_cluster`: further keys of its cluster, with `_` for `-`."""
    trusted = base64.b64encode(authority.cert_pem.bytes()).decode()
    more = {key.replace("_", "-"): value for key, value in of_cluster.items()}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": {"server": server, "certificate-authority-data": trusted, **more}}],
        "users": [{"name": "me", "user": {"token": token}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document))
    return path


async def test_short_calls_and_watches_go_over_tls_with_path_query_token_and_body(
    server: str, authority: trustme.CA, tmp_path: Path
) -> None:
    """Large answers come whole, values are encoded, and the path of the server's URL stands before every path."""
    path = kubeconfig(tmp_path, server, authority)

    async with await KubeClient.from_kubeconfig(str(path), "it", SETTINGS) as client:
        found = await client.request("POST", "/api/v1/pods", body={"ä": "ö"}, query={"labelSelector": "a in (b, c)&d"})
        again = await client.request("GET", "/api/v1/nodes")
        events = [event["type"] async for event in client.watch("/api/v1/pods", resource_version="5", query={})]

    assert (found["path"], found["token"], found["sent"]) == ("/k8s/clusters/c-1/api/v1/pods", "Bearer secret", {"ä": "ö"})
    assert found["query"] == {"labelSelector": "a in (b, c)&d"}
    assert again["path"] == "/k8s/clusters/c-1/api/v1/nodes"
    assert events == ["ADDED"]


async def test_a_server_that_the_kubeconfig_does_not_trust_gets_no_token(server: str, tmp_path: Path) -> None:
    """The certificate is checked before anything is sent, and the message says what is wrong with it."""
    path = kubeconfig(tmp_path, server, trustme.CA())

    async with await KubeClient.from_kubeconfig(str(path), "it", SETTINGS) as client:
        with pytest.raises(ClusterUnavailable, match="certificate verify failed"):
            await client.request("GET", "/api/v1/nodes")


# ---- names and proxies ------------------------------------------------------------------------------------------------


async def test_the_certificate_may_have_a_name_that_is_not_the_servers(server: str, authority: trustme.CA, tmp_path: Path) -> None:
    """`tls-server-name`: of calls and watches, and only where it is the certificate's."""
    by_address = server.replace("localhost", "127.0.0.1")
    path = kubeconfig(tmp_path, by_address, authority, tls_server_name=NAME)
    async with await KubeClient.from_kubeconfig(str(path), "it", SETTINGS) as client:
        found = await client.request("GET", "/api/v1/nodes")
        events = [event["type"] async for event in client.watch("/api/v1/pods", resource_version="5", query={})]

    assert (found["token"], events) == ("Bearer secret", ["ADDED"])
    for wrong in ({}, {"tls_server_name": "api.elsewhere"}):
        path = kubeconfig(tmp_path, by_address, authority, **wrong)
        async with await KubeClient.from_kubeconfig(str(path), "it", SETTINGS) as client:
            with pytest.raises(ClusterUnavailable, match="certificate verify failed"):
                await client.request("GET", "/api/v1/nodes")


class Tunnels:
    """A small HTTP proxy that knows CONNECT, for whoever has the password."""

    PASSWORD = "me:s3cret/"

    def __init__(self) -> None:
        self.asked: list[str] = []
        """Where tunnels led to."""
        self.refused = 0
        self.port = 0

    async def start(self) -> asyncio.Server:
        """Listen."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        expected = base64.b64encode(self.PASSWORD.encode()).decode()
        if method != "CONNECT" or f"Proxy-Authorization: Basic {expected}\r\n" not in head:
            self.refused += 1
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        self.asked.append(target)
        host, _, port = target.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(self._passed(reader, far_writer), self._passed(far_reader, writer))

    @staticmethod
    async def _passed(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while block := await source.read(65536):
                sink.write(block)
                await sink.drain()
        sink.close()


@pytest.fixture
async def tunnels() -> AsyncIterator[Tunnels]:
    """A proxy that listens."""
    found = Tunnels()
    server = await found.start()
    yield found
    server.close()


async def test_a_server_behind_a_proxy_is_reached_by_a_tunnel(
    server: str, authority: trustme.CA, tunnels: Tunnels, tmp_path: Path
) -> None:
    """Calls, which share their tunnels, and watches; the server's certificate is checked through it, under its own name too."""
    at = f"http://me:s3cret%2F@127.0.0.1:{tunnels.port}"
    path = kubeconfig(tmp_path, server.replace("localhost", "127.0.0.1"), authority, proxy_url=at, tls_server_name=NAME)
    port = server.split(":")[2].split("/")[0]

    async with await KubeClient.from_kubeconfig(str(path), "it", SETTINGS) as client:
        found = [await client.request("GET", "/api/v1/nodes") for _ in range(3)]
        calls = len(tunnels.asked)
        events = [event["type"] async for event in client.watch("/api/v1/pods", resource_version="5", query={})]

    assert {answer["token"] for answer in found} == {"Bearer secret"}
    assert (calls, events) == (1, ["ADDED"])
    assert set(tunnels.asked) == {f"127.0.0.1:{port}"}
    untrusted = kubeconfig(tmp_path, server, trustme.CA(), proxy_url=at)
    async with await KubeClient.from_kubeconfig(str(untrusted), "it", SETTINGS) as client:
        with pytest.raises(ClusterUnavailable, match="certificate verify failed"):
            await client.request("GET", "/api/v1/nodes")


async def test_a_proxy_that_refuses_a_tunnel_is_named(server: str, authority: trustme.CA, tunnels: Tunnels, tmp_path: Path) -> None:
    """With what it answered, and without the password that it did not take."""
    path = kubeconfig(tmp_path, server, authority, proxy_url=f"http://me:wrong@127.0.0.1:{tunnels.port}")

    async with await KubeClient.from_kubeconfig(str(path), "it", SETTINGS) as client:
        with pytest.raises(ClusterUnavailable, match=r"the proxy 127\.0\.0\.1:\d+ answered 'HTTP/1\.1 407 ") as refused:
            await client.request("GET", "/api/v1/nodes")

    assert "wrong" not in str(refused.value)
    assert (tunnels.asked, tunnels.refused > 0) == ([], True)
