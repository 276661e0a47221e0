"""What the embedded API server has acknowledged is there after SIGKILL, and clients can tell that it was away."""

from __future__ import annotations

import asyncio
import resource
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tests.integration.api_server_process import MERGE, PODS, ApiServerProcess, Calls, binding, eventually, pod

LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
METRICS = "/apis/metrics.k8s.io/v1beta1/nodes"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServerProcess]:
    """A running server, killed at the end."""
    found = ApiServerProcess(tmp_path)
    try:
        yield found.start()
    finally:
        found.kill()


@dataclass(slots=True)
class Ledger:
    """What a writer was told, by pod: "created", "bound", "labelled", "deleted"; and what it was about to do when the server died."""

    told: dict[str, str] = field(default_factory=dict)
    uncertain: set[str] = field(default_factory=set)
    newest: int = 0
    calls: int = 0

    async def write(self, server: ApiServerProcess, writer: int, round_: int) -> None:
        """Create, bind, label and delete pods until the server is gone."""
        async with server.calls() as api:
            for k in range(10**6):
                name = f"p-{round_}-{writer}-{k}"
                try:
                    await self._step(api, name, "created", "POST", PODS, pod(name))
                    await self._step(api, name, "bound", "POST", f"{PODS}/{name}/binding", binding(name))
                    patch = {"metadata": {"labels": {"k": str(k)}}}
                    await self._step(api, name, "labelled", "PATCH", f"{PODS}/{name}", patch, MERGE)
                    if k % 3 == 0:
                        await self._step(api, name, "deleted", "DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})
                except (aiohttp.ClientError, OSError):
                    self.uncertain.add(name)
                    return

    async def _step(
        self, api: Calls, name: str, state: str, method: str, path: str, body: dict[str, object], kind: str = "application/json"
    ) -> None:
        answer = await api.ok(method, path, body, kind=kind)
        self.told[name] = state
        self.newest = max(self.newest, int((answer.get("metadata") or {}).get("resourceVersion", 0)))
        self.calls += 1


async def test_everything_acknowledged_outlives_repeated_sigkill(server: ApiServerProcess) -> None:
    """Four writers are killed in the middle, five times; each write that was answered is there, each state as told, and no more."""
    ledger, lowest = Ledger(), 0
    for round_ in range(5):
        before = ledger.calls
        writers = [asyncio.create_task(ledger.write(server, w, round_)) for w in range(4)]
        await eventually(lambda before=before: ledger.calls > before + 150)
        server.kill()
        await asyncio.gather(*writers)
        server.start()

        async with server.calls() as api:
            listed = await api.ok("GET", PODS)
        assert int(listed["metadata"]["resourceVersion"]) > max(ledger.newest, lowest)
        lowest = int(listed["metadata"]["resourceVersion"])
        there = {p["metadata"]["name"]: p for p in listed["items"]}
        for name, state in ledger.told.items():
            if name in ledger.uncertain:
                continue
            assert (name in there) == (state != "deleted"), (name, state)
        for name, found in there.items():
            if name in ledger.uncertain:
                continue
            assert (found["spec"].get("nodeName") == "n1") == (ledger.told[name] in ("bound", "labelled")), name
            assert bool(found["metadata"].get("labels")) == (ledger.told[name] == "labelled"), name
        # What was about to happen may have happened or not; what had been told of the same pod still holds.
        for name in ledger.uncertain & ledger.told.keys():
            assert name in there or ledger.told[name] == "labelled", name
    assert len(ledger.told) > 100


async def test_objects_are_the_same_bytes_after_a_restart(server: ApiServerProcess) -> None:
    """Uid, resource version, defaults and status of every object are as they were."""
    async with server.calls() as api:
        await api.ok("POST", PODS, pod("a", labels={"x": "y"}))
        await api.ok("POST", f"{PODS}/a/binding", binding("a"))
        await api.ok("POST", LEASES, {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}})
        before = [await api.ok("GET", path) for path in (f"{PODS}/a", f"{LEASES}/l", "/api/v1/namespaces/default")]
    server.kill()
    server.start()
    async with server.calls() as api:
        assert [await api.ok("GET", path) for path in (f"{PODS}/a", f"{LEASES}/l", "/api/v1/namespaces/default")] == before


