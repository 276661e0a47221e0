"""`pods/log` of the embedded API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tango.emulation.api_server.authorization import Authorizer, User
from tango.emulation.api_server.journal import ObjectLog
from tango.emulation.api_server.resources import BY_PLACE
from tango.emulation.api_server.server import ApiServer
from tango.emulation.api_server.storage import Storage
from tango.emulation.pod_logs import BoundedLog, log_path, pod_folder
from tests.waiting import WITHIN_S

Json = dict[str, Any]
PODS = "/api/v1/namespaces/tango/pods"
"""Of one pod with two containers, `work` and `side`."""


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """Calls to a server whose pods' logs lie in `tmp_path`."""
    authorizer = Authorizer({"root": User("root", ("system:masters",)), "tango": User("tango", ("tango:scheduler",))})
    server = ApiServer(Storage(ObjectLog(None), history=100), authorizer, pods=tmp_path)
    async with (
        server.listening("127.0.0.1", 0) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers={"Authorization": "Bearer root"}) as made,
    ):
        await made.post("/api/v1/namespaces", json={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tango"}})
        yield made


async def made_pod(session: aiohttp.ClientSession, **status: Any) -> Json:
    """A pod on a node, with two containers, the status of `work` as given."""
    containers = [{"name": "work", "image": "a"}, {"name": "side", "image": "b"}]
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": containers}}
    async with session.post(PODS, json=body) as answer:
        assert answer.status == 201
        pod: Json = await answer.json()
    await tell(session, **status)
    return pod


async def tell(session: aiohttp.ClientSession, **status: Any) -> None:
    """Write the status of `work`."""
    body = {"status": {"phase": "Running", "containerStatuses": [{"name": "work", "restartCount": 0, **status}]}}
    async with session.patch(
        f"{PODS}/p/status", json=body, headers={"Content-Type": "application/strategic-merge-patch+json"}
    ) as answer:
        assert answer.status == 200


async def text(session: aiohttp.ClientSession, **query: str) -> tuple[int, str]:
    """Status and body of a GET of the log of `work`, other container by `container=`."""
    async with session.get(f"{PODS}/p/log", params={"container": "work", **query}) as answer:
        found = await answer.text() if answer.status == 200 else (await answer.json())["message"]
        return answer.status, found


def log_of(tmp_path: Path, pod: Json, restart: int = 0) -> BoundedLog:
    """The file that the kubelet would write."""
    metadata = pod["metadata"]
    return BoundedLog(log_path(pod_folder(tmp_path, "tango", metadata["name"], metadata["uid"]), "work", restart))


RUNNING = {"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
ENDED = {"state": {"terminated": {"exitCode": 0}}}


async def test_a_log_is_given_whole_by_its_end_and_up_to_a_size(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """`tailLines` and `limitBytes`, as a client asks for the end of a log that may be large."""
    log = log_of(tmp_path, await made_pod(session, **ENDED))
    log.write(b"one\ntwo\nthree\n")

    assert await text(session) == (200, "one\ntwo\nthree\n")
    assert await text(session, tailLines="2") == (200, "two\nthree\n")
    assert await text(session, limitBytes="5") == (200, "one\nt")


async def test_a_followed_log_ends_when_the_container_does(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """What is written last is given too."""
    log = log_of(tmp_path, await made_pod(session, **RUNNING))
    log.write(b"one\n")
    following = asyncio.create_task(text(session, follow="true"))
    await asyncio.sleep(0.3)
    assert not following.done()

    log.write(b"two\n")
    await tell(session, **ENDED)

    assert await asyncio.wait_for(following, WITHIN_S) == (200, "one\ntwo\n")


async def test_the_life_before_has_a_log_of_its_own(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """`previous`, also while the container waits for its next life."""
    pod = await made_pod(session, **RUNNING)
    log_of(tmp_path, pod).write(b"first life\n")
    assert await text(session, previous="true") == (400, 'previous terminated container "work" in pod "p" not found')

    await tell(session, state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState={"terminated": {"exitCode": 1}})
    assert await text(session, previous="true") == (200, "first life\n")

    log_of(tmp_path, pod, restart=1).write(b"second life\n")
    await tell(session, restartCount=1, **RUNNING)
    assert await text(session, previous="true") == (200, "first life\n")
    assert await text(session) == (200, "second life\n")


async def test_what_cannot_be_read_is_told_as_kubernetes_does(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """No pod, no such container, several containers and none named, one that waits for its image."""
    async with session.get(f"{PODS}/none/log") as answer:
        assert answer.status == 404
    await made_pod(session, state={"waiting": {"reason": "ImagePullBackOff"}})

    assert await text(session) == (400, 'container "work" in pod "p" is waiting to start: ImagePullBackOff')
    assert await text(session, container="nobody") == (400, "container nobody is not valid for pod p")
    async with session.get(f"{PODS}/p/log") as answer:
        assert (await answer.json())["message"] == "a container name must be specified for pod p, choose one of: [work side]"
    assert (await text(session, timestamps="true"))[0] == 400


async def test_tango_may_read_logs_and_no_more_of_them(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """The scheduler's role has get of pods/log."""
    await made_pod(session, **ENDED)
    headers = {"Authorization": "Bearer tango"}
    async with session.get(f"{PODS}/p/log", params={"container": "work"}, headers=headers) as answer:
        assert (answer.status, await answer.text()) == (200, "")
    async with session.post(f"{PODS}/p/log", json={}, headers=headers) as answer:
        assert answer.status == 403
    assert "log" in BY_PLACE["", "v1", "pods"].subresources
