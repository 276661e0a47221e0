"""Calls to an API server that answers by a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tango.errors import (
    BudgetExhausted,
    ClusterError,
    ClusterUnavailable,
    ConfigError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Throttled,
)
from tango.kube.api_client import KubeClient
from tango.kube.credentials import Credentials
from tango.kube.pacing import Pace
from tango.settings import KubeSettings

SETTINGS = KubeSettings(
    attempts=3,
    backoff_base_s=0.001,
    backoff_cap_s=0.002,
    connect_timeout_s=1.0,
    read_timeout_s=0.2,
    credentials_every_s=0.0,
    credentials_again_s=0.0,
)
TestServer.__test__ = False  # type: ignore[attr-defined]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Script:
    """A server that gives the next answer of `answers` to each call, the last one for ever; `seen` has the calls."""

    def __init__(self) -> None:
        self.answers: list[web.StreamResponse | Answer] = []
        self.seen: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer."""
        self.seen.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request) if callable(answer) else answer


def refusal(status: int, *, reason: str = "", causes: list[dict[str, str]] | None = None) -> Answer:
    """A Status object."""

    async def answer(_: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = {"kind": "Status", "code": status, "reason": reason, "message": "because"}
        return web.json_response(body | ({"details": {"causes": causes}} if causes else {}), status=status)

    return answer


def good(body: Any) -> Answer:
    """200 with JSON."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(body)

    return answer


def stream(*lines: bytes) -> Answer:
    """A watch that sends these lines and ends."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for line in lines:
            await response.write(line)
        return response

    return answer


async def dropped(request: web.Request) -> web.StreamResponse:
    """The connection breaks before an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def silent(_: web.Request) -> web.StreamResponse:
    """No answer within any timeout of these tests."""
    await asyncio.sleep(30)
    return web.Response()


@pytest.fixture
def script() -> Script:
    """What the server answers."""
    return Script()


@pytest.fixture
async def client(script: Script, tmp_path: Path) -> AsyncIterator[KubeClient]:
    """A client of the scripted server, by a kubeconfig with a token."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.handle)
    async with TestServer(app, shutdown_timeout=0.1) as server:
        path = write_kubeconfig(tmp_path, str(server.make_url("/")))
        async with await KubeClient.from_kubeconfig(str(path), "it", SETTINGS, cluster="c1") as client:
            yield client


def write_kubeconfig(folder: Path, url: str) -> Path:
    """One context, `it`."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document))
    return path


async def test_the_token_of_the_kubeconfig_is_sent(client: KubeClient, script: Script) -> None:
    """Authentication comes from the official loader."""
    script.answers = [good({"ok": 1})]
    assert await client.request("GET", "/api/v1/nodes") == {"ok": 1}
    assert script.seen[0].headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("answer", [refusal(429), refusal(500), refusal(503), refusal(504), dropped, silent])
async def test_what_may_pass_is_repeated(client: KubeClient, script: Script, answer: Answer) -> None:
    """Overload, server errors, lost connections and silence are repeated until an answer comes."""
    script.answers = [answer, answer, good({"ok": 1})]
    assert await client.request("GET", "/x") == {"ok": 1}
    assert len(script.seen) == 3


@pytest.mark.parametrize(
    ("answer", "error"),
    [(refusal(429), Throttled), (refusal(503), ClusterUnavailable), (dropped, ClusterUnavailable), (silent, ClusterUnavailable)],
)
async def test_the_repeats_are_counted(client: KubeClient, script: Script, answer: Answer, error: type[Exception]) -> None:
    """After `attempts` the failure is told as what it was; the HTTP library repeats no POST of its own accord."""
    script.answers = [answer]
    with pytest.raises(error):
        await client.request("POST", "/x", body={})
    assert len(script.seen) == SETTINGS.attempts


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Invalid),
        (401, Forbidden),
        (403, Forbidden),
        (404, NotFound),
        (405, ClusterError),
        (409, Conflict),
        (410, Gone),
        (422, Invalid),
    ],
)
async def test_a_refusal_is_never_repeated(client: KubeClient, script: Script, status: int, error: type[ClusterError]) -> None:
    """4xx other than 429: the same call would be refused again."""
    script.answers = [refusal(status, reason="Why")]
    with pytest.raises(error) as raised:
        await client.request("POST", "/x", body={})
    assert (raised.value.status, raised.value.reason, len(script.seen)) == (status, "Why", 1)


async def test_a_spent_budget_is_not_taken_for_overload(client: KubeClient, script: Script) -> None:
    """429 has two meanings; `details.causes` tells them apart, and a budget is not asked again at once."""
    script.answers = [refusal(429, causes=[{"reason": "DisruptionBudget", "message": "no"}])]
    with pytest.raises(BudgetExhausted):
        await client.request("POST", "/eviction", body={})
    assert len(script.seen) == 1


async def test_something_that_is_no_api_server_is_named(client: KubeClient, script: Script) -> None:
    """A login page with status 200 is an error of ours, not a traceback of the JSON parser."""
    script.answers = [web.Response(text="<html>log in</html>")]
    with pytest.raises(ClusterError, match=r"is http://.* an API server"):
        await client.request("GET", "/x")


async def test_a_collection_is_read_page_by_page(client: KubeClient, script: Script) -> None:
    """`continue` is followed; the version to watch from is the last page's."""
    script.answers = [
        good({"metadata": {"continue": "more", "resourceVersion": "7"}, "items": [{"a": 1}]}),
        good({"metadata": {"resourceVersion": "7"}, "items": [{"a": 2}]}),
    ]
    assert await client.list("/pods", labelSelector="x=y") == ([{"a": 1}, {"a": 2}], "7")
    assert [(r.query.get("continue"), r.query["labelSelector"]) for r in script.seen] == [(None, "x=y"), ("more", "x=y")]


async def watched(client: KubeClient) -> list[str]:
    """Types of all events."""
    return [event["type"] async for event in client.watch("/pods", resource_version="5", query={})]


async def test_a_watch_gives_events_until_the_server_ends_it(client: KubeClient, script: Script) -> None:
    """Lines may come in pieces; bookmarks are asked for and passed on."""
    script.answers = [stream(b'{"type":"ADDED","obj', b'ect":{}}\n{"type":"BOOKMARK","object":{}}\n')]
    assert await watched(client) == ["ADDED", "BOOKMARK"]
    assert (script.seen[0].query["resourceVersion"], script.seen[0].query["allowWatchBookmarks"]) == ("5", "true")


@pytest.mark.parametrize("answer", [refusal(410), stream(b'{"type":"ERROR","object":{"kind":"Status","code":410}}\n')])
async def test_a_version_out_of_history_is_gone(client: KubeClient, script: Script, answer: Answer) -> None:
    """410 comes as a status or inside the stream; both mean the same."""
    script.answers = [answer]
    with pytest.raises(Gone):
        await watched(client)


@pytest.mark.parametrize("answer", [stream(b'{"type":"ADDED","obj'), dropped])
async def test_a_watch_that_breaks_is_told(client: KubeClient, script: Script, answer: Answer) -> None:
    """An event cut in its middle is not taken for an event."""
    script.answers = [answer]
    with pytest.raises(ClusterUnavailable):
        await watched(client)


@pytest.mark.parametrize("content", ["", "- a", "{", "clusters: 1", "apiVersion: v1\nkind: Config\ncontexts: []"])
async def test_a_file_that_is_no_kubeconfig_is_a_config_error(tmp_path: Path, content: str) -> None:
    """Whatever the library trips over becomes one error with the path."""
    (tmp_path / "kubeconfig").write_text(content)
    with pytest.raises(ConfigError, match="kubeconfig"):
        await KubeClient.from_kubeconfig(str(tmp_path / "kubeconfig"), "it", SETTINGS)


async def test_a_missing_file_or_context_is_a_config_error(tmp_path: Path) -> None:
    """The path and the context stand in the message."""
    with pytest.raises(ConfigError, match="nowhere"):
        await KubeClient.from_kubeconfig(str(tmp_path / "nowhere"), "it", SETTINGS)
    path = write_kubeconfig(tmp_path, "http://127.0.0.1:1")
    with pytest.raises(ConfigError, match="'other'"):
        await KubeClient.from_kubeconfig(str(path), "other", SETTINGS)


# ---- credentials -------------------------------------------------------------------------------------------------------


def expects(token: str) -> Answer:
    """401 for any other token."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {token}":
            return await refusal(401, reason="Unauthorized")(request)
        return web.json_response({"metadata": {}})

    return answer


def write_user(folder: Path, user: dict[str, Any]) -> None:
    """The kubeconfig with another user."""
    path = folder / "kubeconfig"
    document = json.loads(path.read_text())
    document["users"][0]["user"] = user
    path.write_text(json.dumps(document))


async def test_a_token_that_is_written_anew_is_used_at_once(script: Script, client: KubeClient, tmp_path: Path) -> None:
    """By its file, relative to the kubeconfig and with a line break at its end, as tokens of service accounts are renewed."""
    (tmp_path / "token").write_text("old\n")
    write_user(tmp_path, {"tokenFile": "token"})
    script.answers = [expects("old")]
    await client.request("GET", "/api")
    (tmp_path / "token").write_text("newer\n")
    script.answers = [expects("newer")]

    await client.request("GET", "/api")

    assert [r.headers["Authorization"] for r in script.seen] == ["Bearer old", "Bearer newer"]


async def test_after_a_401_the_credentials_are_read_again_and_the_call_is_sent_once_more(
    script: Script, tmp_path: Path, client: KubeClient
) -> None:
    """Also where no file has changed, as a plug-in's token may be revoked; a watch that was refused reads them for its next try."""
    tokens = tmp_path / "tokens"
    tokens.write_text("first")
    plugin = tmp_path / "plugin"
    plugin.write_text(
        f"""#!/bin/sh
printf '{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{{"token":"%s"}}}}' "$(cat {tokens})"
"""
    )
    plugin.chmod(0o700)
    write_user(tmp_path, {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}})
    script.answers = [expects("first")]
    await client.request("GET", "/api")
    tokens.write_text("second")
    script.answers = [expects("second")]

    await client.request("GET", "/api")
    tokens.write_text("third")
    script.answers = [expects("third")]
    with pytest.raises(Forbidden):
        [event async for event in client.watch("/api", resource_version="1", query={})]

    assert [r.headers["Authorization"] for r in script.seen] == [f"Bearer {t}" for t in ("first", "first", "second", "second")]
    await client.request("GET", "/api")


