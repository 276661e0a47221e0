"""One Kubernetes cluster of a chaos world: the embedded API server's own objects without its HTTP, clients with the production client's
retries over the simulated network, and kubelets that admit, run and end pods."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import orjson

from tango.domain.fleet import Cluster
from tango.domain.pod_marks import JOB
from tango.domain.quantities import cpu_millicores, memory_mib
from tango.emulation.api_server.bodies import change_of, delete_options, object_of
from tango.emulation.api_server.failures import Refused, expired
from tango.emulation.api_server.journal import ObjectLog
from tango.emulation.api_server.objects import Objects
from tango.emulation.api_server.pod_calls import bind, evict
from tango.emulation.api_server.resources import BY_PLACE
from tango.emulation.api_server.selectors import matcher
from tango.emulation.api_server.storage import Storage, StoredChange
from tango.emulation.virtual_kubelet import node_objects
from tango.errors import ClusterUnavailable
from tango.kube.api_client import STRATEGIC_PATCH, KubeClient
from tango.kube.http_exchange import HttpAnswer
from tango.kube.pacing import Pace
from tango.settings import KubeSettings
from tests.chaos.network import Network
from tests.chaos.timeline import Machine, Process, Timeline

Json = dict[str, Any]
PODS, NODES = BY_PLACE["", "v1", "pods"], BY_PLACE["", "v1", "nodes"]
JOBS_FAIL, EXIT_CODE = 0.15, 3
"""Part of the attempts of jobs that fail by themselves, and with which exit code."""
ACCESS: Any = SimpleNamespace(base="sim", prefix="", host="sim", origin=None, authorization="")


class InOrder(dict[Any, None]):
    """A set that keeps its order: that of functions, by their addresses, differs from run to run."""

    def add(self, item: Any) -> None:
        """At the end."""
        self[item] = None

    def discard(self, item: Any) -> None:
        """If it is there."""
        self.pop(item, None)


class ApiServer:
    """The API server of one cluster; what it has acknowledged outlives it."""

    def __init__(self, cluster: Cluster, timeline: Timeline, network: Network) -> None:
        self.cluster, self.timeline, self.network = cluster, timeline, network
        self.storage = Storage(ObjectLog(None), history=1000)
        self.objects = Objects(self.storage)
        self.pods, self.nodes = self.storage.of(PODS), self.storage.of(NODES)
        for collection in self.storage.collections.values():
            collection.listeners = InOrder()  # type: ignore[assignment]
        self.down_until_s = 0.0
        self.throttles_until_s = 0.0
        self.lags_until_s = 0.0
        """Until then watches tell late: their cache is stale."""
        self.lag_s = 0.0
        self.watches = InOrder()

    def answer(self, method: str, path: str, raw: bytes, query: Mapping[str, str], kind: str) -> tuple[int, bytes]:
        """(status, body) of one call."""
        try:
            return self._answer(method, path, raw, query, kind)
        except Refused as refused:
            return refused.code, refused.payload()

    def _answer(self, method: str, path: str, raw: bytes, query: Mapping[str, str], kind: str) -> tuple[int, bytes]:
        parts = [p for p in path.split("/") if p]
        if parts == ["version"]:
            return 200, b"{}"
        group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
        namespace = None
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        resource = BY_PLACE.get((group, version, rest[0]))
        if resource is None:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        collection, name, sub = self.storage.of(resource), *[*rest[1:], "", ""][:2]
        key = (namespace or "", name)
        if method == "GET":
            reply = self.objects.get(collection, key) if name else self.objects.list(collection, namespace, query)
        elif method == "POST" and sub == "binding":
            reply = bind(self.objects, collection, key, orjson.loads(raw), False)
        elif method == "POST" and sub == "eviction":
            reply = evict(self.objects, collection, key, orjson.loads(raw), False)
        elif method == "POST":
            reply = self.objects.create(collection, namespace, object_of(raw, "application/json", resource), False)
        elif method == "PATCH":
            reply = self.objects.update(collection, key, sub, change_of(raw, kind), False, name)
        else:
            reply = self.objects.delete(collection, key, delete_options(raw, query), False)
        return reply.status, reply.body

    def restart(self, *, compacts: bool) -> None:
        """Cut all watches; with `compacts` their versions are forgotten too."""
        if compacts:
            self.storage.forget_history()
        for watch in list(self.watches):
            watch.cut()


@dataclass(eq=False, slots=True)
class Watch:
    """One client's watch."""

    events: asyncio.Queue[Json | None]
    broken: bool = False

    def cut(self) -> None:
        """The connection breaks."""
        self.broken = True
        self.events.put_nowait(None)


