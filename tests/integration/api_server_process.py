"""One embedded API server as the process that users run, and raw calls to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
import orjson

from tests.commands import Started, start_program
from tests.waiting import WITHIN_S

ROOT = Path(__file__).parent.parent.parent
PODS = "/api/v1/namespaces/default/pods"
ADMIN, TANGO, KUBELET = "admin-token", "tango-token", "kubelet-token"
TOKENS = f"""{ADMIN},admin,1,"system:masters"
{TANGO},tango,2,"tango:scheduler"
{KUBELET},system:node:c1,3,"system:nodes"
known-token,somebody,4,"others"
"""
STRATEGIC, MERGE, JSON_PATCH = (f"application/{kind}+json" for kind in ("strategic-merge-patch", "merge-patch", "json-patch"))
Json = dict[str, Any]


class ApiServerProcess:
    """Start, kill and start again, on one data folder and one port."""

    def __init__(self, folder: Path, *options: str) -> None:
        """`options`: more of the server's command line."""
        self.folder = folder
        self.options = options
        self.port = 0
        self.process: Started | None = None
        (folder / "tokens.csv").write_text(TOKENS)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def journal(self) -> Path:
        """The file that survives."""
        return self.folder / "data" / "journal.jsonl"

    def launch(self) -> Started:
        """Begin to start it."""
        (self.folder / "port").unlink(missing_ok=True)
        command = ["workers.api_server", "--cluster", "c1", "--token-file", str(self.folder / "tokens.csv")]
        command += ["--data-dir", str(self.folder / "data"), "--port-file", str(self.folder / "port"), "--port", str(self.port)]
        command += self.options
        with (self.folder / "log").open("ab") as log:
            self.process = start_program(*command, output=log.fileno())
        return self.process

    def start(self) -> Self:
        """Start it and wait until it listens."""
        process, deadline_s = self.launch(), time.monotonic() + WITHIN_S
        while not (self.folder / "port").exists():
            assert process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        self.port = int((self.folder / "port").read_text())
        return self

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)
            self.process = None

    @asynccontextmanager
    async def calls(self, token: str = ADMIN) -> AsyncIterator[Calls]:
        """Raw calls under a token; empty for none."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        timeout = aiohttp.ClientTimeout(total=30, connect=5)
        async with aiohttp.ClientSession(self.url, headers=headers, timeout=timeout) as session:
            yield Calls(session)


class Calls:
    """Status and JSON of single calls."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def send(
        self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, kind: str = "application/json", **query: str
    ) -> tuple[int, Json]:
        """One call; an answer that is no JSON fails the test."""
        data = raw if raw is not None else None if body is None else orjson.dumps(body)
        headers = {"Content-Type": kind} if data is not None else {}
        async with self.session.request(method, path, data=data, headers=headers, params=query) as answer:
            return answer.status, orjson.loads(await answer.read())

    async def ok(self, method: str, path: str, body: Any = None, *, kind: str = "application/json", **query: str) -> Json:
        """One call that must succeed."""
        status, answer = await self.send(method, path, body, kind=kind, **query)
        assert status < 300, answer
        return answer

    async def events(self, path: str, *, until: int = 10**9, timeout_s: float = 1.0, **query: str) -> list[Json]:
        """Events of a watch until there are so many, or until the server ends the stream after `timeout_s`."""
        found: list[Json] = []
        query = {"watch": "1", "timeoutSeconds": str(max(1, round(timeout_s))), **query}
        async with self.session.get(path, params=query) as answer:
            assert answer.status == 200, await answer.text()
            async for line in answer.content:
                found.append(orjson.loads(line))
                if len(found) >= until:
                    break
        return found


def pod(name: str, *, labels: Json | None = None, cpu: str = "100m", limit: str = "500m") -> Json:
    """A Burstable pod."""
    resources = {"requests": {"cpu": cpu, "memory": "32Mi"}, "limits": {"cpu": limit, "memory": "64Mi"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **({"labels": labels} if labels else {})},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "work", "image": "w:1", "resources": resources}]},
    }


def binding(name: str, node: str = "n1", uid: str = "") -> Json:
    """Assign a pod."""
    metadata = {"name": name, **({"uid": uid} if uid else {})}
    return {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": {"kind": "Node", "name": node}}


async def eventually(holds: Any, timeout_s: float = WITHIN_S) -> None:
    """Wait until something holds; fails when it does not in time."""
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.01)
