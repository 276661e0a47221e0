"""Calls to an API server behind TLS, as real clusters are."""

from __future__ import annotations

import base64
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
    authority.issue_cert("localhost").configure_cert(context)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"https://localhost:{runner.addresses[0][1]}/k8s/clusters/c-1"
    await runner.cleanup()


def kubeconfig(folder: Path, server: str, authority: trustme.CA, *, token: str = "secret") -> Path:
    """A kubeconfig that trusts one authority."""
    trusted = base64.b64encode(authority.cert_pem.bytes()).decode()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": {"server": server, "certificate-authority-data": trusted}}],
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