class Client(KubeClient):
    """The production client with another wire: its retries, pacing and errors are its own."""

    def __init__(self, server: ApiServer, settings: KubeSettings) -> None:
        self.cluster = server.cluster.name
        self._server = server
        self._settings = settings
        self._access = ACCESS
        self._concurrent = asyncio.Semaphore(settings.concurrency)
        # Bound at each call: the clock is that of the world that runs.
        self._pace = Pace(settings.calls_per_s, settings.calls_at_once, now_s=lambda: server.timeline.now_s)

    async def close(self) -> None:
        """Nothing is open."""

    async def _current(self) -> Any:
        return ACCESS

    async def _renewed(self, refused: Any) -> Any:
        return refused

    async def _once(self, access: Any, method: str, path: str, data: Any, query: Any, content_type: Any) -> HttpAnswer:
        server, timeline, network = self._server, self._server.timeline, self._server.network
        process = timeline.current
        assert process is not None
        here, there = process.machine.name, self.cluster
        within_s = self._settings.read_timeout_s
        closed_s = max(network.open_in_s(here, there), server.down_until_s - timeline.now_s)
        if closed_s > 0.0:
            if server.down_until_s > timeline.now_s:
                network.seen.add("API server away")
            await asyncio.sleep(min(closed_s, within_s))
            if closed_s > within_s:
                raise TimeoutError(f"no answer within {within_s:g} s")
        await asyncio.sleep(network.latency_s(here, there))
        if server.throttles_until_s > timeline.now_s and network.dice.random() < 0.5:
            network.seen.add("throttled")
            return HttpAnswer(429, {b"retry-after": b"1"}, b'{"reason": "TooManyRequests", "message": "busy"}', True)
        kind = content_type or (STRATEGIC_PATCH if method == "PATCH" else "application/json")
        with timeline.step(f"{self.cluster}: {method} {path}", 0.0):
            status, body = server.answer(method, path, data or b"", query or {}, kind)
        if network.loses_answer(here, there):
            await asyncio.sleep(within_s)
            raise TimeoutError("the answer was lost")
        return HttpAnswer(status, {}, body, True)

    async def stream(self, path: str, *, query: Mapping[str, str] | None = None, idle_s: float = 0.0) -> AsyncIterator[bytes]:
        """The log of a container, of which there is one line."""
        answer = await self._once(ACCESS, "GET", path.removesuffix("/log"), None, query, None)
        if answer.status >= 300:
            raise self._refusal(answer.status, answer.body, "GET", path)
        yield b"worked\n"

    async def watch(
        self,
        path: str,
        *,
        resource_version: str,
        query: Mapping[str, str],
        timeout_s: int = 60,
        on_open: Callable[[], object] = lambda: None,
    ) -> AsyncIterator[Json]:
        """As `KubeClient.watch`, without bytes."""
        server, timeline, network = self._server, self._server.timeline, self._server.network
        process = timeline.current
        assert process is not None
        here, there = process.machine.name, self.cluster
        await asyncio.sleep(network.latency_s(here, there))
        if network.open_in_s(here, there) > 0.0 or server.down_until_s > timeline.now_s:
            await asyncio.sleep(self._settings.connect_timeout_s)
            raise ClusterUnavailable(f"the watch of {path} cannot be opened", cluster=self.cluster)
        parts = [p for p in path.split("/") if p]
        resource = BY_PLACE["", "v1", parts[-1]]
        collection = server.storage.of(resource)
        namespace = parts[3] if parts[2] == "namespaces" else None
        match = matcher(resource, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        watch = Watch(asyncio.Queue())

        life = process.life

        def tell(change: StoredChange) -> None:
            if not process.alive or process.life != life:
                collection.listeners.discard(tell)
                server.watches.discard(watch)
                return
            if namespace is not None and change.key[0] != namespace:
                return
            was = change.before is not None and (match is None or match(change.before.item))
            now = not change.gone and (match is None or match(change.after.item))
            if now or was:
                event = {"type": "MODIFIED" if was and now else "ADDED" if now else "DELETED", "object": change.after.item}
                late_s = 0.0
                if server.lags_until_s > timeline.now_s:
                    network.seen.add("stale watch")
                    late_s = server.lag_s
                # Events of one watch keep their order, however late they are, and also after a pause, when all that has come meanwhile
                # is seen at one instant in any order.
                nonlocal told_at_s
                told_at_s = max(told_at_s, timeline.now_s + late_s + network.latency_s(there, there))
                on_the_way.append(event)
                timeline.at(told_at_s, lambda: watch.events.put_nowait(on_the_way.popleft()), process)

        told_at_s, on_the_way = 0.0, deque[Json]()
        since = int(resource_version)
        if since < collection.oldest - 1 and since < server.storage.version:
            network.seen.add("watch too old")
            raise self._refusal(410, expired(resource_version, collection.oldest).payload(), "WATCH", path)
        for change in collection.changes:
            if change.version > since:
                tell(change)
        collection.listeners.add(tell)
        server.watches.add(watch)
        on_open()
        try:
            ends_at_s = timeline.now_s + timeout_s
            while True:
                event = None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, ends_at_s - timeline.now_s)):
                        event = await watch.events.get()
                closed_s = network.open_in_s(here, there)
                if closed_s > 0.0:  # TCP holds back what is sent; a line that stays cut breaks the watch in the end
                    await asyncio.sleep(min(closed_s, 70.0))
                if watch.broken or closed_s > 70.0:
                    raise ClusterUnavailable(f"the watch of {path} broke", cluster=self.cluster)
                if event is None:
                    return
                yield event
        finally:
            collection.listeners.discard(tell)
            server.watches.discard(watch)