async def test_a_401_with_the_same_credentials_says_so_once(script: Script, client: KubeClient) -> None:
    """It is about the cluster, and not repeated by the call."""
    script.answers = [refusal(401, reason="Unauthorized")]

    with pytest.raises(Forbidden) as error:
        await client.request("GET", "/api")

    assert (error.value.refusal, error.value.words, len(script.seen)) == ("credentials", "because", 1)


async def test_a_kubeconfig_that_cannot_be_read_any_more_leaves_what_was_read(
    script: Script, client: KubeClient, tmp_path: Path
) -> None:
    """Somebody is writing it just now."""
    script.answers = [expects("secret")]
    (tmp_path / "kubeconfig").write_text("{")
    await client.request("GET", "/api")
    (tmp_path / "kubeconfig").unlink()
    await client.request("GET", "/api")

    assert len(script.seen) == 2


@pytest.mark.parametrize(
    ("command", "words"),
    [("/nowhere/plugin", "/nowhere/plugin"), ("/bin/false", "'/bin/false' failed"), ("/bin/true", "'/bin/true' failed")],
)
async def test_a_plug_in_that_fails_is_a_config_error(tmp_path: Path, command: str, words: str) -> None:
    """And not a call as nobody, which the server refuses for another reason."""
    path = write_kubeconfig(tmp_path, "http://127.0.0.1:1")
    write_user(tmp_path, {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": command}})

    with pytest.raises(ConfigError, match=words):
        await KubeClient.from_kubeconfig(str(path), "it", SETTINGS)


class Counted(Pace):
    """Counts how often the server was found to be asked too much."""

    refused = 0

    def slowed(self) -> None:
        """One more."""
        self.refused += 1


async def test_a_server_that_says_too_many_is_asked_less_often(script: Script, client: KubeClient) -> None:
    """429 by flow control and 503; neither an eviction that a budget forbids nor any other failure says so."""
    budget = refusal(429, causes=[{"reason": "DisruptionBudget", "message": "no"}])
    script.answers = [refusal(429), refusal(503), good({}), refusal(500), good({}), budget]
    client._pace = pace = Counted(1e6, 1000)

    await client.request("GET", "/api/v1/nodes")
    await client.request("GET", "/api/v1/nodes")
    with pytest.raises(BudgetExhausted):
        await client.request("POST", "/api/v1/evictions", body={})

    assert pace.refused == 2


@pytest.mark.parametrize("url", ["socks5://me:hidden@proxy:1080", "https://me:hidden@proxy:3128", "http://:3128", "proxy:3128"])
async def test_a_proxy_that_is_not_spoken_to_is_refused_and_not_passed_by(tmp_path: Path, url: str) -> None:
    """A cluster behind one would only be found silent. What it is asked with is not told."""
    path = write_kubeconfig(tmp_path, "http://127.0.0.1:1")
    document = json.loads(path.read_text())
    document["clusters"][0]["cluster"]["proxy-url"] = url
    path.write_text(json.dumps(document))

    with pytest.raises(ConfigError, match=r"proxy-url is .*, expected http://HOST:PORT") as refused:
        await KubeClient.from_kubeconfig(str(path), "it", SETTINGS)
    assert "hidden" not in str(refused.value)


async def test_a_server_at_an_ipv6_address_below_a_path(tmp_path: Path) -> None:
    """Brackets in the URL and in the header, none in the connection."""
    path = write_kubeconfig(tmp_path, "http://[::1]:6443/k8s/clusters/c-1/")

    found = await Credentials(str(path), "it").load()

    assert (found.origin.host, found.origin.port) == ("::1", 6443)
    assert (found.host, found.prefix) == ("[::1]:6443", "/k8s/clusters/c-1")