async def test_an_older_watch_is_told_to_list_again_after_a_restart(server: ApiServerProcess) -> None:
    """History is not kept: 410 inside the stream, whatever old version is asked for; a new list can be watched from."""
    async with server.calls() as api:
        first = (await api.ok("POST", PODS, pod("a")))["metadata"]["resourceVersion"]
        last = (await api.ok("GET", PODS))["metadata"]["resourceVersion"]
    server.kill()
    server.start()
    async with server.calls() as api:
        for version in (first, last):
            (event,) = await api.events(PODS, resourceVersion=version)
            assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
        version = (await api.ok("GET", PODS))["metadata"]["resourceVersion"]
        await api.ok("POST", PODS, pod("b"))
        (event,) = await api.events(PODS, until=1, resourceVersion=version)
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "b")


async def test_versions_do_not_go_back_when_only_metrics_were_written(server: ApiServerProcess) -> None:
    """Metrics live in memory, so they may not move the version that lists tell beyond what a restart remembers."""
    async with server.calls() as api:
        for k in range(300):
            await api.ok("PUT", f"{METRICS}/n{k % 3}", {"metadata": {"name": f"n{k % 3}"}, "usage": {"cpu": f"{k}n"}})
        before = int((await api.ok("GET", PODS))["metadata"]["resourceVersion"])
    server.kill()
    server.start()
    async with server.calls() as api:
        assert int((await api.ok("GET", PODS))["metadata"]["resourceVersion"]) > before


async def test_a_full_disk_refuses_writes_and_loses_none(server: ApiServerProcess) -> None:
    """A write that the journal cannot take is answered 500 and has not happened; later ones work, and all outlive SIGKILL."""
    assert server.process is not None
    async with server.calls() as api:
        await api.ok("POST", PODS, pod("before"))
        most_bytes = server.journal.stat().st_size + 700
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
        refused = 0
        for k in range(4):
            status, answer = await api.send("POST", PODS, pod(f"full-{k}"))
            refused += status == 500
            assert status in (201, 500)
            assert status == 201 or (answer["kind"], answer["reason"]) == ("Status", "InternalError")
            assert (await api.send("GET", f"{PODS}/full-{k}"))[0] == (200 if status == 201 else 404)
        assert refused >= 3
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await api.ok("POST", PODS, pod("after"))
        names = {p["metadata"]["name"] for p in (await api.ok("GET", PODS))["items"]}
    server.kill()
    server.start()
    async with server.calls() as api:
        assert {p["metadata"]["name"] for p in (await api.ok("GET", PODS))["items"]} == names


def test_a_second_server_on_the_same_folder_is_refused(server: ApiServerProcess) -> None:
    """Two servers would write over each other."""
    second = ApiServerProcess(server.folder)
    process = second.launch()
    try:
        assert process.wait(timeout=30) != 0
    finally:
        second.kill()
    assert "in use" in (server.folder / "log").read_text()


def test_a_damaged_journal_is_refused_by_line(server: ApiServerProcess) -> None:
    """Damage before the end is no torn write: nothing is dropped in silence, the server names the line and does not start."""
    server.kill()
    lines = server.journal.read_bytes().splitlines(keepends=True)
    server.journal.write_bytes(b"".join([lines[0], b"\0\0broken\n", *lines[1:]]))
    kept = server.journal.read_bytes()
    process: subprocess.Popen[bytes] = server.launch()
    assert process.wait(timeout=30) != 0
    assert "line 2" in (server.folder / "log").read_text()
    assert server.journal.read_bytes() == kept