@dataclass(slots=True)
class Running:
    """A pod in a kubelet's hands."""

    pod: Json
    started_s: float
    work_s: float
    life: int


@dataclass(slots=True)
class Kubelets:
    """The kubelets of one cluster, one process: they see their server's pods without a network, start them, run them and end them.

    They keep the promises that Tango builds on: a pod is admitted only where its requests fit, runs once under its uid, and is gone from
    the server only when it does not run any more.
    """

    server: ApiServer
    timeline: Timeline
    dice: random.Random
    told: Callable[[str, Json, bool], None]
    """(cluster, pod, whether it begins) of every BE pod that begins or ends to run."""
    running: dict[str, Running] = field(default_factory=dict)
    """By uid."""
    down: dict[str, float] = field(default_factory=dict)
    """Nodes that are down, with when they come back."""
    hangs: dict[str, float] = field(default_factory=dict)
    """Nodes whose kubelet does nothing, and whose pods do not answer, until a time."""
    process: Process = field(init=False)
    starting: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.process = Process(
            f"kubelet of {self.server.cluster.name}", Machine(self.server.cluster.name), self.timeline, lambda: None
        )
        self.process.alive, self.process.life = True, 1
        self.server.pods.listeners.add(self._on_change)
        for node in self.server.cluster.nodes:
            body = node_objects.node_object(node, self.server.cluster.name)
            self.server.answer("POST", "/api/v1/nodes", orjson.dumps(body), {}, "")
            self._say(node.name, ready=True)
            found = self.server.nodes.objects["", node.name].item
            patch = node_objects.registration_patch(node, self.server.cluster.name, found)
            self.server.answer("PATCH", f"/api/v1/nodes/{node.name}", orjson.dumps(patch), {}, "application/merge-patch+json")

    def _say(self, name: str, *, ready: bool) -> None:
        node = next(n for n in self.server.cluster.nodes if n.name == name)
        now_s = self.timeline.now_s
        body = node_objects.node_status(node, ready=ready, boot_id="sim", booted_s=now_s, now_s=now_s)
        self.server.answer("PATCH", f"/api/v1/nodes/{name}/status", orjson.dumps(body), {}, STRATEGIC_PATCH)

    # ---- faults --------------------------------------------------------------------------------------------------------

    def fall(self, name: str, for_s: float) -> None:
        """A node loses its power: its pods end there and then; the server hears of it a moment later, by its controllers."""
        self.down[name] = self.timeline.now_s + for_s
        for uid, found in list(self.running.items()):
            if found.pod["spec"]["nodeName"] == name:
                self._over(uid)
        self._after(4.0, lambda: self._say(name, ready=False) if name in self.down else None)
        self._after(for_s, lambda: self._back(name))

    def _back(self, name: str) -> None:
        self.down.pop(name, None)
        for key, stored in list(self.server.pods.objects.items()):
            pod = stored.item
            if pod["spec"].get("nodeName") == name and pod["status"].get("phase") == "Running":
                if pod["spec"].get("restartPolicy") == "Never":
                    self._status(key[1], {"phase": "Failed", "reason": "NodeLost"})
                else:
                    self._status(key[1], {"phase": "Pending", "containerStatuses": []})
        self._say(name, ready=True)
        self._look_at_all(name)

    def hang(self, name: str, for_s: float) -> None:
        """A node does nothing for a while: neither its kubelet nor its pods answer, and then go on."""
        self.hangs[name] = self.timeline.now_s + for_s

        def again() -> None:
            self.hangs.pop(name, None)
            self._look_at_all(name)

        self._after(for_s, again)

    def _look_at_all(self, name: str) -> None:
        for stored in list(self.server.pods.objects.values()):
            if stored.item["spec"].get("nodeName") == name:
                self._look(stored.item)

    # ---- pods ----------------------------------------------------------------------------------------------------------

    def _after(self, seconds: float, act: Callable[[], Any]) -> None:
        self.timeline.at(self.timeline.now_s + seconds, act, self.process)

    def _on_change(self, change: StoredChange) -> None:
        if change.gone:  # what is deleted at once is gone from the server before its kubelet hears of it
            uid = change.after.item["metadata"]["uid"]
            self._after(self.dice.uniform(0.005, 0.05), lambda: self._over(uid))
        elif change.after.item["spec"].get("nodeName"):
            pod = change.after.item
            self._after(self.dice.uniform(0.005, 0.05), lambda: self._look(pod))

    def _now(self, pod: Json) -> Json | None:
        key = pod["metadata"]["namespace"], pod["metadata"]["name"]
        stored = self.server.pods.objects.get(key)
        return stored.item if stored is not None and stored.item["metadata"]["uid"] == pod["metadata"]["uid"] else None

    def _is_still(self, node: str) -> bool:
        return node in self.down or node in self.hangs

    def _look(self, seen: Json) -> None:
        pod = self._now(seen)
        if pod is None or self._is_still(pod["spec"]["nodeName"]):
            return
        uid, phase = pod["metadata"]["uid"], pod["status"].get("phase")
        if pod["metadata"].get("deletionTimestamp"):
            if uid not in self.starting:
                self.starting.add(uid)
                grace_s = min(float(pod["metadata"].get("deletionGracePeriodSeconds") or 0.0), 1.0)
                self._after(self.dice.uniform(0.0, grace_s), lambda: self._end_deleted(pod))
            return
        if phase in ("Succeeded", "Failed"):
            return
        if uid in self.running:
            self._resized(pod)
        elif uid not in self.starting:
            self._admit(pod)

    def _admit(self, pod: Json) -> None:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        node = next((n for n in self.server.cluster.nodes if n.name == pod["spec"]["nodeName"]), None)
        assert node is not None, f"pod {name} is bound to a node that does not exist"
        held = self.held(node.name, but=uid)
        wants = requests_of(pod)
        for what, most in (("cpu", node.cpu_millicores), ("memory", node.memory_mib)):
            if held[what] + wants[what] > most:
                self._status(name, {"phase": "Failed", "reason": f"OutOf{what}", "message": f"Pod was rejected: too little {what}"})
                return
        self.starting.add(uid)
        self._after(self.dice.uniform(0.05, 0.5), lambda: self._begin(pod))

    def held(self, node: str, *, but: str = "") -> Counter[str]:
        """What pods that run or are about to hold of a node."""
        found: Counter[str] = Counter()
        for stored in self.server.pods.objects.values():
            pod, uid = stored.item, stored.item["metadata"]["uid"]
            is_here = uid in self.running or uid in self.starting
            is_over = pod["status"].get("phase") in ("Succeeded", "Failed")
            if uid != but and pod["spec"].get("nodeName") == node and is_here and not is_over:
                found.update(requests_of(pod))
        return found

    def _begin(self, seen: Json) -> None:
        pod = self._now(seen)
        uid = seen["metadata"]["uid"]
        self.starting.discard(uid)
        if pod is None or self._is_still(pod["spec"]["nodeName"]) or pod["metadata"].get("deletionTimestamp"):
            if pod is not None:
                self._look(pod)
            return
        is_be = pod["metadata"]["labels"].get("tango/class") == "be"
        env = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0].get("env") or []}
        work_s = float(env.get("TANGO_CPU_WORK_S") or 1.0) if is_be else 0.0
        self.running[uid] = Running(pod, self.timeline.now_s, work_s, 0)
        ready = not is_be
        began = stamp(self.timeline.now_s)
        container = {
            "name": "work",
            "ready": ready,
            "restartCount": 0,
            "state": {"running": {"startedAt": began}},
            "resources": pod["spec"]["containers"][0]["resources"],
        }
        octet = sum(map(ord, uid)) % 250
        status = {
            "phase": "Running",
            "podIP": f"10.0.0.{octet}",
            "startTime": began,
            "containerStatuses": [container],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        }
        if is_be:
            self.told(self.server.cluster.name, pod, True)
            self._after(work_s * self.dice.uniform(1.0, 1.5), lambda: self._done(pod))
        self._status(pod["metadata"]["name"], status)

    def _done(self, seen: Json) -> None:
        uid = seen["metadata"]["uid"]
        if uid not in self.running:
            return
        node = seen["spec"]["nodeName"]
        if node in self.hangs:
            self._after(self.hangs[node] - self.timeline.now_s, lambda: self._done(seen))
            return
        found = self.running[uid]
        self._over(uid)
        code = EXIT_CODE if JOB in seen["metadata"]["labels"] and self.dice.random() < JOBS_FAIL else 0
        message = {"cpu_work_s": found.work_s, "started_s": found.started_s, "finished_s": self.timeline.now_s}
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "message": json.dumps(message)}
        ended |= {"startedAt": stamp(found.started_s), "finishedAt": stamp(self.timeline.now_s)}
        phase = "Failed" if code else "Succeeded"
        status = {"phase": phase, "containerStatuses": [{"name": "work", "ready": False, "state": {"terminated": ended}}]}
        if self._now(seen) is not None:
            self._status(seen["metadata"]["name"], status)

    def _end_deleted(self, seen: Json) -> None:
        uid = seen["metadata"]["uid"]
        self.starting.discard(uid)
        pod = self._now(seen)
        if pod is None or pod["spec"]["nodeName"] in self.down:
            return
        node = pod["spec"]["nodeName"]
        if node in self.hangs:
            return  # looked at again when it goes on
        self._over(uid)
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        self.server.answer("DELETE", path, orjson.dumps(body), {}, "")

    def _over(self, uid: str) -> None:
        found = self.running.pop(uid, None)
        self.starting.discard(uid)
        if found is not None and found.work_s > 0.0:
            self.told(self.server.cluster.name, found.pod, False)

    def _resized(self, pod: Json) -> None:
        wanted = pod["spec"]["containers"][0]["resources"]
        statuses = pod["status"].get("containerStatuses") or [{}]
        if statuses[0].get("resources") == wanted:
            return
        node = next(n for n in self.server.cluster.nodes if n.name == pod["spec"]["nodeName"])
        held = self.held(node.name, but=pod["metadata"]["uid"])
        if held["cpu"] + requests_of(pod)["cpu"] > node.cpu_millicores:
            return  # deferred: looked at again when something else changes
        status = {"containerStatuses": [{**statuses[0], "resources": wanted}], "observedGeneration": pod["metadata"]["generation"]}
        self._status(pod["metadata"]["name"], status)

    def _status(self, name: str, status: Json) -> None:
        body = orjson.dumps({"status": status})
        self.server.answer("PATCH", f"/api/v1/namespaces/tango/pods/{name}/status", body, {}, STRATEGIC_PATCH)


def requests_of(pod: Json) -> Counter[str]:
    """Millicores and MiB that a pod requests."""
    found: Counter[str] = Counter()
    for container in pod["spec"]["containers"]:
        asked = (container.get("resources") or {}).get("requests") or {}
        found["cpu"] += cpu_millicores(asked.get("cpu", 0))
        found["memory"] += memory_mib(asked.get("memory", 0))
    return found


def stamp(unix_s: float) -> str:
    """As RFC 3339, whole seconds."""
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
